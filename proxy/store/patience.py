"""A time limit for one call of a program, over all rounds that it takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import anyio

from proxy.errors import DeadlineExceeded
from proxy.model import Call, Reply, Sent
from proxy.service.base import Service
from proxy.service.wording import repeat_hint, subject


@dataclass(frozen=True, slots=True)
class _Limit:
    seconds: float
    ends: float
    """By the event loop's clock."""


_LIMIT: ContextVar[_Limit | None] = ContextVar("manifold_store_limit", default=None)


@contextmanager
def patience(seconds: float | None) -> Iterator[None]:
    """What is sent, waited for or asked inside this block may take so many seconds altogether; None does not limit it.

    Raises:
        ValueError: the limit is not more than 0.
    """
    if seconds is not None and seconds <= 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {seconds}")
    limit = None if seconds is None else _Limit(seconds, anyio.current_time() + seconds)
    token = _LIMIT.set(limit)
    try:
        yield
    finally:
        _LIMIT.reset(token)


@contextmanager
def bounded(what: str, *, sent: Sent) -> Iterator[None]:
    """Bound a step by the limit that holds here.

    Raises:
        DeadlineExceeded: it is over.
    """
    limit = _LIMIT.get()
    if limit is None:
        yield
        return
    with anyio.CancelScope(deadline=limit.ends) as scope:
        yield
    if scope.cancelled_caught:
        error = DeadlineExceeded(f"{what} took longer than the {limit.seconds:g} s of this call")
        error.sent = sent
        raise error


def patient(service: Service) -> Service:
    """The layer that bounds what is sent."""

    async def run(call: Call, /) -> Reply:
        limit = _LIMIT.get()
        if limit is None:
            return await service(call)
        with anyio.CancelScope(deadline=limit.ends):
            return await service(call)
        raise DeadlineExceeded(
            f"{subject(call)} on {call.upstream}: no answer within {limit.seconds:g} s.",
            upstream=call.upstream,
            hint=repeat_hint(call),
        )

    return run
