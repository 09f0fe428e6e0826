"""At the doors: credentials in the wrong places, other hosts and origins, and what may not be seen by guessing."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

import anyio
import pytest

from tests.security.rig import (
    ACCEPT,
    ANN,
    ANNS,
    EVE,
    HELLO,
    LANES,
    LIST,
    MODERN,
    STORE,
    Party,
    answer_in,
    battlefield,
    bearer,
    browser,
    call,
    head_of,
    modern_request,
    post_of,
    request,
    spoken,
    statuses,
    still_serves,
)
from tests.support.manifold import PATIENCE, Json, Manifold

PAGES: Final = (
    "/mcp",
    "/agents/ann/mcp",
    "/sse",
    "/agents/ann/sse",
    "/messages/",
    "/status.json",
    "/metrics",
    "/livez",
    "/readyz",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
    "/",
    "/nothing",
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=LANES)
async def manifold(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Manifold]:
    oauth = {"url": "https://manifold.test", "authorization_servers": ["https://login.test"]}
    signed = {"issuer": "https://login.test", "jwks_url": "https://login.test/jwks", "agents_claim": "agents"}
    auth = {"tokens": [STORE], "oauth": oauth, "jwt": signed}
    async with battlefield(tmp_path_factory.mktemp("doors"), express=LANES[request.param], auth=auth) as running:
        for token in (ANN, EVE):
            await still_serves(running, token)  # the short way is open to them from now on
        yield running


# -- credentials -------------------------------------------------------------------------------------------------------


async def test_anothers_url_shows_what_both_may_see_and_no_more(manifold: Manifold) -> None:
    thief = Party(manifold.agent("ann"), EVE)
    for listed in ((await thief.modern("tools/list", {})), await (await thief.open()).ask("tools/list")):
        assert {tool["name"] for tool in listed["result"]["tools"]} >= {"echo", "slow_compute"}
        assert not any(word in json.dumps(listed) for word in ANNS)
        assert "scratch" not in json.dumps(listed)


@pytest.mark.parametrize("door", ["/mcp", "/agents/ann/mcp", "/sse", "/messages/", "/status.json", "/metrics"])
async def test_a_token_is_taken_from_the_authorization_header_alone(manifold: Manifold, door: str) -> None:
    named = [f"{name}={ANN}" for name in ("access_token", "token", "Authorization", "bearer", "api_key")]
    places: list[tuple[str, dict[str, str]]] = [(f"{door}?{one}", {}) for one in named]
    places += [(door, {"Cookie": "; ".join(named)})]
    places += [(door, {name: value}) for name in ("X-Api-Key", "Api-Key", "X-Auth-Token") for value in (ANN,)]
    places += [
        (door, {name: f"Bearer {ANN}"})
        for name in ("Proxy-Authorization", "X-Authorization", "X-Forwarded-Authorization", "WWW-Authenticate")
    ]
    async with browser(base_url=manifold.base) as client:
        for path, headers in places:
            for method in ("GET", "POST"):
                got = await client.request(method, path, json=HELLO, headers={"Accept": ACCEPT, **headers})
                assert got.status_code == 401, (path, headers)
        form = await client.post(door, data={"access_token": ANN}, headers={"Accept": ACCEPT})
        assert form.status_code == 401


@pytest.mark.parametrize(
    "value",
    [
        f"Basic {base64.b64encode(f'ann:{ANN}'.encode()).decode()}",
        f"Token {ANN}",
        ANN,
        f"Bearer{ANN}",
        f"Bearer {ANN} {EVE}",
        f"Bearer {ANN},Bearer {EVE}",
        f"Bearer {ANN}, {ANN}",
        f"Bearer\t{ANN}",
        f"Bearer {ANN.upper()}",
        f"Bearer {ANN[:-1]}",
        f"Bearer {ANN}\x0c",
        "Bearer",
        "Bearer ",
        "",
        "Bearer " + "a" * 20_000,
        "Bearer null",
        "Bearer undefined",
        "Bearer %",
        'Bearer realm="x"',
        f"Bearer {ANN}\xa0",
        f"Bearer \xff{ANN}",
    ],
)
async def test_a_credential_that_is_nearly_right_is_wrong(manifold: Manifold, value: str) -> None:
    told = await spoken(manifold, post_of("/mcp", HELLO, f"Authorization: {value}"))
    assert statuses(told)[0] in {400, 401}
    assert b"serverInfo" not in told
    assert ANN.encode() not in told


@pytest.mark.parametrize("names", [("Authorization", "Authorization"), ("authorization", "AUTHORIZATION")])
@pytest.mark.parametrize("tokens", [(ANN, EVE), (EVE, ANN), (EVE, EVE), ("x", ANN), (ANN, "")])
async def test_two_authorization_headers_are_none(
    manifold: Manifold, names: tuple[str, str], tokens: tuple[str, str]
) -> None:
    lines = [f"{name}: Bearer {token}" for name, token in zip(names, tokens, strict=True)]
    for path in ("/mcp", "/agents/ann/mcp", "/sse", "/status.json"):
        told = await spoken(manifold, post_of(path, HELLO, *lines))
        assert statuses(told) == [400], told


async def test_headers_that_name_a_principal_or_an_address_are_nothing(manifold: Manifold) -> None:
    forged = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "Forwarded": "for=127.0.0.1;host=127.0.0.1;proto=https",
        "X-Forwarded-User": "ann",
        "X-Remote-User": "ann",
        "X-Forwarded-Prefix": "/agents/ann",
        "X-Original-URL": "/agents/ann/mcp",
        "X-Rewrite-URL": "/agents/ann/mcp",
        "X-Http-Method-Override": "GET",
        "manifold.principal": "ann",
        "manifold.agent": "ann",
    }
    assert (await Party(manifold.url, "").post(HELLO, **forged)).status_code == 401
    message, headers = modern_request("tools/list", {})
    listed = (await Party(manifold.url, EVE).post(message, **headers, **forged)).text
    assert "scratch" in listed
    assert not any(word in listed for word in ANNS)


async def test_an_agents_existence_is_not_told_to_strangers(manifold: Manifold) -> None:
    told = []
    for agent in ("ann", "eve", "nobody"):
        for token in ("", "wrong-0123456789abcdef"):
            got = await Party(manifold.agent(agent), token).post(HELLO)
            about = (got.status_code, got.text, got.headers["www-authenticate"].replace(agent, "AGENT"))
            told.append((bool(token), about))
    assert len({about for _, about in told}) == 2


async def test_what_concerns_all_agents_is_not_shown_to_one(manifold: Manifold) -> None:
    for path in ("/status.json", "/metrics", "/agents/eve/status.json", "/agents/eve/metrics", "/agents/eve/livez"):
        got = await Party(manifold.base + path, EVE).post(None, "GET")
        assert got.status_code in {403, 404}
        assert "vault" not in got.text
    probes = [await Party(manifold.base + path, "").post(None, "GET") for path in ("/livez", "/readyz")]
    assert all("vault" not in probe.text and "files" not in probe.text for probe in probes)


# -- rebinding ---------------------------------------------------------------------------------------------------------

HOSTS: Final = (
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example@127.0.0.1",
    "127.0.0.1@evil.example",
    "0.0.0.0",  # noqa: S104 - no binding
    "[::ffff:1.2.3.4]",
    "169.254.169.254",
    "*",
    "127.0.0.1, evil.example",
    "127.0.0.1 evil.example",
    "evil.example#127.0.0.1",
)
ORIGINS: Final = (
    "http://evil.example",
    "https://evil.example",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example",
    "http://evil.example:8300",
    "null",
    "file://",
    "http://127.0.0.1@evil.example",
    "http://evil.example#127.0.0.1",
    "https://",
    "chrome-extension://abc",
    "*",
)


def _closed(told: bytes) -> bool:
    """Whether nothing was served: refused, or nothing but the refusal for want of a credential."""
    return bool(told) and statuses(told)[0] in {400, 401, 403, 404, 405, 421}


@pytest.mark.parametrize("path", PAGES)
async def test_another_host_is_refused_at_every_door(manifold: Manifold, path: str) -> None:
    for host in HOSTS:
        for token in (STORE, ""):
            shown = [f"Authorization: Bearer {token}"] if token else []
            told = await spoken(manifold, head_of("GET", path, "Accept: */*", "Connection: close", *shown, host=host))
            assert statuses(told)[0] in {400, 421}, (host, told)
    missing = await spoken(manifold, head_of("GET", path, f"Authorization: Bearer {STORE}", host="", version="1.0"))
    assert statuses(missing)[0] in {400, 421}


@pytest.mark.parametrize("path", PAGES)
async def test_another_origin_is_refused_at_every_door(manifold: Manifold, path: str) -> None:
    for origin in ORIGINS:
        lines = (f"Origin: {origin}", f"Authorization: Bearer {STORE}", "Connection: close")
        told = await spoken(manifold, head_of("GET", path, *lines))
        assert statuses(told)[0] in {400, 403}, (origin, told)
        posted = await spoken(manifold, post_of(path, HELLO, *lines))
        assert statuses(posted)[0] in {400, 403}, (origin, posted)
        assert b"access-control-allow-origin: http" not in told.lower()


async def test_the_short_way_is_open_to_the_combination_only_that_came_by_the_long_way(manifold: Manifold) -> None:
    port = manifold.base.rpartition(":")[2]
    message, headers = modern_request("tools/list", {})
    lines = [f"{name}: {value}" for name, value in headers.items()]
    good = f"127.0.0.1:{port}"
    for _ in range(3):
        told = await spoken(manifold, post_of("/mcp", message, *lines, token=EVE, host=good))
        assert statuses(told) == [200]
        for host, more in (("evil.example", []), (good, ["Origin: http://evil.example"])):
            told = await spoken(manifold, post_of("/mcp", message, *lines, *more, token=EVE, host=host))
            assert statuses(told)[0] in {403, 421}
        twice = await spoken(manifold, post_of("/mcp", message, *lines, "Host: evil.example", token=EVE, host=good))
        assert b"echo" not in twice
        twice = await spoken(
            manifold, post_of("/mcp", message, *lines, f"Host: {good}", token=EVE, host="evil.example")
        )
        assert statuses(twice)[0] in {400, 421}


async def test_a_web_page_gets_no_permission_to_ask(manifold: Manifold) -> None:
    lines = ("Origin: http://evil.example", "Access-Control-Request-Method: POST")
    for path in ("/mcp", "/sse", "/agents/ann/mcp", "/status.json"):
        told = (await spoken(manifold, head_of("OPTIONS", path, *lines, "Connection: close"))).lower()
        assert b"access-control-allow" not in told
        assert statuses(told.upper())[0] >= 400


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "//mcp",
        "/mcp//",
        "/MCP",
        "/mcp/../status.json",
        "/mcp/%2e%2e/status.json",
        "/agents/%2e%2e/mcp",
        "/agents/../mcp",
        "/agents//mcp",
        "/agents/ann+eve/mcp",
        "/agents/ann%2Beve/mcp",
        "/agents/eve%2Bann/mcp",
        "/agents/ANN/mcp",
        "/Agents/ann/mcp",
        "/agents/ann%2Fmcp",
        "/agents/eve/agents/ann/mcp",
        "/agents/eve/agents/eve/mcp",
        "/agents/eve/agents/eve/status.json",
        "/agents/ann/../eve/mcp",
        "/agents/ann%00/mcp",
        "/agents/%61nn/mcp",
        "/agents/*/mcp",
        "/agents/ann;eve/mcp",
        "/agents/ann/mcp;/status.json",
        "/status.json/",
        "/status.json%00",
        "/status.json%2e",
        "/.//status.json",
        "/livez/../status.json",
        "/livez%2f..%2fstatus.json",
        "/livez/",
        "/messages/../status.json",
        "/messages/..%2fmcp",
        "/.well-known/oauth-protected-resource/../../status.json",
        "/.well-known/oauth-protected-resource/agents/ann/status.json",
        "http://127.0.0.1/mcp",
        "http://127.0.0.1/agents/ann/mcp",
        "http://evil.example/agents/ann/mcp",
        "http://evil.example/status.json",
        "*",
        "mcp",
        "/mcp#/status.json",
        "/mcp?/agents/ann/mcp",
        "/%6dcp",
        "/mcp%20",
        "/\xe9",
    ],
)
async def test_an_odd_path_shows_eve_nothing_of_anns(manifold: Manifold, path: str) -> None:
    message, headers = modern_request("tools/list", {})
    lines = [f"{name}: {value}" for name, value in headers.items()]
    for method in ("POST", "GET"):
        own = post_of(path, message, *lines, "Connection: close", token=EVE)
        if method == "GET":
            own = head_of("GET", path, f"Authorization: Bearer {EVE}", "Accept: application/json", "Connection: close")
        told = await spoken(manifold, own)
        assert not any(word.encode() in told for word in ANNS), told
        nobody = own.replace(f"Authorization: Bearer {EVE}\r\n".encode(), b"")
        refused = await spoken(manifold, nobody)
        assert not refused or statuses(refused)[0] != 200 or path.startswith("/livez"), refused


# -- routing headers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": "TOOLS/CALL"},
        {"Mcp-Method": ""},
        {"Mcp-Name": "unlock"},
        {"Mcp-Name": "ECHO"},
        {"Mcp-Name": ""},
        {"Mcp-Name": "echo, unlock"},
        {"Mcp-Name": "=?base64?dW5sb2Nr?="},
        {"Mcp-Name": "=?base64?!!!?="},
    ],
)
async def test_routing_headers_that_say_something_else_are_a_mismatch(
    manifold: Manifold, changed: dict[str, str]
) -> None:
    message, headers = modern_request("tools/call", {"name": "echo", "arguments": {}})
    got = await Party(manifold.url, EVE).post(message, **{**headers, **changed})
    assert (got.status_code, answer_in(got.text)["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("gone", ["Mcp-Method", "Mcp-Name"])
async def test_a_routing_header_that_is_missing_is_a_mismatch(manifold: Manifold, gone: str) -> None:
    message, headers = modern_request("tools/call", {"name": "echo", "arguments": {}})
    del headers[gone]
    got = await Party(manifold.url, EVE).post(message, **headers)
    assert (got.status_code, answer_in(got.text)["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("name", ["Mcp-Method", "Mcp-Name", "MCP-Protocol-Version"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_routing_header_that_comes_twice_reaches_nothing_hidden(
    manifold: Manifold, name: str, *, first: bool
) -> None:
    message, headers = modern_request("tools/call", {"name": "unlock", "arguments": {}})
    lies = {"Mcp-Method": "tools/list", "Mcp-Name": "echo", "MCP-Protocol-Version": "2025-11-25"}
    lines = [f"{one}: {value}" for one, value in headers.items()]
    twice = [f"{name}: {lies[name]}", *lines] if first else [*lines, f"{name}: {lies[name]}"]
    told = await spoken(manifold, post_of("/mcp", message, *twice, token=EVE))
    assert b"structuredContent" not in told
    assert b"vault" not in told


@pytest.mark.parametrize("version", ["2025-11-25", "1999-01-01", "2026-07-29", "", "2026-07-28x"])
async def test_a_version_in_the_header_that_the_body_does_not_say_is_refused(manifold: Manifold, version: str) -> None:
    message, headers = modern_request("tools/call", {"name": "echo", "arguments": {}})
    got = await Party(manifold.url, EVE).post(message, **{**headers, "MCP-Protocol-Version": version})
    assert got.status_code >= 400
    assert "structuredContent" not in got.text


# -- hidden things -----------------------------------------------------------------------------------------------------

TOOLS: Final = (
    "wipe",
    "unlock",
    "mcp_files_wipe",
    "mcp_vault_unlock",
    "files_wipe",
    "vault_unlock",
    "files.wipe",
    "vault.unlock",
    "files/wipe",
    "files:wipe",
    "files__wipe",
    "mcp__files__wipe",
    "mcp__vault__unlock",
    "WIPE",
    "Wipe",
    " wipe",
    "wipe ",
    "wipe\u0000",
    "wipe\n",
    "w\u0131pe",
    "wip\u0435",
    "\uff57\uff49\uff50\uff45",
    "wipe\u200b",
    "wipe\u0301",
    "mcp_files_wipe@1",
    "%77ipe",
    "../wipe",
    "ann.wipe",
    "ann/unlock",
    "",
    "mcp_vault_*",
    "__proto__",
    "a" * 100_000,
)


async def test_a_hidden_tool_is_unknown_under_every_name(manifold: Manifold) -> None:
    eve = await Party(manifold.url, EVE).open()
    for url in (manifold.url, manifold.agent("ann"), manifold.agent("eve")):
        for tool in TOOLS:
            if url != manifold.url:
                eve = await Party(url, EVE).open() if eve.url != url else eve
            params = {"name": tool, "arguments": {}}
            for found in (
                await _modern_tool(eve, tool),
                answer_in((await eve.post(request("tools/call", **params))).text),
            ):
                error = found.get("error") or {}
                assert error, (tool, found)
                hints = json.dumps(error.get("data") or {})
                assert not any(word in hints for word in ANNS), error


async def _modern_tool(party: Party, tool: str) -> Json:
    message, headers = modern_request("tools/call", {"name": tool, "arguments": {}})
    if not (tool.isascii() and tool.isprintable() and tool.strip() == tool and len(tool) < 1000):
        headers["Mcp-Name"] = f"=?base64?{base64.b64encode(tool.encode()[:3000]).decode()}?="
    return answer_in((await Party(party.url, party.token).post(message, **headers)).text)


URIS: Final = (
    "file:///wipe-list",
    "files+file:///wipe-list",
    "files+file:///wipe%2Dlist",
    "files+file:///%77ipe-list",
    "files+file:///open/../wipe-list",
    "files+file:///./wipe-list",
    "files+file:////wipe-list",
    "files+file://localhost/wipe-list",
    "files+FILE:///wipe-list",
    "Files+file:///wipe-list",
    "files+file:///wipe-unlisted",
    "files+gold:///bar",
    "gold:///bar",
    "files+gold:///{name}",
    "vault+vault:///gold",
    "vault:///gold",
    "files+vault:///gold",
    "den+vault:///gold",
    "vault%2Bvault:///gold",
    "files+file:///wipe-list#x",
    "files+file:///wipe-list?x",
    "files+file:///\u0077ipe-list",
    "files+files+file:///wipe-list",
    "",
    ":",
    "file",
)


async def test_a_hidden_resource_is_unknown_under_every_uri(manifold: Manifold) -> None:
    for url in (manifold.url, manifold.agent("ann")):
        eve = await Party(url, EVE).open()
        for uri in URIS:
            found = [await eve.ask("resources/read", uri=uri), await eve.ask("resources/subscribe", uri=uri)]
            reference = {"type": "ref/resource", "uri": uri}
            found.append(await eve.ask("completion/complete", ref=reference, argument={"name": "name", "value": ""}))
            found.append(await _modern_uri(eve, uri))
            for one in found:
                assert "error" in one, (uri, one)
                assert "has " not in json.dumps(one), (uri, one)


async def _modern_uri(party: Party, uri: str) -> Json:
    message, headers = modern_request("resources/read", {"uri": uri})
    headers["Mcp-Name"] = f"=?base64?{base64.b64encode(uri.encode()).decode()}?="
    return answer_in((await Party(party.url, party.token).post(message, **headers)).text)


async def test_a_hidden_prompt_is_unknown_under_every_name(manifold: Manifold) -> None:
    eve = await Party(manifold.url, EVE).open()
    for prompt in ("confess", "mcp_files_confess", "files.confess", "gold", "mcp_vault_gold", "CONFESS", "confess "):
        reference = {"type": "ref/prompt", "name": prompt}
        for found in (
            await eve.ask("prompts/get", name=prompt),
            await eve.ask("completion/complete", ref=reference, argument={"name": "a", "value": ""}),
        ):
            assert "error" in found
            assert not any(word in json.dumps(found["error"].get("data")) for word in ANNS)


async def test_a_hidden_tool_looks_like_one_that_does_not_exist(manifold: Manifold) -> None:
    eve = await Party(manifold.url, EVE).open()
    told = []
    for tool in ("unlock", "unlick", "mcp_vault_unlock", "mcp_vault_unlick"):
        found = await eve.ask("tools/call", name=tool, arguments={})
        told.append(json.dumps(found["error"]).replace(tool, "TOOL"))
    assert told[0] == told[1]
    assert told[2] == told[3]


async def test_lists_of_every_kind_leave_out_what_is_hidden(manifold: Manifold) -> None:
    methods = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")
    for url in (manifold.url, manifold.agent("eve"), manifold.agent("ann")):
        session = await Party(url, EVE).open()
        for method in methods:
            for cursor in ({}, {"cursor": "MA=="}, {"cursor": "0"}, {"cursor": "x" * 5000}):
                for listed in (await session.ask(method, **cursor), await Party(url, EVE).modern(method, cursor)):
                    assert not any(word in json.dumps(listed) for word in ANNS), listed
        for told in (await Party(url, EVE).modern("server/discover", {}), (await Party(url, EVE).post(HELLO)).text):
            assert "serverInfo" in json.dumps(told)
            assert not any(word in json.dumps(told) for word in ANNS), told


async def test_a_page_of_anns_list_is_no_page_of_eves(manifold: Manifold) -> None:
    """A cursor that ann was given shows eve nothing of ann's."""
    listed = (await Party(manifold.url, ANN).modern("tools/list", {}))["result"]
    cursors = [listed["nextCursor"]] if "nextCursor" in listed else ["eyJvZmZzZXQiOjB9"]
    for cursor in cursors:
        told = json.dumps(await Party(manifold.url, EVE).modern("tools/list", {"cursor": cursor}))
        assert not any(word in told for word in ANNS)


async def test_paths_and_names_cannot_write_into_the_log(manifold: Manifold) -> None:
    """One event of the log is one line, whatever somebody puts into a path, a name or a client's name."""
    forged = '\n{"event": "forged.by.eve", "level": "info"}\n\x1b[31m'
    await spoken(manifold, head_of("GET", f"/nothing{quote(forged)}", "Connection: close"))
    eve = await Party(manifold.url, EVE).open()
    await eve.ask("tools/call", name=forged, arguments={})
    await eve.ask("logging/setLevel", level=forged)
    info = {"name": forged, "version": forged}
    await Party(manifold.url, EVE).ask("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
    with anyio.fail_after(PATIENCE):
        await manifold.event("downstream.refused", path=f"/nothing{forged}")
    assert not any(event.get("event") == "forged.by.eve" for event in manifold.events)
    assert "\x1b" not in manifold.said


async def test_doors_still_serve_after_all_that(manifold: Manifold) -> None:
    await still_serves(manifold, ANN)
    await still_serves(manifold, EVE)
    assert (await Party(manifold.base + "/status.json", STORE).post(None, "GET")).status_code == 200
    assert bearer(ANN)["Authorization"] not in manifold.said
    assert ANN not in manifold.said
    assert (await Party(manifold.url, EVE).post(call(1), **{"MCP-Protocol-Version": MODERN})).status_code >= 400
    assert "error" in answer_in((await Party(manifold.url, EVE).post(LIST)).text)
