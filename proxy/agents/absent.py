"""Why a name leads nowhere in a view although an upstream has something of that name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from proxy.agents.explain import Explanation, explain
from proxy.agents.selection import parts
from proxy.agents.view import View
from proxy.agents.whocan import who_can
from proxy.catalog.snapshot import Catalog
from proxy.config.model import AgentConfig
from proxy.errors import RoutingError, UnknownTarget
from proxy.model import Kind

_SECTIONS = {Kind.PROMPT: "prompts", Kind.RESOURCE: "resources", Kind.TEMPLATE: "resources"}


@dataclass(frozen=True, slots=True)
class Absence:
    """Something that an upstream has, and that is not in the view."""

    kind: Kind
    upstream: str
    own: str
    """What the upstream calls it."""
    reasons: tuple[str, ...]
    """The lines of the configuration that decide, and what they say."""


def absences(
    catalog: Catalog,
    agents: Mapping[str, AgentConfig],
    view: Callable[[str | None], View],
    agent: str | None,
    name: str,
) -> tuple[Absence, ...]:
    """What a name would mean if nothing held it back or hid it.

    Args:
        catalog: the catalog.
        agents: the configured agents.
        view: what an agent, or the store, sees.
        agent: for whom, where that is not the store; several are joined.
        name: a public name, an exported URI, ``server.tool``, or the upstream's own name.
    """
    names = (None,) if agent is None else parts(agent)
    found = [*_tools(catalog, agents, view, names, name), *_held(catalog, name)]
    if agent is not None:
        found += _hidden(view, names, name)
    return tuple(found)


def _tools(
    catalog: Catalog,
    agents: Mapping[str, AgentConfig],
    view: Callable[[str | None], View],
    names: tuple[str | None, ...],
    name: str,
) -> Iterator[Absence]:
    try:
        every = who_can(catalog, agents, view, name)
    except UnknownTarget:
        return
    for one in every:
        against = tuple(it.rule for it in one.verdicts if it.agent in names and not it.shown)
        if one.nobody or against:
            yield Absence(Kind.TOOL, one.upstream, one.own, (one.nobody,) if one.nobody else against)


def _held(catalog: Catalog, name: str) -> Iterator[Absence]:
    """What a pin holds back besides tools."""
    for kind, keys in catalog.withheld.items():
        for upstream, own in sorted(keys) if kind is not Kind.TOOL else ():
            if name in (own, f"{upstream}.{own}", catalog.uris.export(upstream, own)):
                why = f"mcpServers.{upstream}.pin: it is held back until it is approved"
                yield Absence(kind, upstream, own, (why,))


def _hidden(view: Callable[[str | None], View], names: tuple[str | None, ...], name: str) -> Iterator[Absence]:
    """What the store sees besides tools, and not all of the agents."""
    for one in _meanings(view(None), name):
        section = _SECTIONS.get(one.kind)
        blind = [each for each in names if (one.kind, one.upstream, one.own) not in _known(view(each), name)]
        if section is not None and blind:
            rule = "{0}.servers and {0}.{1}: the agent does not see it"
            why = tuple(rule.format(f"agents.{each}", section) for each in blind)
            yield Absence(one.kind, one.upstream, one.own, why)


def _known(view: View, name: str) -> set[tuple[Kind, str, str]]:
    return {(one.kind, one.upstream, one.own) for one in _meanings(view, name)}


def _meanings(view: View, name: str) -> tuple[Explanation, ...]:
    try:
        return explain(view, name)
    except RoutingError:
        return ()
