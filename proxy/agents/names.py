"""The names under which one agent sees tools and prompts."""

from collections import Counter
from collections.abc import Iterable

from proxy.catalog.naming import Key, NamingPolicy, own_name
from proxy.catalog.snapshot import Entry


def public_names(entries: Iterable[Entry]) -> dict[Key, str]:
    """The public name of every entry."""
    return {entry.key: entry.route.public for entry in entries}


def local_names(entries: Iterable[Entry], naming: NamingPolicy) -> dict[Key, str]:
    """The own, sanitised name of every entry where no other entry is called so, and else the public name."""
    publics = public_names(entries)
    names = {key: _local(key, public, naming) for key, public in publics.items()}
    while clashing := _clashing(names, publics):
        names.update((key, publics[key]) for key in clashing)
    return names


def _local(key: Key, public: str, naming: NamingPolicy) -> str:
    upstream, name = key
    if naming.passes_through(upstream):
        return name
    local = own_name(name)
    return local if len(local) <= naming.max_length else public


def _clashing(names: dict[Key, str], publics: dict[Key, str]) -> list[Key]:
    """Entries that share a name and can still give way; public names are unique, so that this comes to an end."""
    counts = Counter(names.values())
    return [key for key, name in names.items() if counts[name] > 1 and name != publics[key]]
