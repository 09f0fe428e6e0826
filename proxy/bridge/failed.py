"""What an error of ours says, at every door: as the result of a tool call, as one line, as data. Pure."""

from typing import Any, Final

from proxy.errors import InvalidArguments, ManifoldError, RateLimited, RoutingError, UpstreamError
from proxy.model import Sent
from proxy.service.wording import FATES, HARMLESS

_FATE: Final = {
    Sent.NO: "The call was not executed; it is safe to try again.",
    Sent.MAYBE: "The call may have been executed: check before trying again.",
    Sent.YES: "The call reached the server, which answered in a way that cannot be used.",
}


def failed_call(error: ManifoldError, *, safe: bool = False) -> dict[str, Any]:
    """The tool result for a call which the upstream did not answer: what failed, what became of it, what to do.

    ``safe`` says that running the call twice does no harm.
    """
    sentences = [describe(error)]
    if isinstance(error, UpstreamError):
        if not any(fate in error.hint for fate in FATES):
            sentences.append(HARMLESS if safe and error.sent is Sent.MAYBE else _FATE[error.sent])
        if not error.hint:
            sentences.append(error.advice)
    text = " ".join(one if one.endswith((".", "?", "!")) else f"{one}." for one in sentences)
    return {
        "content": [{"type": "text", "text": text}],
        "isError": True,
        "_meta": {"mcp-manifold/error": details(error)},
    }


def describe(error: ManifoldError) -> str:
    """What failed, where, and what to do, in one line."""
    upstream = error.upstream if isinstance(error, UpstreamError) else ""
    return error.text() if upstream in error.message else f"Upstream {upstream!r}: {error.text()}"


def details(error: ManifoldError) -> dict[str, Any]:
    """The same for programs: stable codes and nothing secret."""
    out: dict[str, Any] = {"code": error.code, "documentation": error.anchor}
    if isinstance(error, UpstreamError):
        out |= {"upstream": error.upstream, "sent": error.sent.value}
    if isinstance(error, RateLimited):
        out["retryAfter"] = round(error.retry_after, 3)
    if isinstance(error, RoutingError) and error.suggestions:
        out["suggestions"] = list(error.suggestions)
    if isinstance(error, InvalidArguments) and error.problems:
        out["arguments"] = [str(problem) for problem in error.problems]
    if error.hint:
        out["hint"] = error.hint
    return out
