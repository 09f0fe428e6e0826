"""Requests that are refused at a door, for the audit log: whoever refuses them, and whatever they ask."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.auditing import Auditor
from proxy.gateway.hot import HotDoor
from proxy.gateway.paths import WITNESS_KEY, Witness
from proxy.model import Principal

STATUSES: Final = frozenset({401, 403, 421, 429})
"""Not let in, not allowed, another host's, too often."""


class Refusals:
    """ASGI middleware: writes down who was turned away.

    Args:
        app: what serves, and refuses.
        auditor: the audit log.
    """

    def __init__(self, app: ASGIApp, auditor: Auditor) -> None:
        self._app = app
        self._auditor = auditor
        self.direct: HotDoor | None = getattr(app, "direct", None)
        """What goes past ASGI turns nobody away, but for those who are shut out meanwhile."""
        if self.direct is not None:
            self.direct.refused = self._turned_away

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        witness = Witness()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in STATUSES:
                self._turned_away(message["status"], scope, witness.principal)
            await send(message)

        await self._app({**scope, WITNESS_KEY: witness}, receive, watched)

    def _turned_away(self, status: int, scope: Scope, principal: Principal) -> None:
        host, port = scope.get("client") or ("", 0)
        self._auditor.turned_away(status, scope["path"], f"{host}:{port}", principal)


def audited(app: ASGIApp, auditor: Auditor) -> ASGIApp:
    """The app with its refusals written down; the app itself where there is no audit log."""
    return app if auditor.journal is None else Refusals(app, auditor)
