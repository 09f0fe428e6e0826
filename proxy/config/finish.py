"""The last steps from an interpolated tree to one that the model takes: paths, ``disabled``, ``envFile``."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from proxy.config.audit import STANDARD
from proxy.config.dialects import Findings
from proxy.config.dotenv import parse_dotenv
from proxy.config.interpolate import Sources, Unresolved, interpolate_tree
from proxy.config.node import Node
from proxy.errors import Problem

_NOWHERE: Final = "http://unresolved.invalid/"
_TRUTH: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where relative paths of a file start, and the home of ``~``."""

    base: PurePath
    home: PurePath

    def resolve(self, path: str) -> str:
        """An absolute path; ``~`` is the home, anything relative starts at the base."""
        if path == "~" or path.startswith(("~/", "~\\")):
            return str(self.home / path[2:])
        return str(self.base / path)


def finish(root: Node, sources: Sources, place: Place, found: Findings) -> Node:
    """Resolve references and paths, and fold ``disabled`` and ``envFile`` into the options they stand for.

    What cannot be resolved in an upstream that is switched off is a warning: nobody will miss it.
    """
    members = {
        key: each if key == "upstreams" else interpolate_tree(each, sources, found.problems)
        for key, each in root.members.items()
    }
    if server := members.get("server"):
        members["server"] = _with_path(server, "state_dir", place)
    if audit := members.get("audit"):
        to = audit.child("to")
        members["audit"] = audit if to is not None and to.value in STANDARD else _with_path(audit, "to", place)
    if upstreams := members.get("upstreams"):
        entries = {name: _upstream(each, sources, place, found) for name, each in upstreams.members.items()}
        members["upstreams"] = upstreams.having(entries) if isinstance(upstreams.value, dict) else upstreams
    return root.having(members)


def _upstream(node: Node, sources: Sources, place: Place, found: Findings) -> Node:
    unresolved: list[Problem] = []
    entry = _enabled(interpolate_tree(node, sources, unresolved), found)
    entry = _with_path(_with_env_file(entry, sources, unresolved), "cwd", place)
    enabled = entry.child("enabled")
    off = enabled is not None and (enabled.value is False or _TRUTH.get(str(enabled.value).lower()) is False)
    (found.warnings if off else found.problems).extend(unresolved)
    return _harmless(entry) if off and unresolved else entry


def _harmless(node: Node) -> Node:
    """An upstream that is switched off, without the values that could not be resolved."""
    members: dict[str, Node] = {}
    for key, each in node.members.items():
        if key in ("url", "urls"):
            kept = [_NOWHERE if item.broken else item.value for item in (each.items or [each])]
            members[key] = each.having([each.having(url) for url in kept] if each.items else kept[0])
        elif not each.broken or key == "command":
            members[key] = each
    return node.having(members)


def _with_path(node: Node, key: str, place: Place) -> Node:
    path = node.child(key)
    if path is None or path.broken or not isinstance(path.value, str) or not path.value:
        return node
    return node.having({**node.members, key: path.having(place.resolve(path.value))})


def _enabled(node: Node, found: Findings) -> Node:
    """``disabled`` of the clients' files is the opposite of our ``enabled``."""
    disabled = node.child("disabled")
    if disabled is None:
        return node
    members = {key: each for key, each in node.members.items() if key != "disabled"}
    value = _TRUTH.get(str(disabled.value).lower())
    enabled = members.get("enabled")
    if value is None:
        if not disabled.broken:
            found.problems.append(disabled.problem("must be true or false"))
    elif enabled is None:
        members["enabled"] = disabled.having(not value)
    elif _TRUTH.get(str(enabled.value).lower()) is value:
        found.problems.append(disabled.problem("contradicts enabled", "keep enabled"))
    return node.having(members)


def _with_env_file(node: Node, sources: Sources, problems: list[Problem]) -> Node:
    """The variables of ``envFile`` join ``env``, which wins where both have one (as in VS Code)."""
    name = node.child("envFile")
    if name is None:
        return node
    members = {key: each for key, each in node.members.items() if key != "envFile"}
    env = members.get("env") or name.having({})
    if name.broken or not isinstance(env.value, dict):
        return node.having(members)
    if not isinstance(name.value, str):
        problems.append(name.problem("must be a text: the path of a file with NAME=value lines"))
        return node.having(members)
    try:
        variables = parse_dotenv(sources.file(name.value))
    except Unresolved as error:
        problems.append(name.problem(error.message, error.hint))
    except ValueError as error:
        problems.append(name.problem(f"names a file that cannot be used: {error}", "write NAME=value lines"))
    else:
        outside = {
            key: Node(text, (*env.path, key), name.line, name.file, outside=True) for key, text in variables.items()
        }
        members["env"] = env.having({**outside, **env.value})
    return node.having(members)
