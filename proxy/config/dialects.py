"""From a file in anybody's dialect to our own shape. Pure: trees in, a tree and findings out.

The shape is ``server``, ``log``, ``naming``, ``upstreams``, ``agents``, with ``disabled`` and ``envFile`` still in the
upstreams (the loader needs interpolated values for these). Unknown keys stay where they are: validation names them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.config.audit import AuditConfig
from proxy.config.foreign import (
    APPLICATION,
    IGNORED,
    OWN_SECTIONS,
    PSEUDO,
    SECTIONS,
    SILENT,
    SPELLINGS,
    TOOL_FILTERS,
    TOP,
    WRAPPED,
    is_comment,
)
from proxy.config.inbound import InboundConfig
from proxy.config.model import AgentConfig, Filter, LogConfig, NamingConfig, ServerConfig, UpstreamConfig
from proxy.config.node import Node, kind_of
from proxy.config.suggest import did_you_mean, nearest
from proxy.errors import Problem

_AS_WRITTEN: Final = ("args", "env", "headers")
_FILTERS: Final = ("tools", "resources", "prompts")
_FIELDS: Final = {
    "server": frozenset(ServerConfig.model_fields),
    "log": frozenset(LogConfig.model_fields),
    "audit": frozenset(AuditConfig.model_fields),
    "naming": frozenset(NamingConfig.model_fields),
    "pinning": frozenset(),
    "auth": frozenset(InboundConfig.model_fields),
}
_UPSTREAM: Final = frozenset({*UpstreamConfig.model_fields, *PSEUDO})
_AGENT: Final = frozenset(AgentConfig.model_fields)
_LIKELY_MILLISECONDS: Final = 1000
_LISTED: Final = 8


@dataclass(slots=True)
class Findings:
    """What was found on the way: problems stop the configuration, warnings do not."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def canonical(root: Node, found: Findings, *, application: bool) -> Node:
    """Bring a document into our own shape.

    ``application`` says that the file may belong to another application (JSON), whose other keys are then
    none of our business unless they look like a slip in one of ours.
    """
    out: dict[str, Node] = {name: _section(name, root.members[name]) for name in OWN_SECTIONS if name in root.members}
    sections = list(_server_sections(root, found, application=application))
    if sections:
        upstreams = _combined(sections, found)
        out["upstreams"] = replace(upstreams, value={k: _upstream(v, found) for k, v in upstreams.members.items()})
    theirs = bool(sections) or not root.members.keys().isdisjoint(APPLICATION)
    _unknown(root, TOP, found, tolerant=application and theirs)
    return root.having(out)


def _server_sections(root: Node, found: Findings, *, application: bool) -> Iterator[Node]:
    wrapper = root.members.get("mcp")
    places: list[tuple[Node, tuple[str, ...]]] = [(root, SECTIONS)]
    if wrapper is not None and isinstance(wrapper.value, dict):
        places.append((wrapper, WRAPPED))
        _unknown(wrapper, WRAPPED, found, tolerant=application)
    elif wrapper is not None and wrapper.value is not None:
        found.problems.append(
            wrapper.problem(f"must be a mapping, not {kind_of(wrapper)}", "put servers under mcp.servers")
        )
    for place, keys in places:
        for key in keys:
            section = place.members.get(key)
            if section is None:
                continue
            if section.value is not None and not isinstance(section.value, dict):
                found.problems.append(
                    section.problem(f"must be a mapping, not {kind_of(section)}", "give names to servers")
                )
            yield section.having(section.members)


def _combined(sections: Iterable[Node], found: Findings) -> Node:
    first, *others = sections
    members = dict(first.members)
    for section in others:
        for name, entry in section.members.items():
            if earlier := members.get(name):
                found.problems.append(entry.problem(f"is there twice; first in line {earlier.line}", "keep one"))
            members[name] = entry
    return first.having(members)


def _unknown(place: Node, known: Iterable[str], found: Findings, *, tolerant: bool) -> None:
    strange = {k: v for k, v in place.members.items() if k not in {*known, *SILENT} and not is_comment(k)}
    foreign = {key: node for key, node in strange.items() if tolerant and not nearest(key, known)}
    for key, node in strange.items():
        if key not in foreign:
            hint = did_you_mean(key, known) or f"known here: {', '.join(known)}"
            found.problems.append(node.problem("is not a known option", hint))
    if foreign:
        names = ", ".join([*foreign][:_LISTED]) + (
            f" and {len(foreign) - _LISTED} more" if len(foreign) > _LISTED else ""
        )
        first = next(iter(foreign.values()))
        found.warnings.append(replace(first.problem(f"not ours, ignored: {names}"), path=""))


def _section(name: str, node: Node) -> Node:
    if node.value is None:
        return node.having({})
    if name == "agents":
        return node.having({k: _agent(v) for k, v in node.members.items()}) if node.members else node
    return _without_comments(_without_nulls(node, _FIELDS[name]))


def _agent(node: Node) -> Node:
    return _with_filters(_without_comments(_without_nulls(node if node.value is not None else node.having({}), _AGENT)))


def _without_nulls(node: Node, names: Iterable[str]) -> Node:
    """An option without a value is an option not given."""
    if not isinstance(node.value, dict):
        return node
    return node.having({k: v for k, v in node.value.items() if v.value is not None or k not in names})


def _without_comments(node: Node) -> Node:
    if not isinstance(node.value, dict):
        return node
    return node.having({key: each for key, each in node.value.items() if not is_comment(key)})


def _with_filters(node: Node) -> Node:
    if not isinstance(node.value, dict):
        return node
    fields = Filter.model_fields
    return node.having({k: _without_nulls(v, fields) if k in _FILTERS else v for k, v in node.value.items()})


def _upstream(node: Node, found: Findings) -> Node:
    if node.value is None:
        return node.having({})
    if not isinstance(node.value, dict):
        return node
    members: dict[str, Node] = {}
    for key, each in node.value.items():
        name = SPELLINGS.get(key, key)
        if is_comment(key):
            continue
        if key in IGNORED:
            found.warnings.append(each.problem("is ignored", IGNORED[key]))
        elif name in members:
            found.problems.append(each.problem(f"says the same as {members[name].path[-1]}", "keep one"))
        elif key not in TOOL_FILTERS:
            members[name] = each
    members = _with_tool_lists(node, members, found)
    members |= {key: _as_written(members[key]) for key in _AS_WRITTEN if key in members}
    _doubts(members, found)
    return _with_filters(_without_nulls(node.having(members), _UPSTREAM))


def _with_tool_lists(node: Node, members: dict[str, Node], found: Findings) -> dict[str, Node]:
    lists: dict[str, Node] = {}
    for key, each in node.members.items():
        if key not in TOOL_FILTERS or each.value is None:
            continue
        if "tools" in members or TOOL_FILTERS[key] in lists:
            found.problems.append(each.problem("stands next to another filter of tools", "use tools: {allow, deny}"))
        else:
            lists[TOOL_FILTERS[key]] = each
    return {**members, "tools": node.having(dict(lists))} if lists else members


def _as_written(node: Node) -> Node:
    """Numbers and truth values where texts belong are taken as they were written: 0777 stays 0777.

    A variable without a value is a variable not given.
    """
    if isinstance(node.value, dict):
        env = node.path[-1:] == ("env",)
        kept = {key: each for key, each in node.value.items() if each.value is not None or not env}
        return node.having({key: _text(each) for key, each in kept.items()})
    return node.having([_text(each) for each in node.value]) if isinstance(node.value, list) else node


def _text(node: Node) -> Node:
    scalar = isinstance(node.value, (bool, int, float)) and node.text is not None
    return node.having(node.text) if scalar else node


def _doubts(members: dict[str, Node], found: Findings) -> None:
    timeout, command = members.get("timeout"), members.get("command")
    if timeout and isinstance(timeout.value, (int, float)) and timeout.value >= _LIKELY_MILLISECONDS:
        value = f"{timeout.value:g}"
        found.warnings.append(
            timeout.problem(f"is read as {value} seconds", f"write {value}ms if you mean milliseconds")
        )
    if command and isinstance(command.value, str) and not members.get("args"):
        program, _, rest = command.value.strip().partition(" ")
        if rest and not set(program) & set('/\\"$'):
            found.warnings.append(command.problem("has a space and there are no args", "put the arguments into args"))
