"""Notes, at every HTTP door, the headers of a request that some upstream may get (``forward_headers``)."""

from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.credentials.forwarding import INBOUND, forwardable
from proxy.runtime import Runtime


class Forwarding:
    """ASGI middleware. Costs nothing as long as no upstream has ``forward_headers``.

    Args:
        runtime: whose upstreams they are.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._config: object = None
        self._names: frozenset[str] = frozenset()

    def over(self, app: ASGIApp) -> ASGIApp:
        """The middleware in front of an app."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            names = self.wanted() if scope["type"] == "http" else None
            if not names:
                await app(scope, receive, send)
                return
            token = INBOUND.set(forwardable(scope["headers"], names))
            try:
                await app(scope, receive, send)
            finally:
                INBOUND.reset(token)

        return serve

    def wanted(self) -> frozenset[str]:
        """The headers that some upstream may get, in lower case."""
        config = self._runtime.config
        if config is not self._config:
            self._config = config
            wanted = (one for upstream in config.upstreams.values() for one in upstream.forward_headers)
            self._names = frozenset(name.lower() for name in wanted)
        return self._names
