"""What becomes of a login while calls run: it ends, is renewed, is taken back, and servers fail on the way."""

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from proxy.config.outbound import AuthConfig
from proxy.credentials import kept
from proxy.credentials.kept import Login
from proxy.credentials.source import LoginRequired
from proxy.errors import AuthRequired, TokenUnavailable
from proxy.model import UpstreamState
from tests.support.authority import guarded
from tests.support.clock import ManualClock
from tests.support.logins import call_as, ends_in, logged_in, served, slot, vault
from tests.support.running import running

OAUTH = AuthConfig.model_validate("oauth")
MANY = 50


async def test_a_token_that_has_ended_is_renewed_before_the_call(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await logged_in(upstream, tmp_path)
        ends_in(tmp_path, slot(upstream), -10)
        async with served(upstream, tmp_path) as manifold:
            assert await call_as(manifold) == {"who": "ada"}
        assert upstream.authority.refreshes == 1


async def test_many_calls_with_a_token_that_has_ended_cause_one_renewal(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await logged_in(upstream, tmp_path)
        async with served(upstream, tmp_path) as manifold:
            ends_in(tmp_path, slot(upstream), -10)
            upstream.authority.rotate_key()
            held = upstream.authority.held = anyio.Event()
            answers: list[Any] = []

            async def call() -> None:
                answers.append(await call_as(manifold))

            async with anyio.create_task_group() as tasks:
                for _ in range(MANY):
                    tasks.start_soon(call)
                await upstream.authority.asked_for("refresh_token")
                held.set()
            assert answers == [{"who": "ada"}] * MANY
        assert (upstream.authority.refreshes, upstream.served) == (1, MANY)


async def test_tokens_that_are_refused_after_a_key_rotation_are_renewed_once_and_calls_run_once(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await logged_in(upstream, tmp_path)
        async with served(upstream, tmp_path) as manifold:
            assert await call_as(manifold) == {"who": "ada"}
            answers: list[Any] = []

            async def call(number: int) -> None:
                if number == MANY // 2:
                    upstream.authority.rotate_key()
                answers.append(await call_as(manifold))

            async with anyio.create_task_group() as tasks:
                for number in range(MANY):
                    tasks.start_soon(call, number)
            assert answers == [{"who": "ada"}] * MANY
        assert (upstream.authority.refreshes, upstream.served) == (1, MANY + 1)


async def test_a_login_that_was_revoked_asks_for_another_and_goes_on_with_it(tmp_path: Path) -> None:
    async with guarded() as upstream:
        await logged_in(upstream, tmp_path)
        async with served(upstream, tmp_path) as manifold:
            upstream.authority.revoke_all()
            with pytest.raises(AuthRequired) as caught:
                await call_as(manifold)
            assert "mcp-manifold login up" in caught.value.hint
            assert "invalid_grant" in caught.value.message
            event = await manifold.status("up", UpstreamState.AUTH_REQUIRED)
            assert "mcp-manifold login up" in event.reason
            assert upstream.authority.refreshes == 1  # nobody tries again with what was taken back
            await logged_in(upstream, tmp_path)
            await manifold.status("up", UpstreamState.READY, 2)
            assert await call_as(manifold) == {"who": "ada"}


@pytest.mark.parametrize("fault", [{"drops": True}, {"fails_with": 500}, {"fails_with": 429}, {"fails_with": 404}])
async def test_a_server_that_fails_to_renew_costs_no_login(tmp_path: Path, fault: dict[str, Any]) -> None:
    async with guarded() as upstream, anyio.create_task_group() as tasks:
        await logged_in(upstream, tmp_path)
        ends_in(tmp_path, slot(upstream), -10)
        clock = ManualClock()
        login = Login(slot(upstream), OAUTH, vault(tmp_path), tasks, clock)
        for name, value in fault.items():
            setattr(upstream.authority, name, value)
        for _ in range(MANY):
            with pytest.raises(TokenUnavailable):
                await login.header()
        assert upstream.authority.refreshes == 1  # nobody storms a server that is down
        upstream.authority.drops, upstream.authority.fails_with = False, None
        await clock.advance(120)
        assert (await login.header()).removeprefix("Bearer ") in upstream.authority.tokens
        assert upstream.authority.refreshes == 2


async def test_a_token_is_renewed_ahead_of_its_end_while_calls_go_on_with_it(tmp_path: Path) -> None:
    async with guarded() as upstream, anyio.create_task_group() as tasks:
        first = await logged_in(upstream, tmp_path)
        ends_in(tmp_path, slot(upstream), 30)
        upstream.authority.held = anyio.Event()
        login = Login(slot(upstream), OAUTH, vault(tmp_path), tasks)
        with anyio.fail_after(10):
            assert await login.header() == first.header  # nobody waits for the server, which is slow
            assert await login.header() == first.header
            await upstream.authority.asked_for("refresh_token")
            upstream.authority.held.set()
            while await login.header() == first.header:
                await anyio.lowlevel.checkpoint()
        assert upstream.authority.refreshes == 1


async def test_a_call_that_is_cancelled_does_not_cost_the_renewal_that_it_began(tmp_path: Path) -> None:
    async with guarded() as upstream, anyio.create_task_group() as tasks:
        await logged_in(upstream, tmp_path)
        ends_in(tmp_path, slot(upstream), -10)
        held = upstream.authority.held = anyio.Event()
        login = Login(slot(upstream), OAUTH, vault(tmp_path), tasks)
        async with anyio.create_task_group() as calls:
            calls.start_soon(login.header)
            await upstream.authority.asked_for("refresh_token")
            calls.cancel_scope.cancel()
        held.set()
        with anyio.fail_after(10):
            header = await login.header()
        assert header.removeprefix("Bearer ") in upstream.authority.tokens
        assert upstream.authority.refreshes == 1
        entry = vault(tmp_path).load(slot(upstream))
        assert entry is not None
        assert entry.grant is not None
        assert entry.grant.refresh_token in upstream.authority.refreshable  # the rotated one is what is kept


async def test_a_login_made_during_a_renewal_is_the_one_that_is_kept(tmp_path: Path) -> None:
    async with guarded() as upstream, anyio.create_task_group() as tasks:
        await logged_in(upstream, tmp_path)
        ends_in(tmp_path, slot(upstream), -10)
        held = upstream.authority.held = anyio.Event()
        grants: list[Any] = []

        async def log_in_again() -> None:
            grants.append(await logged_in(upstream, tmp_path))

        clock = ManualClock()
        login = Login(slot(upstream), OAUTH, vault(tmp_path), tasks, clock)
        async with anyio.create_task_group() as both:
            both.start_soon(login.header)
            await upstream.authority.asked_for("refresh_token")
            both.start_soon(log_in_again)
            await upstream.authority.asked_for("authorization_code", 2)
            held.set()
        entry = vault(tmp_path).load(slot(upstream))
        assert entry is not None
        assert entry.grant == grants[0]
        await clock.advance(kept.GLANCE)
        assert await login.header() == grants[0].header


async def test_several_processes_renew_a_login_once(tmp_path: Path) -> None:
    async with guarded() as upstream, anyio.create_task_group() as tasks:
        await logged_in(upstream, tmp_path)
        ends_in(tmp_path, slot(upstream), -10)
        held = upstream.authority.held = anyio.Event()
        logins = [Login(slot(upstream), OAUTH, vault(tmp_path), tasks) for _ in range(4)]
        headers: set[str] = set()

        async def ask(login: Login) -> None:
            headers.add(await login.header())

        with anyio.fail_after(20):
            async with anyio.create_task_group() as askers:
                for login in logins:
                    askers.start_soon(ask, login)
                await upstream.authority.asked_for("refresh_token")
                held.set()
        assert (len(headers), upstream.authority.refreshes) == (1, 1)


async def test_a_token_that_never_worked_is_not_replaced_over_and_over(tmp_path: Path) -> None:
    async with guarded() as upstream, anyio.create_task_group() as tasks:
        await logged_in(upstream, tmp_path)
        login = Login(slot(upstream), OAUTH, vault(tmp_path), tasks)
        for _ in range(MANY):
            assert not await login.refused(await login.header())
        assert upstream.authority.refreshes == 0


async def test_a_refresh_token_that_does_not_rotate_is_kept(tmp_path: Path) -> None:
    async with guarded(rotates=False) as upstream:
        first = await logged_in(upstream, tmp_path)
        async with served(upstream, tmp_path) as manifold:
            for _ in range(3):
                upstream.authority.rotate_key()
                assert await call_as(manifold) == {"who": "ada"}
        assert {form["refresh_token"] for form in upstream.authority.of("refresh_token")} == {first.refresh_token}


async def test_a_token_that_is_refused_after_it_worked_is_renewed_or_the_login_is_over(tmp_path: Path) -> None:
    async with guarded() as upstream, anyio.create_task_group() as tasks:
        await logged_in(upstream, tmp_path)
        upstream.authority.tokens.clear()
        entry = vault(tmp_path).load(slot(upstream))
        assert entry is not None
        login = Login(slot(upstream), OAUTH, vault(tmp_path), tasks)
        header = await login.header()
        login.accepted(header)
        upstream.authority.refreshable.clear()
        with pytest.raises(LoginRequired, match="invalid_grant"):
            await login.refused(header)


async def test_a_logout_elsewhere_is_noticed(tmp_path: Path) -> None:
    async with guarded() as upstream, anyio.create_task_group() as tasks:
        await logged_in(upstream, tmp_path)
        clock = ManualClock()
        login = Login(slot(upstream), OAUTH, vault(tmp_path), tasks, clock)
        await login.header()
        vault(tmp_path).delete(slot(upstream))
        await clock.advance(kept.GLANCE)
        with pytest.raises(LoginRequired):
            await login.header()


async def test_a_token_for_another_address_is_not_shown(tmp_path: Path) -> None:
    async with guarded() as upstream, guarded() as moved:
        await logged_in(upstream, tmp_path)
        async with running({"up": moved.config()}, tmp_path) as manifold:
            await manifold.status("up", UpstreamState.AUTH_REQUIRED)
        assert all("authorization" not in request.headers for request in moved.site.requests)
