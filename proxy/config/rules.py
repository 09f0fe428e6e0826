"""Rules which a single field's type cannot express.

Pure: raw members in, faults out, so that every rule speaks even when other members are wrong too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from string import Formatter
from typing import Any, Final
from urllib.parse import urlsplit

from proxy.config.suggest import did_you_mean

Loc = tuple[str | int, ...]

KEY: Final = "[key]"
"""The last part of a location that means a key and not its value; pydantic's word for it."""

TRANSPORTS: Final = {
    "stdio": "stdio",
    "http": "http",
    "https": "http",
    "streamable_http": "http",
    "streamable-http": "http",
    "streamablehttp": "http",
    "streamable": "http",
    "sse": "sse",
}
"""Spellings of ``type`` seen in configuration files (lower case), and what they mean here."""

_LOCAL_ONLY: Final = ("args", "cwd", "inherit_env")
_REMOTE_ONLY: Final = ("headers",)
HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a header may be called (RFC 9110, 5.6.2: token)."""
_HEADER_BREAK: Final = re.compile(r"[\r\n\0]")
_PATTERN_TEXT: Final = re.compile(r"[A-Za-z0-9_./-]*")
_AGENT_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACEHOLDERS: Final = ("server", "tool")
MAX_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken rule: where below the checked object, what, and the remedy."""

    loc: Loc
    message: str
    hint: str = ""
    kind: str = "rule"
    """``reference`` when the rule is about the name of another part."""


def transport_of(data: Mapping[str, Any]) -> str:
    """The transport which an upstream's members ask for: spelt out, or inferred from ``command`` and ``url``.

    A spelling that is unknown comes back as it is, for the type check to refuse.
    """
    spelt = data.get("type")
    if spelt is not None:
        return TRANSPORTS.get(str(spelt).lower(), str(spelt)) if isinstance(spelt, str) else spelt
    if data.get("command") is not None:
        return "stdio"
    endpoints = _endpoints(data)
    if not endpoints:
        return "stdio"
    return "sse" if all(urlsplit_path(url).rstrip("/").endswith("/sse") for _, url in endpoints) else "http"


def urlsplit_path(url: str) -> str:
    """The path of a URL; empty when it cannot be read."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def upstream_faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with the members of one upstream taken together."""
    command, remote = data.get("command"), data.get("url") is not None or bool(data.get("urls"))
    transport = transport_of(data)
    if command is None and not remote:
        if transport == "stdio":
            yield Fault(("command",), "is missing", "a stdio server needs a command, a remote one a url")
        else:
            yield Fault(("url",), "is missing", f"a server of type {transport} needs a url")
    elif command is not None and remote:
        yield Fault(("url",), "stands next to command", "keep command for a local server or url for a remote one")
    elif transport == "stdio" and remote:
        yield Fault(("type",), "is stdio, but there is a url and no command", "use type http or sse, or remove type")
    elif transport in ("http", "sse") and command is not None:
        yield Fault(("type",), f"is {transport}, but there is a command and no url", "use type stdio, or remove type")
    if isinstance(command, str) and not command.strip():
        yield Fault(("command",), "is empty", "name the program to start")
    yield from _foreign_members(data, remote=remote, local=command is not None)
    yield from _endpoint_faults(data)
    yield from header_faults(data.get("headers"))
    yield from _env_faults(data.get("env"))


def _foreign_members(data: Mapping[str, Any], *, remote: bool, local: bool) -> Iterator[Fault]:
    if remote and not local:
        for name in _LOCAL_ONLY:
            if data.get(name):
                yield Fault((name,), "has no meaning for a remote server", "remove it, or use command instead of url")
    if local and not remote:
        for name in _REMOTE_ONLY:
            if data.get(name):
                yield Fault((name,), "has no meaning for a local server", "use env to hand a secret to a command")


def _endpoints(data: Mapping[str, Any]) -> list[tuple[Loc, str]]:
    found: list[tuple[Loc, str]] = []
    if isinstance(url := data.get("url"), str):
        found.append((("url",), url))
    urls = data.get("urls")
    if isinstance(urls, Sequence) and not isinstance(urls, str):
        found += [(("urls", index), each) for index, each in enumerate(urls) if isinstance(each, str)]
    return found


def _endpoint_faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    if data.get("url") is not None and data.get("urls"):
        yield Fault(("urls",), "stands next to url", "use one of the two; urls takes several addresses of one server")
    for loc, url in _endpoints(data):
        if what := url_fault(url):
            yield Fault(loc, what, "write it like https://example.com/mcp")


def url_fault(url: str) -> str:
    """What is wrong with an http or https URL; empty when nothing is."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a valid URL"
    if parts.scheme not in ("http", "https"):
        return "is not an http or https URL"
    if not host:
        return "is a URL without a host"
    return "is a URL with a space or control character" if re.search(r"[\x00-\x20\x7f]", url) else ""


def header_faults(headers: Any) -> Iterator[Fault]:
    """What is wrong with names and values of HTTP headers."""
    if not isinstance(headers, Mapping):
        return
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(str(name)):
            yield Fault(("headers", name, KEY), "is not a valid header name", "use letters, digits and dashes")
        text = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        if isinstance(text, str) and _HEADER_BREAK.search(text):
            yield Fault(("headers", name), "has a line break in its value", "a header value is a single line")


def _env_faults(env: Any) -> Iterator[Fault]:
    if not isinstance(env, Mapping):
        return
    for name in env:
        if not name or "=" in str(name) or "\0" in str(name):
            yield Fault(
                ("env", name, KEY), "is not a valid name of an environment variable", "use letters, digits and _"
            )


def pattern_fault(pattern: str) -> str:
    """What is wrong with a naming pattern; empty when nothing is."""
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError:
        return "has an unbalanced brace"
    fields = [field for _, field, _, _ in parts if field is not None]
    if unknown := [field for field in fields if field not in _PLACEHOLDERS]:
        return f"has the unknown placeholder {{{unknown[0]}}}"
    if any(spec or conversion for _, _, spec, conversion in parts):
        return "has a placeholder with a format"
    if "tool" not in fields:
        return "lacks the placeholder {tool}"
    if not all(_PATTERN_TEXT.fullmatch(text) for text, _, _, _ in parts):
        return "has a character which clients refuse in names"
    return ""


def upstream_name_fault(name: str) -> str:
    """What is wrong with the name of an upstream; empty when nothing is."""
    if not name.strip():
        return "is an empty name"
    if not name.isprintable():
        return "is a name with a character that cannot be shown"
    return f"is a name longer than {MAX_NAME} characters" if len(name) > MAX_NAME else ""


def agent_name_fault(name: str) -> str:
    """What is wrong with the name of an agent, which is part of a URL; empty when nothing is."""
    return "" if _AGENT_NAME.fullmatch(name) else "is not a name for an agent"


def owner_faults(agents: Sequence[str], owner: Any) -> Iterator[Fault]:
    """An upstream's ``agent`` which is no agent: nobody would see it."""
    if isinstance(owner, str) and owner not in agents:
        hint = did_you_mean(owner, agents) or f"configured agents: {', '.join(agents[:10]) or 'none'}"
        yield Fault(("agent",), f"is no configured agent: {owner}", hint, "reference")


def agent_faults(upstreams: Sequence[str], servers: Sequence[Any]) -> Iterator[Fault]:
    """Entries of an agent's ``servers`` which match no upstream."""
    for index, wanted in enumerate(servers):
        if not isinstance(wanted, str) or wanted == "*":
            continue
        if not any(fnmatchcase(name, wanted) for name in upstreams):
            known = ", ".join(upstreams[:10]) or "none"
            hint = did_you_mean(wanted, upstreams) or f"configured servers: {known}"
            yield Fault(("servers", index), f"matches no configured server: {wanted}", hint, "reference")
