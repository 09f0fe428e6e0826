"""No message that is nested too deeply gets any further.

Each decoder and encoder on its way has a limit of its own, which depends on how deep the stack is just then. What
passes one and fails in the next would be a defect of ours to the client (a 500, or no answer at all).
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.errors import PARSE_ERROR
from proxy.gateway.intake import again, body_of
from proxy.wire import envelope
from proxy.wire.depth import DEEPEST, too_deep

TOO_DEEP = f"the message is nested more than {DEEPEST} levels deep"


class Shallow:
    """ASGI middleware: refuses bodies that are nested too deeply, and forgets those that never came to an end.

    Args:
        app: what serves the others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await body_of(receive)
        if body is None:
            return  # the downstream went away in the middle of it: the SDK would call that an exception, in the log
        if not too_deep(body):
            await self._app(scope, again(body, receive), send)
            return
        answer = envelope.error(None, PARSE_ERROR, TOO_DEEP)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
