"""The guard of every HTTP door: nothing is served before a credential was found good, where one is needed.

Plain ASGI and no await of its own where the credential is known, so that it can stand in front of everything. What it
lets in is under its eye while it runs: a credential that is revoked takes its open requests with it, and one that
expires takes its open streams.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.gateway.identity import MALFORMED, Access, Identity, Refusal
from proxy.gateway.metadata import Metadata
from proxy.gateway.paths import PRINCIPAL_KEY, WITNESS_KEY, split

log = structlog.get_logger(__name__)

OPEN: Final = frozenset({"/livez", "/readyz"})
"""Paths that ask for nothing: they say no more than whether Manifold runs."""
OPERATOR: Final = "operator"
"""The scope with which a credential that is bound to agents may see what concerns all of them."""
LOOK: Final = 1.0
"""Seconds between two looks at what is open."""

_NO_OPERATOR: Final = Refusal(403, "insufficient_scope", "this is not for credentials bound to agents", OPERATOR)
_TWICE: Final = Refusal(400, "invalid_request", "one Host and one Origin header are taken")
_AUTHORIZATION: Final = b"authorization"
_ONCE: Final = frozenset({b"host", b"origin"})
"""What was checked must be what counts (RFC 9112, 3.2)."""
_MCP_METHOD: Final = b"mcp-method"
_LISTEN: Final = b"subscriptions/listen"


class Running:
    """One request that is being served."""

    __slots__ = ("access", "cut", "lasting", "started", "task")

    def __init__(self, access: Access, task: "asyncio.Task[object]", *, lasting: bool) -> None:
        self.access = access
        self.task = task
        self.lasting = lasting
        """Whether it is a stream of news, which may stay open for ever."""
        self.started = False
        self.cut = False


class Guard:
    """Makes guarded ASGI apps. ``run`` in a task group while doors are open.

    Args:
        identity: knows the credentials.
        metadata: tells clients where they can log in.
        is_door: whether a path (without an agent) leads to MCP; everything else is for operators.
    """

    def __init__(self, identity: Identity, metadata: Metadata, is_door: Callable[[str], bool]) -> None:
        self._identity = identity
        self._metadata = metadata
        self._is_door = is_door
        self._open: set[Running] = set()
        self.on_change: Callable[[], Awaitable[None]] | None = None
        """Called when credentials came or went."""

    def over(self, app: ASGIApp) -> ASGIApp:
        """An app behind the guard. Twice is the same as once."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or PRINCIPAL_KEY in scope or scope["path"] in OPEN:
                await app(scope, receive, send)
                return
            if (told := self._metadata.document(scope)) is not None:
                await _answer(send, 200, told, ((b"access-control-allow-origin", b"*"),))
                return
            found = await self._found(scope)
            if isinstance(found, Refusal):
                await self._refuse(scope, send, found)
                return
            await self._served(app, found, (scope, receive, send))

        return serve

    def recall(self, header: bytes | None) -> Access | None:
        """Who may come in, if an ``Authorization`` header tells that without more ado."""
        found = self._identity.recall(header)
        return found if isinstance(found, Access) else None

    def enter(self, access: Access, task: "asyncio.Task[object] | None" = None, *, lasting: bool = False) -> Running:
        """A request of somebody who was let in begins, in this task or the current one; cut when that is revoked."""
        task = task or asyncio.current_task()
        assert task is not None  # noqa: S101 - a request is served in a task
        one = Running(access, task, lasting=lasting)
        self._open.add(one)
        return one

    def leave(self, one: Running) -> None:
        """It is over."""
        self._open.discard(one)
        del one.task  # otherwise each request leaves a cycle, which only the garbage collector finds

    async def end(self, scope: Scope, send: Send, *, started: bool) -> None:
        """End the response of a request that was cut, whether it has begun or not."""
        if started:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._refuse(scope, send, Refusal(401, "invalid_token", "the credential was revoked"))

    async def run(self) -> None:
        """Cut what must not stay open, until cancelled."""
        seen = self._identity.changes
        while True:
            await anyio.sleep(LOOK)
            self.look()
            if seen != self._identity.changes and self.on_change is not None:
                seen = self._identity.changes
                await self.on_change()

    def look(self) -> None:
        """Cut the requests whose credential is not good any more."""
        self._identity.refresh()
        for one in tuple(self._open):
            access = one.access
            expired = one.lasting and self._identity.expired(access)
            if one.cut or not (expired or not self._identity.stands(access.principal.id)):
                continue
            if not access.principal.id and not one.lasting:
                continue  # nobody was asked when it began, and it will end
            one.cut = True
            one.task.cancel()
            log.info("downstream.cut", principal=access.principal.id, reason="expired" if expired else "revoked")

    async def _found(self, scope: Scope) -> Access | Refusal:
        header: bytes | None = None
        once = set()
        for name, value in scope["headers"]:
            if name in _ONCE:
                if name in once:
                    return _TWICE
                once.add(name)
            if name == _AUTHORIZATION:
                if header is not None and self._identity.asks:
                    return MALFORMED
                header = value
        found = self._identity.recall(header)
        if found is None:
            assert header is not None  # noqa: S101 - only a credential can need more than a look
            found = await self._identity.verify(header)
        if isinstance(found, Access) and WITNESS_KEY in scope:
            scope[WITNESS_KEY].principal = found.principal
        if isinstance(found, Access) and found.principal.agents and not self._may_enter(scope, found):
            return _NO_OPERATOR
        return found

    def _may_enter(self, scope: Scope, found: Access) -> bool:
        _, path = split(scope["path"])
        return self._is_door(path) or OPERATOR in found.principal.scopes

    async def _served(self, app: ASGIApp, access: Access, channel: tuple[Scope, Receive, Send]) -> None:
        scope, receive, send = channel
        one = self.enter(access, lasting=_is_lasting(scope))

        async def note(message: Message) -> None:
            one.started = True
            await send(message)

        try:
            await app({**scope, PRINCIPAL_KEY: access.principal}, receive, note)
        except asyncio.CancelledError:
            if not one.cut:
                raise
            one.task.uncancel()
            await self.end(scope, send, started=one.started)
        finally:
            self.leave(one)

    async def _refuse(self, scope: Scope, send: Send, refusal: Refusal) -> None:
        log.info("downstream.refused", path=scope["path"], status=refusal.status, reason=refusal.error or "none given")
        body = json.dumps({"error": refusal.error or "unauthorized", "error_description": refusal.text}).encode()
        challenge = self._metadata.challenge(scope, refusal)
        await _answer(send, refusal.status, body, ((b"www-authenticate", challenge), (b"cache-control", b"no-store")))


def is_listening(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request asks for a stream of news."""
    return headers.get(_MCP_METHOD) == _LISTEN


def _is_lasting(scope: Scope) -> bool:
    if scope["method"] == "GET":
        return True
    return any(name == _MCP_METHOD and value == _LISTEN for name, value in scope["headers"])


async def _answer(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    length = (b"content-length", str(len(body)).encode())
    every = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": body, "more_body": False})
