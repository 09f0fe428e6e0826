"""Requests that are refused at a door, for the audit log: whoever refuses them, and whatever they ask."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.auditing import Auditor
from proxy.gateway.paths import WITNESS_KEY, Witness

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        witness = Witness()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in STATUSES:
                host, port = scope.get("client") or ("", 0)
                self._auditor.turned_away(message["status"], scope["path"], f"{host}:{port}", witness.principal)
            await send(message)

        await self._app({**scope, WITNESS_KEY: witness}, receive, watched)


def audited(app: ASGIApp, auditor: Auditor) -> ASGIApp:
    """The app with its refusals written down; the app itself where there is no audit log."""
    return app if auditor.journal is None else Refusals(app, auditor)
