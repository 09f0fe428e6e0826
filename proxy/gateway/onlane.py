"""What one request on the express lane is, whichever door it came by: the back channel of the call behind it.

How a message leaves is the door's (``lane.py`` for HTTP, ``stream_lane.py`` for a pipe and for legacy SSE).
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from proxy.agents import rewrite
from proxy.agents.view import View
from proxy.bridge.questions import check_permitted
from proxy.errors import METHOD_NOT_FOUND, Rejected
from proxy.gateway.backchannel import LOG, wants_log
from proxy.gateway.pieces import Parts
from proxy.model import Caller, Era, Json, Params
from proxy.wire import envelope

if TYPE_CHECKING:
    import asyncio

    from proxy.gateway.opened import Open

Questions = dict[str, "asyncio.Future[envelope.Message]"]
"""What a session was asked and has not answered yet."""
Ask = Callable[["OnLane", str, Params | None], Awaitable[Json]]


class OnLane(ABC):
    """One request: a ``Backchannel``, and the way of its answer."""

    # No slots: what is the same for nearly every request stands here and is not set for each.
    caller: Caller
    """Who asked."""
    progress_token: str | int | None
    """The token under which the downstream expects progress."""
    session: "Open | None" = None
    """Where it came, if that is a session: what is asked is waited for there."""
    asking: Ask | None = None
    """How a question gets its answer; None where the downstream cannot be asked."""
    view: View | None = None
    upstream = ""

    @abstractmethod
    async def event(self, frame: bytes | Parts) -> None:
        """Send a message that belongs to the request."""

    @abstractmethod
    async def finish(self, frame: bytes | Parts, status: int = 200) -> None:
        """Send the answer; ``status`` is that of HTTP."""

    def finish_at_once(self, frame: bytes | Parts, status: int = 200) -> bool:
        """The same without waiting; False if that is not possible now."""
        del frame, status
        return False

    @abstractmethod
    def abandon(self, key: str) -> None:
        """Nobody waits any longer for the answer to a question."""

    async def notify(self, method: str, params: Params | None) -> None:
        """Send a notification."""
        if method != LOG or wants_log(self.caller, params):
            await self.event(envelope.notification(method, self._mapped(method, params)))

    async def ask(self, method: str, params: Params | None) -> Json:
        """Put a question, and wait for the answer, which comes in by itself.

        Raises:
            Rejected: the downstream answered with an error, or this era has no questions.
        """
        check_permitted(method, params, self.caller.capabilities)
        if self.asking is None or self.caller.era is Era.MODERN:
            raise Rejected(METHOD_NOT_FOUND, f"{method}: the client cannot be asked on this connection")
        return await self.asking(self, method, self._mapped(method, params))

    def _mapped(self, method: str, params: Params | None) -> Params | None:
        return params if self.view is None else rewrite.incoming(self.view, self.upstream, method, params)


def token_of(params: Params) -> str | int | None:
    """The progress token of a request, if it has one."""
    meta = params.get("_meta")
    if meta is None:
        return None
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return token if isinstance(token, str | int) and not isinstance(token, bool) else None
