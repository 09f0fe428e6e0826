"""Sessions that the express lane opens by itself rest, are woken, and nobody can tell (proxy/gateway/sessions.py)."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import psutil
import pytest

from proxy.wire.sse import Event, Parser
from tests.support.manifold import PATIENCE, ROOT, Home, Json, Manifold, Wire, serving, started
from tests.support.scripted import upstream

ACCEPT: Final = {"Accept": "application/json, text/event-stream"}
VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MANY: Final = 400
MOST_BYTES: Final = 30_000
"""Of memory that an idle session may take."""


class Peer:
    """A client of one session that speaks plain HTTP."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self.http = http
        self.url = url
        self.headers = dict(ACCEPT)
        self._number = 0

    async def open(self, version: str = "2025-11-25") -> httpx2.Response:
        hello = {**Wire.HELLO, "protocolVersion": version}
        answer = await self.post({"id": 0, "method": "initialize", "params": hello})
        self.headers |= {"Mcp-Session-Id": answer.headers["mcp-session-id"], "Mcp-Protocol-Version": version}
        assert (await self.post({"method": "notifications/initialized"})).status_code == 202
        return answer

    async def post(self, message: Json) -> httpx2.Response:
        return await self.http.post(self.url, json={"jsonrpc": "2.0", **message}, headers=self.headers)

    async def request(self, method: str, params: Json | None = None) -> Json:
        self._number += 1
        answer = await self.post({"id": self._number, "method": method, "params": params or {}})
        assert answer.status_code == 200, answer.text
        return said_in(answer)

    async def call(self, name: str, **arguments: Any) -> Json:
        result = (await self.request("tools/call", {"name": name, "arguments": arguments}))["result"]
        return dict(json.loads(result["content"][0]["text"]))

    async def wake(self) -> None:
        """Ask for something that the lane has no answer to."""
        found = await self.request("resources/unsubscribe", {"uri": "test://nobody"})
        assert "result" in found or "error" in found

    async def end(self) -> int:
        return (await self.http.delete(self.url, headers=self.headers)).status_code

    @asynccontextmanager
    async def news(self, **headers: str) -> AsyncIterator[Callable[[], Any]]:
        """Listen; gives the way to wait for the next event."""
        async with self.http.stream("GET", self.url, headers={**self.headers, **headers}) as response:
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"].startswith("text/event-stream")
            parser, chunks = Parser(1 << 20), response.aiter_bytes()
            events: list[Event] = []

            async def following() -> Event | None:
                while not events:
                    try:
                        chunk = await anext(chunks)
                    except StopAsyncIteration:
                        return None
                    events.extend(one for one in parser.feed(chunk) if isinstance(one, Event) and one.data)
                return events.pop(0)

            yield following


def said_in(answer: httpx2.Response) -> Json:
    """The last message of an answer, whether it is JSON or a stream."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        return dict(json.loads(re.findall(r"^data: (\{.*)$", answer.text, re.MULTILINE)[-1]))
    return dict(answer.json())


@asynccontextmanager
async def there(
    folder: Path, *, express: bool = True, **server: Any
) -> AsyncIterator[tuple[Manifold, Callable[[], Peer]]]:
    own = upstream("own", "work", session="client")
    home = Home(folder).write({"a": upstream("a", "work"), "own": own}, server={"express": express, **server})
    with anyio.fail_after(PATIENCE):
        async with serving(home) as manifold, httpx2.AsyncClient(timeout=PATIENCE) as http:
            for name in ("a", "own"):
                await manifold.event("upstream.state", upstream=name, new="ready")
            yield manifold, lambda: Peer(http, manifold.url)


def folder_in(folder: Path, name: str) -> Path:
    """Another folder."""
    (folder / name).mkdir()
    return folder / name


async def gone(manifold: Manifold, http: httpx2.AsyncClient, left: int) -> None:
    """Wait until there are no more sessions than this."""
    while True:
        if await sessions(manifold, http) <= left:
            return
        await anyio.sleep(0.05)  # between two looks: nothing tells when a session has ended


async def sessions(manifold: Manifold, http: httpx2.AsyncClient) -> int:
    text = (await http.get(manifold.base + "/metrics")).text
    return int(float(re.findall(r"^\w*sessions\S* ([\d.]+)$", text, re.MULTILINE)[0]))


@pytest.mark.parametrize("asked", [*VERSIONS, "1999-01-01"])
async def test_who_introduces_himself_hears_the_same_from_both_lanes(tmp_path: Path, asked: str) -> None:
    heard = []
    for express in (True, False):
        async with there(folder_in(tmp_path, str(express)), express=express) as (_, peer):
            hello = {**Wire.HELLO, "protocolVersion": asked}
            answer = await peer().post({"id": "first", "method": "initialize", "params": hello})
            message = said_in(answer)
            del message["result"]["capabilities"]["experimental"]  # names this very Manifold
            heard.append((answer.status_code, message, len(answer.headers["mcp-session-id"])))
    assert heard[0] == heard[1]
    assert heard[0][1]["result"]["protocolVersion"] == (asked if asked in VERSIONS else VERSIONS[-1])


@pytest.mark.parametrize(
    "params",
    [{}, {"protocolVersion": 3}, {**Wire.HELLO, "capabilities": []}, {**Wire.HELLO, "clientInfo": {"name": "x"}}],
    ids=["nothing", "a number", "capabilities of a wrong type", "no version"],
)
async def test_an_introduction_with_a_fault_is_refused_by_both_lanes(tmp_path: Path, params: Json) -> None:
    heard = []
    for express in (True, False):
        async with there(folder_in(tmp_path, str(express)), express=express) as (_, peer):
            answer = await peer().post({"id": 1, "method": "initialize", "params": params})
            heard.append((answer.status_code, said_in(answer)))
    assert heard[0] == heard[1]
    assert "error" in heard[0][1]


@pytest.mark.parametrize("express", [True, False])
async def test_waking_a_session_changes_nothing_for_its_client(tmp_path: Path, express: bool) -> None:
    async with there(tmp_path, express=express) as (_, peer):
        one, other = peer(), peer()
        await one.open()
        await other.open()
        mine = (await one.call("mcp_own_work", do="environment"))["pid"] if False else await one.call("mcp_own_work")
        assert mine["pid"] != (await other.call("mcp_own_work"))["pid"], (
            "each client has an upstream session of its own"
        )
        assert (await one.request("logging/setLevel", {"level": "warning"}))["result"] == {}
        assert (await one.request("logging/setLevel", {"level": "loud"}))["error"]["code"] == -32602
        await one.wake()
        assert (await one.call("mcp_own_work"))["pid"] == mine["pid"], "and keeps it"
        assert (await one.request("ping"))["result"] == {}
        assert await one.end() == 200
        assert (await one.post({"id": 9, "method": "ping"})).status_code == 404
        assert (await other.request("ping"))["result"] == {}


async def test_many_requests_that_all_need_the_sdk_wake_a_session_once(tmp_path: Path) -> None:
    async with there(tmp_path) as (_, peer):
        one = peer()
        await one.open()
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(one.wake if number % 2 else one.request, *(() if number % 2 else ("tools/list",)))
        assert (await one.request("tools/list"))["result"]["tools"]


@pytest.mark.parametrize("express", [True, False])
async def test_a_client_that_was_woken_before_it_listens_hears_of_changes(tmp_path: Path, express: bool) -> None:
    async with there(tmp_path, express=express) as (_, peer):
        one = peer()
        await one.open()
        await one.wake()
        async with one.news() as following:
            await one.call("mcp_a_work", do="offer", tool="second")
            assert json.loads((await following()).data)["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("express", [True, False])
@pytest.mark.parametrize("woken", [False, True])
async def test_a_client_that_listens_hears_of_each_change_once(tmp_path: Path, express: bool, woken: bool) -> None:
    async with there(tmp_path, express=express) as (_, peer):
        one = peer()
        await one.open()
        async with one.news() as following:
            await one.call("mcp_a_work", do="offer", tool="second")
            assert json.loads((await following()).data)["method"] == "notifications/tools/list_changed"
            if woken:
                await one.wake()
            await one.call("mcp_a_work", do="offer", tool="third")
            event = await following()
            assert json.loads(event.data)["method"] == "notifications/tools/list_changed"
            assert await one.end() == 200
            assert await following() is None, "one change, one notification; and the stream ends with its session"


async def test_a_client_that_begins_to_listen_hears_once_what_changed_before(tmp_path: Path) -> None:
    told = "notifications/tools/list_changed"
    async with there(tmp_path) as (_, peer):
        late, other = peer(), peer()
        for one in (late, other):
            await one.open()
        async with other.news() as hear:  # so that the change is over before the other one listens
            await other.call("mcp_a_work", do="offer", tool="first")
            assert method(await hear()) == told
        async with late.news() as hear:
            assert method(await hear()) == told
            await other.call("mcp_a_work", do="offer", tool="second")
            assert method(await hear()) == told
        await other.call("mcp_a_work", do="offer", tool="third")
        async with late.news() as hear:  # a client that lost its stream, and did not say what it heard last
            assert method(await hear()) == told
            assert await late.end() == 200
            assert await hear() is None, "one change, one notification"


def method(event: Event | None) -> str:
    """What an event on a stream of news says."""
    assert event is not None
    return str(json.loads(bytes(event.data))["method"])


@pytest.mark.parametrize("express", [True, False])
async def test_a_client_that_comes_back_hears_what_it_has_missed(tmp_path: Path, express: bool) -> None:
    async with there(tmp_path, express=express) as (_, peer):
        one, watcher = peer(), peer()
        await one.open()
        await watcher.open()
        async with one.news() as following:
            await one.call("mcp_a_work", do="offer", tool="second")
            seen = await following()
            assert seen.id
            async with watcher.news() as heard:
                await one.call("mcp_a_work", do="offer", tool="third")
                await heard()
                last = await following()
        async with one.news(**{"Last-Event-ID": seen.id}) as following:
            missed = await following()
            assert (missed.id, missed.data) == (last.id, last.data)


@pytest.mark.parametrize("express", [True, False])
async def test_a_session_has_one_stream_of_news(tmp_path: Path, express: bool) -> None:
    async with there(tmp_path, express=express) as (_, peer):
        one = peer()
        await one.open()
        async with one.news():
            second = await one.http.get(one.url, headers=one.headers)
            assert second.status_code == 409
            assert second.json()["error"]["message"] == "Conflict: Only one SSE stream is allowed per session"


async def test_the_session_that_rested_longest_makes_room(tmp_path: Path) -> None:
    async with there(tmp_path, max_sessions=3) as (manifold, peer):
        peers = [peer() for _ in range(4)]
        for one in peers[:3]:
            await one.open()
        await peers[0].request("ping")
        await peers[2].wake()
        await peers[3].open()
        gone = [(await one.post({"id": 5, "method": "ping"})).status_code for one in peers]
        assert gone == [200, 404, 200, 200]
        assert await sessions(manifold, peers[0].http) == 3


async def test_a_session_that_listens_does_not_make_room(tmp_path: Path) -> None:
    async with there(tmp_path, max_sessions=2) as (_, peer):
        first, second, third = peer(), peer(), peer()
        await first.open()
        async with first.news():
            await second.open()
            await third.open()
            found = [(await one.post({"id": 5, "method": "ping"})).status_code for one in (first, second, third)]
        assert found == [200, 404, 200]


async def test_where_all_sessions_are_busy_one_more_is_refused(tmp_path: Path) -> None:
    async with there(tmp_path, max_sessions=1) as (_, peer):
        first, second = peer(), peer()
        await first.open()
        async with first.news():
            refused = await second.post({"id": 0, "method": "initialize", "params": Wire.HELLO})
            assert refused.status_code == 503
            assert refused.json()["error"]["message"] == "Too many open sessions"
            assert "mcp-session-id" not in refused.headers
        assert (await first.request("ping"))["result"] == {}


async def test_a_session_that_nobody_uses_ends(tmp_path: Path) -> None:
    async with there(tmp_path, session_idle="300ms") as (manifold, peer):
        one, listening = peer(), peer()
        await one.open()
        await listening.open()
        async with listening.news():
            await gone(manifold, one.http, 1)
            assert (await one.post({"id": 1, "method": "ping"})).status_code == 404
            assert (await listening.post({"id": 1, "method": "ping"})).status_code == 200


@pytest.mark.parametrize("listening", [False, True], ids=["plain", "listening"])
async def test_an_idle_session_costs_little_memory(tmp_path: Path, listening: bool) -> None:
    home = Home(tmp_path).write({})
    command = [*home.command("serve", "--http", "--port", "0")]
    command[1:3] = ["-m", "tests.chaos.inspected"]
    with anyio.fail_after(PATIENCE * 2):
        async with started(command, ROOT, home.env(), stdin=None) as manifold:
            url = (await manifold.event("manifold.listening"))["url"]
            process = psutil.Process(manifold.pid)
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
            async with httpx2.AsyncClient(timeout=PATIENCE, limits=limits) as http:
                sizes = []
                for count in (50, MANY):
                    for _ in range(count):
                        one = Peer(http, url)
                        await one.open()
                        if listening:
                            request = http.build_request("GET", url, headers=one.headers)
                            assert (await http.send(request, stream=True)).status_code == 200
                    sizes.append(process.memory_info().rss)
            assert (sizes[1] - sizes[0]) / MANY < MOST_BYTES * (1 if not listening else 1.5)
