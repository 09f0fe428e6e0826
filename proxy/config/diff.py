"""What has to be done to go from one configuration to another. Pure.

Only upstreams that are switched on count: one that is switched off is the same as one that is not there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from pydantic import BaseModel

from proxy.config.model import Config, UpstreamConfig
from proxy.config.tower import TowerConfig

TUNING: Final = frozenset(
    {
        *("start_timeout", "stop_timeout", "grace", "refresh", "health", "idle_timeout", "lazy"),
        *("naming", "tools", "resources", "prompts", "pin", "forward_headers"),
        *TowerConfig.model_fields,
    }
)
"""Settings of an upstream that its link does not depend on. Any other that differs asks for a new link."""

LIVE: Final = frozenset({"instructions", "status", "insecure"})
"""Settings of ``server`` that hold at once. Any other that differs asks for a restart."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What differs between two configurations, as things to do. False if there is nothing to do."""

    added: Mapping[str, UpstreamConfig] = field(default_factory=dict)
    """Upstreams to start."""
    removed: frozenset[str] = frozenset()
    """Upstreams to stop."""
    changed: Mapping[str, UpstreamConfig] = field(default_factory=dict)
    """Upstreams that need another link."""
    retuned: Mapping[str, UpstreamConfig] = field(default_factory=dict)
    """Upstreams that keep their link."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Old name -> new name of upstreams whose settings are all the same."""
    reordered: bool = False
    """Whether the upstreams that stay, renamed ones among them, come in another order."""
    agents: frozenset[str] = frozenset()
    """Agents that are new, gone, or different."""
    naming: bool = False
    """Whether public names are made in another way."""
    pinning: bool = False
    """Whether another policy for pinned definitions holds where an upstream says nothing."""
    auth: bool = False
    """Whether others may come in."""
    log: bool = False
    """Whether other things are logged, or in another form."""
    live: frozenset[str] = frozenset()
    """Settings of ``server`` that hold at once."""
    restart_needed: tuple[str, ...] = ()
    """Settings that hold from the next start on, as they are written in a file: ``server.port``."""

    def __bool__(self) -> bool:
        return self != _NOTHING

    def places(self) -> dict[str, str]:
        """Each upstream that takes the place of another -> the name of that one, which is the same or an old one."""
        return {name: name for name in self.changed} | {new: old for old, new in self.renamed.items()}


_NOTHING: Final = Plan()


def diff(old: Config, new: Config) -> Plan:
    """What has to be done to go from one configuration to another."""
    before, after = running(old), running(new)
    renamed = _renamed(before, after)
    both = {name: after[name] for name in before if name in after and before[name] != after[name]}
    retuned = {name: config for name, config in both.items() if differing(before[name], config) <= TUNING}
    server = differing(old.server, new.server)
    return Plan(
        added=_without(after, (*before, *renamed.values())),
        removed=frozenset(_without(before, (*after, *renamed))),
        changed=_without(both, retuned),
        retuned=retuned,
        renamed=renamed,
        reordered=_reordered([renamed.get(name, name) for name in before], list(after)),
        agents=frozenset(name for name in {*old.agents, *new.agents} if old.agents.get(name) != new.agents.get(name)),
        naming=old.naming != new.naming,
        pinning=old.pinning != new.pinning,
        auth=old.auth != new.auth,
        log=old.log != new.log,
        live=server & LIVE,
        restart_needed=restart_needed(old, new),
    )


def running(config: Config) -> dict[str, UpstreamConfig]:
    """The upstreams that are switched on."""
    return {name: upstream for name, upstream in config.upstreams.items() if upstream.enabled}


def restart_needed(old: Config, new: Config) -> tuple[str, ...]:
    """The settings that differ and hold from the next start on."""
    audit = {f"audit.{name}" for name in differing(old.audit, new.audit)}
    return tuple(sorted(audit | {f"server.{name}" for name in differing(old.server, new.server) - LIVE}))


def differing(old: BaseModel, new: BaseModel) -> frozenset[str]:
    """The settings in which two parts of one kind differ."""
    return frozenset(name for name in type(new).model_fields if getattr(old, name) != getattr(new, name))


def _renamed(before: Mapping[str, UpstreamConfig], after: Mapping[str, UpstreamConfig]) -> dict[str, str]:
    """Pairs of one that went and one that came with the same settings; of several alike, in the order of the files."""
    came = _without(after, before)
    renamed: dict[str, str] = {}
    for old, config in _without(before, after).items():
        new = next((name for name, other in came.items() if other == config), None)
        if new is not None:
            renamed[old] = new
            del came[new]
    return renamed


def _without(entries: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
    left_out = set(names)
    return {name: entry for name, entry in entries.items() if name not in left_out}


def _reordered(before: list[str], after: list[str]) -> bool:
    stay = set(before) & set(after)
    return [name for name in before if name in stay] != [name for name in after if name in stay]
