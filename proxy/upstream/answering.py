"""Requests which an upstream puts to us: each is answered in a task of its own.

Nobody waits for them but the upstream, so all the work that they make is on the account of its share.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup
from msgspec import UNSET

from proxy.errors import INTERNAL_ERROR, INVALID_PARAMS, ManifoldError, Rejected, UpstreamError
from proxy.model import Json, Params
from proxy.upstream.share import Metered, Share
from proxy.wire import envelope
from proxy.wire.envelope import Malformed, Message

Ask = Callable[[str, Params | None], Awaitable[Json]]
"""Who can answer: ``Incoming.request`` or a call's ``Backchannel.ask``."""

MAX_RUNNING: Final = 256
"""Requests of one upstream that are answered at the same time; more are refused."""

_AT_ONCE: Final = 4
"""Answers that are being sent at the same time: when a full pipe has room again, it must not wake hundreds at once."""

_TOO_MANY: Final = -32000

log = structlog.get_logger(__name__)


class Answering:
    """Answers an upstream's requests over one link. Lives in the link's task group."""

    def __init__(self, upstream: str, tasks: TaskGroup, send: Callable[[bytes], Awaitable[None]], share: Share) -> None:
        self._upstream = upstream
        self._tasks = tasks
        self._send = send
        self._share = share
        self._running: dict[object, anyio.CancelScope] = {}
        self._count = 0
        """How many requests are being answered; an upstream may use one id for several."""
        self._dropped = 0
        self._sending = anyio.Semaphore(_AT_ONCE, fast_acquire=True)

    @property
    def busy(self) -> bool:
        """Whether so many requests are being answered that more of them had better wait."""
        return self._count >= MAX_RUNNING // 2

    def take(self, message: Message, ask: Ask) -> None:
        """Start to answer a request. Called by readers, so it does not wait."""
        if self._count >= 2 * MAX_RUNNING:
            self._dropped += 1
            return
        scope = self._running[message.id] = anyio.CancelScope()
        self._count += 1
        refuse = self._count > MAX_RUNNING
        self._tasks.start_soon(self._metered, message, _refuse if refuse else ask, scope)

    def cancel(self, number: object) -> bool:
        """Give up a request that the upstream no longer wants answered; False when no such request runs."""
        scope = self._running.get(number)
        if scope is not None:
            scope.cancel()
        return scope is not None

    async def _metered(self, message: Message, ask: Ask, scope: anyio.CancelScope) -> None:
        await Metered(self._answer(message, ask, scope), self._share)

    async def _answer(self, message: Message, ask: Ask, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                frame = await self._frame(message, ask)
                async with self._sending:
                    await self._send(frame)
        except UpstreamError as error:
            log.debug("link.answer.undeliverable", upstream=self._upstream, method=message.method, reason=error.message)
        finally:
            if self._running.get(message.id) is scope:
                del self._running[message.id]
            self._count -= 1
            if self._dropped and self._count <= MAX_RUNNING:
                log.warning("link.requests.dropped", upstream=self._upstream, count=self._dropped)
                self._dropped = 0

    async def _frame(self, message: Message, ask: Ask) -> bytes:
        """The answer. Whatever goes wrong on our side becomes an error, for the upstream is waiting."""
        number = message.id if message.id is not UNSET else None
        method = str(message.method)
        try:
            params = message.decoded_params()
            return envelope.response(number, {} if method == "ping" else await ask(method, params))
        except Malformed as error:
            return envelope.error(number, INVALID_PARAMS, error.reason)
        except Rejected as error:
            return envelope.error(number, error.jsonrpc, error.message, error.data)
        except ManifoldError as error:
            return envelope.error(number, error.jsonrpc, error.text())
        except Exception:
            log.exception("link.request.failed", upstream=self._upstream, method=method)
            return envelope.error(number, INTERNAL_ERROR, "the proxy failed to answer")


async def _refuse(method: str, params: Params | None) -> Json:
    del params
    raise Rejected(_TOO_MANY, f"too many requests at once, {method} refused")
