from collections.abc import Mapping
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
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
    """Somebody edits a configuration again and again; what runs follows by plans alone.

    Each link has a number, so that it shows whether an upstream kept its link or got another one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.links: dict[str, tuple[int, UpstreamConfig]] = {}
        self.numbers = count(1)
        self.agents: dict[str, AgentConfig] = {}
        self.naming, self.log = self.config.naming, self.config.log
        self.pinning, self.auth = self.config.pinning, self.config.auth
        self.instructions: str | None = None
        self.history = [self.config]

    def edit(self, **changes: Any) -> Plan:
        return self.become(self.config.model_copy(update=changes))

    def become(self, new: Config) -> Plan:
        """Take over another configuration by doing what the plan says, and nothing else."""
        plan = diff(self.config, new)
        links = {plan.renamed.get(name, name): one for name, one in self.links.items() if name not in plan.removed}
        links |= {name: (links[name][0], config) for name, config in plan.retuned.items()}
        links |= {name: (next(self.numbers), config) for name, config in {**plan.changed, **plan.added}.items()}
        if plan.reordered or plan.added or plan.renamed:
            links = {name: links[name] for name in running(new)}
        self.links = links
        self.agents = {name: new.agents[name] if name in plan.agents else self.agents[name] for name in new.agents}
        self.naming = new.naming if plan.naming else self.naming
        self.pinning = new.pinning if plan.pinning else self.pinning
        self.auth = new.auth if plan.auth else self.auth
        self.log = new.log if plan.log else self.log
        self.instructions = new.server.instructions if "instructions" in plan.live else self.instructions
        self.config = new
        self.history.append(new)
        return plan

    def linked(self) -> dict[str, int]:
        return {name: number for name, (number, _) in self.links.items()}

    # -- upstreams -----------------------------------------------------------------------------------------------------

    @rule(name=NAMES, upstream=UPSTREAMS)
    def put(self, name: str, upstream: UpstreamConfig) -> None:
        before = self.linked()
        self.edit(upstreams={**self.config.upstreams, name: upstream})
        others = {each: number for each, number in before.items() if each != name}
        kept = {number: each for each, number in self.linked().items()}
        assert all(number in kept for number in others.values()), "a change of one cost another its link"

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        before = self.linked()
        before.pop(name, None)
        self.edit(upstreams={each: it for each, it in self.config.upstreams.items() if each != name})
        assert self.linked() == before

    @rule(old=NAMES, new=NAMES)
    def rename(self, old: str, new: str) -> None:
        before, free = self.linked(), new not in self.config.upstreams
        self.edit(upstreams={(new if each == old else each): it for each, it in self.config.upstreams.items()})
        if free:
            assert self.linked() == {(new if each == old else each): number for each, number in before.items()}

    @precondition(lambda self: self.config.upstreams)
    @rule(data=st.data(), new=st.sampled_from(["e", "f"]))
    def rename_and_turn(self, data: st.DataObject, new: str) -> None:
        """Both at once: there is nothing left to know it by."""
        old = data.draw(st.sampled_from(sorted(self.config.upstreams)))
        other = self.config.upstreams[old].model_copy(update={"timeout": 77.0})
        upstreams = {(new if each == old else each): it for each, it in self.config.upstreams.items()}
        self.edit(upstreams={**upstreams, new: other})

    @precondition(lambda self: self.config.upstreams)
    @rule(data=st.data(), figure=st.sampled_from(["timeout", "refresh", "concurrency"]), value=st.integers(1, 3))
    def turn(self, data: st.DataObject, figure: str, value: int) -> None:
        """A knob, of which no link knows."""
        name = data.draw(st.sampled_from(sorted(self.config.upstreams)))
        before = self.linked()
        other = self.config.upstreams[name].model_copy(update={figure: value})
        self.edit(upstreams={**self.config.upstreams, name: other})
        assert self.linked() == before

    @precondition(lambda self: self.config.upstreams)
    @rule(data=st.data(), value=st.sampled_from(["1", "2"]))
    def point_elsewhere(self, data: st.DataObject, value: str) -> None:
        """What a link is made of."""
        name = data.draw(st.sampled_from(sorted(self.config.upstreams)))
        before, old = self.linked(), self.config.upstreams[name]
        self.edit(upstreams={**self.config.upstreams, name: old.model_copy(update={"args": (value,)})})
        same = old.args == (value,)
        assert all((self.linked()[each] == before[each]) == (same or each != name) for each in before)

    @precondition(lambda self: self.config.upstreams)
    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.config.upstreams)))
        old = self.config.upstreams[name]
        self.edit(upstreams={**self.config.upstreams, name: old.model_copy(update={"enabled": not old.enabled})})
        assert (name in self.links) is not old.enabled

    @rule(data=st.data())
    def reorder(self, data: st.DataObject) -> None:
        before = self.linked()
        order = data.draw(st.permutations(list(self.config.upstreams)))
        plan = self.edit(upstreams={name: self.config.upstreams[name] for name in order})
        assert self.linked() == before
        assert plan == Plan(reordered=list(before) != list(self.linked()))

    @rule(one=NAMES, other=NAMES)
    def swap_names(self, one: str, other: str) -> None:
        names = {one: other, other: one}
        self.edit(upstreams={names.get(each, each): it for each, it in self.config.upstreams.items()})

    # -- everything else -----------------------------------------------------------------------------------------------

    @rule(agents=st.dictionaries(st.sampled_from(["p", "q"]), AGENTS))
    def set_agents(self, agents: dict[str, AgentConfig]) -> None:
        before = self.linked()
        self.edit(agents=agents)
        assert self.linked() == before

    @rule(other=CONFIGS)
    def set_the_rest(self, other: Config) -> None:
        before = self.linked()
        plan = self.edit(naming=other.naming, log=other.log, server=other.server)
        assert self.linked() == before
        assert set(plan.restart_needed) <= {"server.port"}

    @rule(back=st.integers(1, 4))
    def undo(self, back: int) -> None:
        self.become(self.history[-min(back, len(self.history))])

    @rule()
    def save_unchanged(self) -> None:
        assert not self.become(self.config.model_copy(deep=True))

    @invariant()
    def what_runs_is_what_the_configuration_says(self) -> None:
        wanted = running(self.config)
        assert list(wanted.items()) == [(name, config) for name, (_, config) in self.links.items()]
        assert self.agents == self.config.agents
        assert (self.naming, self.log) == (self.config.naming, self.config.log)
        assert (self.pinning, self.auth) == (self.config.pinning, self.config.auth)
        assert self.instructions == self.config.server.instructions

    @invariant()
    def no_link_serves_two(self) -> None:
        assert len(set(self.linked().values())) == len(self.links)


TestEditing = Editing.TestCase
TestEditing.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


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
