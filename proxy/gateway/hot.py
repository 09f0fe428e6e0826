"""Hot requests straight from the connection to the express lane (``direct.py`` has the protocol).

The same that the short way checks (``shortcut.py``), by the same code, without an ASGI scope for each guard. Whatever
is not plainly good is left alone, and the short way or the long one says what is wrong with it.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from starlette.types import Scope, Send

from proxy.credentials.forwarding import INBOUND, forwardable
from proxy.gateway.express import ExpressLane
from proxy.gateway.forwarding import Forwarding
from proxy.gateway.guard import Guard, is_listening
from proxy.gateway.identity import Access
from proxy.gateway.intake import bounded, headers_of
from proxy.gateway.known import Known
from proxy.gateway.paths import PREFIX
from proxy.gateway.sse_lane import SseLane
from proxy.gateway.taken import Taken
from proxy.model import Principal

Select = Callable[[str | None, Principal], str | None]
"""All agents that apply, joined, by the one of the path and whoever asks; raises LookupError: there is no such one."""


class HotDoor:
    """Serves the hot requests of one streamable HTTP endpoint, and of legacy SSE beside it; see ``direct.Direct``.

    Args:
        lane: what serves them.
        legacy: the same for legacy SSE.
        guard: who may come in.
        select: which agents apply.
        forwarding: which headers may travel on.
        path: the endpoint, without an agent.
        max_body: bytes of a body.
    """

    def __init__(  # noqa: PLR0913 - what stands before the lane
        self,
        lane: ExpressLane,
        legacy: SseLane,
        guard: Guard,
        select: Select,
        *,
        forwarding: Forwarding,
        path: str,
        max_body: int,
    ) -> None:
        self._lane = lane
        self._legacy = legacy
        self._guard = guard
        self._select = select
        self._forwarding = forwarding
        self._path = path.encode()
        self._for_agent = re.compile(re.escape(PREFIX.encode()) + rb"([A-Za-z0-9_.-]+)" + re.escape(self._path))
        self.largest = max_body
        """Bytes of a body."""
        self.opened: Callable[[], None] = _nothing
        """Called when a request begins to be served."""
        self.closed: Callable[[], None] = _nothing
        """Called when it is over."""
        self.refused: Callable[[int, Scope, Principal], None] = _nobody
        """Called when somebody is shut out whose call runs: status, scope, who it was."""

    def fit(self, url: bytes, scope: Scope) -> Known | None:
        """What the head says of a POST that may come this way; None of any other."""
        named = None if url == self._path else self._for_agent.fullmatch(url)
        if named is None and url != self._path:
            return self._legacy.fit(url, scope, self.largest)
        headers = headers_of(scope)
        if headers is None or b"transfer-encoding" in headers or is_listening(headers):
            return None
        if not bounded(headers, self.largest) or not self._lane.vouched.knows(scope, headers):
            return None
        return Known(headers, None if named is None else named[1].decode())

    def begin(self, taken: Taken) -> Coroutine[Any, Any, None] | None:
        """What serves one completely; or None: it was not touched."""
        known = taken.known
        access = self._guard.recall(known.authorization)
        if access is None:
            return None
        principal = access.principal
        try:
            who = known.who(self._select(known.agent, principal), principal)
        except LookupError:
            return None
        channel: Any = taken  # uvicorn has types of its own for ASGI
        lane = self._lane if known.legacy is None else self._legacy
        served = lane.take(known, bytes(taken.body), who, channel)
        taken.declined = served is None
        if served is None:
            return None
        if principal.id:
            served = self._guarded(served, taken, access)
        if names := self._forwarding.wanted():
            served = _forwarding(served, forwardable(taken.scope["headers"], names))
        self.opened()
        return served

    async def _guarded(self, served: Coroutine[Any, Any, None], taken: Taken, access: Access) -> None:
        """Serve somebody who can be shut out meanwhile: who has proved nothing, can not (``Guard.look``)."""
        one = self._guard.enter(access, taken.task)
        try:
            await served
        except asyncio.CancelledError:
            if not one.cut:
                raise
            one.task.uncancel()
            scope, send = cast("Scope", taken.scope), cast("Send", taken.send)
            if not taken.response_started:
                self.refused(401, scope, access.principal)
            await self._guard.end(scope, send, started=taken.response_started)
        finally:
            self._guard.leave(one)


async def _forwarding(served: Coroutine[Any, Any, None], headers: Mapping[str, str] | None) -> None:
    """Serve what may take headers of its own along to its upstream."""
    token = INBOUND.set(headers)
    try:
        await served
    finally:
        INBOUND.reset(token)


def _nothing() -> None:
    """Nobody counts."""


def _nobody(_status: int, _scope: Scope, _principal: Principal) -> None:
    """Nobody writes it down."""
