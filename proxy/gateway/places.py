"""How many may hold something open at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.errors import QueueFull


class Places:
    """So many places.

    Args:
        most: how many.
        what: what takes one, for the error.
    """

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for as long as the block runs.

        Raises:
            QueueFull: there is none left.
        """
        if self._taken >= self._most:
            raise QueueFull(f"too many {self._what} are open", hint="Close one, or try again later.")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class BoundedStreams:
    """ASGI middleware: so many GET requests at once, each of which is a session (legacy SSE); others get a 503.

    A HEAD would open a stream, too, which the framework answers as a GET: it is not allowed.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._places = Places(most, "sessions")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            await Response(status_code=405, headers={"Allow": "GET"})(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        try:
            with self._places.one():
                await self._app(scope, receive, send)
        except QueueFull as error:
            await JSONResponse({"error": error.message}, status_code=503)(scope, receive, send)
