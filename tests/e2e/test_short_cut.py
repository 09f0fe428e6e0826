"""Hot requests take a short way in: nothing gets in by it that would not get in by the long one."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.manifold import PATIENCE, Home, Json, Manifold, Wire, serving
from tests.support.scripted import appear, upstream

ALICE, BOB = "alice-0123456789abcdef", "bobby-0123456789abcdef"
AGENTS = {"alice": {"tokens": [ALICE]}, "bob": {"tokens": [BOB]}}
ACCEPT = ("Accept: application/json, text/event-stream", "Content-Type: application/json")
CALL = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "work", "arguments": {}}}
SESSION = "Mcp-Session-Id: {}"
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
}
MODERN = ("MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: work")
PROTOCOL = "MCP-Protocol-Version: 2025-11-25"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def manifold(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Manifold]:
    home = Home(tmp_path_factory.mktemp("short")).write(
        {"a": upstream("a", "work")}, agents=AGENTS, server={"max_body": "16KiB"}
    )
    async with serving(home) as running:
        await running.banner()
        yield running


class Client:
    """One kept connection, on which headers can be sent that no HTTP client would."""

    def __init__(self, manifold: Manifold, *lines: str) -> None:
        self.port = int(manifold.base.rpartition(":")[2])
        self.lines = list(lines)
        self._number = 10

    async def ask(self, message: Any, *lines: str, host: str | None = None, path: str = "/mcp") -> tuple[int, str]:
        """The status and the text of an answer."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        own = [
            f"Host: {host or f'127.0.0.1:{self.port}'}",
            *ACCEPT,
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        head = "\r\n".join([f"POST {path} HTTP/1.1", *own, *self.lines, *lines, "", ""])
        with anyio.fail_after(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(head.encode() + body)
                said = (await reader.read()).decode()
            finally:
                writer.close()
                with anyio.CancelScope(shield=True):
                    await writer.wait_closed()
        if "\r\nmcp-session-id: " in said.lower():
            self.session = said[said.lower().index("mcp-session-id: ") + 16 :].partition("\r\n")[0]
        return int(said.split(" ")[1]), said.partition("\r\n\r\n")[2]

    async def open(self) -> str:
        """Open a session, and make a call in it the long way; from then on the short one is open."""
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": Wire.HELLO}
        assert (await self.ask(hello))[0] == 200
        self.lines += [SESSION.format(self.session), PROTOCOL]
        assert (await self.ask({"jsonrpc": "2.0", "method": "notifications/initialized"}))[0] == 202
        for _ in range(2):
            assert (await self.call())[0] == 200
        return self.session

    async def call(self, *lines: str, **more: Any) -> tuple[int, str]:
        self._number += 1
        return await self.ask({**CALL, "id": self._number}, *lines, **more)


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


async def test_a_call_without_a_good_credential_is_refused_however_often_it_went_well(manifold: Manifold) -> None:
    alice = Client(manifold, bearer(ALICE))
    session = await alice.open()
    for credential in ((), (bearer("wrong-0123456789abcdef"),), ("Authorization: Basic eDp5",)):
        nobody = Client(manifold, *credential, SESSION.format(session), PROTOCOL)
        assert (await nobody.call())[0] == 401
    assert (await alice.call(bearer(BOB)))[0] == 400  # two credentials
    assert (await alice.call())[0] == 200


async def test_the_session_of_one_is_worth_nothing_to_another(manifold: Manifold) -> None:
    alice, bob = Client(manifold, bearer(ALICE)), Client(manifold, bearer(BOB))
    session, own = await alice.open(), await bob.open()
    thief = Client(manifold, bearer(BOB), SESSION.format(session), PROTOCOL)
    unknown = Client(manifold, bearer(BOB), SESSION.format("0" * len(session)), PROTOCOL)
    assert await thief.call() == await unknown.call()
    assert (await thief.call())[0] == 404
    assert (await bob.call())[0] == 200
    assert own != session


@pytest.mark.parametrize(
    ("lines", "host", "status"),
    [
        ((), "evil.example", 421),
        (("Origin: http://evil.example",), None, 403),
        (("Origin: http://evil.example", "Origin: http://127.0.0.1"), None, 403),
        (("Transfer-Encoding: chunked",), None, 400),
    ],
)
async def test_a_foreign_page_does_not_get_in_behind_a_good_client(
    manifold: Manifold, lines: tuple[str, ...], host: str | None, status: int
) -> None:
    alice = Client(manifold, bearer(ALICE))
    await alice.open()
    assert (await alice.call(*lines, host=host))[0] == status
    assert (await alice.call())[0] == 200


async def test_a_body_over_the_limit_is_refused_on_every_way(manifold: Manifold) -> None:
    alice = Client(manifold, bearer(ALICE))
    await alice.open()
    large = {**CALL, "params": {"name": "work", "arguments": {"x": "y" * 20_000}}}
    assert (await alice.ask(large))[0] == 413


async def test_an_agents_path_is_kept_to_on_every_way(manifold: Manifold) -> None:
    alice = Client(manifold, bearer(ALICE))
    await alice.open()
    assert (await alice.call(path="/agents/alice/mcp"))[0] == 200
    assert (await alice.call(path="/agents/bob/mcp"))[0] == 404  # the session is that of another agent
    assert (await alice.call(path="/agents/nobody/mcp"))[0] == 404


async def test_both_ways_give_the_same_answer(tmp_path: Path) -> None:
    answers: list[list[tuple[int, Json | str]]] = []
    for express in (True, False):
        folder = tmp_path / str(express)
        folder.mkdir()
        home = Home(folder).write({"a": upstream("a", "work")}, server={"express": express})
        async with serving(home) as running:
            await running.banner()
            client = Client(running)
            await client.open()
            asked: list[Any] = [
                {"jsonrpc": "2.0", "id": 1, "method": "ping"},
                {"jsonrpc": "2.0", "id": "two", "method": "tools/list"},
                {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "nothing"}},
                {"jsonrpc": "2.0", "id": 4, "method": "tools/list", "params": {"cursor": "x"}},
                {"jsonrpc": "2.0", "id": 5, "method": "no/such"},
                b"{nonsense",
            ]
            answers.append([(status, plain(text)) for status, text in [await client.ask(each) for each in asked]])
    assert answers[0] == answers[1]


async def test_a_hot_call_ends_when_its_token_is_revoked_and_that_is_written_down(tmp_path: Path) -> None:
    log = {"format": "json", "access": "all"}
    home = Home(tmp_path).write({"a": upstream("a", "work")}, audit={"to": "audit.log"}, log=log)
    async with serving(home) as running:
        await running.banner()
        ann = Client(running, bearer((await home.run("token", "create", "ann")).stdout.strip()))
        await ann.open()
        wait = {"do": "wait", "text": "here", "file": str(tmp_path / "over")}
        asked = {**CALL, "params": {"name": "work", "arguments": wait, "_meta": META}}
        modern = Client(running, *ann.lines[:1])
        answers: list[tuple[int, str]] = []

        async def ask() -> None:
            answers.append(await modern.ask(asked, *MODERN))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await running.event("upstream.stderr", line="here")
                await home.run("token", "revoke", "ann")
        assert answers[0][0] == 401
        await running.event("call.done", outcome="cancelled", principal="ann")
        assert (await ann.call())[0] == 401
        appear(tmp_path / "over")
    written = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    refused = [one for one in written if one.get("error") == "http-401"]
    assert [one.get("principal", "").partition(":")[0] for one in refused] == ["token", ""]


@pytest.mark.parametrize(("modern", "outcome"), [(True, "cancelled"), (False, "ok")])
async def test_a_hot_call_whose_client_leaves_is_cancelled_in_the_modern_era_only(
    tmp_path: Path, modern: bool, outcome: str
) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")}, log={"format": "json", "access": "all"})
    async with serving(home) as running:
        await running.banner()
        client = Client(running)
        await client.open()
        wait = {"do": "wait", "text": "here", "file": str(tmp_path / "over")}
        asked = {**CALL, "params": {"name": "work", "arguments": wait, **({"_meta": META} if modern else {})}}
        asking = Client(running, *(MODERN if modern else client.lines))
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(asking.ask, asked)
                await running.event("upstream.stderr", line="here")
                tasks.cancel_scope.cancel()
            if modern:
                await running.event("call.done", outcome="cancelled")
            appear(tmp_path / "over")
            done = await running.until(lambda: [one for one in running.events if one["event"] == "call.done"][2:])
            assert done[0]["outcome"] == outcome
        assert (await client.call())[0] == 200


async def test_a_hot_call_that_takes_long_is_answered_by_a_stream(manifold: Manifold, tmp_path: Path) -> None:
    alice = Client(manifold, bearer(ALICE))
    await alice.open()
    wait = {"do": "wait", "text": "streamed", "file": str(tmp_path / "over")}
    answers: list[tuple[int, str]] = []

    async def ask() -> None:
        answers.append(await alice.ask({**CALL, "params": {"name": "work", "arguments": wait}}))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await manifold.event("upstream.stderr", line="streamed")
            await anyio.sleep(0.3)  # longer than an answer may take to be sent in one piece
            appear(tmp_path / "over")
    status, text = answers[0]
    assert status == 200
    assert "data: {" in text
    assert "result" in plain(text)


def plain(text: str) -> Json | str:
    """The message in an answer, whether it came as JSON or as an event."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    try:
        found: Json = json.loads(lines[-1] if lines else text)
    except ValueError:
        return text
    return found
