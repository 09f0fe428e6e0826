"""The shortest way in for hot requests: the express lane with nothing of FastMCP and Starlette before it.

What guards the door guards this way, too. Credentials and agents are checked by the very same code, in front of the
lane. Host and Origin are checked by FastMCP's guard, at length and anew for each request; here only a combination may
pass which that guard itself has let through before: whatever gets to the lane behind it is remembered. Bodies have a
length, within the limit. Everything else takes the long way, untouched.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.gateway.intake import SESSION, again, body_of, bounded, headers_of
from proxy.gateway.paths import PRINCIPAL_KEY, split
from proxy.gateway.replying import DECLINED

_ORIGINAL: Final = "manifold.original"
_HEADERS: Final = "manifold.headers"

MAX_VOUCHED: Final = 1024
"""Combinations that are remembered; with more than that somebody plays, and all are forgotten."""

Serve = Callable[[Scope, Mapping[bytes, bytes], bytes, tuple[Receive, Send]], Awaitable[bool]]
"""Serves a request completely, or says that it did not touch it."""
Listen = Callable[[ASGIApp, Scope, tuple[Receive, Send]], Awaitable[bool]]
"""The same for a GET; the app goes on with it if the session changes hands."""
Key = tuple[Any, ...]


class Vouched:
    """What FastMCP's guard of Host and Origin has let through. Its verdict follows from these values alone."""

    def __init__(self) -> None:
        self._keys: set[Key] = set()

    def note(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """A request got through."""
        if (key := _key(scope, headers)) not in self._keys:
            if len(self._keys) >= MAX_VOUCHED:
                self._keys.clear()
            self._keys.add(key)

    def knows(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        """Whether this one would get through, as far as is known."""
        return _key(scope, headers) in self._keys


class ShortCut:
    """Makes ASGI apps that try the short way first.

    Args:
        serve: the lane.
        vouched: what may pass.
        path: the endpoint, without an agent.
        max_body: bytes of a body.
        guards: what stands before the lane, the outermost first.
    """

    def __init__(
        self,
        serve: Serve,
        vouched: Vouched,
        *,
        path: str,
        max_body: int,
        guards: tuple[Callable[[ASGIApp], ASGIApp], ...],
    ) -> None:
        self._serve = serve
        self.listen: Listen = _nobody
        """The lane for those who listen to news."""
        self._vouched = vouched
        self._path = path
        self._max_body = max_body
        self._guards = guards

    def over(self, app: ASGIApp) -> ASGIApp:
        """The short way in front of an app, where everything goes that cannot take it."""

        async def long_way(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope[_ORIGINAL], PRINCIPAL_KEY: scope[PRINCIPAL_KEY]}, receive, send)

        async def inside(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] == "GET":
                if not await self.listen(long_way, scope, (receive, send)):
                    await long_way(scope, receive, send)
                return
            body = await body_of(receive)
            if body is None or not await self._serve(scope, scope[_HEADERS], body, (receive, send)):
                await long_way(scope, again(body, receive), send)

        guarded: ASGIApp = inside
        for guard in reversed(self._guards):
            guarded = guard(guarded)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            headers = None if scope.get(DECLINED) else self._fit(scope)
            if headers is None:
                await app(scope, receive, send)
            else:
                await guarded({**scope, _ORIGINAL: scope, _HEADERS: headers}, receive, send)

        return serve

    def _fit(self, scope: Scope) -> Mapping[bytes, bytes] | None:
        """The headers of a request that may take the short way."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "GET"):
            return None
        path = scope["path"]
        if path != self._path and split(path)[1] != self._path:
            return None
        listens = scope["method"] == "GET"
        headers = dict(scope["headers"]) if listens else headers_of(scope)
        if headers is None or not self._vouched.knows(scope, headers):
            return None
        if listens:
            return headers if SESSION in headers else None
        return headers if bounded(headers, self._max_body) else None


async def _nobody(_app: ASGIApp, _scope: Scope, _channel: tuple[Receive, Send]) -> bool:
    return False


def _key(scope: Scope, headers: Mapping[bytes, bytes]) -> Key:
    return headers.get(b"host"), headers.get(b"origin"), scope.get("scheme"), scope.get("server")
