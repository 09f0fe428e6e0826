"""The names under which one agent sees tools and prompts."""

from collections import Counter
from collections.abc import Iterable, Mapping

from proxy.catalog.naming import Key, NamingPolicy, own_name
from proxy.catalog.snapshot import Entry
from proxy.service.steps import Steps


def given_names(others: Mapping[Key, str], given: Mapping[Key, str], publics: Mapping[Key, str]) -> dict[Key, str]:
    """Names where some entries are given one: it goes before a local name, and a public one goes before both.

    Args:
        others: the names of the entries that are given none.
        given: the names that are given; entries that are not seen may be among them.
        publics: the public name of every entry.
    """
    names = {key: given[key] if key in given else others[key] for key in publics}
    while clashing := _giving_way(names, given, publics):
        names.update((key, publics[key]) for key in clashing)
    return names


def public_names(entries: Iterable[Entry]) -> dict[Key, str]:
    """The public name of every entry."""
    return {entry.key: entry.route.public for entry in entries}


def local_names(entries: Iterable[Entry], naming: NamingPolicy) -> Steps[dict[Key, str]]:
    """The own, sanitised name of every entry where no other entry is called so, and else the public name; in steps."""
    publics: dict[Key, str] = {}
    names: dict[Key, str] = {}
    for entry in entries:
        publics[entry.key] = public = entry.route.public
        names[entry.key] = _local(entry.key, public, naming)
        yield
    while clashing := _clashing(names, publics):
        names.update((key, publics[key]) for key in clashing)
    return names


def _local(key: Key, public: str, naming: NamingPolicy) -> str:
    upstream, name = key
    if naming.passes_through(upstream):
        return name
    local = own_name(name)
    return local if len(local) <= naming.max_length else public


def _giving_way(names: Mapping[Key, str], given: Mapping[Key, str], publics: Mapping[Key, str]) -> list[Key]:
    """Entries that share a name and can still give way: first those whose name was not given to them."""
    clashing = _clashing(names, publics)
    return [key for key in clashing if key not in given] or clashing


def _clashing(names: Mapping[Key, str], publics: Mapping[Key, str]) -> list[Key]:
    """Entries that share a name and can still give way; public names are unique, so that this comes to an end."""
    counts = Counter(names.values())
    return [key for key, name in names.items() if counts[name] > 1 and name != publics[key]]
