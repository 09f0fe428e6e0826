"""What becomes of a line on standard input that nobody decodes: it is too long, or nested too deeply.

Its sender must not wait for ever. If it is a request whose id can be told from its ends, that is answered with an
error; if it answers a question of ours, whoever asked gets an error instead. Anything else is reported and skipped.
"""

from dataclasses import dataclass

import structlog
from mcp.shared.message import SessionMessage
from mcp_types import ErrorData, JSONRPCError

from proxy.errors import INVALID_REQUEST, PARSE_ERROR
from proxy.gateway.shallow import TOO_DEEP
from proxy.wire.depth import DEEPEST, too_deep
from proxy.wire.ends import asked, ends_of
from proxy.wire.envelope import answered
from proxy.wire.lines import Oversized

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Unread:
    """What is said in place of a line."""

    outwards: SessionMessage | None = None
    """To its sender."""
    inwards: SessionMessage | None = None
    """To whoever waits for it in here."""


def unread(line: bytes | Oversized, limit: int) -> Unread | None:
    """What is said in place of a line that must not be decoded; None if it may be.

    Args:
        line: a line, or what is left of one over the limit.
        limit: bytes of the longest line.
    """
    if isinstance(line, Oversized):
        log.warning("downstream.frame_too_large", size=line.size, limit=limit)
        return _instead(
            line, INVALID_REQUEST, f"the message has {line.size} bytes, more than the {limit} that are taken"
        )
    if too_deep(line):
        log.warning("downstream.frame_too_deep", size=len(line), limit=DEEPEST)
        return _instead(ends_of(line), PARSE_ERROR, TOO_DEEP)
    return None


def _instead(frame: Oversized, code: int, text: str) -> Unread:
    if (request := asked(frame)) is not None:
        return Unread(outwards=_error(request, code, text))
    if (question := answered(frame)) is not None:
        return Unread(inwards=_error(question, code, text))
    return Unread()


def _error(number: int | str, code: int, text: str) -> SessionMessage:
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=number, error=ErrorData(code=code, message=text)))
