"""What a configuration says about what one agent may do: by annotation, by override, by limit."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Self

import msgspec
from pydantic import BeforeValidator, Field, Secret, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from proxy.config.base import Model
from proxy.config.units import Size, Whole, seconds
from proxy.config.values import refuse_when

_TOOL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
_RATE: Final = re.compile(r"\s*(\d{1,9})\s*/\s*(\S.*?)\s*", re.ASCII)
_UNITS: Final = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "day": "d"}
RATE_HINT: Final = "write it like 60/min, 5/s or 1000/h"


def _name_fault(name: str) -> str:
    return "" if _TOOL_NAME.fullmatch(name) else "is not a name that every client takes"


ToolName = Annotated[str, refuse_when(_name_fault, "use up to 128 letters, digits, - and _, a letter first")]


def _period(text: str) -> float:
    """A time in seconds, of which the number may be missing: it is one then. 0 if it is none."""
    unit = _UNITS.get(text, text)
    try:
        return seconds(unit if unit[:1].isdigit() else f"1{unit}")
    except PydanticCustomError:
        return 0.0


class Rate(Model):
    """So many in so much time."""

    count: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.count} in {self.seconds:g} s"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if isinstance(data, (Rate, Mapping)):
            return data
        match = _RATE.fullmatch(data) if isinstance(data, str) else None
        if match is None or not int(match[1]) or not (period := _period(match[2])):
            raise PydanticCustomError("rate", "is not a rate", {"hint": RATE_HINT})
        return {"count": int(match[1]), "seconds": period}


RateText = Annotated[Rate, WithJsonSchema({"type": "string", "examples": ["60/min", "5/s", "1000/h", "10/30s"]})]


class Per(StrEnum):
    """Whose limits they are: of the agent as a whole, or of everybody who uses it."""

    AGENT = "agent"
    PRINCIPAL = "principal"


class LimitsConfig(Model):
    """How much one agent may do, over all upstreams. A limit that is not named does not exist."""

    calls: RateText | None = None
    """How many requests may begin, as in 60/min: calls of tools, reads, prompts, completions, tasks, subscriptions."""
    concurrency: Whole | None = Field(default=None, ge=1, le=100_000)
    """How many of them may be under way at once."""
    queue: Whole = Field(default=64, ge=0, le=100_000)
    """How many may wait for a place when that many are under way."""
    max_result: Size | None = None
    """The largest result, in bytes."""
    per: Per = Per.AGENT
    """Whether the limits are those of the agent as a whole, or of each principal that uses it."""


class HintsConfig(Model):
    """What a tool must say of itself, taken with the defaults of MCP where it says nothing."""

    readOnlyHint: bool | None = None  # noqa: N815 - the word of MCP
    """Whether it changes nothing; a tool that does not say so counts as one that does."""
    destructiveHint: bool | None = None  # noqa: N815 - same
    """Whether it may destroy something; a tool that does not say, and is not read-only, counts as one that may."""
    idempotentHint: bool | None = None  # noqa: N815 - same
    """Whether running it twice is the same as once; a tool that does not say, and is not read-only, is not."""
    openWorldHint: bool | None = None  # noqa: N815 - same
    """Whether it deals with the outside world; a tool that does not say counts as one that does."""


def _sealed(value: Any) -> Any:
    return value if isinstance(value, Secret) else Secret(value)


Fixed = Annotated[Secret[Any] | None, BeforeValidator(_sealed), WithJsonSchema({"description": "any JSON value"})]
"""A value that is never shown: it may have come from ``${env:X}``."""


class ArgumentConfig(Model):
    """How one argument of a tool is changed."""

    value: Fixed = None
    """A fixed value: the argument is not shown, cannot be given, and always has it. It is never shown either."""
    hide: bool = False
    """Whether the argument is not shown and cannot be given."""
    default: Any = None
    """The value that it has when it is not given. Nothing if null."""
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """What it is called instead."""
    description: str | None = None
    """How it is described instead."""

    def __eq__(self, other: object) -> bool:
        """As JSON has it: there, 1 is neither true nor 1.0."""
        if not isinstance(other, ArgumentConfig):
            return NotImplemented
        return super().__eq__(other) and self._json() == other._json()

    def __hash__(self) -> int:
        return hash((self._json(), self.hide, self.name, self.description))

    def _json(self) -> bytes:
        value = None if self.value is None else self.value.get_secret_value()
        return msgspec.json.encode([value, self.default], enc_hook=str)

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        shown = self.default is not None or self.name is not None or self.description is not None
        if self.value is not None and shown:
            what = "has a fixed value, so nothing else can be said of it"
            raise PydanticCustomError("rule", "{what}", {"what": what, "hint": "keep value, or the other options"})
        return self


class OverrideConfig(Model):
    """How one tool is changed for an agent."""

    name: ToolName | None = None
    """What it is called instead; if something else is called so, it keeps its public name."""
    title: str | None = None
    """Its title instead."""
    description: str | None = None
    """Its description instead."""
    hide: bool = False
    """Whether it does not exist for the agent."""
    arguments: Mapping[str, ArgumentConfig] = Field(default_factory=dict)
    """Changes of its arguments, by the upstream's name of each."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in self.arguments.values() if one.name is not None]
        if len(set(names)) < len(names):
            what = {"what": "gives two arguments the same name", "hint": "give each a name of its own"}
            raise PydanticCustomError("rule", "{what}", what)
        return self


class AccessConfig(Model):
    """What one agent may do with the tools that its filters let it see."""

    read_only: bool = False
    """Whether it sees only tools whose upstream says that they are read-only; the same as readOnlyHint: true."""
    annotations: HintsConfig = HintsConfig()
    """What the upstream must say of a tool so that it is seen."""
    overrides: Mapping[str, OverrideConfig] = Field(default_factory=dict)
    """Changes of single tools, by server.tool, public name or own name."""
    limits: LimitsConfig | None = None
    """How much it may do; by default any amount."""


PARTS: Final[Mapping[str, type[Model]]] = {"annotations": HintsConfig, "limits": LimitsConfig}
"""Option of an agent -> what it is made of."""
