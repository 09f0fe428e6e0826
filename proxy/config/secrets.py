"""A configuration fit for showing: every secret is masked. Pure."""

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from proxy.config.model import Config

MASK: Final = "**********"
_SECRET_OPTION: Final = re.compile(
    r"-{1,2}[\w-]*(?:token|secret|passw|api-?_?key|key|auth|credential|header)[\w-]*", re.IGNORECASE
)
_SECRET_PAIR: Final = re.compile(r"[\w-]*(?:token|secret|passw|api-?_?key|credential)[\w-]*", re.IGNORECASE)


def masked(config: Config, *, defaults: bool = True) -> dict[str, Any]:
    """The configuration as plain data in the words of a file, without any secret.

    Masked are the values of ``env`` and ``headers``, passwords and query values in URLs, and arguments that follow or
    carry an option which sounds secret. ``defaults`` says whether options with their default value are shown.
    """
    data = config.model_dump(mode="json", exclude_defaults=not defaults)
    upstreams = data.pop("upstreams", {})
    for entry in upstreams.values():
        if entry.get("url"):
            entry["url"] = masked_url(entry["url"])
        if entry.get("urls"):
            entry["urls"] = [masked_url(url) for url in entry["urls"]]
        if entry.get("args"):
            entry["args"] = masked_args(entry["args"])
    return {**data, "mcpServers": upstreams}


def masked_url(url: str) -> str:
    """A URL without its password and without the values of its query."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name if colon else MASK}{':' + MASK if colon else ''}{at}{host}" if at else host
    query = "&".join(f"{pair.partition('=')[0]}={MASK}" for pair in parts.query.split("&")) if parts.query else ""
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def masked_args(args: Sequence[str]) -> list[str]:
    """Arguments without the values of options that sound secret, and without passwords in URLs."""
    shown: list[str] = []
    hide = False
    for arg in args:
        name, equals, _ = arg.partition("=")
        if hide and not arg.startswith("-"):
            shown.append(MASK)
        elif equals and (_SECRET_OPTION.fullmatch(name) or _SECRET_PAIR.fullmatch(name)):
            shown.append(f"{name}={MASK}")
        else:
            shown.append(masked_url(arg) if "://" in arg and ("@" in arg or "?" in arg) else arg)
        hide = not equals and bool(_SECRET_OPTION.fullmatch(arg))
    return shown
