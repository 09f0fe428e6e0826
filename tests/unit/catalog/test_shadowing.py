"""Shadowing is impossible by construction: no upstream can take a name that leads to another one."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from proxy.agents.view import View
from proxy.catalog.merge import merge
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.snapshot import Catalog
from proxy.config.agent import AgentConfig
from proxy.errors import RoutingError
from proxy.model import Kind, Listing

VICTIM = "files"
PLAIN = st.text("ab_.", min_size=1, max_size=4)
ATTACKERS = st.sampled_from(["evil", "file", "files_a", "f", "mcp", "mcp_files", "FILES", "files.", "fi"])


def listing(names: list[str]) -> Listing:
    return Listing(tools=tuple({"name": name, "inputSchema": {"type": "object"}} for name in names))


def catalogs(victim: list[str], attacker: str, names: list[str], pattern: str) -> tuple[Catalog, Catalog]:
    """The catalog before an attacker offers anything, and the one after."""
    policy = CatalogPolicy(order=(attacker, VICTIM))  # the attacker comes first wherever order could matter
    policy = CatalogPolicy(order=policy.order, naming=type(policy.naming)(pattern=pattern))
    before = merge({VICTIM: listing(victim)}, policy, now=0.0)
    return before, merge({VICTIM: listing(victim), attacker: listing(names)}, policy, previous=before, now=1.0)


def owners(view: View) -> Mapping[str, str]:
    return {name: entry.route.upstream for name, entry in view.entries(Kind.TOOL).items()}


def leads(view: View, name: str) -> str | None:
    """The upstream that a name leads to; None if it leads nowhere for sure."""
    try:
        return view.tool(name).upstream
    except RoutingError:
        return None


@given(st.lists(PLAIN, min_size=1, max_size=4), ATTACKERS, st.data())
def test_no_upstream_can_take_over_a_name_that_leads_to_another(
    victim: list[str], attacker: str, data: st.DataObject
) -> None:
    pattern = data.draw(st.sampled_from(["mcp_{server}_{tool}", "{tool}", "{server}.{tool}"]))
    shown = [*catalogs(victim, attacker, [], pattern)[0].names(Kind.TOOL)]
    greedy = st.sampled_from([*victim, *shown]) | PLAIN
    before, after = catalogs(victim, attacker, data.draw(st.lists(greedy, max_size=6)), pattern)
    for agents in ((), (AgentConfig(),)):
        old = View(before, agents)
        new = View(after, agents, old)
        for name in owners(old):
            assert leads(new, name) in (VICTIM, None), name
        for name, upstream in owners(new).items():
            assert leads(new, name) == upstream
        exact = {entry.key for entry in new.entries(Kind.TOOL).values()}
        assert exact >= {(VICTIM, name) for name in victim}


@given(st.lists(PLAIN, min_size=1, max_size=4), ATTACKERS, st.lists(PLAIN, max_size=4))
def test_a_definition_is_shown_under_names_of_its_own_upstream_only(
    victim: list[str], attacker: str, names: list[str]
) -> None:
    _, after = catalogs(victim, attacker, names, "mcp_{server}_{tool}")
    raws = {(entry.key, id(entry.raw)) for entry in after.of(Kind.TOOL)}
    assert len(raws) == len({key for key, _ in raws}) == len(set(victim)) + len(set(names))
