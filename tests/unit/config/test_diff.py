from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import SecretStr

from proxy.config.audit import AuditConfig
from proxy.config.diff import LIVE, TUNING, Plan, diff, restart_needed, running
from proxy.config.model import (
    AgentConfig,
    Config,
    Filter,
    LogConfig,
    LogLevel,
    NamingConfig,
    Scope,
    ServerConfig,
    Transport,
    UpstreamConfig,
)

LINK = {
    *("type", "command", "args", "env", "cwd", "inherit_env", "url", "urls", "headers"),
    *("auth", "credentials"),
    *("agent", "session", "era", "max_message"),
}
"""What a link is made of. A new setting belongs here or to TUNING, and whoever adds it decides which."""
RESTART = {
    "name",
    "host",
    "port",
    "path",
    "allowed_hosts",
    "allowed_origins",
    "max_body",
    "session_idle",
    "max_sessions",
    "state_dir",
    "state_keys",
    "express",
}

NAMES = st.sampled_from(["a", "b", "c", "d"])
UPSTREAMS = st.builds(
    UpstreamConfig,
    command=st.sampled_from(["x", "y"]),
    enabled=st.sampled_from([True, True, True, False]),
    timeout=st.sampled_from([1.0, 2.0]),
    tools=st.sampled_from([Filter(), Filter(deny=("*",))]),
)
AGENTS = st.builds(AgentConfig, tools=st.sampled_from([Filter(), Filter(deny=("*",))]))
CONFIGS = st.builds(
    Config,
    upstreams=st.dictionaries(NAMES, UPSTREAMS),
    agents=st.dictionaries(st.sampled_from(["p", "q"]), AGENTS),
    naming=st.builds(NamingConfig, max_length=st.sampled_from([64, 32])),
    log=st.builds(LogConfig, level=st.sampled_from([LogLevel.INFO, LogLevel.DEBUG])),
    server=st.builds(ServerConfig, port=st.sampled_from([0, 1]), instructions=st.sampled_from([None, "read me"])),
)


def config(**upstreams: UpstreamConfig) -> Config:
    return Config(upstreams=upstreams)


def stdio(command: str = "x", **more: Any) -> UpstreamConfig:
    return UpstreamConfig(command=command, **more)


def followed(upstreams: Mapping[str, UpstreamConfig], plan: Plan) -> dict[str, UpstreamConfig]:
    """What runs after somebody has done what the plan says, and nothing else."""
    stay = {plan.renamed.get(name, name): one for name, one in upstreams.items() if name not in plan.removed}
    return {**stay, **plan.changed, **plan.retuned, **plan.added}


@given(CONFIGS, CONFIGS)
def test_doing_what_the_plan_says_leads_to_the_new_upstreams(old: Config, new: Config) -> None:
    assert followed(running(old), diff(old, new)) == running(new)


@given(CONFIGS, CONFIGS)
def test_what_the_plan_does_not_name_is_the_same_in_both(old: Config, new: Config) -> None:
    plan = diff(old, new)
    touched = {*plan.added, *plan.removed, *plan.changed, *plan.retuned, *plan.renamed, *plan.renamed.values()}
    for name in {*running(old), *running(new)} - touched:
        assert old.upstreams[name] == new.upstreams[name]
    for agent in {*old.agents, *new.agents}:
        assert (agent in plan.agents) == (old.agents.get(agent) != new.agents.get(agent))
    assert plan.naming == (old.naming != new.naming)
    assert plan.log == (old.log != new.log)
    assert {*plan.live, *plan.restart_needed} == {
        name
        for name, field in (("instructions", "instructions"), ("server.port", "port"))
        if getattr(old.server, field) != getattr(new.server, field)
    }


@given(CONFIGS, CONFIGS)
def test_nothing_is_in_two_parts_of_a_plan(old: Config, new: Config) -> None:
    plan = diff(old, new)
    parts = [*plan.added, *plan.removed, *plan.changed, *plan.retuned, *plan.renamed, *plan.renamed.values()]
    assert len(parts) == len(set(parts))


@given(CONFIGS)
def test_the_same_configuration_is_an_empty_plan(one: Config) -> None:
    assert diff(one, one.model_copy(deep=True)) == Plan()
    assert not diff(one, one)


@given(CONFIGS, CONFIGS)
def test_an_empty_plan_means_that_the_same_runs_in_the_same_order(old: Config, new: Config) -> None:
    if not diff(old, new):
        assert list(running(old).items()) == list(running(new).items())
        assert (old.server, old.log, old.naming, old.agents) == (new.server, new.log, new.naming, new.agents)


@given(CONFIGS, NAMES)
def test_an_upstream_that_only_changes_its_name_is_renamed(one: Config, name: str) -> None:
    upstreams = {**one.upstreams, name: stdio("the only one like this")}
    moved = {("new" if each == name else each): it for each, it in upstreams.items()}
    plan = diff(one.model_copy(update={"upstreams": upstreams}), one.model_copy(update={"upstreams": moved}))
    assert plan == Plan(renamed={name: "new"})


class Editing(RuleBasedStateMachine):
    """Somebody edits a configuration again and again; what runs follows by plans alone."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.upstreams: dict[str, UpstreamConfig] = {}
        self.agents: dict[str, AgentConfig] = {}

    def edit(self, **changes: Any) -> None:
        new = self.config.model_copy(update=changes)
        plan = diff(self.config, new)
        self.upstreams = followed(self.upstreams, plan)
        self.agents = {name: new.agents[name] if name in plan.agents else self.agents[name] for name in new.agents}
        self.config = new

    @rule(name=NAMES, upstream=UPSTREAMS)
    def put(self, name: str, upstream: UpstreamConfig) -> None:
        self.edit(upstreams={**self.config.upstreams, name: upstream})

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.edit(upstreams={each: it for each, it in self.config.upstreams.items() if each != name})

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        self.edit(upstreams={(new if each == old else each): it for each, it in self.config.upstreams.items()})

    @rule(agents=st.dictionaries(st.sampled_from(["p", "q"]), AGENTS))
    def set_agents(self, agents: dict[str, AgentConfig]) -> None:
        self.edit(agents=agents)

    @invariant()
    def what_runs_is_what_the_configuration_says(self) -> None:
        assert self.upstreams == running(self.config)
        assert self.agents == self.config.agents


TestEditing = Editing.TestCase


@pytest.mark.parametrize(
    "change",
    [
        {"command": "y"},
        {"args": ("1",)},
        {"env": {"TOKEN": SecretStr("another")}},
        {"cwd": "/srv"},
        {"session": Scope.CLIENT},
        {"command": None, "type": Transport.HTTP, "url": "http://localhost/mcp"},
        {"command": "y", "timeout": 1.0},
    ],
)
def test_another_command_address_secret_or_scope_needs_another_link(change: dict[str, Any]) -> None:
    old = stdio(env={"TOKEN": SecretStr("secret")})
    new = old.model_copy(update=change)
    assert diff(config(a=old), config(a=new)) == Plan(changed={"a": new})


@pytest.mark.parametrize(
    "change",
    [
        {"timeout": 1.0, "concurrency": 1},
        {"tools": Filter(deny=("*",))},
        {"naming": "{tool}"},
        {"refresh": 1.0, "health": 0.0, "idle_timeout": 9.0},
    ],
)
def test_knobs_and_filters_keep_the_link(change: dict[str, Any]) -> None:
    new = stdio().model_copy(update=change)
    assert diff(config(a=stdio()), config(a=new)) == Plan(retuned={"a": new})


def test_switching_an_upstream_off_removes_it_and_switching_it_on_adds_it() -> None:
    on, off = config(a=stdio()), config(a=stdio(enabled=False))
    assert diff(on, off) == Plan(removed=frozenset({"a"}))
    assert diff(off, on) == Plan(added={"a": stdio()})
    assert not diff(off, config(a=stdio("y", enabled=False)))


def test_of_several_alike_each_is_renamed_once() -> None:
    plan = diff(config(a=stdio(), b=stdio()), config(c=stdio(), d=stdio(), e=stdio()))
    assert plan.renamed == {"a": "c", "b": "d"}
    assert list(plan.added) == ["e"]


def test_two_that_swap_their_names_are_changed_and_not_renamed() -> None:
    x, y = stdio("x"), stdio("y")
    assert diff(config(a=x, b=y), config(a=y, b=x)) == Plan(changed={"a": y, "b": x})


def test_another_order_is_noticed() -> None:
    old = config(a=stdio("x"), b=stdio("y"))
    assert diff(old, config(b=stdio("y"), a=stdio("x"))) == Plan(reordered=True)
    assert not diff(old, config(a=stdio("x"), n=stdio("n"), b=stdio("y"))).reordered


def test_what_only_a_restart_changes_is_named() -> None:
    new = Config(server=ServerConfig(host="::1", port=1, instructions="new"))
    assert diff(Config(), new) == Plan(live=frozenset({"instructions"}), restart_needed=("server.host", "server.port"))
    assert restart_needed(new, Config()) == ("server.host", "server.port")
    assert restart_needed(Config(), Config(audit=AuditConfig(to="audit.log"))) == ("audit.to",)


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (1, 1.0), ([{"n": 1}], [{"n": True}])])
@pytest.mark.parametrize("option", ["value", "default"])
def test_values_that_only_python_takes_for_equal_differ(option: str, one: Any, other: Any) -> None:
    def saying(value: Any) -> Config:
        agent = {"overrides": {"t": {"arguments": {"n": {option: value}}}}}
        return Config.model_validate({"agents": {"a": agent}})

    assert diff(saying(one), saying(other)) == Plan(agents=frozenset({"a"}))
    assert not diff(saying(one), saying(one))


def test_every_setting_is_known_to_need_a_link_or_not_a_restart_or_not() -> None:
    assert set(UpstreamConfig.model_fields) == {"enabled"} | LINK | TUNING
    assert set(ServerConfig.model_fields) == RESTART | LIVE
    assert set(Config.model_fields) == {"server", "log", "audit", "naming", "auth", "pinning", "upstreams", "agents"}
