"""An input schema without some arguments, and with others under another name. Pure; JSON Schema as raw JSON.

Arguments are named in ``properties`` and ``required``, and in the subschemas that speak of the same object: those of
``allOf``, ``anyOf``, ``oneOf``, ``not``, ``if`` and the ``dependent`` keywords. References are not followed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.model import Json, Params

_LISTS: Final = ("allOf", "anyOf", "oneOf")
_SINGLE: Final = ("not", "if", "then", "else")
_DEPENDENT: Final = ("dependentRequired", "dependentSchemas", "dependencies")


@dataclass(frozen=True)
class Changes:
    """What becomes of the arguments of one tool, by their own names."""

    present: frozenset[str] = frozenset()
    """Those of ``hidden`` that always have a value."""
    hidden: frozenset[str] = frozenset()
    """Those that are not shown."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Json] = field(default_factory=dict)
    described: Mapping[str, str] = field(default_factory=dict)

    def name(self, argument: str) -> str:
        """What an argument is called."""
        return self.renamed.get(argument, argument)

    def names(self, arguments: Json) -> Json:
        """A list of names without those that are not shown."""
        if not isinstance(arguments, list):
            return arguments
        return [self.name(one) if isinstance(one, str) else one for one in arguments if not self._hides(one)]

    def members(self, value: Json) -> Json:
        """An object by the names of arguments: whatever they stand for."""
        if not isinstance(value, Mapping):
            return value
        return {self.name(one): each for one, each in value.items() if one not in self.hidden}

    def _hides(self, argument: Json) -> bool:
        return isinstance(argument, str) and argument in self.hidden


def reshaped(schema: Params, changes: Changes) -> Params:
    """A whole schema: also defaults and descriptions change, and what has a default is not required."""
    out = dict(_within(schema, changes))
    shown = out.get("properties")
    if isinstance(shown, Mapping):
        told = {changes.name(name): text for name, text in changes.described.items()}
        preset = {changes.name(name): value for name, value in changes.defaults.items()}
        out["properties"] = {name: _property(one, name, told, preset) for name, one in shown.items()}
    if isinstance(out.get("required"), list):
        preset_names = {changes.name(name) for name in changes.defaults}
        out["required"] = [name for name in out["required"] if name not in preset_names]
    return out


def _property(schema: Json, name: str, told: Mapping[str, str], preset: Mapping[str, Json]) -> Json:
    if not isinstance(schema, Mapping) or (name not in told and name not in preset):
        return schema
    texts = {"description": told[name]} if name in told else {}
    return {**schema, **texts, **({"default": preset[name]} if name in preset else {})}


def _within(schema: Json, changes: Changes) -> Any:
    """A schema, or a subschema about the same object."""
    if not isinstance(schema, Mapping):
        return schema
    out = dict(schema)
    if "properties" in out:
        out["properties"] = changes.members(out["properties"])
    if "required" in out:
        out["required"] = changes.names(out["required"])
    for key in _LISTS:
        if isinstance(out.get(key), list):
            out[key] = [_within(one, changes) for one in out[key]]
    for key in _SINGLE:
        if key in out:
            out[key] = _within(out[key], changes)
    _depend(out, changes)
    if isinstance(out.get("examples"), list):
        out["examples"] = [changes.members(one) for one in out["examples"]]
    if "default" in out:
        out["default"] = changes.members(out["default"])
    return out


def _depend(out: dict[str, Any], changes: Changes) -> None:
    """What depends on an argument that always has a value holds always; on one that never has, never."""
    always: list[Json] = []
    for key in _DEPENDENT:
        if not isinstance(out.get(key), Mapping):
            continue
        table = {one: _needs(needs, changes) for one, needs in out[key].items()}
        always += [needs for one, needs in table.items() if one in changes.present]
        out[key] = changes.members(table)
    for needs in always:
        if isinstance(needs, list):
            out["required"] = [*dict.fromkeys([*_list(out.get("required")), *needs])]
        else:
            out["allOf"] = [*_list(out.get("allOf")), needs]


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _needs(needs: Json, changes: Changes) -> Json:
    return changes.names(needs) if isinstance(needs, list) else _within(needs, changes)
