"""What a configuration says, checked and frozen. Durations are seconds, sizes are bytes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from proxy.config.agent import AgentConfig
from proxy.config.base import Model, validated
from proxy.config.rules import Fault, agent_faults
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
    naming: NamingConfig = NamingConfig()
    """How public names are made."""
    upstreams: Mapping[UpstreamName, UpstreamConfig] = Field(default_factory=dict)
    """The MCP servers behind Manifold, by name."""
    agents: Mapping[AgentName, AgentConfig] = Field(default_factory=dict)
    """Named namespaces, by name."""

    @model_validator(mode="wrap")
    @classmethod
    def _with_rules(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        return validated(cls.__name__, lambda: handler(data), _reference_faults(data))


def _reference_faults(data: Any) -> Iterable[Fault]:
    agents = data.get("agents") if isinstance(data, Mapping) else None
    if not isinstance(agents, Mapping):
        return
    upstreams = data.get("upstreams")
    names = [str(name) for name in upstreams] if isinstance(upstreams, Mapping) else []
    for agent, entry in agents.items():
        servers = entry.get("servers") if isinstance(entry, Mapping) else getattr(entry, "servers", None)
        if isinstance(servers, (list, tuple)):
            for fault in agent_faults(names, servers):
                yield Fault(("agents", agent, *fault.loc), fault.message, fault.hint, fault.kind)
