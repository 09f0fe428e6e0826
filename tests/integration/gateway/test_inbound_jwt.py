"""Signed tokens at the doors, and clients that log in by themselves."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import fastmcp
import httpx2
import pytest
from fastmcp.utilities.tests import HeadlessOAuth
from joserfc import jwt
from joserfc.jwk import OctKey

from tests.support.issuer import Issuer, free_port, issuing
from tests.support.manifold import PATIENCE, Home, Json, Manifold, Wire, serving
from tests.support.scripted import upstream

HELLO: Final[Json] = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": Wire.HELLO}
LIST: Final[Json] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
AGENTS: Final[Json] = {"reader": {"servers": ["files"]}, "writer": {"servers": ["files", "notes"]}}
AUDIENCE: Final = "https://manifold.test"
IN_MEMORY: Final = pytest.mark.filterwarnings("ignore:Using in-memory token storage")
"""The client warns that its tokens are lost at its end, which is right here."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as found:
        yield found


def configured(home: Home, issuer: Issuer, oauth: Json | None = None, **jwt_section: Any) -> Home:
    section = {"issuer": issuer.url, "jwks_url": f"{issuer.url}/jwks", "keys_interval": 0, **jwt_section}
    auth = {"jwt": section} | ({} if oauth is None else {"oauth": oauth})
    upstreams = {"files": upstream("files", "read"), "notes": upstream("notes", "create")}
    return home.write(upstreams, agents=AGENTS, auth=auth)


@pytest.fixture(scope="module")
async def manifold(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> AsyncIterator[Manifold]:
    home = configured(
        Home(tmp_path_factory.mktemp("jwt")),
        issuer,
        audience=AUDIENCE,
        agents_claim="manifold_agents",
        required_scopes=["tools"],
    )
    async with serving(home) as running:
        await running.banner()
        yield running


def good(issuer: Issuer, **claims: Any) -> str:
    every: Json = {"aud": AUDIENCE, "manifold_agents": "writer", "scope": "tools more"}
    return issuer.token(**(every | claims))


async def posted(url: str, token: str, message: Json = HELLO, **headers: str) -> httpx2.Response:
    accept = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        return await client.post(url, json=message, headers={**accept, **headers})


async def tools(url: str, token: str) -> set[str]:
    async with fastmcp.Client(url, auth=token) as client:
        return {tool.name for tool in await client.list_tools()}


async def test_a_token_is_bound_to_the_agents_that_it_names(manifold: Manifold, issuer: Issuer) -> None:
    with anyio.fail_after(PATIENCE):
        assert await tools(manifold.url, good(issuer)) == {"read", "create"}
        assert await tools(manifold.url, good(issuer, manifold_agents=["writer", "reader"])) == {"read"}
        assert await tools(manifold.agent("reader"), good(issuer)) == {"read"}


def forged(issuer: Issuer, *, algorithm: str) -> str:
    """A token of the right words without the issuer's signature."""
    claims = json.loads(base64.urlsafe_b64decode(good(issuer).split(".")[1] + "=="))
    if algorithm == "none":
        parts = [json.dumps({"alg": "none"}), json.dumps(claims)]
        return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts) + "."
    return jwt.encode({"alg": algorithm}, claims, OctKey.import_key("0123456789abcdef0123456789abcdef"))


async def test_what_is_not_proved_is_refused(manifold: Manifold, issuer: Issuer) -> None:
    async with issuing() as other:
        bad = {
            "another audience": good(issuer, aud="https://elsewhere.test"),
            "no audience": good(issuer, aud=None),
            "expired": good(issuer, exp=1),
            "without an end": good(issuer, exp=None),
            "not yet": good(issuer, nbf=4_000_000_000),
            "another issuer": good(other),
            "another issuer's key": other.token(iss=issuer.url, aud=AUDIENCE, scope="tools"),
            "nobody": good(issuer, sub=None),
            "no agents": good(issuer, manifold_agents=None),
            "agents of another kind": good(issuer, manifold_agents={"writer": True}),
            "no signature": forged(issuer, algorithm="none"),
            "a symmetric signature": forged(issuer, algorithm="HS256"),
            "garbage": "a.b.c",
            "more garbage": good(issuer) + "x",
        }
    for what, token in bad.items():
        refused = await posted(manifold.url, token)
        assert refused.status_code == 401, what
        assert 'error="invalid_token"' in refused.headers["www-authenticate"], what


async def test_a_token_without_a_needed_scope_is_told_which_one(manifold: Manifold, issuer: Issuer) -> None:
    refused = await posted(manifold.url, good(issuer, scope="more"))
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert 'scope="tools"' in refused.headers["www-authenticate"]


async def test_a_token_for_an_agent_that_does_not_exist_is_refused(manifold: Manifold, issuer: Issuer) -> None:
    assert (await posted(manifold.url, good(issuer, manifold_agents="nobody"))).status_code == 403


async def test_a_session_is_its_users_and_survives_a_new_token(manifold: Manifold, issuer: Issuer) -> None:
    session = (await posted(manifold.url, good(issuer))).headers["mcp-session-id"]
    about = {"Mcp-Session-Id": session}
    assert (await posted(manifold.url, good(issuer, jti="another"), LIST, **about)).status_code == 200
    assert (await posted(manifold.url, good(issuer, sub="eve"), LIST, **about)).status_code == 404
    assert (await posted(manifold.url, good(issuer, manifold_agents="reader"), LIST, **about)).status_code == 404
    assert (await posted(manifold.url, good(issuer, exp=1), LIST, **about)).status_code == 401


async def test_the_issuers_keys_are_rotated_while_sessions_are_open(manifold: Manifold, issuer: Issuer) -> None:
    session = (await posted(manifold.url, good(issuer))).headers["mcp-session-id"]
    about = {"Mcp-Session-Id": session}
    before = good(issuer)
    issuer.rotate(keep=1)
    assert (await posted(manifold.url, good(issuer), LIST, **about)).status_code == 200
    assert (await posted(manifold.url, before, LIST, **about)).status_code == 200
    issuer.rotate()
    assert (await posted(manifold.url, good(issuer), LIST, **about)).status_code == 200


async def test_a_token_that_is_known_costs_no_look_at_the_keys(manifold: Manifold, issuer: Issuer) -> None:
    token = good(issuer)
    await posted(manifold.url, token)
    before = issuer.fetched
    for _ in range(5):
        assert (await posted(manifold.url, token)).status_code == 200
    assert issuer.fetched == before


@IN_MEMORY
@pytest.mark.parametrize("agent", ["", "reader"])
async def test_a_client_logs_in_by_itself(tmp_path: Path, agent: str) -> None:
    port = free_port()
    async with issuing() as issuer:
        home = configured(Home(tmp_path), issuer, {"url": f"http://127.0.0.1:{port}"}, required_scopes=["tools"])
        async with serving(home, port=port) as manifold:
            await manifold.banner()
            url = manifold.agent(agent) if agent else manifold.url
            with anyio.fail_after(PATIENCE):
                async with fastmcp.Client(url, auth=HeadlessOAuth(url)) as client:
                    names = {tool.name for tool in await client.list_tools()}
                    assert names == ({"read"} if agent else {"mcp_files_read", "mcp_notes_create"})
            asked = [one for one in issuer.asked if one.get("resource")]
            assert {one["resource"] for one in asked} == {url}
            assert {one["scope"] for one in issuer.asked if one.get("response_type")} == {"tools"}


async def test_a_token_that_was_issued_for_an_agents_door_opens_no_other(tmp_path: Path) -> None:
    async with issuing() as issuer:
        home = configured(Home(tmp_path), issuer, {"url": "https://manifold.test"})
        async with serving(home) as manifold:
            await manifold.banner()
            door = "https://manifold.test/agents/reader/mcp"
            with anyio.fail_after(PATIENCE):
                assert await tools(manifold.agent("reader"), issuer.token(aud=door)) == {"read"}
                assert await tools(manifold.url, issuer.token(aud=door)) == {"read"}
                assert await tools(manifold.agent("writer"), issuer.token(aud=[door])) == {"read"}
                both = issuer.token(aud=[door, "https://manifold.test/mcp"])
                assert len(await tools(manifold.url, both)) == 2
            assert (
                await posted(manifold.url, issuer.token(aud="https://manifold.test/agents/x/mcp"))
            ).status_code == 401


@IN_MEMORY
@pytest.mark.parametrize(("member", "grant"), [("told", "refresh_token"), ("lifetime", "authorization_code")])
async def test_a_client_goes_on_with_another_token_when_its_own_expires(
    tmp_path: Path, member: str, grant: str
) -> None:
    port = free_port()
    async with issuing() as issuer:
        setattr(issuer, member, 1)
        home = configured(Home(tmp_path), issuer, {"url": f"http://127.0.0.1:{port}"})
        async with serving(home, port=port) as manifold:
            await manifold.banner()
            with anyio.fail_after(PATIENCE):
                async with fastmcp.Client(manifold.url, auth=HeadlessOAuth(manifold.url)) as client:
                    issuer.asked.clear()
                    while not any(one.get("grant_type") == grant for one in issuer.asked):
                        assert len(await client.list_tools()) == 2
                    assert len(await client.list_tools()) == 2


async def test_the_refusal_says_where_to_log_in(tmp_path: Path) -> None:
    async with issuing() as issuer:
        home = configured(Home(tmp_path), issuer, {"url": "https://manifold.test", "scopes": ["tools"]})
        async with serving(home) as manifold:
            for path in ("/mcp", "/agents/reader/mcp", "/agents/nobody/mcp", "/sse"):
                async with httpx2.AsyncClient(base_url=manifold.base, timeout=PATIENCE) as client:
                    refused = await client.post(path, json=HELLO)
                    about = f"/.well-known/oauth-protected-resource{path}"
                    assert f'resource_metadata="https://manifold.test{about}"' in refused.headers["www-authenticate"]
                    assert 'scope="tools"' in refused.headers["www-authenticate"]
                    assert (await client.get(about)).json() == {
                        "resource": f"https://manifold.test{path}",
                        "authorization_servers": [issuer.url],
                        "bearer_methods_supported": ["header"],
                        "resource_name": "manifold",
                        "scopes_supported": ["tools"],
                    }
                    for hidden in ("/status.json", "/agents/a/b/mcp", "/../mcp", "/agents/reader"):
                        asked = await client.get(f"/.well-known/oauth-protected-resource{hidden}")
                        assert asked.status_code == 401
