"""Credentials at the HTTP doors: who gets in, as whom, and what the others are told."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import mcp
import pytest
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from tests.support.manifold import PATIENCE, Home, Json, Manifold, Wire, serving, stdio
from tests.support.scripted import upstream

ALICE: Final = "alice-0123456789abcdef"
READER: Final = "reader-0123456789abcdef"
WRITER: Final = "writer-0123456789abcdef"
STORE: Final = "store-0123456789abcdef"

AGENTS: Final[Json] = {
    "reader": {"servers": ["files"], "tools": {"deny": ["*write*"]}, "tokens": [READER, ALICE]},
    "writer": {"servers": ["files", "notes"], "tokens": [WRITER]},
    "notes": {"servers": ["notes"]},
}
HELLO: Final[Json] = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": Wire.HELLO}
LIST: Final[Json] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


def upstreams() -> Json:
    return {"files": upstream("files", "read", "write"), "notes": upstream("notes", "create")}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def manifold(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Manifold]:
    home = Home(tmp_path_factory.mktemp("inbound")).write(upstreams(), agents=AGENTS, auth={"tokens": [STORE]})
    async with serving(home) as running:
        await running.banner()
        yield running


async def posted(url: str, message: Json, **headers: str) -> httpx2.Response:
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        return await client.post(url, content=json.dumps(message), headers={**accept, **headers})


async def opened(url: str, token: str) -> str:
    """A session's id."""
    hello = await posted(url, HELLO, **bearer(token))
    assert hello.status_code == 200
    return str(hello.headers["mcp-session-id"])


async def tools(url: str, token: str, mode: str = "auto") -> set[str]:
    async with (
        httpx2.AsyncClient(headers=bearer(token), timeout=PATIENCE) as http,
        mcp.Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        return {tool.name for tool in (await client.list_tools()).tools}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_each_credential_sees_what_its_agent_sees(manifold: Manifold, mode: str) -> None:
    with anyio.fail_after(PATIENCE):
        assert await tools(manifold.url, READER, mode) == {"read"}
        assert await tools(manifold.url, WRITER, mode) == {"read", "write", "create"}
        assert len(await tools(manifold.url, STORE, mode)) == 3


async def test_url_and_credential_intersect_and_the_url_decides_about_names(manifold: Manifold) -> None:
    with anyio.fail_after(PATIENCE):
        assert await tools(manifold.agent("writer"), READER) == {"read"}
        assert await tools(manifold.agent("reader"), WRITER) == {"read"}
        assert await tools(manifold.agent("notes"), WRITER) == {"create"}
        assert await tools(manifold.agent("notes"), STORE) == {"create"}


async def test_an_agent_with_nothing_in_common_does_not_exist_for_a_credential(manifold: Manifold) -> None:
    hidden = await posted(manifold.agent("notes"), HELLO, **bearer(READER))
    unknown = await posted(manifold.agent("nobody"), HELLO, **bearer(READER))
    assert (hidden.status_code, hidden.text) == (unknown.status_code, unknown.text)
    assert hidden.status_code == 404


@pytest.mark.parametrize(
    "path", ["/mcp", "/agents/reader/mcp", "/agents/nobody/mcp", "/sse", "/messages/", "/status.json", "/metrics", "/"]
)
async def test_every_door_asks_for_a_credential(manifold: Manifold, path: str) -> None:
    async with httpx2.AsyncClient(base_url=manifold.base, timeout=PATIENCE) as client:
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            asked = await client.request(method, path)
            assert asked.status_code == 401, method
            assert asked.headers["www-authenticate"] == 'Bearer realm="manifold"'
            wrong = await client.request(method, path, headers=bearer("wrong-0123456789abcdef"))
            assert wrong.status_code == 401
            assert 'error="invalid_token"' in wrong.headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_the_probes_ask_for_nothing(manifold: Manifold, path: str) -> None:
    async with httpx2.AsyncClient(base_url=manifold.base, timeout=PATIENCE) as client:
        assert (await client.get(path)).status_code == 200


async def test_what_concerns_all_is_not_shown_to_a_credential_that_is_bound_to_an_agent(manifold: Manifold) -> None:
    async with httpx2.AsyncClient(base_url=manifold.base, timeout=PATIENCE) as client:
        refused = await client.get("/status.json", headers=bearer(READER))
        assert refused.status_code == 403
        assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
        assert (await client.get("/status.json", headers=bearer(STORE))).status_code == 200


async def test_two_credentials_in_one_request_are_none(manifold: Manifold) -> None:
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        headers = [("Authorization", f"Bearer {READER}"), ("Authorization", f"Bearer {WRITER}")]
        refused = await client.post(manifold.url, headers=headers, json=HELLO)
    assert refused.status_code == 400
    assert 'error="invalid_request"' in refused.headers["www-authenticate"]


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("thief", [WRITER, ALICE, STORE])
async def test_a_session_in_anothers_hands_is_none(manifold: Manifold, thief: str, method: str) -> None:
    session = await opened(manifold.url, READER)
    for token, wanted in ((thief, 404), (READER, 200)):
        headers = {**bearer(token), "Mcp-Session-Id": session, "Accept": "application/json, text/event-stream"}
        async with (
            httpx2.AsyncClient(timeout=PATIENCE) as client,
            client.stream(method, manifold.url, headers=headers, json=LIST) as answer,
        ):
            assert answer.status_code == wanted
            if wanted == 404:
                unknown = await client.request(
                    method, manifold.url, headers={**headers, "Mcp-Session-Id": "ff"}, json=LIST
                )
                assert await answer.aread() == unknown.content


async def test_a_session_is_of_the_agent_by_whose_url_it_was_opened(manifold: Manifold) -> None:
    session = await opened(manifold.agent("writer"), STORE)
    here = await posted(manifold.agent("writer"), LIST, **bearer(STORE), **{"Mcp-Session-Id": session})
    there = await posted(manifold.url, LIST, **bearer(STORE), **{"Mcp-Session-Id": session})
    assert (here.status_code, there.status_code) == (200, 404)


async def test_messages_for_a_session_of_legacy_sse_are_taken_from_its_owner_only(manifold: Manifold) -> None:
    with anyio.fail_after(PATIENCE):
        async with (
            httpx2.AsyncClient(headers=bearer(READER), timeout=PATIENCE) as client,
            client.stream("GET", f"{manifold.base}/sse") as stream,
        ):
            lines = stream.aiter_lines()
            endpoint = ""
            while not endpoint.startswith("data: "):
                endpoint = await anext(lines)
            url = manifold.base + endpoint.removeprefix("data: ")
            assert (await posted(url, HELLO, **bearer(WRITER))).status_code == 404
            assert (await posted(url, HELLO, **bearer(ALICE))).status_code == 404
            assert (await posted(url, HELLO, **bearer(READER))).status_code == 202


async def test_a_head_opens_no_stream_of_legacy_sse(manifold: Manifold) -> None:
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        got = await client.head(f"{manifold.base}/sse", headers=bearer(READER))
        assert (got.status_code, got.headers["allow"]) == (405, "GET")
        assert (await client.head(f"{manifold.base}/sse")).status_code == 401


async def test_legacy_sse_serves_who_has_a_credential(manifold: Manifold) -> None:
    with anyio.fail_after(PATIENCE):
        async with mcp.Client(sse_client(f"{manifold.base}/sse", headers=bearer(WRITER))) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == {"read", "write", "create"}


async def test_the_agent_of_the_command_line_applies_to_every_url(tmp_path: Path) -> None:
    home = Home(tmp_path).write(upstreams(), agents={"reader": {"servers": ["files"]}, "notes": {"servers": ["notes"]}})
    async with serving(home, "--agent", "reader") as manifold:
        await manifold.banner()
        assert (await posted(manifold.agent("notes"), HELLO)).status_code == 404
        session = await posted(manifold.agent("reader"), HELLO)
        assert session.status_code == 200


async def test_standard_input_and_output_ask_for_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path).write(upstreams(), agents=AGENTS)
    async with stdio(home, "--agent", "reader") as wire:
        await wire.open()
        listed: Any = await wire.request("tools/list")
        assert {tool["name"] for tool in listed["tools"]} == {"read"}


async def test_a_reload_that_takes_a_token_away_ends_what_it_had_open(tmp_path: Path) -> None:
    home = Home(tmp_path).write(upstreams(), agents=AGENTS, log={"format": "json"})
    async with serving(home) as manifold:
        session = await opened(manifold.url, ALICE)
        headers = {**bearer(ALICE), "Mcp-Session-Id": session, "Accept": "text/event-stream"}
        with anyio.fail_after(PATIENCE):
            async with (
                httpx2.AsyncClient(timeout=PATIENCE) as client,
                client.stream("GET", manifold.url, headers=headers) as stream,
            ):
                assert stream.status_code == 200
                home.write(upstreams(), agents={**AGENTS, "reader": {"tokens": [READER]}}, log={"format": "json"})
                async for _ in stream.aiter_bytes():
                    pass  # it ends
        assert (await posted(manifold.url, LIST, **bearer(ALICE), **{"Mcp-Session-Id": session})).status_code == 401
        assert (await posted(manifold.url, HELLO, **bearer(READER))).status_code == 200
