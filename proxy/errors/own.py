"""The root of all errors, and those that are about no upstream."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from proxy.errors.codes import INTERNAL_ERROR, INVALID_PARAMS
from proxy.masking import encodable, masked


class ManifoldError(Exception):
    """The root of all errors that Manifold raises on purpose."""

    code: ClassVar[str] = "manifold"
    """A stable identifier: logs, metrics and ``docs/errors.md`` use it."""
    advice: ClassVar[str] = "Please report it if it has no other code."
    """What to do about it in general: the documentation says it, and an answer to a model that has no better hint."""
    jsonrpc: int = INTERNAL_ERROR
    """The JSON-RPC error code with which it leaves a door."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        # Masked here and not where it is shown: messages quote URLs and the texts of upstreams, and go to many places.
        self.message = masked(encodable(message))
        self.hint = masked(encodable(hint)) if hint else hint
        super().__init__(self.message)

    @property
    def anchor(self) -> str:
        """Where the documentation explains this error."""
        return f"docs/errors.md#{self.code}"

    def text(self) -> str:
        """Message and hint in one string, for people and models."""
        return f"{self.message.rstrip('.')}. {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration, where it stands, and what to do."""

    path: str
    message: str
    hint: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        what = f"{self.path}: {self.message}" if self.path else self.message
        return f"{where}{what}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(ManifoldError):
    """A configuration cannot be used. ``problems`` has all of them, not the first."""

    code = "config"
    advice = "The message has every problem with file, line and remedy. What ran before keeps running."

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class RoutingError(ManifoldError):
    """A name leads nowhere. ``suggestions`` are the nearest names the caller may see."""

    code = "routing"
    advice = "List again and use a name from the list."
    jsonrpc = INVALID_PARAMS

    def __init__(self, message: str, *, name: str = "", suggestions: Sequence[str] = (), hint: str = "") -> None:
        if suggestions and not hint:
            hint = "Did you mean: " + ", ".join(suggestions) + "?"
        super().__init__(message, hint=hint)
        self.name = name
        self.suggestions = tuple(suggestions)


class UnknownTarget(RoutingError):
    """No such tool, prompt or resource for this caller; also what it may not see."""

    code = "unknown-target"
    advice = "Use one of the suggested names, or list again."


class UnknownServer(RoutingError):
    """No such upstream or agent."""

    code = "unknown-server"
    advice = "Use one of the suggested names; `mcp-manifold status` shows which upstreams there are."


class AmbiguousName(RoutingError):
    """A short name fits several tools."""

    code = "ambiguous-name"
    advice = "Use one of the full names in the message."


@dataclass(frozen=True, slots=True)
class ArgumentProblem:
    """What is wrong with one argument. The value itself is never repeated: it may be secret."""

    argument: str
    """Where it stands, as in ``filters[0].name``; empty for the arguments as a whole."""
    expected: str
    got: str
    """The kind of value that was given."""

    def __str__(self) -> str:
        return f"{self.argument or 'the arguments'}: expected {self.expected}, got {self.got}"


class InvalidArguments(ManifoldError):
    """Arguments do not fit a tool's schema. ``problems`` names each argument that does not."""

    code = "invalid-arguments"
    advice = "Correct the argument that the message names."
    jsonrpc = INVALID_PARAMS

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[ArgumentProblem] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class NotReviewed(ManifoldError):
    """A decision about definitions that nobody has seen as they are: there was no review, or it is outdated."""

    code = "not-reviewed"
    advice = "Run `mcp-manifold review` and decide about what it shows."


class ToolFailed(ManifoldError):
    """The tool itself reported an error: its call was answered with ``isError``. The message is the tool's own."""

    code = "tool-failed"
    advice = "The message is the tool's own: change the arguments as it says, or go on without this tool."


class ExtensionFault(ManifoldError):
    """A middleware or tool handler, which is no part of Manifold, raised an exception."""

    code = "extension-fault"
    advice = "This is a fault of that extension; the log of Manifold has its traceback."
