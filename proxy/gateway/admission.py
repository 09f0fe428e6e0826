"""Which modern requests the express lane may serve: those that nobody could find fault with.

The rules are the SDK's (spec 2026-07-28, transports and envelope); here they only have to be strict enough. Whatever is
not plainly right falls through, and the SDK says what is wrong with it.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.gateway.downstream import Who
from proxy.gateway.tasks import declares_tasks
from proxy.model import (
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_LOG_LEVEL,
    META_VERSION,
    MODERN_VERSIONS,
    Caller,
    Era,
    Params,
)
from proxy.upstream.pool import canonical
from proxy.upstream.session import LEVELS
from proxy.wire.headers import decode_value

VERSION: Final = b"mcp-protocol-version"
METHOD: Final = b"mcp-method"
NAME: Final = b"mcp-name"
PARAM_PREFIX: Final = b"mcp-param-"

_NAMED_BY: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_CAPABILITIES: Final = frozenset({"elicitation", "sampling", "roots", "experimental", "extensions"})


def modern_caller(headers: Mapping[bytes, bytes], method: str, params: Params, who: Who) -> Caller | None:
    """Who asks, when everything about the request is plainly in order; None otherwise."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or not _headers_agree(headers, method, params, meta):
        return None
    return enveloped(meta, who)


def enveloped(meta: Mapping[str, Any], who: Who) -> Caller | None:
    """Who asks by the envelope of a modern revision, when everything in it is plainly in order; None otherwise."""
    capabilities, info, level = meta.get(META_CLIENT_CAPABILITIES), meta.get(META_CLIENT_INFO), meta.get(META_LOG_LEVEL)
    if not isinstance(capabilities, dict) or not _plain_capabilities(capabilities) or declares_tasks(capabilities):
        return None
    if not _plain_info(info) or (level is not None and level not in LEVELS):
        return None
    return Caller(
        era=Era.MODERN,
        version=meta[META_VERSION],
        capabilities=capabilities,
        told=canonical(capabilities) if capabilities else "{}",
        client_info=info,
        agent=who.agent,
        principal=who.principal,
        log_level=level,
    )


def _headers_agree(headers: Mapping[bytes, bytes], method: str, params: Params, meta: Mapping[str, Any]) -> bool:
    version = meta.get(META_VERSION)
    if version not in MODERN_VERSIONS or headers.get(VERSION, b"").decode("latin-1") != version:
        return False
    if headers.get(METHOD, b"").decode("latin-1") != method:
        return False
    member = _NAMED_BY.get(method)
    if member is None:
        return True
    named = headers.get(NAME)
    return named is not None and decode_value(named.decode("latin-1")) == params.get(member)


def _plain_capabilities(value: Mapping[str, Any]) -> bool:
    return value.keys() <= _CAPABILITIES and all(isinstance(one, dict) for one in value.values())


def _plain_info(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) and isinstance(value.get("name"), str) and isinstance(value.get("version"), str)
