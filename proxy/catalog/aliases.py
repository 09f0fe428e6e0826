"""Old names: what something was called until lately still leads to it, so that running conversations do not break."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.catalog.naming import Key


@dataclass(frozen=True, slots=True)
class Alias:
    """What an old name stands for, and until when (seconds, on the clock that the caller uses throughout)."""

    target: Key
    expires: float


Aliases = Mapping[str, Alias]
"""Old names of one kind."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long, in seconds, and how many old names are kept, as seen at a point in time."""

    now: float
    ttl: float
    limit: int


def carry(
    aliases: Aliases, before: Mapping[str, Key], after: Mapping[str, Key], lifetime: Lifetime
) -> dict[str, Alias]:
    """The old names after a change.

    Args:
        aliases: the old names before it.
        before: what every name led to before it.
        after: what every name leads to now. What has gone is kept in mind: it may come back under another name.
        lifetime: the time, and the bounds. Of too many old names, those which would expire first go.
    """
    expires = lifetime.now + lifetime.ttl
    kept = {name: alias for name, alias in aliases.items() if alias.expires > lifetime.now}
    kept.update((name, Alias(key, expires)) for name, key in before.items() if after.get(name) != key)
    needed = ((name, alias) for name, alias in kept.items() if after.get(name) != alias.target)
    return dict(_youngest(needed, lifetime.limit))


def _youngest(aliases: Iterable[tuple[str, Alias]], limit: int) -> list[tuple[str, Alias]]:
    everything = list(aliases)
    if len(everything) <= limit:
        return everything
    return sorted(everything, key=lambda item: (-item[1].expires, item[0]))[:limit]
