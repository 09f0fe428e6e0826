"""An agent's policy holds for those, too, to whom an upstream shows something of their own."""

from pathlib import Path

import pytest

from proxy.config.model import AgentConfig
from proxy.errors import UnknownTarget
from proxy.model import Caller, Kind, Principal, UpstreamState
from tests.support.authority import guarded
from tests.support.logins import call_as, logged_in
from tests.support.running import Running, running

AUTH = {"type": "oauth", "per": "principal"}


def names(manifold: Running) -> list[str]:
    caller = Caller(agent="a", principal=Principal("ada"))
    return sorted(manifold.runtime.router.seen_by(caller).entries(Kind.TOOL))


async def test_a_reload_changes_what_a_principal_with_tools_of_its_own_sees(tmp_path: Path) -> None:
    async with guarded() as upstream:
        upstream.private = True
        for who, whose in (("operator", ""), ("ada", "principal ada")):
            upstream.authority.person = who
            await logged_in(upstream, tmp_path, whose=whose, auth=AUTH)
        async with running({"up": upstream.config(auth=AUTH)}, tmp_path, agents={"a": {}}) as manifold:
            await manifold.status("up", UpstreamState.READY)
            assert await call_as(manifold, "only_ada", agent="a", principal="ada") == {"who": "ada"}
            assert names(manifold) == ["headers", "only_ada", "whoami"]
            policy = {"overrides": {"only_ada": {"name": "mine"}, "headers": {"hide": True}}}
            agents = {"a": AgentConfig.model_validate(policy)}
            await manifold.runtime.apply(manifold.runtime.config.model_copy(update={"agents": agents}))
            assert names(manifold) == ["mine", "whoami"]
            assert await call_as(manifold, "only_ada", agent="a", principal="ada") == {"who": "ada"}
            with pytest.raises(UnknownTarget):
                await call_as(manifold, "headers", agent="a", principal="ada")
