"""What a configuration says about one upstream."""

from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from proxy.config.base import validated
from proxy.config.outbound import AuthConfig, Credentials, outbound_faults
from proxy.config.pinning import PinChoice
from proxy.config.rules import transport_of, upstream_faults
from proxy.config.tower import TowerConfig
from proxy.config.units import Duration, DurationOrZero, Size
from proxy.config.values import MIB, EraChoice, Filter, Pattern, Scope, Transport

_REMOTE_GRACE = 1.5
_LOCAL_GRACE = 5.0


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
    auth: AuthConfig | None = None
    """How Manifold proves itself to a remote server; by default only with headers."""
    credentials: Credentials = Credentials()
    """What single agents and principals show to a remote server instead."""
    forward_headers: tuple[str, ...] = ()
    """Names of headers of clients' requests that are passed on to a remote server; by default none."""
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
    agent: str | None = None
    """The only agent that sees it; other agents and the store do not. By default everybody may."""
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
    pin: PinChoice | None = None
    """What becomes of its definitions that differ from the pinned ones; by default what pinning says."""
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
        return validated(cls.__name__, lambda: handler(typed), (*upstream_faults(data), *outbound_faults(data)))
