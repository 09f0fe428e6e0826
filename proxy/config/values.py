"""The words and small values that a configuration is made of."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, model_validator
from pydantic_core import PydanticCustomError

from proxy.config.base import Model
from proxy.config.rules import agent_name_fault, pattern_fault, upstream_name_fault

KIB = 1024
MIB = 1024 * KIB


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


class Access(StrEnum):
    """Which calls get an event of their own in the log."""

    OFF = "off"
    ERRORS = "errors"
    SAMPLED = "sampled"
    ALL = "all"


def refuse_when(fault: Callable[[str], str], hint: str) -> AfterValidator:
    """A check of a text: ``fault`` says what is wrong with it, ``hint`` what to do."""

    def check(text: str) -> str:
        if what := fault(text):
            raise PydanticCustomError("rule", "{what}", {"what": what, "hint": hint})
        return text

    return AfterValidator(check)


def _path_fault(path: str) -> str:
    return "" if path.startswith("/") and not set(path) & set("?# ") else "is not a URL path"


Pattern = Annotated[str, refuse_when(pattern_fault, "use {server} and {tool}, as in mcp_{server}_{tool}")]
UpstreamName = Annotated[str, refuse_when(upstream_name_fault, "use 1 to 100 printable characters")]
AgentName = Annotated[str, refuse_when(agent_name_fault, "use 1 to 64 letters, digits, - and _: it is part of a URL")]
UrlPath = Annotated[str, refuse_when(_path_fault, "start it with a slash, as in /mcp")]


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
