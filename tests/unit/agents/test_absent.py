"""Why a name leads nowhere."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.agents.absent import Absence, absences
from proxy.agents.selection import parts
from proxy.agents.views import Views
from proxy.catalog.merge import merge
from proxy.catalog.pinning import Pins, seal
from proxy.catalog.policy import CatalogPolicy
from proxy.config.model import AgentConfig, PinMode
from proxy.model import Kind, Listing

SHAPE: dict[str, Any] = {"type": "object"}
BEFORE = Listing(
    tools=({"name": "read", "inputSchema": SHAPE},),
    prompts=({"name": "greet"},),
    resources=({"uri": "file:///a", "name": "a"},),
)
AFTER = Listing(
    tools=({"name": "read", "inputSchema": SHAPE, "description": "Another one."},),
    prompts=({"name": "greet", "description": "Another one."},),
    resources=({"uri": "file:///a", "name": "a", "description": "Another one."},),
)
PINNED = "mcpServers.up.pin: it is held back until it is approved"


def found(listing: Listing, agent: str | None, name: str, **agents: Any) -> tuple[Absence, ...]:
    policy = replace(CatalogPolicy(), seals={"up": seal(PinMode.HOLD, Pins.of(BEFORE))})
    catalog = merge({"up": listing}, policy)
    configs = {each: AgentConfig.model_validate(config) for each, config in agents.items()}
    views = Views(configs)
    return absences(catalog, configs, lambda one: views.of(catalog, *(() if one is None else parts(one))), agent, name)


@pytest.mark.parametrize(
    ("name", "kind", "own"),
    [
        ("read", Kind.TOOL, "read"),
        ("up.read", Kind.TOOL, "read"),
        ("greet", Kind.PROMPT, "greet"),
        ("up+file:///a", Kind.RESOURCE, "file:///a"),
    ],
)
def test_what_a_pin_holds_back_is_told(name: str, kind: Kind, own: str) -> None:
    assert found(AFTER, None, name) == (Absence(kind, "up", own, (PINNED,)),)


@pytest.mark.parametrize("name", ["read", "greet", "up+file:///a", "nothing"])
def test_what_is_seen_or_does_not_exist_is_not_absent(name: str) -> None:
    assert found(BEFORE, None, name) == ()
    assert found(BEFORE, "a", name, a={}) == ()


def test_each_of_several_agents_that_hide_something_is_named() -> None:
    agents = {"a": {"read_only": True, "prompts": {"deny": ["*"]}}, "b": {"resources": {"deny": ["*"]}}}
    (tool,) = found(BEFORE, "a+b", "read", **agents)
    assert tool.reasons == ("agents.a.read_only: the tool does not say readOnlyHint: true",)
    (prompt,) = found(BEFORE, "a+b", "greet", **agents)
    assert prompt.reasons == ("agents.a.servers and agents.a.prompts: the agent does not see it",)
    (resource,) = found(BEFORE, "b", "up+file:///a", **agents)
    assert (resource.kind, resource.own) == (Kind.RESOURCE, "file:///a")
