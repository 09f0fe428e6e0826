"""Who may call a tool, and by which rule."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.agents.misfits import Misfits, misfits
from proxy.agents.views import Views
from proxy.agents.whocan import Verdict, WhoCan, who_can
from proxy.catalog.merge import merge
from proxy.catalog.policy import CatalogPolicy, Filters
from proxy.config.model import AgentConfig, Filter
from proxy.errors import UnknownTarget
from proxy.model import Kind, Listing

POLICY = CatalogPolicy(order=("files", "web"), filters={"web": Filters(tools=Filter(deny=("shut",)))})


def tool(name: str, **more: Any) -> dict[str, Any]:
    properties = {one: {"type": "string"} for one in ("root", "text")}
    return {"name": name, "inputSchema": {"type": "object", "properties": properties, "required": ["root"]}, **more}


FILES = Listing(tools=(tool("read", annotations={"readOnlyHint": True}), tool("wipe")))
WEB = Listing(tools=(tool("fetch"), tool("shut")))
HELPLESS = 'the argument "root" is required, hidden and without a value: no call can succeed'
CATALOG = merge({"files": FILES, "web": WEB}, POLICY)


def asked(name: str, **agents: dict[str, Any]) -> tuple[WhoCan, ...]:
    configs = {agent: AgentConfig.model_validate(config) for agent, config in agents.items()}
    views = Views(configs)
    return who_can(CATALOG, configs, lambda agent: views.of(CATALOG, *([agent] if agent else [])), name)


def verdict(name: str, **agent: Any) -> Verdict:
    (found,) = asked(name, one=agent)
    return found.verdicts[1]


def test_the_store_and_an_agent_without_rules_see_a_tool_by_their_names() -> None:
    (found,) = asked("wipe", one={})
    assert (found.upstream, found.own, found.public) == ("files", "wipe", "mcp_files_wipe")
    assert [(it.agent, it.shown, it.rule) for it in found.verdicts] == [
        (None, "mcp_files_wipe", "the store sees everything"),
        ("one", "wipe", 'agents.one.tools.allow: "*"'),
    ]


@pytest.mark.parametrize(
    ("agent", "rule"),
    [
        ({"servers": ["web"]}, "agents.one.servers: none of ['web'] fits files"),
        ({"tools": {"deny": ["x*", "w*"]}}, 'agents.one.tools.deny: "w*"'),
        ({"tools": {"allow": ["read", "f*x"]}}, "agents.one.tools.allow: none of ['read', 'f*x'] fits"),
        ({"read_only": True}, "agents.one.read_only: the tool does not say readOnlyHint: true"),
        (
            {"annotations": {"destructiveHint": False, "openWorldHint": False}},
            "agents.one.annotations: the tool does not say destructiveHint: false, openWorldHint: false",
        ),
        ({"overrides": {"files.wipe": {"hide": True}}}, 'agents.one.overrides: "files.wipe": an override hides it'),
    ],
)
def test_the_rule_that_hides_a_tool_is_named(agent: dict[str, Any], rule: str) -> None:
    found = verdict("mcp_files_wipe", **agent)
    assert (found.shown, found.rule) == ("", rule)


def test_the_glob_that_lets_a_tool_pass_is_named_and_what_is_fixed() -> None:
    found = verdict(
        "files.wipe",
        tools={"allow": ["nothing", "files.w*"]},
        overrides={
            "files.wipe": {"name": "clean", "arguments": {"root": {"value": "s3cret"}, "text": {"name": "why"}}},
        },
    )
    assert found == Verdict(
        "one", 'agents.one.tools.allow: "files.w*"', "clean", ("root",), (), {"text": "why"}, ("files.wipe",)
    )
    assert "s3cret" not in repr(found)


def test_a_tool_is_found_by_the_name_that_only_one_agent_sees() -> None:
    (found,) = asked("clean", one={"overrides": {"files.wipe": {"name": "clean"}}}, two={})
    assert [it.shown for it in found.verdicts] == ["mcp_files_wipe", "clean", "wipe"]


def test_a_tool_that_its_upstreams_filter_hides_exists_for_nobody() -> None:
    (found,) = asked("shut", one={})
    assert found == WhoCan("web", "shut", "", "mcpServers.web.tools does not let it pass")


def test_a_tool_that_is_held_back_exists_for_nobody_until_it_is_approved() -> None:
    held = replace(CATALOG, entries={}, withheld={Kind.TOOL: frozenset({("files", "wipe")})})
    (found,) = who_can(held, {}, lambda agent: Views({}).of(held, *([agent] if agent else [])), "files.wipe")
    assert found == WhoCan("files", "wipe", "", "mcpServers.files.pin: it is held back until it is approved")


async def test_each_misfit_is_logged_once_for_as_long_as_it_lasts() -> None:
    catalogs = [merge({}, POLICY)]
    agents = {"one": AgentConfig.model_validate({"overrides": {"fetch": {"hide": True}, "nothing": {"hide": True}}})}
    views = Views(agents)
    reporter = Misfits(lambda: agents, lambda agent: views.of(catalogs[-1], agent))
    with capture_logs() as logs:
        reporter.look()
        assert logs == []
        catalogs.append(CATALOG)
        await reporter.begin((), None)  # type: ignore[arg-type]  # there is nobody to wait for
        reporter.look()
        assert [one["override"] for one in logs] == ["nothing"]
        catalogs.append(merge({"files": FILES, "web": Listing()}, POLICY))
        reporter.look()
    assert [one["override"] for one in logs] == ["nothing", "fetch"]


def test_an_unknown_tool_is_an_error_with_the_nearest_names() -> None:
    with pytest.raises(UnknownTarget, match="wipr") as caught:
        asked("wipr")
    assert caught.value.suggestions == ("mcp_files_wipe",)


def test_overrides_that_do_not_fit_are_told() -> None:
    config = AgentConfig.model_validate(
        {
            "overrides": {
                "files.wpe": {"hide": True},
                "files.wipe": {"arguments": {"rot": {"value": 1}, "root": {"hide": True}}},
                "read": {"description": "fits"},
            }
        }
    )
    views = Views({"one": config, "two": AgentConfig()})
    told = [str(one) for one in misfits({"one": config}, lambda agent: views.of(CATALOG, agent))]
    assert told == [
        'agents.one.overrides."files.wpe": no tool that the agent sees is called so',
        'agents.one.overrides."files.wipe": the tool has no argument "rot"',
        f'agents.one.overrides."files.wipe": {HELPLESS}',
    ]


def test_what_is_not_known_yet_is_told_as_such() -> None:
    early = merge({"files": FILES}, POLICY)
    config = AgentConfig.model_validate({"overrides": {"fetch": {"hide": True}}})
    (told,) = misfits({"one": config}, lambda agent: Views({"one": config}).of(early, agent))
    assert "not listed yet: web" in told.what
