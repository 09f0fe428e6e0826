"""Gives every claimant a name of its own: the one rule for collisions, whatever is being named."""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from proxy.service.steps import Steps, done

HASH_SHORT = 6
HASH_LONG = 8

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Claim:
    """The name that somebody would like to have."""

    plain: str | None
    """The wanted name; None if it cannot be had at all, because it is too long."""
    lossless: bool
    """Whether the wanted name says everything, so that nobody else should get it."""


def fingerprint(*parts: str, attempt: int = 0) -> str:
    """A short stable hash of some strings: 6 to 8 characters of ``a-z2-7``, another one for every attempt."""
    text = ":".join((str(attempt), *(f"{len(part)}:{part}" for part in parts)))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode("ascii").lower()[: min(HASH_SHORT + attempt, HASH_LONG)]


def settle(claims: Mapping[K, Claim], hashed: Callable[[K, int], str]) -> dict[K, str]:
    """Give every key a name that no other key has.

    Whoever wants a name alone gets it. Of several who want the same name, the only one that maps without loss gets
    it, and otherwise nobody does. All the others get ``hashed(key, attempt)``, with the first attempt that is free.
    The outcome depends on the set of claims, not on their order. ``hashed`` must differ from attempt to attempt.
    """
    return done(settling(claims, hashed))


def settling(claims: Mapping[K, Claim], hashed: Callable[[K, int], str]) -> Steps[dict[K, str]]:
    """The same as ``settle``, in steps."""
    names = yield from _winners(claims)
    waiting = [key for key in claims if key not in names]
    attempt = 0
    while waiting:
        taken = set(names.values())
        proposals = yield from _grouped((hashed(key, attempt), key) for key in waiting)
        names.update((keys[0], name) for name, keys in proposals.items() if len(keys) == 1 and name not in taken)
        waiting = [key for key in waiting if key not in names]
        attempt += 1
    return {key: names[key] for key in claims}


def _winners(claims: Mapping[K, Claim]) -> Steps[dict[K, str]]:
    wanted = yield from _grouped((claim.plain, key) for key, claim in claims.items() if claim.plain is not None)
    winners: dict[K, str] = {}
    for plain, keys in wanted.items():
        yield
        entitled = keys if len(keys) == 1 else [key for key in keys if claims[key].lossless]
        if len(entitled) == 1:
            winners[entitled[0]] = plain
    return winners


def _grouped(pairs: Iterable[tuple[str, K]]) -> Steps[dict[str, list[K]]]:
    groups: defaultdict[str, list[K]] = defaultdict(list)
    for name, key in pairs:
        yield
        groups[name].append(key)
    return groups
