"""Says where a public name comes from: which upstream, why it looks as it does, and what else leads there."""

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.agents.view import View
from proxy.catalog.merge import LOCATED, NAMED
from proxy.catalog.naming import Why
from proxy.catalog.snapshot import Entry
from proxy.model import Kind


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one name."""

    kind: Kind
    public: str
    """Its public name, or exported URI or template."""
    shown: str
    """The name that the view shows; empty for a URI that nobody listed."""
    upstream: str
    own: str
    """What the upstream calls it."""
    pattern: str = ""
    """The naming pattern that holds for the upstream; empty for URIs, which have none."""
    plain: str = ""
    """The public name that it would have without length limit and without others; empty for URIs."""
    why: Why | None = None
    """How the public name came about; None for URIs."""
    rivals: tuple[str, ...] = ()
    """The others, as ``server.tool``, which map to the same plain name."""
    aliases: tuple[str, ...] = ()
    """Old names that still lead there."""
    overrides: tuple[str, ...] = ()
    """The overrides of the view's agents that change it, as they are named in the configuration."""
    changes: tuple[str, ...] = ()
    """What they change, in words; fixed values are not among them."""


def explain(view: View, name: str) -> tuple[Explanation, ...]:
    """Everything that a name, however it is written, or an exported URI can mean in a view.

    Raises:
        UnknownTarget: nothing; with the nearest names of tools.
    """
    found = (*_by_name(view, name), *_by_uri(view, name))
    if not found:
        raise view.names(Kind.TOOL).error(name)
    return found


def _by_name(view: View, name: str) -> Iterator[Explanation]:
    for kind in NAMED:
        for entry in view.names(kind).matches(name):
            yield _explained(view, entry)


def _by_uri(view: View, uri: str) -> Iterator[Explanation]:
    route = view.addressed(uri)
    if route is not None:
        shown = route.public if any(route.public in view.entries(kind) for kind in LOCATED) else ""
        yield Explanation(route.kind, route.public, shown, route.upstream, route.name)


def _explained(view: View, entry: Entry) -> Explanation:
    route, named = entry.route, entry.named
    changed = view.overridden.get(entry.key) if route.kind is Kind.TOOL else None
    plain = named.plain if named else route.public
    return Explanation(
        kind=route.kind,
        public=route.public,
        shown=view.names(route.kind).name_of(entry.key) or "",
        upstream=route.upstream,
        own=route.name,
        pattern=view.catalog.policy.naming.pattern_of(route.upstream),
        plain=plain,
        why=named.why if named else None,
        rivals=tuple(_rivals(view, entry, plain)),
        aliases=tuple(_aliases(view, entry)),
        overrides=view.tailored.lines.get(entry.key, ()) if changed else (),
        changes=changed.summary if changed else (),
    )


def _rivals(view: View, entry: Entry, plain: str) -> Iterator[str]:
    for other in view.entries(entry.route.kind).values():
        if other.named and other.named.plain == plain and other.key != entry.key:
            yield f"{other.route.upstream}.{other.route.name}"


def _aliases(view: View, entry: Entry) -> list[str]:
    kind = entry.route.kind
    tables = (view.catalog.aliases.get(kind, {}), view.names(kind).aliases)
    return sorted({name for table in tables for name, alias in table.items() if alias.target == entry.key})
