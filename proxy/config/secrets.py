"""A configuration fit for showing: every secret is masked. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from pydantic import BaseModel, Secret, SecretStr

from proxy.config.model import Config, UpstreamConfig
from proxy.masking import sounds_secret, telling

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


def secrets_of(part: BaseModel) -> Iterator[str]:
    """Every secret in a part of the configuration, for ``masking.learn``.

    Values of ``env``, ``headers`` and the like count unless their names sound harmless and they say something to people
    (words, numbers, paths). Of URLs the passwords and what sounds secret in their query; of arguments what follows or
    carries an option which sounds secret.
    """
    for name in type(part).model_fields:
        yield from _secrets_in(getattr(part, name), name)
    if isinstance(part, UpstreamConfig):
        for url in part.endpoints:
            yield from _secrets_in_url(url)
        yield from _secrets_in_args(part.args)


def _secrets_in(value: Any, name: str, *, free: bool = False) -> Iterator[str]:
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        if not free or sounds_secret(name) or not telling(text):
            yield text
    elif isinstance(value, Secret):
        yield from (text for text in _texts(value.get_secret_value()) if not telling(text))
    elif isinstance(value, BaseModel):
        yield from secrets_of(value)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _secrets_in(each, str(key), free=True)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _secrets_in(each, name, free=free)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)


def _secrets_in_url(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.password:
        yield parts.password
        yield unquote(parts.password)
    for name, value in parse_qsl(parts.query):
        if name.lower() == "key" or sounds_secret(name):
            yield value


def _secrets_in_args(args: Sequence[str]) -> Iterator[str]:
    for arg, following in pairwise((*args, "")):
        name, equals, value = arg.partition("=")
        if equals and (_SECRET_OPTION.fullmatch(name) or _SECRET_PAIR.fullmatch(name)):
            yield value
        elif not equals and _SECRET_OPTION.fullmatch(arg) and not following.startswith("-"):
            yield following
        elif "://" in arg:
            yield from _secrets_in_url(arg)
