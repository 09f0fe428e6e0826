"""Logs by structlog, always to standard error: standard output belongs to the protocol.

Records of the standard library (uvicorn, fastmcp, mcp, aiohttp) pass through the same processors, so that an operator
reads one format. Values under keys that name secrets are masked, whoever logs them, and so are known secrets wherever
they stand: at the one place through which every line goes. On a terminal nothing that an upstream wrote can move the
cursor or pass for a line of ours; JSON escapes it by itself.
"""

import contextlib
import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO, cast

import structlog

from proxy.masking import MASK, masked
from proxy.telemetry.ration import Rationed

SECRET_WORDS: Final = ("authorization", "token", "secret", "password", "api_key", "apikey", "cookie", "credential")

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What drives a terminal, breaks a line, or turns the direction of writing."""
_MARGIN: Final = "    | "
"""Stands before each line of a traceback, so that no line in it looks like an event."""
_DEPTH: Final = 6
"""How deep values are looked through."""

_QUIET: Final = (
    "uvicorn",
    "uvicorn.access",
    "httpx2",
    "httpcore2",
    "mcp",
    "fastmcp",
    "asyncio",
    "aiohttp",
    "watchfiles",
)


_ANYBODYS: Final = "uvicorn.error"
"""Warns of each request that is no HTTP, which anybody may send by the thousand."""
_SELDOM: Final = Rationed(rate=0.2, burst=5)


class _Sink:
    """Where all lines go. No secret passes.

    A stream whose end nobody listens to any more (a closed terminal) is no reason to stop serving.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or not."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(masked(text))
        return 0

    def flush(self) -> None:
        """Flush, or not."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the value of every key that names a secret."""
    for key, value in event.items():
        event[key] = _masked(key, value)
    return event


def _masked(key: str, value: Any, depth: int = _DEPTH) -> Any:
    lowered = key.lower().replace("-", "_")
    if value and not isinstance(value, Mapping | bool | int | float) and any(word in lowered for word in SECRET_WORDS):
        return MASK
    if depth and isinstance(value, Mapping):
        return {inner: _masked(str(inner), item, depth - 1) for inner, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_masked_member(item, depth - 1) for item in value]
    return value


def _masked_member(item: Any, depth: int) -> Any:
    """A member of a list; a pair of texts is taken for a header."""
    if isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str | bytes):  # noqa: PLR2004 - a pair
        name = item[0].decode("latin-1") if isinstance(item[0], bytes) else item[0]
        return [item[0], _masked(name, item[1], depth)]
    return _masked("", item, depth)


def make_harmless(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Show control characters instead of sending them to a terminal: for the console format."""
    for key, value in event.items():
        if key != "exc_info" and not isinstance(value, bool | int | float | None):
            event[key] = harmless(value if isinstance(value, str) else repr(value))
    return event


def harmless(text: str) -> str:
    """A text in one line that does nothing to a terminal."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _plain_traceback(out: TextIO, exc_info: Any) -> None:
    """A traceback without the values of variables, of which some are secret, and without control characters."""
    lines = "".join(traceback.format_exception(*exc_info)).rstrip().split("\n")
    out.writelines(f"\n{_MARGIN}{harmless(line)}" for line in lines)


def _known_masked(_logger: Any, _method: str, text: Any) -> Any:
    return masked(text) if isinstance(text, str) else text


def configure(*, level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for the whole process.

    Args:
        level: the least severe events that are written: debug, info, warning or error.
        style: ``json``, ``console``, or ``auto`` (console on a terminal, JSON otherwise).
        stream: where to; standard error by default.
    """
    out = stream or sys.stderr
    sink = cast("TextIO", _Sink(out))
    threshold = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        mask_secrets,
    ]
    renderer = _renderer(style, out)
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sink),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    for name in _QUIET:
        # What these say at info is their own business; what they warn of is ours.
        logger = logging.getLogger(name)
        logger.setLevel(max(threshold, logging.WARNING))
        # FastMCP writes in a format of its own, past everybody else's handlers, from its import on.
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger(_ANYBODYS).addFilter(_SELDOM)


def embed() -> None:
    """Hand everything to the standard library's logging: for a program that has its own logs, which Manifold joins.

    Nothing is done if the program has set up structlog itself.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            mask_secrets,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
            _known_masked,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _renderer(style: str, out: TextIO) -> list[Any]:
    if style == "json" or (style == "auto" and not out.isatty()):
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    return [
        make_harmless,
        structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=_plain_traceback),
    ]
