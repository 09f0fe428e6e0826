"""Validation errors in words for people, each at its place in the file. Pure."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from proxy.config.access import PARTS as ACCESS
from proxy.config.access import ArgumentConfig, OverrideConfig
from proxy.config.audit import AuditConfig
from proxy.config.foreign import PSEUDO
from proxy.config.inbound import PARTS as INBOUND
from proxy.config.inbound import InboundConfig
from proxy.config.model import AgentConfig, Filter, LogConfig, NamingConfig, ServerConfig, UpstreamConfig
from proxy.config.node import Node, kind_of
from proxy.config.outbound import PARTS as OUTBOUND
from proxy.config.outbound import AuthConfig, Credential
from proxy.config.rules import KEY
from proxy.config.suggest import did_you_mean
from proxy.config.tower import PARTS
from proxy.errors import Problem

Loc = tuple[str | int, ...]
Words = tuple[str, str]

_SHOWN: Final = 60
_ENTRY: Final = 2
"""How deep an upstream or an agent stands."""
_SECRET: Final = frozenset({"env", "headers", "args", "url", "urls", "auth", "credentials", "tokens"})
"""Members whose values are never repeated in a message."""
_MODELS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {"server": ServerConfig, "log": LogConfig, "audit": AuditConfig, "naming": NamingConfig}
)


def problems_of(error: ValidationError, root: Node, *, complete: bool = True) -> list[Problem]:
    """The problems of a failed validation of ``root``; what was reported before (broken nodes) is left out.

    References to other parts are judged only when the configuration is ``complete``: every file could be read.
    """
    found: list[Problem] = []
    for each in error.errors(include_url=False, include_input=False):
        loc = tuple(part for part in each["loc"] if part != KEY)
        node, rest = _deepest(root, loc)
        if (node.broken and loc == each["loc"]) or (each["type"] == "reference" and not complete):
            continue
        message, hint = _words(each["type"], each["msg"], each.get("ctx", {}), node, loc)
        found.append(node.problem(message, hint, below=rest))
    return found


def _deepest(root: Node, loc: Loc) -> tuple[Node, Loc]:
    """The node at ``loc``, or the nearest above it and the rest of the way."""
    node = root
    for index, part in enumerate(loc):
        below = node.child(part)
        if below is None:
            shorthand = isinstance(node.value, list) and part == "allow"
            if not shorthand:
                return node, loc[index:]
        else:
            node = below
    return node, ()


def _words(kind: str, message: str, context: Mapping[str, Any], node: Node, loc: Loc) -> Words:
    if kind == "extra_forbidden":
        return "is not a known option", _known_here(loc)
    if kind in ("rule", "reference", "duration", "size", "rate"):
        shown = _shown(node, loc) if kind in ("duration", "size", "rate") else ""
        return message + (f": {shown}" if shown else ""), str(context.get("hint", ""))
    if kind in _LIMITS:
        return f"must be {_LIMITS[kind]} {context[_BOUNDS[kind]]:.15g}", ""
    words = _TYPES.get(kind)
    return words(node, loc, context) if words else (message, "")


def _shown(node: Node, loc: Loc) -> str:
    """The value as it was written, where it can be neither secret nor long."""
    secret = node.outside or not _SECRET.isdisjoint(map(str, loc))
    if secret or isinstance(node.value, (dict, list)) or node.value is None:
        return ""
    text = node.text if node.text is not None else str(node.value)
    return repr(text) if len(text) <= _SHOWN else ""


def _instead(node: Node, loc: Loc) -> str:
    shown = _shown(node, loc)
    return f", not {shown}" if shown else f", not {kind_of(node)}"


def _text(node: Node, _: Loc, __: Mapping[str, Any]) -> Words:
    hint = ""
    if isinstance(node.value, list):
        hint = "put the arguments into args" if node.path[-1:] == ("command",) else "give one text"
    elif isinstance(node.value, (int, float)):
        hint = "write it in quotes"
    return f"must be a text, not {kind_of(node)}", hint


def _list(node: Node, _: Loc, __: Mapping[str, Any]) -> Words:
    return f"must be a list, not {kind_of(node)}", "write it like [one, two]"


def _mapping(node: Node, loc: Loc, _: Mapping[str, Any]) -> Words:
    if loc[0] == "upstreams" and len(loc) == _ENTRY:
        return f"must be a mapping, not {kind_of(node)}", "give it a command or a url"
    known = list(_fields(loc) or ())
    options = f"its options: {', '.join(known)}" if known else "give names and values"
    return f"must be a mapping, not {kind_of(node)}", options


def _number(node: Node, loc: Loc, _: Mapping[str, Any]) -> Words:
    return f"must be a whole number{_instead(node, loc)}", ""


def _figure(node: Node, loc: Loc, _: Mapping[str, Any]) -> Words:
    return f"must be a number{_instead(node, loc)}", ""


def _truth(node: Node, loc: Loc, _: Mapping[str, Any]) -> Words:
    return f"must be true or false{_instead(node, loc)}", ""


def _choice(node: Node, loc: Loc, context: Mapping[str, Any]) -> Words:
    expected = str(context.get("expected", "")).replace("'", "")
    choices = expected.replace(" or ", ", ").split(", ")
    near = did_you_mean(str(node.value), choices) if not node.outside else ""
    return f"must be {expected}{_instead(node, loc)}", near


def _length(_: Node, __: Loc, context: Mapping[str, Any]) -> Words:
    if "max_length" in context:
        return f"must have at most {context['max_length']} characters", ""
    return "must not be empty", ""


_BOUNDS: Final = {"greater_than": "gt", "greater_than_equal": "ge", "less_than_equal": "le"}
_LIMITS: Final = {"greater_than": "more than", "greater_than_equal": "at least", "less_than_equal": "at most"}
_TYPES: Final[Mapping[str, Callable[[Node, Loc, Mapping[str, Any]], Words]]] = MappingProxyType(
    {
        "string_type": _text,
        "path_type": _text,
        "tuple_type": _list,
        "model_type": _mapping,
        "model_attributes_type": _mapping,
        "mapping_type": _mapping,
        "dict_type": _mapping,
        "int_type": _number,
        "int_parsing": _number,
        "int_parsing_size": _number,
        "int_from_float": _number,
        "float_type": _figure,
        "float_parsing": _figure,
        "bool_type": _truth,
        "bool_parsing": _truth,
        "enum": _choice,
        "string_too_short": _length,
        "string_too_long": _length,
    }
)


def _fields(loc: Loc) -> Iterable[str] | None:
    """The options which the model knows at a place; None where names are free."""
    match loc:
        case (("server" | "log" | "audit" | "naming") as section,):
            return _MODELS[section].model_fields
        case ("upstreams" | "agents", _, "tools" | "resources" | "prompts"):
            return Filter.model_fields
        case ("upstreams", _, *rest):
            return _upstream_fields(tuple(rest))
        case ("agents", _, *rest):
            return _agent_fields(tuple(rest))
        case ("auth", *rest):
            return INBOUND.get(str(rest[0]) if rest else "", InboundConfig).model_fields
    return None


def _upstream_fields(loc: Loc) -> Iterable[str] | None:
    """The same below one upstream."""
    parts = {**PARTS, **OUTBOUND}
    match loc:
        case ():
            return (*UpstreamConfig.model_fields, *PSEUDO)
        case (str(part),) if part in parts:
            return parts[part].model_fields
        case ("credentials", "agents" | "principals", _):
            return Credential.model_fields
        case ("credentials", "agents" | "principals", _, "auth"):
            return AuthConfig.model_fields
    return None


def _agent_fields(loc: Loc) -> Iterable[str] | None:
    """The same below one agent."""
    match loc:
        case ():
            return AgentConfig.model_fields
        case (str(part),) if part in ACCESS:
            return ACCESS[part].model_fields
        case ("overrides", _):
            return OverrideConfig.model_fields
        case ("overrides", _, "arguments", _):
            return ArgumentConfig.model_fields
    return None


def _known_here(loc: Loc) -> str:
    known = list(_fields(loc[:-1]) or ())
    return did_you_mean(str(loc[-1]), known) or f"known here: {', '.join(known)}"
