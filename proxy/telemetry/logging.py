"""Logs by structlog, always to standard error: standard output belongs to the protocol.

Records of the standard library (uvicorn, fastmcp, mcp, aiohttp) pass through the same processors, so that an operator
reads one format. Values under keys that name secrets are masked, whoever logs them.
"""

import contextlib
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO, cast

import structlog

SECRET_WORDS: Final = ("authorization", "token", "secret", "password", "api_key", "apikey", "cookie", "credential")
MASK: Final = "•••"

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


class _Lossy:
    """A stream whose end nobody listens to any more (a closed terminal) is no reason to stop serving."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or not."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
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


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {inner: _masked(str(inner), item) for inner, item in value.items()}
    lowered = key.lower().replace("-", "_")
    return MASK if value and any(word in lowered for word in SECRET_WORDS) else value


def configure(*, level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for the whole process.

    Args:
        level: the least severe events that are written: debug, info, warning or error.
        style: ``json``, ``console``, or ``auto`` (console on a terminal, JSON otherwise).
        stream: where to; standard error by default.
    """
    out = stream or sys.stderr
    sink = cast("TextIO", _Lossy(out))
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
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _renderer(style: str, out: TextIO) -> list[Any]:
    if style == "json" or (style == "auto" and not out.isatty()):
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    return [structlog.dev.ConsoleRenderer(colors=out.isatty())]
