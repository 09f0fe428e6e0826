"""Whose credential a call is sent with: agents and principals with their own, and nothing shared across them."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from proxy.errors import AuthRequired, TokenUnavailable, UnknownTarget
from proxy.model import Caller, Era, Kind, Principal, UpstreamState
from tests.support.authority import Guarded, guarded
from tests.support.logins import call_as, ends_in, logged_in, served, slot
from tests.support.running import Running, running

PER_PRINCIPAL = {"type": "oauth", "per": "principal"}
MACHINE = {"type": "client_credentials", "client_id": "robot", "client_secret": "se/cret"}


async def people(upstream: Guarded, state: Path, *who: str, per: str = "principal") -> None:
    """Log the operator in, and each of these people."""
    auth = {"type": "oauth", "per": per}
    upstream.authority.person = "operator"
    await logged_in(upstream, state, auth=auth)
    for one in who:
        upstream.authority.person = one
        await logged_in(upstream, state, whose=f"{per} {one}", auth=auth)


async def test_each_principal_acts_as_itself(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await people(upstream, tmp_path, "ada", "bob")
        async with served(upstream, tmp_path, auth=PER_PRINCIPAL) as manifold:
            for _ in range(2):
                for who in ("ada", "bob"):
                    assert await call_as(manifold, principal=who) == {"who": who}
            assert await call_as(manifold) == {"who": "operator"}


async def test_principals_at_the_same_time_are_not_confused(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await people(upstream, tmp_path, "ada", "bob")
        async with served(upstream, tmp_path, auth=PER_PRINCIPAL) as manifold:
            found: list[bool] = []

            async def call(who: str) -> None:
                found.append(await call_as(manifold, principal=who) == {"who": who})

            async with anyio.create_task_group() as tasks:
                for number in range(40):
                    tasks.start_soon(call, ("ada", "bob")[number % 2])
            assert found == [True] * 40


async def test_a_principal_without_a_login_is_told_how_to_get_one_and_nobody_elses_is_used(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await people(upstream, tmp_path, "ada")
        async with served(upstream, tmp_path, auth=PER_PRINCIPAL) as manifold:
            assert await call_as(manifold, principal="ada") == {"who": "ada"}
            with pytest.raises(AuthRequired) as caught:
                await call_as(manifold, principal="eve")
            assert caught.value.hint == "Run `mcp-manifold login up --principal eve`."
            assert await call_as(manifold, principal="ada") == {"who": "ada"}
            upstream.authority.person = "eve"
            await logged_in(upstream, tmp_path, whose="principal eve", auth=PER_PRINCIPAL)
            assert await call_as(manifold, principal="eve") == {"who": "eve"}
            assert upstream.served == 3


async def test_neither_a_missing_login_nor_a_silent_authorization_server_costs_anybody_else(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await people(upstream, tmp_path, "ada", "bob")
        async with served(upstream, tmp_path, auth=PER_PRINCIPAL) as manifold:
            assert await call_as(manifold, principal="ada") == {"who": "ada"}
            ends_in(tmp_path, slot(upstream, "principal bob"), -10)
            upstream.authority.fails_with = 503
            for _ in range(40):
                for who, error in (("eve", AuthRequired), ("bob", TokenUnavailable)):
                    with pytest.raises(error):
                        await call_as(manifold, principal=who)
            assert await call_as(manifold, principal="ada") == {"who": "ada"}
            assert await call_as(manifold) == {"who": "operator"}
            assert manifold.runtime.registry["up"].state is UpstreamState.READY


async def test_results_are_never_shared_across_principals(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await people(upstream, tmp_path, "ada", "bob")
        more = {"auth": PER_PRINCIPAL, "cache": {"ttl": 600}, "coalesce": True}
        async with served(upstream, tmp_path, **more) as manifold:
            for who in ("ada", "bob", "ada", "bob"):
                assert await call_as(manifold, principal=who) == {"who": who}
            assert upstream.served == 2  # each of them has its own, from memory the second time


async def test_each_agent_acts_as_itself(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await people(upstream, tmp_path, "coder", per="agent")
        config = {"up": upstream.config(auth={"type": "oauth", "per": "agent"})}
        async with running(config, tmp_path, agents={"coder": {"names": "prefixed"}}) as manifold:
            await manifold.status("up", UpstreamState.READY)
            assert await call_as(manifold, agent="coder") == {"who": "coder"}
            assert await call_as(manifold) == {"who": "operator"}


async def test_an_agent_may_have_a_credential_of_its_own(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await logged_in(upstream, tmp_path)
        headers = {"X-Team": "blue"}
        credentials = {
            "agents": {"coder": {"auth": MACHINE, "headers": headers}},
            "principals": {"t:1": {"auth": MACHINE}},
        }
        config = {"up": upstream.config(credentials=credentials)}
        agents = {name: {"names": "prefixed"} for name in ("coder", "other")}
        async with running(config, tmp_path, agents=agents) as manifold:
            await manifold.status("up", UpstreamState.READY)
            assert await call_as(manifold, agent="coder") == {"who": "machine"}
            assert await call_as(manifold, agent="other") == {"who": "ada"}
            assert await call_as(manifold, agent="other", principal="t:1") == {"who": "machine"}
            assert (await call_as(manifold, "headers", agent="coder"))["x-team"] == "blue"
            assert "x-team" not in await call_as(manifold, "headers", agent="other")
            assert "x-team" not in await call_as(manifold, "headers", agent="coder", principal="t:1")


async def test_a_modern_client_is_not_given_somebody_elses_session_for_want_of_an_era(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await people(upstream, tmp_path, "ada")
        async with served(upstream, tmp_path, auth=PER_PRINCIPAL, era="auto") as manifold:
            assert await call_as(manifold, principal="ada", era=Era.MODERN, version="2026-07-28") == {"who": "ada"}


# -- without a person --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [True, False])
async def test_manifold_as_a_client_of_its_own(tmp_path: Path, found: bool) -> None:
    async with guarded() as upstream:
        auth: dict[str, Any] = MACHINE if found else {**MACHINE, "token_url": f"{upstream.authority.issuer}/token"}
        async with served(upstream, tmp_path, auth={**auth, "scopes": ["x"]}) as manifold:
            assert await call_as(manifold) == {"who": "machine"}
            upstream.authority.rotate_key()
            assert await call_as(manifold) == {"who": "machine"}
        asked = upstream.authority.of("client_credentials")
        assert [(form["scope"], form["resource"]) for form in asked] == [("x", upstream.url)] * 2
        assert not (tmp_path / "credentials").exists()  # such a token is kept nowhere


async def test_a_client_that_is_refused_says_what_to_check(tmp_path: Path) -> None:
    async with guarded() as upstream:
        wrong = {**MACHINE, "client_secret": "another-secret"}
        async with running({"up": upstream.config(auth=wrong)}, tmp_path) as manifold:
            event = await manifold.status("up", UpstreamState.AUTH_REQUIRED)
            assert "invalid_client" in event.reason
            assert "client_secret" in event.reason
            assert "another-secret" not in event.reason


async def test_a_bearer_token_of_the_configuration_is_shown(tmp_path: Path) -> None:
    async with guarded() as upstream:
        grant = await logged_in(upstream, tmp_path)
        auth = {"type": "bearer", "token": grant.access_token}
        async with served(upstream, None, auth=auth) as manifold:
            assert await call_as(manifold) == {"who": "ada"}


async def test_an_upstream_that_takes_logins_says_so_where_none_is_configured(tmp_path: Path) -> None:
    async with guarded() as upstream:
        config = {"url": upstream.url, "era": "handshake"}
        async with running({"up": config}, tmp_path) as manifold:
            event = await manifold.status("up", UpstreamState.AUTH_REQUIRED)
            assert "auth: oauth" in event.reason


async def test_a_login_without_a_place_to_keep_it_is_explained() -> None:
    async with guarded() as upstream, running({"up": upstream.config()}) as manifold:
        event = await manifold.status("up", UpstreamState.AUTH_REQUIRED)
        assert "state directory" in event.reason


# -- what each of them is shown ----------------------------------------------------------------------------------------


async def shown(manifold: Running, principal: str = "") -> set[str]:
    """The tools that somebody sees."""
    caller = Caller(principal=Principal(principal))
    router = manifold.runtime.router
    with anyio.fail_after(20):
        await router.ready_for(caller)
    return {name.removeprefix("mcp_up_") for name in router.seen_by(caller).entries(Kind.TOOL)}


async def test_private_lists_are_shown_to_those_alone_whose_credential_fetched_them(tmp_path: Path) -> None:
    async with guarded() as upstream:
        upstream.private = True
        await people(upstream, tmp_path, "ada", "bob")
        async with served(upstream, tmp_path, auth=PER_PRINCIPAL) as manifold:
            assert await shown(manifold) == {"whoami", "headers", "only_operator"}
            assert await shown(manifold, "ada") == {"whoami", "headers", "only_ada"}
            assert await shown(manifold, "bob") == {"whoami", "headers", "only_bob"}
            assert await shown(manifold, "eve") == set()
            assert await call_as(manifold, "only_ada", principal="ada") == {"who": "ada"}
            for who in ("bob", ""):
                with pytest.raises(UnknownTarget):
                    await call_as(manifold, "only_ada", principal=who)
            for guess in ("only_ada", "whoami", "nothing"):  # whoever sees nothing hears nothing of what there is
                with pytest.raises(AuthRequired, match="nobody is logged in") as caught:
                    await call_as(manifold, guess, principal="eve")
                assert caught.value.hint == "Run `mcp-manifold login up --principal eve`."
            assert upstream.served == 1


async def test_private_lists_follow_a_login_and_are_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.overlays.RETRY", 0.0)
    async with guarded() as upstream:
        upstream.private = True
        await people(upstream, tmp_path, "ada")
        async with served(upstream, tmp_path, auth=PER_PRINCIPAL) as manifold:
            assert await shown(manifold, "eve") == set()
            upstream.authority.person = "eve"
            await logged_in(upstream, tmp_path, whose="principal eve", auth=PER_PRINCIPAL)
            for _ in range(3):
                assert await shown(manifold, "eve") == {"whoami", "headers", "only_eve"}
            assert len(upstream.site.of("tools/list")) == 2  # the operator's, and hers


async def test_lists_that_are_for_everybody_are_fetched_with_the_operators_login(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await people(upstream, tmp_path, "ada")
        async with served(upstream, tmp_path, auth=PER_PRINCIPAL) as manifold:
            assert await shown(manifold, "ada") == await shown(manifold, "eve") == {"whoami", "headers"}
            assert len(upstream.site.of("tools/list")) == 1


@pytest.mark.parametrize("kind", ["http", "sse", "urls"])
async def test_every_way_to_an_upstream_shows_the_token(tmp_path: Path, kind: str) -> None:
    async with guarded() as upstream:
        await logged_in(upstream, tmp_path)
        config = upstream.config()
        if kind == "urls":
            config["urls"] = [config.pop("url"), f"{upstream.url}?again"]
        else:
            config["type"] = kind
        async with running({"up": config}, tmp_path) as manifold:
            if kind == "sse":  # it has no event stream, but the token came before that was found out
                await manifold.status("up", UpstreamState.BACKING_OFF)
            else:
                await manifold.status("up", UpstreamState.READY)
                assert await call_as(manifold) == {"who": "ada"}
        asked = [request for request in upstream.site.requests if request.path.startswith("/mcp")][1:]
        assert asked
        assert all("authorization" in request.headers for request in asked)
