"""What a configuration says, checked and frozen. Durations are seconds, sizes are bytes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from proxy.config.agent import AgentConfig
from proxy.config.audit import AuditConfig
from proxy.config.base import Model, validated
from proxy.config.inbound import InboundConfig, token_faults
from proxy.config.outbound import credential_reference_faults
from proxy.config.pinning import PinChoice, PinMode
from proxy.config.rules import Fault, agent_faults, owner_faults
from proxy.config.server import LogConfig, ServerConfig
from proxy.config.units import Whole
from proxy.config.upstream import UpstreamConfig
from proxy.config.values import (
    KIB,
    MIB,
    AgentName,
    EraChoice,
    Filter,
    LogFormat,
    LogLevel,
    NameStyle,
    Pattern,
    Scope,
    Transport,
    UpstreamName,
)

__all__ = [
    "KIB",
    "MIB",
    "AgentConfig",
    "Config",
    "EraChoice",
    "Filter",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "NameStyle",
    "NamingConfig",
    "PinMode",
    "Scope",
    "ServerConfig",
    "Transport",
    "UpstreamConfig",
]


class NamingConfig(Model):
    """How public names are made."""

    pattern: Pattern = "mcp_{server}_{tool}"
    """The public name of a tool or prompt; {server} and {tool} are filled in."""
    max_length: Whole = Field(default=64, ge=16, le=128)
    """The longest public name, in characters; longer ones are shortened with a hash."""


class Config(Model):
    """All that a configuration says."""

    server: ServerConfig = ServerConfig()
    """Manifold's own doors."""
    log: LogConfig = LogConfig()
    """What is logged, and how."""
    audit: AuditConfig = AuditConfig()
    """The audit log."""
    naming: NamingConfig = NamingConfig()
    """How public names are made."""
    upstreams: Mapping[UpstreamName, UpstreamConfig] = Field(default_factory=dict)
    """The MCP servers behind Manifold, by name."""
    agents: Mapping[AgentName, AgentConfig] = Field(default_factory=dict)
    """Named namespaces, by name."""
    auth: InboundConfig = InboundConfig()
    """Who may come in."""
    pinning: PinChoice = PinMode.OFF
    """What becomes of definitions that differ from the pinned ones, where an upstream says nothing else."""

    def pin_of(self, upstream: str) -> PinMode:
        """What becomes of definitions of an upstream that differ from the pinned ones."""
        config = self.upstreams.get(upstream)
        return self.pinning if config is None or config.pin is None else config.pin

    @model_validator(mode="wrap")
    @classmethod
    def _with_rules(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        return validated(cls.__name__, lambda: handler(data), _reference_faults(data))


def _reference_faults(data: Any) -> Iterable[Fault]:
    if isinstance(data, Mapping):
        yield from token_faults(data)
    upstreams, agents = _section(data, "upstreams"), _section(data, "agents")
    names = [str(name) for name in upstreams]
    for agent, entry in agents.items():
        servers = _member(entry, "servers")
        if isinstance(servers, (list, tuple)):
            for fault in agent_faults(names, servers):
                yield Fault(("agents", agent, *fault.loc), fault.message, fault.hint, fault.kind)
    for name, entry in upstreams.items():
        for fault in owner_faults([str(agent) for agent in agents], _member(entry, "agent")):
            yield Fault(("upstreams", name, *fault.loc), fault.message, fault.hint, fault.kind)
        for fault in credential_reference_faults([str(agent) for agent in agents], _member(entry, "credentials")):
            yield Fault(("upstreams", name, *fault.loc), fault.message, fault.hint, fault.kind)


def _section(data: Any, name: str) -> Mapping[Any, Any]:
    section = data.get(name) if isinstance(data, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _member(entry: Any, name: str) -> Any:
    return entry.get(name) if isinstance(entry, Mapping) else getattr(entry, name, None)
