"""Exception groups, made plain again where one cause is all there is to tell."""

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.errors import UpstreamError


@contextmanager
def collapsed() -> Iterator[None]:
    """Raise the upstream's error itself where a task group wrapped it.

    A task group reports every failure of its tasks. When they are all errors of one upstream, the first one is the
    cause and the others are its echo (each pending request fails when a link dies). Anything else stays a group.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        cause = _cause(group)
        if cause is None:
            raise
        raise cause from cause.__cause__


def _cause(group: BaseExceptionGroup[BaseException]) -> UpstreamError | None:
    _, rest = group.split(UpstreamError)
    if rest is not None:
        return None
    return next(leaf for leaf in leaves(group) if isinstance(leaf, UpstreamError))


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Every exception in a group that is not itself a group, in order."""
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup):
            yield from leaves(member)
        else:
            yield member
