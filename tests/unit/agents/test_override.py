"""Overrides of single tools: what is listed, and what is called."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from proxy.agents.override import Overridden, Override
from proxy.agents.view import View
from proxy.agents.views import Views
from proxy.agents.whocan import who_can
from proxy.catalog.merge import merge
from proxy.catalog.naming import NamingPolicy
from proxy.catalog.policy import CatalogPolicy
from proxy.config.access import OverrideConfig
from proxy.config.model import AgentConfig, Filter, NameStyle
from proxy.errors import InvalidArguments, UnknownTarget
from proxy.model import Kind, Listing

POLICY = CatalogPolicy(order=("files", "web"))
FIND = {
    "name": "find",
    "description": "Finds.",
    "inputSchema": {
        "type": "object",
        "properties": {"root": {"type": "string"}, "text": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["root", "text"],
        "additionalProperties": False,
        "x-vendor": {"kept": True},
    },
    "outputSchema": {"type": "object"},
    "annotations": {"title": "Find", "readOnlyHint": True},
    "_meta": {"vendor": 1},
    "x-own": [1],
}
ARGUMENTS = ("a", "b", "c", "d")
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=3))


def tool(name: str, *arguments: str, **notes: bool) -> dict[str, Any]:
    schema = {"type": "object", "properties": {one: {"type": "string"} for one in arguments}}
    return {"name": name, "inputSchema": schema, **({"annotations": notes} if notes else {})}


def view(agents: list[dict[str, Any]], **listings: list[dict[str, Any]]) -> View:
    made = merge({name: Listing(tools=tuple(tools)) for name, tools in listings.items()}, POLICY)
    return View(made, [AgentConfig.model_validate(agent) for agent in agents])


def overridden(raw: dict[str, Any], **config: Any) -> Overridden:
    return Overridden(raw, Override.of(OverrideConfig.model_validate(config)))


def overriding(**overrides: Any) -> dict[str, Any]:
    return {"overrides": {name.replace("__", "."): config for name, config in overrides.items()}}


def test_texts_and_arguments_change_and_everything_else_stays_the_very_object() -> None:
    agent = overriding(
        files__find={
            "name": "seek",
            "title": "Seek",
            "description": "Seeks in the public folder.",
            "arguments": {
                "root": {"value": "/srv"},
                "text": {"name": "pattern", "description": "What to seek."},
                "limit": {"default": 10},
            },
        }
    )
    seen = view([agent], files=[FIND])
    (listed,) = seen.listing(Kind.TOOL)
    assert listed == {
        **FIND,
        "name": "seek",
        "title": "Seek",
        "description": "Seeks in the public folder.",
        "annotations": {"title": "Seek", "readOnlyHint": True},
        "inputSchema": {
            "type": "object",
            "properties": {
                "pattern": {"type": "string", "description": "What to seek."},
                "limit": {"type": "integer", "default": 10},
            },
            "required": ["pattern"],
            "additionalProperties": False,
            "x-vendor": {"kept": True},
        },
    }
    assert listed["outputSchema"] is FIND["outputSchema"]
    assert seen.schema("seek") is listed["inputSchema"]
    route = seen.tool("seek")
    assert seen.raw(route) is FIND
    assert seen.arguments(route, {"pattern": "x"}, "seek") == {"root": "/srv", "text": "x", "limit": 10}
    assert seen.arguments(route, {"pattern": "x", "limit": 1}, "seek") == {"root": "/srv", "text": "x", "limit": 1}


def test_a_tool_without_an_override_stays_the_very_object_and_so_do_its_arguments() -> None:
    seen = view([overriding(files__find={"hide": True})], files=[FIND, {**FIND, "name": "other"}])
    given_ = {"root": 1}
    (listed,) = seen.listing(Kind.TOOL)
    assert listed["inputSchema"] is FIND["inputSchema"]
    assert seen.arguments(seen.tool("other"), given_, "other") is given_
    with pytest.raises(UnknownTarget):
        seen.tool("find")


@pytest.mark.parametrize("given_", [{"root": "/etc"}, {"text": "x"}, {"root": "/srv", "pattern": "x"}])
def test_an_argument_that_cannot_be_given_is_refused_and_its_value_is_not_told(given_: dict[str, Any]) -> None:
    changed = overridden(FIND, arguments={"root": {"value": "/s3cret"}, "text": {"name": "pattern"}})
    with pytest.raises(InvalidArguments) as caught:
        changed.arguments(given_, "find")
    assert next(iter(given_)) in caught.value.message
    assert "s3cret" not in f"{caught.value.text()} {caught.value.problems} {changed!r} {changed.override!r}"


@pytest.mark.parametrize("given_", [[], "text", 3])
def test_arguments_that_are_no_object_are_refused_where_something_is_changed(given_: Any) -> None:
    with pytest.raises(InvalidArguments):
        overridden(FIND, arguments={"root": {"value": 1}}).arguments(given_, "find")


def test_a_call_without_arguments_gets_the_fixed_ones() -> None:
    assert overridden(FIND, arguments={"root": {"value": None}}).arguments(None, "find") == {"root": None}
    assert overridden(FIND, arguments={"limit": {"hide": True, "default": 3}}).arguments(None, "find") == {"limit": 3}
    assert overridden(FIND, arguments={"limit": {"hide": True}}).arguments(None, "find") is None


def test_two_arguments_may_change_places_and_a_name_that_is_taken_is_not_given() -> None:
    raw = tool("t", "a", "b", "c")
    swapped = overridden(raw, arguments={"a": {"name": "b"}, "b": {"name": "a"}})
    assert swapped.arguments({"a": 1, "b": 2}, "t") == {"b": 1, "a": 2}
    taken = overridden(raw, arguments={"a": {"name": "c"}})
    assert taken.schema == raw["inputSchema"]
    assert taken.arguments({"a": 1, "c": 2}, "t") == {"a": 1, "c": 2}
    assert any('"c"' in one for one in taken.misfits)


def test_what_depends_on_a_fixed_argument_holds_always() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {}, "b": {}, "c": {}},
        "dependentRequired": {"a": ["b"], "b": ["a"]},
        "dependentSchemas": {"a": {"required": ["a", "c"]}},
        "anyOf": [{"required": ["a"]}, {"required": ["c"]}],
        "examples": [{"a": 1, "b": 2}],
    }
    changed = overridden({"name": "t", "inputSchema": schema}, arguments={"a": {"value": 1}, "b": {"name": "B"}})
    assert changed.schema == {
        "type": "object",
        "properties": {"B": {}, "c": {}},
        "dependentRequired": {"B": []},
        "dependentSchemas": {},
        "anyOf": [{"required": []}, {"required": ["c"]}],
        "examples": [{"B": 2}],
        "required": ["B"],
        "allOf": [{"required": ["c"]}],
    }


def test_misfits_are_unknown_arguments_and_calls_that_cannot_succeed() -> None:
    misfits = overridden(FIND, arguments={"rot": {"value": 1}, "text": {"hide": True}}).misfits
    assert any('"rot"' in one for one in misfits)
    assert any('"text" is required' in one for one in misfits)
    assert overridden(FIND, arguments={"root": {"value": 1}}).misfits == ()


# -- names -------------------------------------------------------------------------------------------------------------


def shown(seen: View) -> list[str]:
    return [listed["name"] for listed in seen.listing(Kind.TOOL)]


def test_a_given_name_goes_before_a_local_one_and_not_before_another_given_one() -> None:
    listings = {"files": [tool("find"), tool("x")], "web": [tool("seek"), tool("y")]}
    assert shown(view([overriding(files__find={"name": "seek"})], **listings)) == ["seek", "x", "mcp_web_seek", "y"]
    both = overriding(files__find={"name": "seek"}, files__x={"name": "seek"})
    assert shown(view([both], **listings)) == ["mcp_files_find", "mcp_files_x", "mcp_web_seek", "y"]


def test_a_name_that_a_renamed_tool_leaves_is_free_for_another_one() -> None:
    seen = view([overriding(files__find={"name": "seek"})], files=[tool("find")], web=[tool("find")])
    assert shown(seen) == ["seek", "find"]
    assert seen.tool("find").upstream == "web"
    assert shown(view([{}], files=[tool("find")], web=[tool("find")])) == ["mcp_files_find", "mcp_web_find"]


def test_a_given_name_gives_way_to_a_public_one() -> None:
    agent = {**overriding(files__find={"name": "mcp_web_y"}), "names": "prefixed"}
    assert shown(view([agent], files=[tool("find")], web=[tool("y")])) == ["mcp_files_find", "mcp_web_y"]


def test_a_renamed_tool_is_found_under_its_own_names_too() -> None:
    seen = view([overriding(files__find={"name": "seek"})], files=[tool("find")])
    for name in ("seek", "find", "files.find", "mcp_files_find"):
        assert seen.tool(name).name == "find"


def test_an_override_follows_its_tool_by_public_name_by_server_and_by_own_name() -> None:
    for name in ("mcp_files_find", "files.find", "find"):
        seen = view([{"overrides": {name: {"description": "D"}}}], files=[tool("find")], web=[tool("y")])
        assert [listed.get("description") for listed in seen.listing(Kind.TOOL)] == ["D", None]
        assert seen.tailored.unknown == ()


def test_an_override_by_public_name_follows_a_tool_whose_public_name_changes() -> None:
    policy = CatalogPolicy(order=("files",))
    listing = {"files": Listing(tools=(tool("find", "root"),))}
    first = merge(listing, policy)
    renamed = CatalogPolicy(order=("files",), naming=NamingPolicy(pattern="{server}-{tool}"))
    second = merge(listing, renamed, previous=first)
    agent = AgentConfig.model_validate({"overrides": {"mcp_files_find": {"arguments": {"root": {"value": 1}}}}})
    seen = View(second, [agent])
    assert seen.arguments(seen.tool("find"), {}, "find") == {"root": 1}


def test_an_own_name_that_fits_several_tools_holds_for_all_but_fixes_nothing() -> None:
    listings = {"files": [tool("find", "root")], "web": [tool("find", "root")]}
    seen = view([overriding(find={"description": "D"})], **listings)
    assert [listed["description"] for listed in seen.listing(Kind.TOOL)] == ["D", "D"]
    fixing = view([overriding(find={"arguments": {"root": {"value": "s3cret"}}})], **listings)
    assert shown(fixing) == []
    assert set(fixing.tailored.barred) == {("files", "find"), ("web", "find")}


def test_a_name_that_fits_nothing_is_reported() -> None:
    seen = view([overriding(fnd={"hide": True}, find={"description": "D"})], files=[tool("find")])
    assert seen.tailored.unknown == ("fnd",)


# -- several agents ----------------------------------------------------------------------------------------------------


def test_of_several_agents_all_fixed_arguments_apply_and_the_first_decides_about_names() -> None:
    one = overriding(find={"name": "seek", "arguments": {"root": {"value": 1}, "text": {"name": "pattern"}}})
    two = overriding(
        find={"name": "look", "description": "D", "arguments": {"limit": {"value": 2}, "root": {"value": 1}}}
    )
    seen = view([one, two], files=[FIND])
    (listed,) = seen.listing(Kind.TOOL)
    assert (listed["name"], listed["description"]) == ("seek", "D")
    assert list(listed["inputSchema"]["properties"]) == ["pattern"]
    assert seen.arguments(seen.tool("seek"), {"pattern": "x"}, "seek") == {"root": 1, "limit": 2, "text": "x"}


@pytest.mark.parametrize(("one", "two", "sees"), [(1, 2, False), (1, True, False), ([1], [True], False), (2, 2, True)])
def test_a_tool_with_contradictory_fixed_values_is_not_seen(one: Any, two: Any, *, sees: bool) -> None:
    agents = [overriding(find={"arguments": {"root": {"value": value}}}) for value in (one, two)]
    assert bool(shown(view(agents, files=[FIND]))) is sees


HINTS = st.dictionaries(
    st.sampled_from(["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"]), st.booleans(), max_size=3
)
TOOL_NAMES = ("find", "seek", "x_y")
NAMES = st.sampled_from([*TOOL_NAMES, "files.find", "mcp_web_seek", "nothing"])
ARGUMENT_CONFIG = st.one_of(
    st.builds(lambda value: {"value": value}, VALUES),
    st.fixed_dictionaries(
        {}, optional={"hide": st.booleans(), "name": st.sampled_from([*ARGUMENTS, "E"]), "default": VALUES}
    ),
)


def _distinct(arguments: dict[str, Any]) -> bool:
    names = [one["name"] for one in arguments.values() if one.get("name") is not None]
    return len(set(names)) == len(names)


ARGUMENT_CONFIGS = st.dictionaries(st.sampled_from(ARGUMENTS), ARGUMENT_CONFIG, max_size=3).filter(_distinct)
OVERRIDES = st.dictionaries(
    NAMES,
    st.fixed_dictionaries(
        {},
        optional={
            "hide": st.booleans(),
            "name": st.sampled_from(["find", "new", "x_y"]),
            "arguments": ARGUMENT_CONFIGS,
        },
    ),
    max_size=3,
)
AGENTS = st.fixed_dictionaries(
    {},
    optional={
        "servers": st.sampled_from([["*"], ["files"], ["web"]]),
        "tools": st.sampled_from([{"deny": ["f*"]}, {"allow": ["*e*"]}]),
        "read_only": st.booleans(),
        "annotations": HINTS,
        "overrides": OVERRIDES,
        "names": st.sampled_from(["local", "prefixed"]),
    },
)
TOOLS = st.lists(
    st.builds(
        lambda name, arguments, notes: tool(name, *arguments, **notes),
        st.sampled_from(TOOL_NAMES),
        st.sets(st.sampled_from(ARGUMENTS)).map(sorted),
        HINTS,
    ),
    max_size=3,
    unique_by=lambda raw: str(raw["name"]),
)


def _what(seen: View) -> dict[tuple[str, str], set[str]]:
    """Every visible tool, with the own names of the arguments that can be given."""
    found = {}
    for entry in seen.entries(Kind.TOOL).values():
        changed = seen.overridden.get(entry.key)
        hidden = changed.override.hidden if changed else frozenset()
        found[entry.key] = set(entry.raw["inputSchema"]["properties"]) - hidden
    return found


@given(AGENTS, AGENTS, TOOLS, TOOLS)
def test_an_intersection_never_shows_more_than_either_agent_alone(
    one: dict[str, Any], two: dict[str, Any], files: list[dict[str, Any]], web: list[dict[str, Any]]
) -> None:
    joined = _what(view([one, two], files=files, web=web))
    for alone in (one, two):
        whole = _what(view([alone], files=files, web=web))
        assert joined.keys() <= whole.keys()
        assert all(arguments <= whole[key] for key, arguments in joined.items())


@given(AGENTS, TOOLS, TOOLS)
def test_who_can_always_knows_the_rule_and_agrees_with_what_is_shown(
    agent: dict[str, Any], files: list[dict[str, Any]], web: list[dict[str, Any]]
) -> None:
    catalog = merge({"files": Listing(tools=tuple(files)), "web": Listing(tools=tuple(web))}, POLICY)
    agents = {"a": AgentConfig.model_validate(agent)}
    views = Views(agents)
    for entry in catalog.of(Kind.TOOL):
        (found,) = who_can(
            catalog, agents, lambda name: views.of(catalog, *([name] if name else [])), ".".join(entry.key)
        )
        verdict = found.verdicts[1]
        assert verdict.shown == (views.of(catalog, "a").names(Kind.TOOL).name_of(entry.key) or "")
        assert verdict.rule.startswith("agents.a.")
        assert "it is not seen" not in verdict.rule


@given(AGENTS, TOOLS, TOOLS)
def test_names_stay_unique_and_lead_to_what_they_show(
    agent: dict[str, Any], files: list[dict[str, Any]], web: list[dict[str, Any]]
) -> None:
    seen = view([agent], files=files, web=web)
    names = shown(seen)
    assert len(set(names)) == len(names)
    for name, entry in seen.entries(Kind.TOOL).items():
        assert seen.tool(name) is entry.route


# -- schemas -----------------------------------------------------------------------------------------------------------

REQUIRED = st.lists(st.sampled_from(ARGUMENTS), unique=True)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from(ARGUMENTS), st.just({"type": "string"})),
            "required": REQUIRED,
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "if": inner,
            "then": inner,
            "dependentRequired": st.dictionaries(st.sampled_from(ARGUMENTS), REQUIRED, max_size=2),
            "dependentSchemas": st.dictionaries(st.sampled_from(ARGUMENTS), inner, max_size=2),
        },
    )


SCHEMAS: st.SearchStrategy[Any] = st.recursive(st.builds(dict, required=REQUIRED), _schemas, max_leaves=6)
TOP = SCHEMAS.map(lambda inner: {**inner, "properties": {one: {} for one in ARGUMENTS}, "type": "object"})


def _mentioned(schema: Any) -> set[str]:
    """Everything that a schema says, as words."""
    if isinstance(schema, dict):
        return {*schema, *(word for value in schema.values() for word in _mentioned(value))}
    return {word for value in schema for word in _mentioned(value)} if isinstance(schema, list) else {schema}


@given(TOP, st.sets(st.sampled_from(ARGUMENTS)))
def test_a_listed_schema_never_mentions_a_fixed_argument_and_stays_a_schema(schema: Any, fixed: set[str]) -> None:
    changed = overridden({"name": "t", "inputSchema": schema}, arguments={one: {"value": 1} for one in fixed})
    assert changed.schema is not None
    Draft202012Validator.check_schema(changed.schema)
    assert not (_mentioned(changed.schema) & fixed)


@given(TOP, ARGUMENT_CONFIGS, st.dictionaries(st.sampled_from(ARGUMENTS), st.just("v")))
def test_arguments_of_the_listed_schema_come_back_as_those_of_the_upstream(
    schema: Any, configs: dict[str, Any], own: dict[str, str]
) -> None:
    changed = overridden({"name": "t", "inputSchema": schema}, arguments=configs)
    given_ = {
        changed.names.get(name, name): value for name, value in own.items() if name not in changed.override.hidden
    }
    final = changed.arguments(given_, "t")
    for name in ARGUMENTS:
        if name in changed.override.fixed:
            assert final[name] == changed.override.fixed[name]
        elif name not in changed.override.hidden and name in own:
            assert final[name] == own[name]
        else:
            assert final.get(name) == changed.override.defaults.get(name)


@given(TOP, st.sets(st.sampled_from(ARGUMENTS)), st.sets(st.sampled_from(ARGUMENTS)))
def test_what_fits_the_listed_schema_fits_the_upstreams_with_the_fixed_arguments(
    schema: Any, fixed: set[str], given_: set[str]
) -> None:
    changed = overridden({"name": "t", "inputSchema": schema}, arguments={one: {"value": "v"} for one in fixed})
    arguments = dict.fromkeys(sorted(given_ - fixed), "v")
    listed = Draft202012Validator(dict(changed.schema or {})).is_valid(arguments)
    assert listed == Draft202012Validator(schema).is_valid(changed.arguments(arguments, "t"))


# -- by annotation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notes", "reads", "harmless"),
    [
        ({}, False, False),
        ({"readOnlyHint": True}, True, True),
        ({"readOnlyHint": False}, False, False),
        ({"readOnlyHint": "true"}, False, False),
        ({"destructiveHint": False}, False, True),
        ({"readOnlyHint": True, "destructiveHint": True}, True, True),
    ],
)
def test_a_tool_must_say_what_an_agent_wants_to_hear(notes: dict[str, Any], *, reads: bool, harmless: bool) -> None:
    listing = [{**tool("t"), "annotations": notes}]
    assert bool(shown(view([{"read_only": True}], files=listing))) is reads
    assert bool(shown(view([{"annotations": {"readOnlyHint": True}}], files=listing))) is reads
    assert bool(shown(view([{"annotations": {"destructiveHint": False}}], files=listing))) is harmless


def test_a_tool_that_may_not_be_seen_by_its_annotations_leads_nowhere_under_any_name() -> None:
    seen = view([{"read_only": True}], files=[tool("wipe"), tool("read", readOnlyHint=True)])
    for name in ("wipe", "files.wipe", "mcp_files_wipe", "files_wipe"):
        with pytest.raises(UnknownTarget) as caught:
            seen.tool(name)
        assert "wipe" not in caught.value.hint


def test_views_follow_changed_overrides() -> None:
    views = Views({"a": AgentConfig(tools=Filter(), names=NameStyle.LOCAL)})
    catalog = merge({"files": Listing(tools=(tool("find"),))}, POLICY)
    before = views.of(catalog, "a")
    views.configure({"a": AgentConfig.model_validate(overriding(find={"name": "seek"}))})
    after = views.of(catalog, "a")
    assert (shown(before), shown(after)) == (["find"], ["seek"])
    assert after.tool("find").name == "find"
