"""What a configuration says about Manifold's own doors and its log."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr

from proxy.config.base import Model
from proxy.config.units import Duration, Size, Whole
from proxy.config.values import MIB, Access, LogFormat, LogLevel, UrlPath


def _lower(value: Any) -> Any:
    lowered = value.lower() if isinstance(value, str) else value
    return "warning" if lowered == "warn" else lowered


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
    session_idle: Duration = 1800.0
    """Seconds after which a client's session ends that has made no request and does not listen either."""
    max_sessions: Whole = Field(default=10_000, ge=1, le=1_000_000)
    """Downstream sessions over HTTP that may be open at once; for one more, those that were idle longest end."""
    state_dir: Path | None = None
    """Where last-known listings are kept; relative to the configuration file."""
    express: bool = True
    """Whether hot requests, over HTTP and stdio, take the express lane past FastMCP and the SDK."""
    state_keys: tuple[SecretStr, ...] = ()
    """Secrets of at least 32 characters that seal what clients carry between rounds; replicas share them."""
    status: bool = False
    """Whether /status.json and /metrics answer clients on other machines too."""
    insecure: bool = False
    """Whether to listen beyond this machine although nobody has to present a credential."""
    instructions: str | None = None
    """What Manifold tells a model about itself, instead of the collected instructions of its upstreams."""


class LogConfig(Model):
    """What is logged, and how."""

    level: Annotated[LogLevel, BeforeValidator(_lower)] = LogLevel.INFO
    """The least severe events that are logged."""
    format: Annotated[LogFormat, BeforeValidator(_lower)] = LogFormat.AUTO
    """How they are written."""
    access: Annotated[Access, BeforeValidator(_lower)] = Access.ERRORS
    """Calls that get an event `call.done`: none, those that failed, these and every hundredth, or all."""
