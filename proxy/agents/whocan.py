"""Who may call a tool, and by which rule: for every agent and for the store. Reads a catalog, changes nothing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from proxy.agents.hints import lacking, wanted_hints
from proxy.agents.sight import spellings
from proxy.agents.view import View
from proxy.catalog.merge import raw_entries
from proxy.catalog.naming import Key, sanitise
from proxy.catalog.policy import Gate
from proxy.catalog.snapshot import Catalog, Entry
from proxy.config.model import AgentConfig, Filter
from proxy.errors import UnknownTarget
from proxy.model import Kind

_NO_FIT = "none of {} fits"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one agent sees a tool, and why."""

    agent: str | None
    """None is the store."""
    rule: str
    """The line of the configuration that decides, and what it says."""
    shown: str = ""
    """The name under which it sees the tool; empty if it does not."""
    fixed: tuple[str, ...] = ()
    """The upstream's names of arguments whose values are fixed."""
    hidden: tuple[str, ...] = ()
    """Those that are not shown and have no fixed value."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    """The overrides that apply, as they are named in the configuration."""


@dataclass(frozen=True, slots=True)
class WhoCan:
    """Everything about one tool."""

    upstream: str
    own: str
    public: str
    """Its public name; empty if it exists for nobody."""
    nobody: str = ""
    """Why it exists for nobody."""
    verdicts: tuple[Verdict, ...] = ()


def who_can(
    catalog: Catalog, agents: Mapping[str, AgentConfig], view: Callable[[str | None], View], name: str
) -> tuple[WhoCan, ...]:
    """What every agent may do with each tool that a name may mean, however it is written.

    Args:
        catalog: the catalog.
        agents: the configured agents.
        view: what an agent, or the store, sees.
        name: a public name, ``server.tool``, a tool's own name, or the one that an agent sees.

    Raises:
        UnknownTarget: no upstream that is listed has it; with the nearest names.
    """
    views = {agent: view(agent) for agent in (None, *agents)}
    given = {entry.key for one in views.values() if (entry := one.entries(Kind.TOOL).get(name)) is not None}
    found = [entry for entry in catalog.of(Kind.TOOL) if entry.key in given or name in _forms(entry)]
    known = tuple(
        WhoCan(
            *entry.key, entry.route.public, verdicts=tuple(_verdict(one, views[one], agents, entry) for one in views)
        )
        for entry in found
    )
    absent = tuple(_absent(catalog, name))
    if not known + absent:
        raise UnknownTarget(
            f"No upstream that is listed has a tool {name!r}.", name=name, suggestions=_near(views, name)
        )
    return known + absent


def _forms(entry: Entry) -> set[str]:
    return {*spellings(entry), entry.named.plain if entry.named else ""}


def _near(views: Mapping[str | None, View], name: str) -> tuple[str, ...]:
    return views[None].names(Kind.TOOL).nearest.to(name)


def _absent(catalog: Catalog, name: str) -> Iterator[WhoCan]:
    """Tools that an upstream lists and that exist for nobody."""
    for upstream, listing in catalog.listings.items():
        for raw in raw_entries(listing, Kind.TOOL):
            own = raw.get("name") if isinstance(raw, Mapping) else None
            if not isinstance(own, str) or catalog.own(Kind.TOOL, upstream, own) is not None:
                continue
            if name in (own, sanitise(own), f"{upstream}.{own}"):
                yield WhoCan(upstream, own, "", _why_nobody(catalog, (upstream, own)))


def _why_nobody(catalog: Catalog, key: Key) -> str:
    upstream, own = key
    if key in catalog.withheld.get(Kind.TOOL, frozenset()):
        return f"mcpServers.{upstream}.pin: it is held back until it is approved"
    for conflict in catalog.conflicts:
        if (conflict.upstream, conflict.kind, conflict.name) == (upstream, Kind.TOOL, own):
            return conflict.reason
    return f"mcpServers.{upstream}.tools does not let it pass"


def _verdict(agent: str | None, view: View, agents: Mapping[str, AgentConfig], entry: Entry) -> Verdict:
    overrides = tuple(view.tailored.lines.get(entry.key, ()))
    shown = view.names(Kind.TOOL).name_of(entry.key)
    config = None if agent is None else agents[agent]
    if shown is None:
        return Verdict(agent, _why_not(agent, config, view, entry), overrides=overrides)
    rule = "the store sees everything" if config is None else _why(f"agents.{agent}.tools", config.tools, entry)
    changed = view.overridden.get(entry.key)
    if changed is None:
        return Verdict(agent, rule, shown, overrides=overrides)
    fixed = frozenset(changed.override.fixed)
    hidden = tuple(sorted(changed.override.hidden - fixed))
    return Verdict(agent, rule, shown, tuple(sorted(fixed)), hidden, changed.names, overrides)


def _why(where: str, chosen: Filter, entry: Entry) -> str:
    names = spellings(entry)
    return next(f'{where}.allow: "{glob}"' for glob in chosen.allow if Gate((glob,)).admits(*names))


def _why_not(agent: str | None, config: AgentConfig | None, view: View, entry: Entry) -> str:
    upstream = entry.route.upstream
    owner = view.catalog.policy.owners.get(upstream)
    if owner is not None and owner != agent:
        return f"mcpServers.{upstream}.agent: it belongs to {owner}"
    where = f"agents.{agent}"
    if config is None:
        return "it exists for no one"  # pragma: no cover - the store sees whatever belongs to nobody
    if upstream not in view.upstreams:
        return f"{where}.servers: {_NO_FIT.format(list(config.servers))} {upstream}"
    return _by_filter(where, config.tools, entry) or _by_hints(where, config, entry) or _by_override(where, view, entry)


def _by_filter(where: str, chosen: Filter, entry: Entry) -> str:
    names = spellings(entry)
    denied = next((glob for glob in chosen.deny if Gate((glob,)).admits(*names)), None)
    if denied is not None:
        return f'{where}.tools.deny: "{denied}"'
    return "" if Gate(chosen.allow).admits(*names) else f"{where}.tools.allow: {_NO_FIT.format(list(chosen.allow))}"


def _by_hints(where: str, config: AgentConfig, entry: Entry) -> str:
    missing = lacking(entry.raw, wanted_hints(config.annotations, read_only=config.read_only))
    option = "read_only" if config.read_only and "readOnlyHint: true" in missing else "annotations"
    return f"{where}.{option}: the tool does not say {', '.join(missing)}" if missing else ""


def _by_override(where: str, view: View, entry: Entry) -> str:
    lines = ", ".join(f'"{line}"' for line in view.tailored.lines.get(entry.key, ()))
    return f"{where}.overrides: {lines}: {view.tailored.barred.get(entry.key, 'it is not seen')}"
