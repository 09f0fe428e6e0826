"""The JSON Schema of configuration files, for editors and for people. Pure."""

from collections.abc import Container
from typing import Any, Final

from proxy.config.foreign import APPLICATION, IGNORED, SECTIONS, SPELLINGS, TOOL_FILTERS, WRAPPED
from proxy.config.model import Config
from proxy.config.pinning import PinMode
from proxy.config.rules import TRANSPORTS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = {"type": "string", "pattern": r"\$\{.+\}", "description": "a reference such as ${env:NAME}"}
_ANYTHING: Final[dict[str, Any]] = {}
_COMMENTS: Final = {"^(_|//|#|x-)": _ANYTHING}
_TEXTS: Final = {"type": "array", "items": {"type": "string"}}
_NOTES: Final = frozenset({"title", "description", "default"})
_WRITTEN: Final = ["string", "number", "boolean"]


def file_schema() -> dict[str, Any]:
    """The schema of what a file may say, with ``mcpServers`` and the other dialects (JSON Schema 2020-12)."""
    schema = Config.model_json_schema(mode="validation")
    parts = schema.pop("$defs")
    choices = {f"#/$defs/{name}" for name, part in parts.items() if "enum" in part}
    for part in (schema, *(part for part in parts.values() if "enum" not in part)):
        part["properties"] = {key: _or_reference(each, choices) for key, each in part["properties"].items()}
        part["patternProperties"] = _COMMENTS
    _widen_upstream(parts["UpstreamConfig"])
    parts["Transport"]["enum"] = sorted({*TRANSPORTS, *parts["Transport"]["enum"], "streamableHttp"})
    parts["Filter"] = {"anyOf": [parts["Filter"], _TEXTS]}
    parts["AuthConfig"] = {"anyOf": [parts["AuthConfig"], {"const": "oauth"}]}
    parts["PinMode"] = {**parts["PinMode"], "type": ["string", "boolean"], "enum": [*PinMode, False]}
    parts["Servers"] = _widen_top(schema)
    return {**schema, "$schema": DIALECT, "title": "Manifold configuration", "$defs": parts}


def _or_reference(schema: dict[str, Any], choices: Container[str] = ()) -> dict[str, Any]:
    """Whatever is not a free text may still be given by a reference."""
    if schema.get("type") not in ("integer", "number", "boolean") and schema.get("$ref") not in choices:
        return schema
    notes = {key: value for key, value in schema.items() if key in _NOTES}
    return {**notes, "anyOf": [{key: value for key, value in schema.items() if key not in _NOTES}, _REFERENCE]}


def _widen_top(schema: dict[str, Any]) -> dict[str, Any]:
    """Give the top level the sections of every dialect; returns what a section of servers is."""
    properties = schema["properties"]
    servers = properties.pop("upstreams")
    servers["title"] = "Servers"
    servers["additionalProperties"] = {"anyOf": [{"$ref": "#/$defs/UpstreamConfig"}, {"type": "null"}]}
    for key in SECTIONS:
        properties[key] = {"$ref": "#/$defs/Servers"}
    properties["mcp"] = {
        "type": "object",
        "description": "Servers as in VS Code's settings.json.",
        "properties": {key: {"$ref": "#/$defs/Servers"} for key in WRAPPED},
    }
    properties["inputs"] = {"type": "array", "description": "VS Code's inputs; use ${env:NAME} instead of ${input:id}."}
    properties["$schema"] = {"type": "string"}
    for key in APPLICATION:
        properties[key] = {"description": "Claude Desktop's own; ignored."}
    return dict(servers)


def _widen_upstream(part: dict[str, Any]) -> None:
    properties = part["properties"]
    for key in ("env", "headers"):
        properties[key]["additionalProperties"] = {"type": [*_WRITTEN, "null"] if key == "env" else _WRITTEN}
    properties["args"]["items"] = {"type": _WRITTEN}
    properties["type"].pop("default")
    properties["disabled"] = _or_reference({"type": "boolean", "description": "The opposite of enabled."})
    properties["envFile"] = {"type": "string", "description": "A file of NAME=value lines that join env."}
    for spelling, name in SPELLINGS.items():
        properties[spelling] = {**properties[name], "description": f"Another spelling of {name}."}
    for key, name in TOOL_FILTERS.items():
        properties[key] = {**_TEXTS, "description": f"The same as tools.{name}."}
    for key, note in IGNORED.items():
        properties[key] = {"description": f"Accepted and ignored: {note}."}
