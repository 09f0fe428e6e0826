"""The short way in: who may take it, and that everybody else takes the long one untouched."""

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.gateway.intake import headers_of
from proxy.gateway.paths import PRINCIPAL_KEY
from proxy.gateway.shortcut import MAX_VOUCHED, ShortCut, Vouched
from proxy.model import Principal

BODY = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
PLAIN = {
    b"host": b"127.0.0.1:8300",
    b"content-type": b"application/json",
    b"accept": b"application/json, text/event-stream",
    b"content-length": b"%d" % len(BODY),
}
ALICE = Principal("token:alice")


def scope_of(headers: Mapping[bytes, bytes] = PLAIN, path: str = "/mcp", method: str = "POST", **more: Any) -> Scope:
    pairs = [*headers.items(), *more.pop("again", ())]
    server = ("127.0.0.1", 8300)
    return {
        "type": "http",
        "method": method,
        "path": path,
        "scheme": "http",
        "server": server,
        "headers": pairs,
        **more,
    }


class Door:
    """A short cut whose guard lets in who has a header ``authorization: good``, and that notes which way is taken."""

    def __init__(self, *, serves: bool = True) -> None:
        self.ways: list[str] = []
        self.bodies: list[bytes] = []
        self.serves = serves
        self.vouched = Vouched()
        self.app = ShortCut(self._lane, self.vouched, path="/mcp", max_body=1000, guards=(self._guard,)).over(
            self._long
        )

    def vouch(self, scope: Scope) -> None:
        """As the lane does for what FastMCP's guard has let through."""
        headers = headers_of(scope)
        assert headers is not None
        self.vouched.note(scope, headers)

    async def _lane(
        self, scope: Scope, headers: Mapping[bytes, bytes], body: bytes, channel: tuple[Receive, Send]
    ) -> bool:
        del channel
        assert scope[PRINCIPAL_KEY] is ALICE
        assert headers[b"host"] == PLAIN[b"host"]
        self.ways.append("short" if self.serves else "tried")
        self.bodies.append(body)
        return self.serves

    async def _long(self, scope: Scope, receive: Receive, send: Send) -> None:
        del send
        self.ways.append("long")
        self.bodies.append((await receive())["body"])
        self.scope = scope

    def _guard(self, app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if (b"authorization", b"good") in scope["headers"]:
                await app({**scope, PRINCIPAL_KEY: ALICE}, receive, send)
            else:
                self.ways.append("refused")

        return guarded

    async def ask(self, scope: Scope) -> list[str]:
        async def receive() -> Message:
            return {"type": "http.request", "body": BODY, "more_body": False}

        async def send(message: Message) -> None:
            raise AssertionError(message)

        self.ways.clear()
        await self.app(scope, receive, send)
        return self.ways


GOOD = {**PLAIN, b"authorization": b"good"}


async def test_what_was_never_let_through_the_long_way_may_not_take_the_short_one() -> None:
    door = Door()
    assert await door.ask(scope_of(GOOD)) == ["long"]
    door.vouch(scope_of(GOOD))
    assert await door.ask(scope_of(GOOD)) == ["short"]


async def test_the_credential_is_asked_for_on_the_short_way_too() -> None:
    door = Door()
    door.vouch(scope_of(GOOD))
    assert await door.ask(scope_of(PLAIN)) == ["refused"]
    assert await door.ask(scope_of({**PLAIN, b"authorization": b"bad"})) == ["refused"]
    assert await door.ask(scope_of(GOOD)) == ["short"]


@pytest.mark.parametrize(
    "other",
    [
        scope_of({**GOOD, b"host": b"evil.example"}),
        scope_of({**GOOD, b"origin": b"http://evil.example"}),
        scope_of(GOOD, again=[(b"host", b"evil.example")]),
        scope_of(GOOD, again=[(b"origin", b"a"), (b"origin", b"b")]),
        scope_of(GOOD, again=[(b"authorization", b"bad")]),
        scope_of({**GOOD, b"content-length": b"1001"}),
        scope_of({**GOOD, b"content-length": b"-1"}),
        scope_of({name: value for name, value in GOOD.items() if name != b"content-length"}),
        scope_of(GOOD, path="/sse"),
        scope_of(GOOD, path="/mcp/"),
        scope_of(GOOD, path="/status"),
        scope_of(GOOD, method="GET"),
        scope_of(GOOD, server=("192.0.2.1", 8300)),
        scope_of(GOOD, scheme="https"),
    ],
)
async def test_everything_out_of_the_ordinary_takes_the_long_way(other: Scope) -> None:
    door = Door()
    door.vouch(scope_of(GOOD))
    assert await door.ask(other) == ["long"]


async def test_an_agents_path_may_take_it_as_well() -> None:
    door = Door()
    door.vouch(scope_of(GOOD))
    assert await door.ask(scope_of(GOOD, path="/agents/reader/mcp")) == ["short"]


async def test_what_the_lane_leaves_alone_goes_the_long_way_as_it_came_with_its_principal() -> None:
    door = Door(serves=False)
    door.vouch(scope_of(GOOD))
    asked = scope_of(GOOD, path="/agents/reader/mcp")
    assert await door.ask(asked) == ["tried", "long"]
    assert door.bodies == [BODY, BODY]
    assert door.scope == {**asked, PRINCIPAL_KEY: ALICE}


async def test_what_is_remembered_is_bounded() -> None:
    door = Door()
    for number in range(MAX_VOUCHED + 1):
        door.vouch(scope_of({**GOOD, b"host": b"h%d" % number}))
    assert await door.ask(scope_of({**GOOD, b"host": b"h0"})) == ["long"]
