"""Logs by structlog, always to standard error: standard output belongs to the protocol.

Records of the standard library (uvicorn, fastmcp, mcp, aiohttp) pass through the same processors, so that an operator
reads one format. Values under keys that name secrets are masked, whoever logs them.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog

SECRET_WORDS: Final = ("authorization", "token", "secret", "password", "api_key", "apikey", "cookie", "credential")
MASK: Final = "•••"

_QUIET: Final = ("uvicorn", "uvicorn.access", "httpx2", "httpcore2", "mcp", "fastmcp", "asyncio", "aiohttp")


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
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    for name in _QUIET:
        # What these say at info is their own business; what they warn of is ours.
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def _renderer(style: str, out: TextIO) -> list[Any]:
    if style == "json" or (style == "auto" and not out.isatty()):
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    return [structlog.dev.ConsoleRenderer(colors=out.isatty())]
