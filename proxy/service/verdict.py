"""What the end of a call says about the health of its upstream, and what kind of result a reply is."""

from enum import Enum
from typing import Any, Final

import msgspec

from proxy.errors import (
    AuthRequired,
    CircuitOpen,
    Draining,
    QueueFull,
    RateLimited,
    Rejected,
    SessionGone,
    TokenUnavailable,
    UpstreamError,
)
from proxy.model import Reply
from proxy.service.expiry import is_expiry


class Verdict(Enum):
    """What one attempt says about an upstream. A tool that fails on an upstream that works is a SUCCESS."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEITHER = "neither"


_NEITHER: Final = (AuthRequired, CircuitOpen, Draining, QueueFull, RateLimited, SessionGone, TokenUnavailable)
"""Refusals: ours (nothing was tried), or the answer of an upstream which is well but does not want this request."""


def judge(error: BaseException, faults: frozenset[int] = frozenset()) -> Verdict:
    """What an exception says about the upstream.

    ``Rejected`` is a success, for the upstream answered, unless its JSON-RPC code is one of ``faults``. Transport
    faults, timeouts and protocol faults are failures, and so is a cancellation by a time limit of ours. Any other
    cancellation, and a defect of ours, says nothing.
    """
    if isinstance(error, Rejected):
        return Verdict.FAILURE if error.jsonrpc in faults else Verdict.SUCCESS
    if isinstance(error, _NEITHER):
        return Verdict.NEITHER
    if isinstance(error, UpstreamError) or is_expiry(error):
        return Verdict.FAILURE
    return Verdict.NEITHER


class _Head(msgspec.Struct, rename="camel"):
    is_error: Any = False
    result_type: Any = None


_HEAD: Final = msgspec.json.Decoder(_Head)


class ResultKind(Enum):
    """What a result is, as far as the tower cares."""

    COMPLETE = "complete"
    TOOL_ERROR = "tool_error"
    INPUT_REQUIRED = "input_required"


_COMPLETE: Final = ResultKind.COMPLETE
"""Looked up once: a member of an enum is slow to find."""


def kind_of(reply: Reply) -> ResultKind:
    """Read ``isError`` (``tools/call``) and ``resultType`` (2026-07-28, multi round-trip requests) off a result."""
    try:
        body = reply.body
        if body is None:
            head = _HEAD.decode(reply.small)
        else:
            head = _HEAD.decode(reply.raw) if body.head is None else msgspec.convert(body.head, _Head)
    except msgspec.DecodeError:
        return ResultKind.COMPLETE
    if head.is_error is True:
        return ResultKind.TOOL_ERROR
    return ResultKind.INPUT_REQUIRED if head.result_type == "input_required" else _COMPLETE
