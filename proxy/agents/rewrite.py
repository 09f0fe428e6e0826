"""Maps the URIs in what an upstream sends to the ones under which we export them.

Values are shared between all who see them, so nothing is changed in place: what holds a mapped URI is copied, and
what holds none stays the very object that it was.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from proxy.catalog.check import KEYS
from proxy.catalog.snapshot import Catalog, Entry
from proxy.catalog.uris import UriTable
from proxy.model import URI_END, URI_TRACES, Json, Kind, Params, Reply

Export: TypeAlias = Callable[[str], str]
"""Maps one upstream's URI to the exported one."""
_Mapper: TypeAlias = Callable[[Json], Json]


class Sees(Protocol):
    """What of a view is needed here."""

    @property
    def catalog(self) -> Catalog:
        """The catalog behind the view."""
        ...


def definition(entry: Entry, name: str, uris: UriTable) -> Params:
    """A listing entry as a downstream gets it: as it was sent, except for its name or URI and the URI of its UI."""
    key = KEYS[entry.route.kind]
    raw = entry.raw if entry.raw[key] == name else {**entry.raw, key: name}
    if entry.route.kind is not Kind.TOOL:
        return raw
    mapped: Params = _with(raw, _meta=lambda meta: _ui_meta(meta, _exporter(uris, entry.route.upstream)))
    return mapped


def result(view: Sees, upstream: str, method: str, value: Json) -> Json:
    """The result of a request with the URIs mapped that it holds.

    Args:
        view: who sees it.
        upstream: who sent it.
        method: of the request.
        value: the result; ``input_required`` ones are understood.
    """
    export = _exporting(view, upstream)
    if export is None:
        return value
    if isinstance(value, dict) and isinstance(value.get("inputRequests"), dict):
        return _with(value, inputRequests=lambda asked: _each_value(asked, lambda one: _input_request(one, export)))
    mapper = _RESULTS.get(method)
    return value if mapper is None else mapper(value, export)


def incoming(view: Sees, upstream: str, method: str, params: Params | None) -> Params | None:
    """The params of a notification or request from an upstream, with the URIs mapped that they hold."""
    export = _exporting(view, upstream)
    mapper = _INCOMING.get(method)
    if export is None or mapper is None or params is None:
        return params
    mapped: Params = mapper(params, export)
    return mapped


def touches(view: Sees, upstream: str, reply: Reply) -> bool:
    """Whether an undecoded result may hold URIs to be mapped. No means: it can be passed on as it is."""
    if view.catalog.uris.keeps(upstream):
        return False
    if reply.body is not None:
        return bool(reply.body.traces)
    raw = reply.small
    return URI_END in raw and any(trace in raw for trace in URI_TRACES)


def _exporter(uris: UriTable, upstream: str) -> Export:
    return lambda uri: uris.export(upstream, uri)


def _exporting(view: Sees, upstream: str) -> Export | None:
    uris = view.catalog.uris
    return None if uris.keeps(upstream) else _exporter(uris, upstream)


def _tool_result(value: Json, export: Export) -> Json:
    return _with(
        value,
        content=lambda content: _each(content, lambda block: _block(block, export)),
        _meta=lambda meta: _ui_meta(meta, export),
    )


def _messages(value: Json, export: Export) -> Json:
    """Prompt results and sampling requests: ``messages``, each with one content block or a list of them."""
    return _with(value, messages=lambda messages: _each(messages, lambda message: _message(message, export)))


def _message(message: Json, export: Export) -> Json:
    return _with(message, content=lambda content: _blocks(content, export))


def _read_result(value: Json, export: Export) -> Json:
    return _with(value, contents=lambda contents: _each(contents, lambda one: _located(one, export)))


def _blocks(content: Json, export: Export) -> Json:
    if isinstance(content, list):
        return _each(content, lambda block: _block(block, export))
    return _block(content, export)


def _block(block: Json, export: Export) -> Json:
    """One content block: a link, an embedded resource, or a tool result inside a sampling message."""
    match block:
        case {"type": "resource_link"}:
            return _located(block, export)
        case {"type": "resource"}:
            return _with(block, resource=lambda resource: _located(resource, export))
        case {"type": "tool_result"}:
            return _with(block, content=lambda content: _blocks(content, export))
    return block


def _located(value: Json, export: Export) -> Json:
    """Anything with a ``uri``."""
    return _with(value, uri=lambda uri: _uri(uri, export))


def _ui_meta(meta: Json, export: Export) -> Json:
    """MCP Apps: ``_meta.ui.resourceUri``, and ``_meta["ui/resourceUri"]`` of its earlier drafts."""
    return _with(
        meta,
        **{
            "ui": lambda ui: _with(ui, resourceUri=lambda uri: _uri(uri, export)),
            "ui/resourceUri": lambda uri: _uri(uri, export),
        },
    )


def _input_request(request: Json, export: Export) -> Json:
    mapper = _INCOMING.get(str(request.get("method"))) if isinstance(request, dict) else None
    return request if mapper is None else _with(request, params=lambda params: mapper(params, export))


def _uri(uri: Json, export: Export) -> Json:
    return export(uri) if isinstance(uri, str) else uri


def _with(value: Json, /, **mappers: _Mapper) -> Json:
    """An object with some of its members mapped; the object itself if none of them changes, or if it is none."""
    if not isinstance(value, Mapping):
        return value
    mapped = {key: mapper(value[key]) for key, mapper in mappers.items() if key in value}
    changed = {key: new for key, new in mapped.items() if new is not value[key]}
    return {**value, **changed} if changed else value


def _each(values: Json, mapper: _Mapper) -> Json:
    """A list with its items mapped; the list itself if none of them changes, or if it is none."""
    if not isinstance(values, list):
        return values
    mapped = [mapper(value) for value in values]
    return values if all(new is old for new, old in zip(mapped, values, strict=True)) else mapped


def _each_value(values: Mapping[str, Any], mapper: _Mapper) -> Json:
    return _with(values, **dict.fromkeys(values, mapper))


_RESULTS: Final[Mapping[str, Callable[[Json, Export], Json]]] = {
    "tools/call": _tool_result,
    "prompts/get": _messages,
    "resources/read": _read_result,
}
_INCOMING: Final[Mapping[str, Callable[[Json, Export], Json]]] = {
    "notifications/resources/updated": _located,
    "sampling/createMessage": _messages,
}
