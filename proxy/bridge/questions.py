"""The three things an upstream may ask a downstream, and what a usable answer looks like. Pure."""

import re
from collections.abc import Container, Iterator, Mapping
from itertools import chain, count
from typing import Any, Final

from proxy.errors import METHOD_NOT_FOUND, Rejected
from proxy.model import Json, Params

ELICIT: Final = "elicitation/create"
SAMPLE: Final = "sampling/createMessage"
ROOTS: Final = "roots/list"

_CAPABILITY: Final = {ELICIT: "elicitation", SAMPLE: "sampling", ROOTS: "roots"}
_ACTIONS: Final = ("accept", "decline", "cancel")


def permitted(method: str, params: Params | None, capabilities: Params) -> bool:
    """Whether a downstream declared that it can be asked this (spec: MUST NOT ask for undeclared capabilities)."""
    declared = capabilities.get(_CAPABILITY.get(method, ""))
    if not isinstance(declared, Mapping):
        return False
    if method == ELICIT:
        # An empty object stands for forms, as before modes existed (spec 2025-11-25, elicitation capabilities).
        mode = (params or {}).get("mode", "form")
        return mode in declared or (mode == "form" and not declared)
    if method == SAMPLE and params is not None and ("tools" in params or "toolChoice" in params):
        return isinstance(declared.get("tools"), Mapping)
    return True


def check_permitted(method: str, params: Params | None, capabilities: Params) -> None:
    """Refuse a question that the downstream never said it can answer, although its upstream was told so.

    Raises:
        Rejected: goes back to the upstream.
    """
    if not permitted(method, params, capabilities):
        raise Rejected(METHOD_NOT_FOUND, f"{method}: the client did not declare that it can answer this")


def usable(method: str, answer: Json) -> bool:
    """Whether an answer has the shape that its question asks for."""
    if not isinstance(answer, Mapping):
        return False
    if method == ELICIT:
        return answer.get("action") in _ACTIONS and isinstance(answer.get("content", {}), Mapping)
    if method == SAMPLE:
        return answer.get("role") in ("user", "assistant") and isinstance(answer.get("content"), Mapping | list)
    return isinstance(answer.get("roots"), list)


def for_modern(method: str, params: Params | None) -> dict[str, Any]:
    """A handshake-era question as a member of ``inputRequests``; ``elicitationId`` no longer exists there."""
    asked: dict[str, Any] = {"method": method}
    if params is not None:
        asked["params"] = {key: value for key, value in params.items() if key != "elicitationId"}
    return asked


def key_for(method: str, params: Params | None, taken: Container[str]) -> str:
    """A readable key in ``inputRequests`` for a handshake-era question, which has none: who is asked, and for what."""
    if method == ELICIT:
        key = f"user_{_first_property(params)}" if (params or {}).get("mode", "form") == "form" else "user_visit"
    else:
        key = "model_message" if method == SAMPLE else "client_roots"
    candidates: Iterator[str] = chain((key,), (f"{key}_{number}" for number in count(2)))
    return next(name for name in candidates if name not in taken)


def _first_property(params: Params | None) -> str:
    schema = (params or {}).get("requestedSchema")
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    name = next(iter(properties), "") if isinstance(properties, Mapping) else ""
    return re.sub(r"[^a-zA-Z0-9]+", "_", str(name))[:40].strip("_") or "answer"
