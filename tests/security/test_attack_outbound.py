"""Manifold as somebody's deputy: credentials that would travel on, and places where upstreams would send it."""

import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import mcp
import pytest
from mcp.client.sse import sse_client
from pydantic import ValidationError

from proxy.config.model import UpstreamConfig
from proxy.credentials.addresses import Trust
from proxy.credentials.fetch import Fetcher, checked, trust_in
from proxy.errors import AuthRequired
from tests.security.rig import (
    ANN,
    EVE,
    LANES,
    Party,
    answer_in,
    battlefield,
    bearer,
    head_of,
    modern_request,
    post_of,
    request,
    spoken,
    still_serves,
)
from tests.support.link_http import Request, Response, Site, serve
from tests.support.manifold import PATIENCE, ROOT, Home, Json, Manifold, serving, started
from tests.support.planted import CHILD_VARIABLE, SECRET
from tests.support.scripted import upstream

ABOUT: Final = {"name": "up", "version": "1"}
HELLO: Final = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": ABOUT}


class Peer:
    """An HTTP upstream with one tool, of a definition that may say anything."""

    def __init__(self, tool: str, **definition: Any) -> None:
        self._tool = {"name": tool, "inputSchema": {"type": "object"}, **definition}
        self.result: Json = {"content": [{"type": "text", "text": "noted"}]}

    def answer(self, asked: Request) -> Json:
        if asked.rpc == "initialize":
            return HELLO
        return {"tools": [self._tool]} if asked.rpc == "tools/list" else self.result

    async def __call__(self, asked: Request, response: Response) -> None:
        if asked.method != "POST":
            response.whole(405)
        elif "id" in asked.message:
            response.result(self.answer(asked))
        else:
            response.whole(202)


class LegacyPeer(Peer):
    """The same over HTTP+SSE."""

    def __init__(self, tool: str) -> None:
        super().__init__(tool)
        self._stream: Response | None = None

    async def __call__(self, asked: Request, response: Response) -> None:
        if asked.method == "GET":
            self._stream = response
            response.stream()
            response.chunk(b"event: endpoint\ndata: /messages?session_id=1\n\n")
            await response.gone.wait()
            return
        response.whole(202)
        if "id" in asked.message:
            assert self._stream is not None
            self._stream.event({"id": asked.message["id"], "result": self.answer(asked)}, event="message")
            await self._stream.drain()


@asynccontextmanager
async def deputy(folder: Path, *, express: bool) -> AsyncIterator[tuple[Manifold, list[Site], Path]]:
    """Manifold before one upstream of each transport, all of which write down what they get."""
    record = folder / "record"
    child = {"command": sys.executable, "args": ["-S", str(ROOT / "tests" / "security" / "recorder.py"), str(record)]}
    async with serve(Peer("http_tool")) as http, serve(LegacyPeer("sse_tool")) as sse:
        upstreams = {
            "pipe": child,
            "web": {"url": http.url, "type": "http", "era": "handshake", "forward_headers": ["X-Tenant"]},
            "old": {"url": sse.url.replace("/mcp", "/sse"), "type": "sse", "forward_headers": ["X-Tenant"]},
        }
        sections: Json = {"mcpServers": upstreams, "agents": {"ann": {"tokens": [ANN]}, "eve": {"tokens": [EVE]}}}
        async with battlefield(folder, express=express, **sections) as manifold:
            yield manifold, [http, sse], record


@pytest.mark.parametrize("lane", LANES)
async def test_the_inbound_token_reaches_no_upstream_by_any_transport(tmp_path: Path, lane: str) -> None:
    more = {"Cookie": f"a={ANN}", "Proxy-Authorization": f"Bearer {ANN}", "X-Other": ANN, "X-Tenant": "blue"}
    tools = ("stdio_tool", "http_tool", "sse_tool")
    async with deputy(tmp_path, express=LANES[lane]) as (manifold, sites, record):
        with anyio.fail_after(PATIENCE):
            session = await Party(manifold.url, ANN).open()
            for tool in tools:
                params = {"name": tool, "arguments": {}}
                old = answer_in((await session.post(request("tools/call", **params), **more)).text)
                message, headers = modern_request("tools/call", params)
                new = answer_in((await Party(manifold.url, ANN).post(message, **headers, **more)).text)
                assert old["result"]["content"] == new["result"]["content"] == [{"type": "text", "text": "noted"}]
            url = f"{manifold.base}/sse"
            async with mcp.Client(sse_client(url, headers={**bearer(ANN), **more}), mode="legacy") as client:
                for tool in tools:
                    assert not (await client.call_tool(tool, {})).is_error
        assert record.read_text().count("tools/call") == 3
        assert all(token not in record.read_text() for token in (ANN, EVE))
        for site in sites:
            assert len([one for one in site.requests if one.rpc == "tools/call"]) == 3
            for one in site.requests:
                assert "authorization" not in one.headers
                assert "cookie" not in one.headers
                assert ANN not in json.dumps(dict(one.headers)) + one.body.decode() + one.path
        assert any(one.headers.get("x-tenant") == "blue" for one in sites[0].requests)


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "authorization", "AUTHORIZATION", "Cookie", "Proxy-Authorization", "Host"),
        *("Mcp-Session-Id", "Mcp-Name", "MCP-Protocol-Version", "Last-Event-ID", "Connection", "Transfer-Encoding"),
        *("Content-Length", "Upgrade", "TE", "Trailer", "Keep-Alive", "*", "X-*", "X-A\r\nAuthorization", "", " X-A"),
    ],
)
def test_a_header_that_proves_or_steers_cannot_be_configured_to_travel_on(name: str) -> None:
    with pytest.raises(ValidationError):
        UpstreamConfig.model_validate({"url": "https://up.test/mcp", "forward_headers": [name]})


@pytest.mark.parametrize("lane", LANES)
async def test_a_forwarded_value_adds_no_header_of_its_own(tmp_path: Path, lane: str) -> None:
    message, headers = modern_request("tools/call", {"name": "http_tool", "arguments": {}})
    lines = [f"{name}: {value}" for name, value in headers.items()]
    values = (
        "a\r\nX-Evil: 1",
        "a\nX-Evil: 1",
        "a\rX-Evil: 1",
        "a\x00X-Evil: 1",
        "a\x0bb",
        "\xe9\xff",
        "a\tb",
        "a" * 9000,
    )
    async with deputy(tmp_path, express=LANES[lane]) as (manifold, (web, _), _):
        for value in values:
            told = await spoken(manifold, post_of("/mcp", message, *lines, f"X-Tenant: {value}", token=ANN))
            assert b"Traceback" not in told
        await still_serves(manifold, ANN)
        for one in web.requests:
            assert "x-evil" not in one.headers
            assert one.headers.get("authorization") is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_of_an_upstream_is_not_followed_and_carries_no_credential(tmp_path: Path, status: int) -> None:
    trap = Peer("trap")
    async with serve(trap) as target:
        peer = Peer("web_tool")

        async def bounce(asked: Request, response: Response) -> None:
            if asked.rpc == "tools/call":
                response.whole(status, Location=target.url)
            else:
                await peer(asked, response)

        async with serve(bounce) as site:
            web = {
                "url": site.url,
                "type": "http",
                "era": "handshake",
                "headers": {"Authorization": "Bearer of-the-up"},
            }
            sections: Json = {"mcpServers": {"web": web}, "agents": {"ann": {"tokens": [ANN]}}}
            async with battlefield(tmp_path, **sections) as manifold:
                found = await Party(manifold.url, ANN).modern("tools/call", {"name": "web_tool", "arguments": {}})
                assert found.get("error") or found["result"]["isError"]
                assert "of-the-up" not in json.dumps(found)
        assert target.requests == []


async def test_an_endpoint_of_a_legacy_upstream_on_another_host_is_not_posted_to(tmp_path: Path) -> None:
    async with serve(Peer("trap")) as target:

        async def lure(asked: Request, response: Response) -> None:
            if asked.method != "GET":
                response.whole(405)
                return
            response.stream()
            response.chunk(f"event: endpoint\ndata: {target.url}\n\n".encode())
            await response.gone.wait()

        async with serve(lure) as site:
            old = {
                "url": site.url.replace("/mcp", "/sse"),
                "type": "sse",
                "headers": {"Authorization": "Bearer of-the-up"},
            }
            home = Home(tmp_path).write({"old": old}, log={"format": "json"})
            async with serving(home) as manifold:
                await manifold.banner()
        assert target.requests == []


@pytest.mark.parametrize("lane", LANES)
async def test_nothing_that_a_definition_or_result_points_to_is_fetched(tmp_path: Path, lane: str) -> None:
    async with serve(Peer("trap")) as target:
        schema = {"type": "object", "properties": {"a": {"$ref": target.url}}, "$schema": target.url, "$id": target.url}
        icons = [{"src": target.url, "mimeType": "image/png"}]
        peer = Peer("lure", inputSchema=schema, outputSchema=schema, icons=icons)
        link = {"type": "resource_link", "uri": target.url, "name": "x"}
        peer.result = {"content": [link, {"type": "text", "text": target.url}], "structuredContent": {"a": target.url}}
        async with serve(peer) as site:
            web = {"url": site.url, "type": "http", "era": "handshake"}
            sections: Json = {"mcpServers": {"web": web}, "agents": {"ann": {"tokens": [ANN]}}}
            async with battlefield(tmp_path, express=LANES[lane], **sections) as manifold:
                party = await Party(manifold.url, ANN).open()
                assert target.url in json.dumps(await party.ask("tools/list"))
                assert target.url in json.dumps(await party.ask("tools/call", name="lure", arguments={"a": target.url}))
                assert target.url in json.dumps(await Party(party.url, ANN).modern("tools/call", {"name": "lure"}))
        assert target.requests == []


@pytest.mark.parametrize("lane", LANES)
async def test_a_result_that_was_kept_for_one_is_not_given_to_another(tmp_path: Path, lane: str) -> None:
    """A cache and shared flights, for a tool that both may call with the same arguments."""
    peer = Peer("whose", annotations={"readOnlyHint": True})
    calls = 0

    async def counting(asked: Request, response: Response) -> None:
        nonlocal calls
        if asked.rpc == "tools/call":
            calls += 1
            peer.result = {"content": [{"type": "text", "text": f"call {calls}"}]}
        await peer(asked, response)

    async with serve(counting) as site:
        web = {"url": site.url, "type": "http", "era": "handshake", "cache": {"ttl": 600}, "coalesce": True}
        sections: Json = {"mcpServers": {"web": web}, "agents": {"ann": {"tokens": [ANN]}, "eve": {"tokens": [EVE]}}}
        async with battlefield(tmp_path, express=LANES[lane], **sections) as manifold:
            told = []
            for token in (ANN, EVE, ANN, EVE):
                found = await Party(manifold.url, token).modern("tools/call", {"name": "whose", "arguments": {}})
                told.append(found["result"]["content"][0]["text"])
    assert told == ["call 1", "call 2", "call 1", "call 2"]


# -- names that lead elsewhere -----------------------------------------------------------------------------------------


def resolving(monkeypatch: pytest.MonkeyPatch, **names: list[list[str]]) -> list[str]:
    """A name server for ``*.test``: for each name the addresses of each answer, the last one for ever."""
    asked: list[str] = []
    plain = socket.getaddrinfo

    def answer(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        text = host.decode() if isinstance(host, bytes) else str(host)
        if not text.endswith(".test"):
            return plain(host, port, *rest, **more)
        asked.append(text)
        answers = names[text.removesuffix(".test")]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        kinds = [(socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in found]
        return [(kind, socket.SOCK_STREAM, 6, "", (one, port)) for kind, one in kinds]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


@pytest.mark.parametrize(
    "addresses",
    [
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["192.168.1.1"],
        ["172.16.0.1"],
        ["100.64.0.1"],
        ["127.0.0.1"],
        ["0.0.0.0"],  # noqa: S104 - no binding
        ["224.0.0.1"],
        ["::1"],
        ["::"],
        ["fe80::1"],
        ["fd00:ec2::254"],
        ["::ffff:169.254.169.254"],
        ["::ffff:10.0.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        ["2002:a9fe:a9fe::"],
        ["93.184.216.34", "169.254.169.254"],
        ["93.184.216.34", "::1"],
    ],
    ids=str,
)
async def test_a_public_name_that_leads_into_a_private_network_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    resolving(monkeypatch, lure=[addresses], up=[["93.184.216.34"]])
    trust = await trust_in(["https://up.test/mcp"])
    with pytest.raises(AuthRequired, match="not public"):
        await checked("up", "https://lure.test/.well-known/oauth-authorization-server", trust)
    with pytest.raises(AuthRequired, match="not public"):
        await Fetcher("up", trust).get("https://lure.test/token")


@pytest.mark.parametrize(
    "url",
    [
        "http://lure.test/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://127.1/",
        "https://169.254.169.254/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://0xa9fea9fe/",
        "https://2852039166/",
        "https://user@lure.test/",
        "https://lure.test\\@up.test/",
        "https://lure.test%2f@up.test/",
        "https://lu\nre.test/",
        "ftp://lure.test/",
        "file:///etc/passwd",
        "gopher://lure.test/",
        "javascript:alert(1)",
        "//lure.test/",
        "https://",
        "",
    ],
)
async def test_a_url_that_is_written_oddly_leads_nowhere(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    resolving(monkeypatch, lure=[["169.254.169.254"]], up=[["93.184.216.34"]])
    trust = await trust_in(["https://up.test/mcp"])
    with pytest.raises((AuthRequired, OSError)):
        await checked("up", url, trust)


async def test_a_name_that_changes_its_address_between_check_and_use_is_of_no_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serve(Peer("trap")) as bad, serve(Peer("good")) as good:
        port = good.url.rpartition(":")[2].removesuffix("/mcp")
        asked = resolving(monkeypatch, flip=[["127.0.0.1"], ["127.0.0.2"], ["10.0.0.1"]])
        trust = Trust(frozenset({f"http://flip.test:{port}"}), (await trust_in(["http://127.0.0.1/"])).addresses)
        answer = await Fetcher("up", trust).json(f"http://flip.test:{port}/mcp", request("ping"))
        assert answer.status == 200
        assert asked == ["flip.test"]
        assert good.requests[0].headers["host"] == f"flip.test:{port}"
        assert bad.requests == []


# -- what a child gets and says ----------------------------------------------------------------------------------------


async def test_a_child_gets_nothing_of_manifolds_environment_and_its_secret_is_masked_in_the_log(
    tmp_path: Path,
) -> None:
    record = tmp_path / "record"
    child = {"command": sys.executable, "args": ["-S", str(ROOT / "tests" / "security" / "recorder.py"), str(record)]}
    home = Home(tmp_path).write({"pipe": child}, log={"format": "json"})
    async with serving(home, MANIFOLD_OTHER="of-manifold-alone", AWS_SESSION="of-manifold-alone") as manifold:
        await manifold.banner()
        call = {"name": "mcp_pipe_stdio_tool", "arguments": {"leak": CHILD_VARIABLE}}
        assert "result" in await Party(manifold.url, "").modern("tools/call", call)
        await manifold.until(lambda: "my secret is" in manifold.said)
        assert SECRET not in manifold.said
    _, environment = json.loads(record.read_text().splitlines()[0])
    assert "of-manifold-alone" not in json.dumps(environment)
    assert environment[CHILD_VARIABLE] == SECRET
    record.unlink()


async def test_a_terminal_is_not_steered_by_what_strangers_say(tmp_path: Path) -> None:
    """Escape sequences in a path or on an upstream's standard error end as text, also in the log for people."""
    home = Home(tmp_path).write({"a": upstream("a", "work")}, log={"format": "console"}, auth={"tokens": [ANN]})
    async with serving_for_people(home) as manifold:
        await spoken(manifold, head_of("GET", "/nothing%1b%5d0;owned%07%1b[2J%0aforged%20line", "Connection: close"))
        call = {"name": "mcp_a_work", "arguments": {"do": "complain", "text": "x\x1b]0;owned\x07\x1b[2J\rforged"}}
        assert "result" in await Party(manifold.url, ANN).modern("tools/call", call)
        await manifold.until(lambda: "downstream.refused" in manifold.said and "upstream.stderr" in manifold.said)
        assert not any(sign in manifold.said for sign in ("\x1b", "\x07", "\nforged"))


@asynccontextmanager
async def serving_for_people(home: Home) -> AsyncIterator[Manifold]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = home.command("serve", "--http", "--port", str(port))
    async with started(command, home.folder, home.env(), stdin=None) as manifold:
        manifold.url = f"http://127.0.0.1:{port}/mcp"
        await manifold.until(lambda: "manifold.listening" in manifold.said)
        await manifold.until(lambda: "claude mcp add" in manifold.said)
        yield manifold


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("head", [b"Content-Type: text/\xff\xfe", b"Location: http://\xff", b"WWW-Authenticate: \xff"])
async def test_a_header_of_an_upstream_that_is_no_text_is_an_error_and_no_crash(
    tmp_path: Path, lane: str, head: bytes
) -> None:
    peer = Peer("odd")
    status = {b"C": b"200", b"L": b"307", b"W": b"401"}[head[:1]]

    async def odd(asked: Request, response: Response) -> None:
        if asked.rpc == "tools/call":
            response.raw(b"HTTP/1.1 " + status + b" Odd\r\nContent-Length: 2\r\n" + head + b"\r\n\r\n{}")
        else:
            await peer(asked, response)

    async with serve(odd) as site:
        web = {"url": site.url, "type": "http", "era": "handshake"}
        sections: Json = {"mcpServers": {"web": web}, "agents": {"ann": {"tokens": [ANN]}}}
        async with battlefield(tmp_path, express=LANES[lane], **sections) as manifold:
            party = await Party(manifold.url, ANN).open()
            for found in (
                await party.ask("tools/call", name="odd", arguments={}),
                await Party(manifold.url, ANN).modern("tools/call", {"name": "odd", "arguments": {}}),
            ):
                assert found.get("error") or found["result"]["isError"]
