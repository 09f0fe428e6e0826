"""The lines of the audit log. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import translate
from functools import lru_cache
from hashlib import blake2s
from typing import Any, Final

import msgspec

from proxy.masking import MASK


class Line(msgspec.Struct, omit_defaults=True):
    """One line. What is empty is left out."""

    time: str
    """UTC, ISO 8601."""
    kind: str
    """``call``, ``refusal`` or ``act``."""
    act: str = ""
    principal: str = ""
    name: str = ""
    agent: str = ""
    session: str = ""
    client: str = ""
    """What the client calls itself: it may lie."""
    method: str = ""
    target: str = ""
    """What it asked for: the public name of a tool or prompt, or the exported URI."""
    upstream: str = ""
    outcome: str = ""
    error: str = ""
    sent: str = ""
    ms: float | None = None
    request: str | int | float | None = None
    exchange: str = ""
    """The same in all rounds of one request that is asked back."""
    attempts: int | None = None
    arguments: Any = None
    facts: Mapping[str, Any] = msgspec.field(default_factory=dict)


encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def redacted(arguments: Any, secret: Callable[[str], object], path: str = "") -> Any:
    """Arguments without the values at paths that are secret. Pure.

    Args:
        arguments: a JSON value.
        secret: says of a path, as in ``filters.0.password``, in lower case, whether it is.
        path: where the value stands.
    """
    if path and secret(path.lower()):
        return MASK
    below = f"{path}." if path else ""
    if isinstance(arguments, Mapping):
        return {key: redacted(each, secret, f"{below}{key}") for key, each in arguments.items()}
    if isinstance(arguments, list | tuple):
        return [redacted(each, secret, f"{below}{number}") for number, each in enumerate(arguments)]
    return arguments


def any_of(globs: Iterable[str]) -> Callable[[str], object]:
    """What tells whether a text matches one of the globs."""
    return re.compile("|".join(translate(glob) for glob in globs) or r"(?!)").match


@lru_cache(maxsize=1024)
def short(session: str | None) -> str:
    """Tells sessions apart, and is of no use to anybody who reads it."""
    return "" if session is None else blake2s(session.encode(), digest_size=6).hexdigest()


def client_name(info: Mapping[str, Any] | None) -> str:
    """What a client calls itself."""
    return "" if info is None else f"{info.get('name', '')}/{info.get('version', '')}"[:80]


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
