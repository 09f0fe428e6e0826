"""A request of our own to an ASGI app, in the name of somebody whose request is served; nobody reads its answer."""

from typing import Final

import anyio
from starlette.types import Message, Scope

_PASSED: Final = frozenset({b"host", b"origin", b"user-agent"})
_SESSION: Final = frozenset({b"mcp-session-id", b"mcp-protocol-version"})
_OWN: Final = ((b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream"))


class Silent:
    """A POST with a body.

    Args:
        scope: of the request in whose name it is.
        body: what is posted.
        within: whether it belongs to a session, as that one does.
    """

    def __init__(self, scope: Scope, body: bytes, *, within: bool = False) -> None:
        names = _PASSED | _SESSION if within else _PASSED
        passed = [pair for pair in scope["headers"] if pair[0] in names]
        length = (b"content-length", str(len(body)).encode())
        self.scope: Scope = {**scope, "method": "POST", "headers": [*passed, *_OWN, length]}
        self.status = 0
        """Of the answer."""
        self._body: bytes | None = body

    async def receive(self) -> Message:
        """The body; then nothing more."""
        if self._body is None:
            await anyio.sleep_forever()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Take note of the status, and drop the rest."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
