"""Several files, one configuration. Pure."""

from collections.abc import Sequence

from proxy.config.node import Node, plain
from proxy.errors import Problem

_NAMED = ("upstreams", "agents")


def merged(roots: Sequence[Node], problems: list[Problem]) -> Node:
    """Join canonical trees: upstreams and agents come together, options of the other sections too.

    The same name or option in two files is a problem which names both places, unless both say the same option.
    """
    first, *others = roots
    members = dict(first.members)
    for root in others:
        for section, node in root.members.items():
            if section not in members:
                members[section] = node
            elif members[section].members or node.members:
                members[section] = _joined(members[section], node, problems, options=section not in _NAMED)
    return first.having(members)


def _joined(one: Node, other: Node, problems: list[Problem], *, options: bool) -> Node:
    members = dict(one.members)
    for key, node in other.members.items():
        earlier = members.get(key)
        if earlier is None:
            members[key] = node
        elif not options or plain(earlier) != plain(node):
            where = f"{earlier.file}:{earlier.line}" if earlier.line else earlier.file
            problems.append(node.problem(f"is also in {where}", "keep it in one file" if options else "rename one"))
    return one.having(members)
