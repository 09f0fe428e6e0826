"""What a result and an error look like in the other era. Pure; an input is never changed in place.

Sources: spec 2026-07-28, changes against 2025-11-25: ``resultType``, caching hints, ``serverInfo`` in ``_meta``, and
the retired error codes.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from proxy.errors import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    MISSING_CAPABILITY,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
    Rejected,
)
from proxy.model import META_SERVER_INFO, Era, Json, Params

CACHEABLE: Final = frozenset(
    {"server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"}
)
"""Methods whose complete results carry ``ttlMs`` and ``cacheScope`` in the modern era (SEP-2549)."""

_OUR_FAULT: Final = frozenset({HEADER_MISMATCH, UNSUPPORTED_VERSION})

_MODERN_KEYS: Final = frozenset({"resultType", "ttlMs", "cacheScope"})


class Crossing(msgspec.Struct, frozen=True):
    """From which era a message comes, into which it goes."""

    upstream: Era
    downstream: Era


def result_for(crossing: Crossing, method: str, result: Json, server_info: Params) -> dict[str, Any]:
    """The result as the downstream must get it. Within the handshake era nothing is touched."""
    if not isinstance(result, Mapping):
        result = {}
    if crossing.downstream is Era.MODERN:
        return _modern(method, result, server_info)
    return _handshake(result) if crossing.upstream is Era.MODERN else dict(result)


def _modern(method: str, result: Mapping[str, Any], server_info: Params) -> dict[str, Any]:
    out = dict(result)
    kind = out.setdefault("resultType", "complete")
    if method in CACHEABLE and kind == "complete":
        # A handshake upstream gave no hint: nothing may be cached, least of all for others.
        out.setdefault("ttlMs", 0)
        out.setdefault("cacheScope", "private")
    meta = out.get("_meta")
    out["_meta"] = {**(meta if isinstance(meta, Mapping) else {}), META_SERVER_INFO: server_info}
    return out


def _handshake(result: Mapping[str, Any]) -> dict[str, Any]:
    out = {key: value for key, value in result.items() if key not in _MODERN_KEYS}
    meta = out.get("_meta")
    if isinstance(meta, Mapping) and META_SERVER_INFO in meta:
        rest = {key: value for key, value in meta.items() if key != META_SERVER_INFO}
        if rest:
            out["_meta"] = rest
        else:
            del out["_meta"]
    return out


def error_for(crossing: Crossing, method: str, error: Rejected, uri: str | None = None) -> Rejected:
    """The error as the downstream must get it: codes which its era does not know are translated."""
    if error.jsonrpc in _OUR_FAULT:
        # These speak of the request as we wrote it, and the downstream did not write it (spec, standard headers).
        return Rejected(INTERNAL_ERROR, f"the server refused the proxy's request: {error.message}", error.data)
    if crossing.upstream is crossing.downstream:
        return error
    if crossing.downstream is Era.MODERN:
        return _modern_error(error, uri)
    return _handshake_error(method, error)


def _modern_error(error: Rejected, uri: str | None) -> Rejected:
    if error.jsonrpc != RESOURCE_NOT_FOUND:
        return error
    data = error.data if isinstance(error.data, Mapping) else {}
    return Rejected(INVALID_PARAMS, error.message, {**data, "uri": data.get("uri", uri)})


def _handshake_error(method: str, error: Rejected) -> Rejected:
    if error.jsonrpc == MISSING_CAPABILITY:
        return Rejected(INTERNAL_ERROR, error.message, error.data)
    if method == "resources/read" and error.jsonrpc == INVALID_PARAMS and _names_uri(error.data):
        return Rejected(RESOURCE_NOT_FOUND, error.message, error.data)
    return error


def _names_uri(data: Any) -> bool:
    return isinstance(data, Mapping) and isinstance(data.get("uri"), str)
