"""Hot requests straight from the connection to the express lane (``direct.py`` has the protocol).

The same that the short way checks (``shortcut.py``), by the same code, without an ASGI scope for each guard. Whatever
is not plainly good is left alone, and the short way or the long one says what is wrong with it.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import cast

from starlette.types import Receive, Scope, Send

from proxy.credentials.forwarding import INBOUND, forwardable
from proxy.gateway.downstream import Who
from proxy.gateway.express import ExpressLane
from proxy.gateway.forwarding import Forwarding
from proxy.gateway.guard import Guard, is_listening
from proxy.gateway.intake import headers_of
from proxy.gateway.paths import PREFIX
from proxy.gateway.taken import Taken
from proxy.model import Principal

Select = Callable[[str | None, Principal], str | None]
"""All agents that apply, joined, by the one of the path and whoever asks; raises LookupError: there is no such one."""


class HotDoor:
    """Serves the hot requests of one streamable HTTP endpoint; see ``direct.Direct``.

    Args:
        lane: what serves them.
        guard: who may come in.
        select: which agents apply.
        forwarding: which headers may travel on.
        path: the endpoint, without an agent.
        max_body: bytes of a body.
    """

    def __init__(  # noqa: PLR0913 - what stands before the lane
        self,
        lane: ExpressLane,
        guard: Guard,
        select: Select,
        *,
        forwarding: Forwarding,
        path: str,
        max_body: int,
    ) -> None:
        self._lane = lane
        self._guard = guard
        self._select = select
        self._forwarding = forwarding
        self._path = path.encode()
        self._for_agent = re.compile(re.escape(PREFIX.encode()) + rb"([A-Za-z0-9_.-]+)" + re.escape(self._path))
        self.largest = max_body
        """Bytes of a body."""
        self.opened: Callable[[], None] = _nothing
        """Called when a request comes."""
        self.closed: Callable[[], None] = _nothing
        """Called when it is over."""
        self.refused: Callable[[int, Scope, Principal], None] = _nobody
        """Called when somebody is shut out whose call runs: status, scope, who it was."""

    def fit(self, url: bytes, scope: Scope) -> Mapping[bytes, bytes] | None:
        """The headers of a POST that may come this way, by name; None of any other."""
        if url != self._path and self._for_agent.fullmatch(url) is None:
            return None
        headers = headers_of(scope)
        if headers is None or b"transfer-encoding" in headers or is_listening(headers):
            return None
        length = headers.get(b"content-length", b"")
        if not (length.isdigit() and int(length) <= self.largest):
            return None
        return headers if self._lane.vouched.knows(scope, headers) else None

    async def serve(self, taken: Taken) -> bool:
        """Serve one completely, or say that it was not touched."""
        access = self._guard.recall(taken.known.get(b"authorization"))
        if access is None:
            return False
        scope = cast("Scope", taken.scope)
        raw = scope["raw_path"]
        name = None if raw == self._path else raw[len(PREFIX) : -len(self._path)].decode()
        try:
            who = Who(self._select(name, access.principal), access.principal)
        except LookupError:
            return False
        names = self._forwarding.wanted()
        token = INBOUND.set(forwardable(scope["headers"], names)) if names else None
        receive = cast("Receive", taken.receive)
        send = cast("Send", taken.send)
        one = self._guard.enter(access, taken.task)
        self.opened()
        try:
            served = self._lane.take(taken.known, bytes(taken.body), (who, receive, send, taken.whole))
            taken.declined = served is None
            if served is None:
                return False
            await served
        except asyncio.CancelledError:
            if not one.cut:
                raise
            one.task.uncancel()
            if not taken.response_started:
                self.refused(401, scope, access.principal)
            await self._guard.end(scope, send, started=taken.response_started)
        finally:
            self._guard.leave(one)
            self.closed()
            if token is not None:
                INBOUND.reset(token)
        return True


def _nothing() -> None:
    """Nobody counts."""


def _nobody(_status: int, _scope: Scope, _principal: Principal) -> None:
    """Nobody writes it down."""
