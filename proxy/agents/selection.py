"""Which agents apply to one downstream: its URL, its credential and the command line may each name some.

Where several apply, they travel as one name, joined by ``+``, and their intersection counts (design, section 5). The
first of them decides about names.
"""

from collections.abc import Iterable
from typing import Final

JOINT: Final = "+"
"""What no agent's name contains."""


def joined(names: Iterable[str | None]) -> str | None:
    """The agents as one name, each once, in order; None if there are none: the store."""
    return JOINT.join(dict.fromkeys(part for name in names for part in parts(name))) or None


def parts(agent: str | None) -> tuple[str, ...]:
    """The agents that a name stands for; none for the store."""
    if not agent:
        return ()
    return tuple(agent.split(JOINT)) if JOINT in agent else (agent,)
