"""The guard of the doors: what it lets in, what it ends, and what it says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from proxy.config.model import Config
from proxy.gateway.guard import Guard
from proxy.gateway.identity import Identity
from proxy.gateway.metadata import Metadata
from proxy.gateway.paths import PRINCIPAL_KEY
from proxy.gateway.tokens import TokenFile

LISTEN = [(b"mcp-method", b"subscriptions/listen")]


class Door:
    """A guarded app that answers one request and then waits for ever, and its state directory."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.at = 1_000_000.0
        self.tokens = TokenFile(folder, lambda: self.at)
        config = Config.model_validate(sections)
        identity = Identity(config, folder, lambda: self.at)
        self.guard = Guard(identity, Metadata(config, ("/mcp", "/sse")), lambda path: path == "/mcp")
        self.app = self.guard.over(self._serve)
        self.begun = anyio.Event()
        self.seen: list[Scope] = []
        self.sent: list[Message] = []
        self.speaks = True
        """Whether the answer begins before the wait."""

    async def _serve(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        if self.speaks:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        self.begun.set()
        await anyio.sleep_forever()

    async def ask(self, token: str = "", path: str = "/mcp", method: str = "POST", **more: Any) -> None:
        """Send one request; returns when it is over."""
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        headers += more.get("headers", [])
        scope: Scope = {"type": "http", "method": method, "path": path, "headers": headers}
        await self.app(scope, self._nothing, self._take)

    async def _nothing(self) -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def _take(self, message: Message) -> None:
        self.sent.append(message)

    @asynccontextmanager
    async def asking(self, *arguments: Any, **more: Any) -> AsyncIterator[anyio.Event]:
        """A request that is being served; the event says that it is over."""
        over = anyio.Event()

        async def run() -> None:
            await self.ask(*arguments, **more)
            over.set()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await self.begun.wait()
                yield over
                tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("method", "headers"), [("GET", []), ("POST", LISTEN)])
async def test_a_stream_of_news_ends_when_its_credential_expires(tmp_path: Path, method: str, headers: Any) -> None:
    door = Door(tmp_path)
    token, _ = door.tokens.create("ann", lifetime=10)
    async with door.asking(token, method=method, headers=headers) as over:
        door.guard.look()
        await anyio.lowlevel.checkpoint()
        assert not over.is_set()
        door.at += 10
        door.guard.look()
        await over.wait()
    assert door.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert len([one for one in door.sent if one["type"] == "http.response.start"]) == 1


async def test_a_call_that_began_in_time_ends_by_itself(tmp_path: Path) -> None:
    door = Door(tmp_path)
    token, _ = door.tokens.create("ann", lifetime=10)
    async with door.asking(token) as over:
        door.at += 10
        door.guard.look()
        await anyio.lowlevel.checkpoint()
        assert not over.is_set()


@pytest.mark.parametrize("speaks", [True, False])
async def test_whatever_is_open_ends_when_its_token_is_revoked(tmp_path: Path, speaks: bool) -> None:
    door = Door(tmp_path)
    door.speaks = speaks
    token, _ = door.tokens.create("ann")
    async with door.asking(token) as over:
        door.tokens.revoke("ann")
        door.guard.look()
        await over.wait()
    starts = [one["status"] for one in door.sent if one["type"] == "http.response.start"]
    assert starts == [200 if speaks else 401]


async def test_who_was_let_in_unasked_may_finish_a_call_but_listens_no_longer(tmp_path: Path) -> None:
    door = Door(tmp_path)
    async with door.asking() as calling:
        door.begun = anyio.Event()
        async with door.asking(method="GET") as listening:
            door.tokens.create("ann")
            door.at += 1
            door.guard.look()
            await listening.wait()
            assert not calling.is_set()


async def test_another_cancellation_is_not_the_guards(tmp_path: Path) -> None:
    door = Door(tmp_path)
    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(door.ask)
            await door.begun.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert [one["type"] for one in door.sent] == ["http.response.start"]


async def test_behind_one_guard_another_lets_everything_through(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.tokens.create("ann")
    door.app = door.guard.over(door.app)
    await door.ask()
    assert door.sent[0]["status"] == 401
    token, record = door.tokens.create("eve")
    async with door.asking(token):
        assert door.seen[0][PRINCIPAL_KEY].id == f"token:{record.id}"


async def test_the_principal_cannot_be_brought_along(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.tokens.create("ann")
    await door.ask(headers=[(PRINCIPAL_KEY.encode(), b"token:x"), (b"x-manifold-principal", b"x")])
    assert door.sent[0]["status"] == 401
    assert door.seen == []
