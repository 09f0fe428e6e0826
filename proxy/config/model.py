"""What a configuration says, checked and frozen. Durations are seconds, sizes are bytes."""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from proxy.config.base import Model, validated
from proxy.config.rules import (
    Fault,
    agent_faults,
    agent_name_fault,
    pattern_fault,
    transport_of,
    upstream_faults,
    upstream_name_fault,
)
from proxy.config.tower import TowerConfig
from proxy.config.units import Duration, DurationOrZero, Size, Whole

KIB = 1024
MIB = 1024 * KIB

_REMOTE_GRACE = 1.5
_LOCAL_GRACE = 5.0


class Transport(StrEnum):
    """How an upstream is reached."""

    STDIO = "stdio"
    HTTP = "http"
    SSE = "sse"


class Scope(StrEnum):
    """Who shares one session of an upstream: everybody, the downstreams of one agent, or nobody."""

    SHARED = "shared"
    AGENT = "agent"
    CLIENT = "client"


class EraChoice(StrEnum):
    """Which era to speak with an upstream."""

    AUTO = "auto"
    HANDSHAKE = "handshake"
    MODERN = "modern"


class NameStyle(StrEnum):
    """The names an agent sees: the tools' own where unambiguous, or always the public ones."""

    LOCAL = "local"
    PREFIXED = "prefixed"


class LogLevel(StrEnum):
    """The least severe events that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How events are written: for people, for machines, or by whether standard error is a terminal."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


def _refuse_when(fault: Callable[[str], str], hint: str) -> AfterValidator:
    def check(text: str) -> str:
        if what := fault(text):
            raise PydanticCustomError("rule", "{what}", {"what": what, "hint": hint})
        return text

    return AfterValidator(check)


def _lower(value: Any) -> Any:
    lowered = value.lower() if isinstance(value, str) else value
    return "warning" if lowered == "warn" else lowered


def _path_fault(path: str) -> str:
    return "" if path.startswith("/") and not set(path) & set("?# ") else "is not a URL path"


Pattern = Annotated[str, _refuse_when(pattern_fault, "use {server} and {tool}, as in mcp_{server}_{tool}")]
UpstreamName = Annotated[str, _refuse_when(upstream_name_fault, "use 1 to 100 printable characters")]
AgentName = Annotated[str, _refuse_when(agent_name_fault, "use 1 to 64 letters, digits, - and _: it is part of a URL")]
UrlPath = Annotated[str, _refuse_when(_path_fault, "start it with a slash, as in /mcp")]


class Filter(Model):
    """Which names pass: any that matches ``allow`` and does not match ``deny``. A plain list is an ``allow``."""

    allow: tuple[str, ...] = ("*",)
    """Globs of names that pass."""
    deny: tuple[str, ...] = ()
    """Globs of names that do not pass, even if allowed."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, data: Any) -> Any:
        return {"allow": data} if isinstance(data, (list, tuple)) else data


class NamingConfig(Model):
    """How public names are made."""

    pattern: Pattern = "mcp_{server}_{tool}"
    """The public name of a tool or prompt; {server} and {tool} are filled in."""
    max_length: Whole = Field(default=64, ge=16, le=128)
    """The longest public name, in characters; longer ones are shortened with a hash."""


class UpstreamConfig(TowerConfig):
    """One MCP server that Manifold connects to: a command to start, or a URL."""

    type: Transport = Transport.STDIO
    """How it is reached; inferred from command and url when not given."""
    enabled: bool = True
    """Whether it is used at all."""
    command: str | None = None
    """The program to start (stdio)."""
    args: tuple[str, ...] = ()
    """Arguments of the command."""
    env: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Environment variables for the command."""
    cwd: str | None = None
    """The directory in which the command runs; relative to the configuration file."""
    inherit_env: tuple[str, ...] = ()
    """Names of our own environment variables that the command gets besides the minimal set."""
    url: str | None = None
    """The address of a remote server."""
    urls: tuple[str, ...] = ()
    """Several addresses of one remote server, instead of url."""
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    """HTTP headers for a remote server."""
    start_timeout: Duration = 60.0
    """The longest the server may take to start and answer for the first time, in seconds."""
    grace: DurationOrZero | None = None
    """How long a first listing waits for this server, in seconds; by default 1.5 remote and 5 local."""
    refresh: Duration = 1800.0
    """The age at which its listings are fetched anew, in seconds."""
    health: DurationOrZero = 60.0
    """How often it is asked for a sign of life while connected, in seconds; 0 never."""
    idle_timeout: Duration | None = None
    """Idle time after which the server is stopped until it is needed, in seconds; by default never."""
    lazy: bool = False
    """Whether it is started only when it is needed."""
    session: Scope = Scope.SHARED
    """Who shares one session with it."""
    era: EraChoice = EraChoice.AUTO
    """Which protocol era to speak with it."""
    naming: Pattern | None = None
    """The naming pattern for this server, instead of the general one."""
    tools: Filter = Filter()
    """Which of its tools exist, by their own names."""
    resources: Filter = Filter()
    """Which of its resources exist, by URI."""
    prompts: Filter = Filter()
    """Which of its prompts exist, by their own names."""
    max_message: Size = 64 * MIB
    """The largest message taken from it, in bytes."""
    stop_timeout: Duration = 2.0
    """The patience with each step of stopping it, in seconds."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All addresses of a remote server; empty for a local one."""
        return (self.url,) if self.url is not None else self.urls

    @property
    def first_list_grace(self) -> float:
        """How long a first listing waits for this upstream, in seconds."""
        if self.grace is not None:
            return self.grace
        return _LOCAL_GRACE if self.type is Transport.STDIO else _REMOTE_GRACE

    @model_validator(mode="wrap")
    @classmethod
    def _with_rules(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        if not isinstance(data, Mapping):
            return handler(data)
        typed = {**data, "type": transport_of(data)}
        return validated(cls.__name__, lambda: handler(typed), upstream_faults(data))


class ServerConfig(Model):
    """Manifold's own doors."""

    name: str = Field(default="manifold", min_length=1, max_length=100)
    """The name under which Manifold presents itself."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """The address to listen on."""
    port: Whole = Field(default=8300, ge=0, le=65535)
    """The port to listen on; 0 takes any free one."""
    path: UrlPath = "/mcp"
    """The URL path of the MCP endpoint."""
    allowed_hosts: tuple[str, ...] = ()
    """Host headers that are accepted besides the address listened on."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of browsers that are accepted."""
    max_body: Size = 4 * MIB
    """The largest request body, in bytes."""
    state_dir: Path | None = None
    """Where last-known listings are kept; relative to the configuration file."""
    express: bool = True
    """Whether hot HTTP requests take the express lane past FastMCP."""
    state_keys: tuple[SecretStr, ...] = ()
    """Secrets of at least 32 characters that seal what clients carry between rounds; replicas share them."""
    status: bool = False
    """Whether /status.json answers clients on other machines too."""
    instructions: str | None = None
    """What Manifold tells a model about itself, instead of the collected instructions of its upstreams."""


class LogConfig(Model):
    """What is logged, and how."""

    level: Annotated[LogLevel, BeforeValidator(_lower)] = LogLevel.INFO
    """The least severe events that are logged."""
    format: Annotated[LogFormat, BeforeValidator(_lower)] = LogFormat.AUTO
    """How they are written."""


class AgentConfig(Model):
    """A named namespace: what its downstreams see."""

    servers: tuple[str, ...] = ("*",)
    """The upstreams it sees: names or globs."""
    tools: Filter = Filter()
    """Which tools it sees, by public name or by their own."""
    resources: Filter = Filter()
    """Which resources it sees, by URI."""
    prompts: Filter = Filter()
    """Which prompts it sees, by public name or by their own."""
    names: NameStyle = NameStyle.LOCAL
    """Whether it sees the tools' own names where they are unambiguous, or always the public ones."""


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
