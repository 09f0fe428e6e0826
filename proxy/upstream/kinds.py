"""An upstream is one server, or a group of equal ones: what both are called together, and which one it is to be."""

from collections.abc import Mapping
from dataclasses import replace

from proxy.config.model import UpstreamConfig
from proxy.model import Listing, StatusEvent
from proxy.upstream.guard import Member
from proxy.upstream.instances import Group, Moved
from proxy.upstream.standing import Hooks
from proxy.upstream.upstream import Upstream

AnyUpstream = Upstream | Group


def upstream_of(name: str, config: UpstreamConfig, hooks: Hooks, known: Listing | None, moved: Moved) -> AnyUpstream:
    """The upstream that a configuration asks for; ``moved`` hears what becomes of each of its links."""
    if len(config.endpoints) > 1:
        return Group(name, config, hooks, known, moved)

    def status(event: StatusEvent) -> None:
        moved(event)
        hooks.status(event)

    return Upstream(name, config, hooks=replace(hooks, status=status), known=known)


def members_of(upstream: AnyUpstream) -> Mapping[str, Member]:
    """What a tower stands before: name -> the upstream, or its instances."""
    if isinstance(upstream, Upstream):
        return {upstream.name: upstream}
    return {one.upstream.name: one for one in upstream.instances}
