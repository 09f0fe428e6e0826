"""Which overrides hold for which tools: by the names in a configuration, for one agent and for several together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from proxy.agents.override import Contradiction, Overridden, Override
from proxy.catalog.naming import Key, sanitise
from proxy.catalog.snapshot import Catalog, Entry
from proxy.config.access import OverrideConfig
from proxy.model import Kind

AMBIGUOUS: Final = "it fits several tools, and a fixed value may be meant for one of them only"
CONTRADICTION: Final = "overrides fix its argument {} to different values"
HIDDEN: Final = "an override hides it"


@dataclass(frozen=True)
class Tailored:
    """What becomes of the tools that somebody sees."""

    overrides: Mapping[Key, Override] = field(default_factory=dict)
    barred: Mapping[Key, str] = field(default_factory=dict)
    """Tools that are not seen, and why."""
    unknown: tuple[str, ...] = ()
    """Names in the configuration that fit no tool, as far as is known now."""
    lines: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    """The names in the configuration that fit a tool."""

    @property
    def names(self) -> Mapping[Key, str]:
        """The names that are given to tools."""
        return {key: one.name for key, one in self.overrides.items() if one.name is not None}

    @property
    def faults(self) -> Mapping[Key, str]:
        """Tools that are not seen, although nobody asked for that, and why."""
        return {key: why for key, why in self.barred.items() if why != HIDDEN}

    def bound(self, entry: Entry) -> Overridden | None:
        """A tool with what is changed of it, if anything is."""
        override = self.overrides.get(entry.key)
        return None if override is None else Overridden(entry.raw, override)

    @classmethod
    def of(cls, configs: Mapping[str, OverrideConfig], seen: Sequence[Entry], catalog: Catalog) -> Self:
        """The overrides of one agent.

        A public name counts before ``server.tool``, and both before a tool's own name. What fits several tools holds
        for all of them; but if it fixes an argument, none of them is seen: the value may be secret, and a tool that
        comes later must neither get it nor take the restriction from another one.

        Args:
            configs: the overrides, by the names that the operator wrote.
            seen: the tools which the agent sees otherwise.
            catalog: for the names that tools had until lately.
        """
        if not configs:
            return cls()
        forms = _Forms(seen, catalog)
        found: defaultdict[Key, list[Override]] = defaultdict(list)
        lines: defaultdict[Key, list[str]] = defaultdict(list)
        barred: dict[Key, str] = {}
        unknown: list[str] = []
        for text, config in configs.items():
            keys, override = forms.find(text), Override.of(config)
            if not keys:
                unknown.append(text)
            for key in keys:
                found[key].append(override)
                lines[key].append(text)
                if len(keys) > 1 and override.fixed:
                    barred[key] = AMBIGUOUS
        overrides = _joined({key: (each, each[0]) for key, each in found.items()}, barred)
        return cls(overrides, barred, tuple(unknown), {key: tuple(each) for key, each in lines.items()})

    @classmethod
    def together(cls, parts: Sequence["Tailored"]) -> "Tailored":
        """What several agents change together, the one which decides about names first."""
        if len(parts) == 1:
            return parts[0]
        barred = {key: why for part in parts for key, why in part.barred.items()}
        keys = dict.fromkeys(key for part in parts for key in part.overrides)
        found = {
            key: ([part.overrides[key] for part in parts if key in part.overrides], parts[0].overrides.get(key))
            for key in keys
        }
        overrides = _joined(found, barred)
        unknown = dict.fromkeys(text for part in parts for text in part.unknown)
        lines = {key: dict.fromkeys(line for part in parts for line in part.lines.get(key, ())) for key in keys}
        return cls(overrides, barred, tuple(unknown), {key: tuple(each) for key, each in lines.items()})


def _joined(
    found: Mapping[Key, tuple[Sequence[Override], Override | None]], barred: dict[Key, str]
) -> dict[Key, Override]:
    overrides: dict[Key, Override] = {}
    for key, (each, first) in found.items():
        try:
            joined = overrides[key] = each[0] if len(each) == 1 and each[0] is first else Override.joined(each, first)
        except Contradiction as error:
            barred.setdefault(key, CONTRADICTION.format(f'"{error}"'))
            continue
        if joined.hide:
            barred.setdefault(key, HIDDEN)
    return overrides


class _Forms:
    """The names by which an operator may mean a tool."""

    def __init__(self, seen: Iterable[Entry], catalog: Catalog) -> None:
        self._public: dict[str, Key] = {}
        self._qualified: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        self._own: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        self._catalog = catalog
        for entry in seen:
            upstream, own = entry.key
            self._public[entry.route.public] = entry.key
            self._qualified[f"{upstream}.{own}"][entry.key] = None
            for form in (own, sanitise(own), entry.named.plain if entry.named else own):
                self._own[form][entry.key] = None
        self._seen = frozenset(self._public.values())

    def find(self, text: str) -> tuple[Key, ...]:
        """Every tool that a name may mean."""
        if text in self._public:
            return (self._public[text],)
        found = self._qualified.get(text) or self._own.get(text)
        if found:
            return tuple(found)
        former = self._catalog.aliased(Kind.TOOL, text)
        return (former.key,) if former is not None and former.key in self._seen else ()
