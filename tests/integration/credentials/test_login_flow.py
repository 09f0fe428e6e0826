"""Logging in to an upstream: discovery, PKCE, registration, and everything that must make a login fail."""

import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from proxy.config.outbound import AuthConfig
from proxy.credentials.clients import DEVICE_GRANT
from proxy.credentials.login import Ways, log_in, log_out
from proxy.errors import AuthRequired, Unavailable
from tests.support.authority import Authority, Guarded, guarded, visit
from tests.support.link_http import Request, Response, serve
from tests.support.logins import BACK, call_as, logged_in, served, slot, vault

OAUTH = AuthConfig.model_validate("oauth")


async def test_a_login_is_used_for_every_request(tmp_path: Path) -> None:
    async with guarded() as upstream:
        grant = await logged_in(upstream, tmp_path)
        assert grant.scope == "tools"
        async with served(upstream, tmp_path) as manifold:
            assert await call_as(manifold) == {"who": "ada"}
        (code,) = upstream.authority.of("authorization_code")
        assert code["resource"] == upstream.url  # RFC 8707: the token is for this server only


async def test_manifold_registers_itself_once_for_each_redirect_address(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await logged_in(upstream, tmp_path)
        await logged_in(upstream, tmp_path)
        (client,) = upstream.authority.clients.values()
        assert (client["redirect_uris"], client["token_endpoint_auth_method"]) == ([BACK], "none")


async def test_a_client_is_never_shown_to_another_authorization_server(tmp_path: Path) -> None:
    async with guarded() as upstream, guarded() as other:
        await logged_in(upstream, tmp_path)
        upstream.authority, old = other.authority, upstream.authority
        await logged_in(upstream, tmp_path)
        assert (len(old.clients), len(other.authority.clients)) == (1, 1)


async def test_a_configured_client_is_used_instead_of_a_registration(tmp_path: Path) -> None:
    async with guarded() as upstream:
        auth = {"type": "oauth", "client_id": "mine", "client_secret": "hush-hush-hush", "scopes": ["a", "b"]}
        grant = await logged_in(upstream, tmp_path, auth=auth)
        assert (grant.client.client_id, grant.scope, upstream.authority.clients) == ("mine", "a b", {})


async def test_a_metadata_document_is_the_client_where_the_server_takes_such(tmp_path: Path) -> None:
    document = "https://example.com/manifold.json"
    async with guarded(says={"client_id_metadata_document_supported": True}) as upstream:
        grant = await logged_in(upstream, tmp_path, auth={"type": "oauth", "client_metadata_url": document})
        assert (grant.client.client_id, upstream.authority.clients) == (document, {})


@pytest.mark.parametrize(
    "place",
    [
        "/.well-known/oauth-authorization-server/tenant",
        "/.well-known/openid-configuration/tenant",
        "/tenant/.well-known/openid-configuration",
    ],
)
async def test_an_authorization_server_is_found_wherever_its_metadata_may_be(tmp_path: Path, place: str) -> None:
    async with guarded(metadata_at=place) as upstream:
        issuer = f"{upstream.authority.issuer}/tenant"
        upstream.names, upstream.authority.says = (issuer,), {"issuer": issuer}
        upstream.authority.sends_back = {"iss": issuer}
        assert (await logged_in(upstream, tmp_path)).server.issuer == issuer


async def test_a_server_of_2025_03_26_is_its_own_authorization_server(tmp_path: Path) -> None:
    authority = Authority()
    upstream = Guarded(authority)

    async def both(request: Request, response: Response) -> None:
        path = request.path.partition("?")[0]
        if path.startswith("/.well-known/"):
            response.whole(404)
        else:
            await (authority if path in ("/authorize", "/register", "/token") else upstream)(request, response)

    async with serve(both) as site:
        authority.site = upstream.site = site
        grant = await logged_in(upstream, tmp_path)
        async with served(upstream, tmp_path) as manifold:
            assert await call_as(manifold) == {"who": "ada"}
    assert (grant.server.issuer, grant.resource) == (authority.issuer, upstream.url)


async def test_a_device_login_waits_until_the_person_has_confirmed_it(tmp_path: Path) -> None:
    async with guarded(confirmed=False) as upstream, anyio.create_task_group() as people:
        told: list[str] = []

        async def think() -> None:
            await upstream.authority.asked_for(DEVICE_GRANT, 2)
            upstream.authority.confirmed = True

        async def confirm(page: str, code: str) -> None:
            told.extend((page, code))
            people.start_soon(think)

        with anyio.fail_after(20):
            grant = await log_in(slot(upstream), OAUTH, vault(tmp_path), Ways(BACK, visit, confirm))
        assert told == [f"{upstream.authority.issuer}/confirm", "WXYZ-1234"]
        assert grant.access_token in upstream.authority.tokens


async def test_a_logout_revokes_and_forgets(tmp_path: Path) -> None:
    async with guarded() as upstream:
        grant = await logged_in(upstream, tmp_path)
        assert await log_out(slot(upstream), OAUTH, vault(tmp_path)) == (True, True)
        assert upstream.authority.revoked == [grant.refresh_token, grant.access_token]
        assert vault(tmp_path).load(slot(upstream)) is None
        assert await log_out(slot(upstream), OAUTH, vault(tmp_path)) == (False, False)


# -- what must not come through ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent_back", "why"),
    [
        ({"state": "another"}, "does not belong to this login"),
        ({"state": None}, "does not belong to this login"),
        ({"iss": "https://evil.example"}, "not from the server that was asked"),
        ({"iss": None}, "not from the server that was asked"),  # it promised one (RFC 9207)
        ({"code": None, "error": "access_denied"}, "access_denied"),
        ({"code": None}, "has no code"),
        ({"code": "guessed"}, "invalid_grant"),
    ],
)
async def test_an_answer_that_is_not_ours_is_no_login(tmp_path: Path, sent_back: dict[str, Any], why: str) -> None:
    async with guarded(sends_back=sent_back) as upstream:
        with pytest.raises(AuthRequired, match=why):
            await logged_in(upstream, tmp_path)
        assert vault(tmp_path).load(slot(upstream)) is None
        assert upstream.authority.tokens == {}


@pytest.mark.parametrize(
    ("knobs", "why"),
    [
        ({"says": {"issuer": "https://evil.example"}}, "calls itself https://evil.example"),
        ({"says": {"code_challenge_methods_supported": ["plain"]}}, "PKCE"),
        ({"hides": ("code_challenge_methods_supported",)}, "PKCE"),
        ({"hides": ("registration_endpoint",)}, "auth.client_id"),
        ({"hides": ("authorization_endpoint", "device_authorization_endpoint")}, "no page to log in at"),
        ({"says": {"authorization_endpoint": "javascript:alert(1)"}}, "no https URL|no valid URL"),
        ({"says": {"token_endpoint": "https://169.254.169.254/latest"}}, "not public"),
        ({"says": {"token_endpoint": "https://10.0.0.1/token"}}, "not public"),
        ({"says": {"token_endpoint": "http://example.com/token"}}, "not encrypted"),
        ({"says": {"registration_endpoint": "http://[::ffff:10.0.0.1]/register"}}, "not encrypted"),
    ],
)
async def test_a_server_that_is_not_safe_gets_nothing(tmp_path: Path, knobs: dict[str, Any], why: str) -> None:
    async with guarded(**knobs) as upstream:
        with pytest.raises(AuthRequired) as caught:
            await logged_in(upstream, tmp_path)
        assert re.search(why, caught.value.text())
        assert upstream.authority.tokens == {}


@pytest.mark.parametrize(
    "url",
    ["https://10.1.2.3", "https://169.254.169.254", "https://[fd00:ec2::254]", "http://192.168.0.1", "file:///etc"],
)
async def test_an_upstream_cannot_send_us_into_another_network(tmp_path: Path, url: str) -> None:
    async with guarded() as upstream:
        upstream.names = (url,)
        with pytest.raises(AuthRequired, match="was not asked"):
            await logged_in(upstream, tmp_path)


async def test_redirects_of_metadata_and_tokens_are_not_followed(tmp_path: Path) -> None:
    asked: list[str] = []

    async def trap(request: Request, response: Response) -> None:
        asked.append(request.path)
        response.json({})

    async def bounce(_request: Request, response: Response) -> None:
        response.whole(307, Location=target.url)

    async with serve(trap) as target, serve(bounce) as bouncer, guarded() as upstream:
        upstream.authority.says = {"token_endpoint": bouncer.url}
        with pytest.raises(Unavailable, match="HTTP 307"):
            await logged_in(upstream, tmp_path)
        upstream.names = (bouncer.url.removesuffix("/mcp"),)
        with pytest.raises(AuthRequired, match="has no metadata"):
            await logged_in(upstream, tmp_path)
    assert asked == []


async def test_an_endless_answer_is_cut_off(tmp_path: Path) -> None:
    async def flood(_request: Request, response: Response) -> None:
        response.start(200, {"Content-Type": "application/json"})
        while not response.gone.is_set():
            response.chunk(b" " * 65536)
            await response.drain()

    async with serve(flood) as site, guarded() as upstream:
        upstream.names = (site.url.removesuffix("/mcp"),)
        with pytest.raises(Unavailable, match="more than"):
            await logged_in(upstream, tmp_path)


async def test_metadata_about_another_resource_is_refused(tmp_path: Path) -> None:
    async with guarded() as upstream:
        upstream.resource = "https://another.example/mcp"
        with pytest.raises(AuthRequired, match="another server"):
            await logged_in(upstream, tmp_path)


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_metadata_that_cannot_be_had_now_is_no_missing_metadata(tmp_path: Path, status: int) -> None:
    async def failing(_request: Request, response: Response) -> None:
        response.whole(status)

    async with serve(failing) as site, guarded() as upstream:
        upstream.names = (site.url.removesuffix("/mcp"),)
        with pytest.raises(Unavailable) as caught:
            await logged_in(upstream, tmp_path)
        assert not isinstance(caught.value, AuthRequired)
