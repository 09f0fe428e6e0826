"""A tool as one agent sees it, when its configuration changes it. Pure: raw definitions and raw arguments in and out.

Nothing is re-modelled or re-validated: what an override does not name stays as the upstream sent it, object for object.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from proxy.agents.reshape import Changes, reshaped
from proxy.config.access import OverrideConfig
from proxy.errors import ArgumentProblem, InvalidArguments
from proxy.model import Json, Params


class Contradiction(Exception):
    """Two overrides fix one argument to different values."""


@dataclass(frozen=True)
class Override:
    """Everything that is changed of one tool. Arguments go by the upstream's names."""

    name: str | None = None
    title: str | None = None
    description: str | None = None
    hide: bool = False
    fixed: Mapping[str, Json] = field(default_factory=dict, repr=False)
    """The only value that an argument has. It may be secret."""
    hidden: frozenset[str] = frozenset()
    """Arguments that are not shown, those with a fixed value among them."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """What an argument is called instead."""
    defaults: Mapping[str, Json] = field(default_factory=dict)
    """The value of an argument when it is not given."""
    described: Mapping[str, str] = field(default_factory=dict)
    """How an argument is described instead."""

    @classmethod
    def of(cls, config: OverrideConfig) -> "Override":
        """What a configuration asks for."""
        arguments = config.arguments.items()
        hidden = frozenset(name for name, it in arguments if it.hide or it.value is not None)
        return cls(
            name=config.name,
            title=config.title,
            description=config.description,
            hide=config.hide,
            fixed={name: it.value.get_secret_value() for name, it in arguments if it.value is not None},
            hidden=hidden,
            renamed={name: it.name for name, it in arguments if it.name is not None and name not in hidden},
            defaults={name: it.default for name, it in arguments if it.default is not None},
            described={name: it.description for name, it in arguments if it.description is not None},
        )

    @classmethod
    def joined(cls, overrides: Sequence["Override"], first: "Override | None") -> "Override":
        """What several overrides change together: all that any of them fixes or hides; of texts, what is said first.

        Args:
            overrides: all of them.
            first: the one that decides about names.

        Raises:
            Contradiction: two of them fix one argument to different values.
        """
        fixed: dict[str, Json] = {}
        for name, value in (item for one in overrides for item in one.fixed.items()):
            if not same(fixed.setdefault(name, value), value):
                raise Contradiction(name)
        hidden = frozenset(name for one in overrides for name in one.hidden)
        return cls(
            name=first.name if first else None,
            title=next((one.title for one in overrides if one.title is not None), None),
            description=next((one.description for one in overrides if one.description is not None), None),
            hide=any(one.hide for one in overrides),
            fixed=fixed,
            hidden=hidden,
            renamed={own: name for own, name in (first.renamed if first else {}).items() if own not in hidden},
            defaults={
                own: value for own, value in _first(one.defaults for one in overrides).items() if own not in fixed
            },
            described=_first(one.described for one in overrides),
        )


@dataclass(frozen=True)
class Overridden:
    """One tool and what is changed of it."""

    raw: Params
    """Its definition, as the upstream sent it."""
    override: Override

    # -- towards the downstream ----------------------------------------------------------------------------------------

    def definition(self, listed: Params) -> Params:
        """What an agent gets for a definition that was named for it already."""
        override = self.override
        texts = {"title": override.title, "description": override.description}
        out: dict[str, Any] = {**listed, **{key: text for key, text in texts.items() if text is not None}}
        notes = listed.get("annotations")
        if override.title is not None and isinstance(notes, Mapping) and "title" in notes:
            out["annotations"] = {**notes, "title": override.title}
        if self.schema is not None:
            out["inputSchema"] = self.schema
        return out

    @cached_property
    def schema(self) -> Params | None:
        """The schema of the arguments as the agent gets it; None if the tool has none."""
        schema = self.raw.get("inputSchema")
        if not isinstance(schema, Mapping):
            return None
        return reshaped(schema, self._changes) if self._touches else schema

    @cached_property
    def _touches(self) -> bool:
        override = self.override
        return bool(override.hidden or override.renamed or override.defaults or override.described)

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The arguments that are called otherwise. A name that another argument has already is not given."""
        names = dict(self.override.renamed)
        taken = self._own | self.override.hidden
        while lost := [own for own, name in names.items() if name in taken - names.keys()]:
            for own in lost:
                del names[own]
        return names

    @cached_property
    def _changes(self) -> Changes:
        override = self.override
        return Changes(
            present=frozenset(override.fixed) | (override.hidden & override.defaults.keys()),
            hidden=override.hidden,
            renamed=self.names,
            defaults={own: value for own, value in override.defaults.items() if own not in override.hidden},
            described=override.described,
        )

    # -- towards the upstream ------------------------------------------------------------------------------------------

    def arguments(self, given: Json, shown: str) -> Json:
        """The upstream's arguments for those that a downstream gave.

        Args:
            given: what it gave, or None.
            shown: the name of the tool as the downstream wrote it, for errors.

        Raises:
            InvalidArguments: they are no object, or there is one that cannot be given.
        """
        if not self._touches:
            return given
        if given is not None and not isinstance(given, Mapping):
            raise _refused(shown, ArgumentProblem("", "an object", "something else"))
        problems = [self._problem(one) for one in given or () if self._cannot_be_given(one)]
        if problems:
            raise _refused(shown, *problems)
        own = {self._back.get(name, name): value for name, value in (given or {}).items()}
        final = {**self.override.defaults, **own, **self.override.fixed}
        return final if final or given is not None else None

    @cached_property
    def _back(self) -> Mapping[str, str]:
        return {name: own for own, name in self.names.items()}

    def _cannot_be_given(self, argument: str) -> bool:
        return argument not in self._back and (argument in self.override.hidden or argument in self.names)

    def _problem(self, argument: str) -> ArgumentProblem:
        name = self.names.get(argument)
        expected = "nothing, because it cannot be given here" if name is None else f"it under the name {name!r}"
        return ArgumentProblem(argument, expected, "a value")

    @property
    def summary(self) -> tuple[str, ...]:
        """What is changed, in words; fixed values are not told."""
        override = self.override
        texts = {"name": override.name, "title": override.title, "description": override.description}
        changed = [word for word, text in texts.items() if text is not None]
        hidden = sorted(override.hidden - override.fixed.keys())
        return (
            *((f"changes its {', '.join(changed)}",) if changed else ()),
            *(f"fixes the argument {name}" for name in sorted(override.fixed)),
            *(f"hides the argument {name}" for name in hidden),
            *(f"calls the argument {own} {name}" for own, name in self.names.items()),
            *(f"presets the argument {name}" for name in sorted(override.defaults.keys() - override.hidden)),
            *(f"describes the argument {name}" for name in sorted(override.described.keys() - override.hidden)),
        )

    # -- what does not fit it -------------------------------------------------------------------------------------

    @property
    def misfits(self) -> tuple[str, ...]:
        """What an operator should know: arguments that the tool does not have, names that cannot be given, and such."""
        override = self.override
        spoken = {*override.hidden, *override.renamed, *override.defaults, *override.described}
        required = self.raw.get("inputSchema", {}).get("required")
        needed = {one for one in required if isinstance(one, str)} if isinstance(required, list) else set()
        taken = {name for own, name in override.renamed.items() if own not in self.names}
        return (
            *(f'the tool has no argument "{one}"' for one in sorted(spoken - self._own)),
            *(f'another argument is called "{one}" already' for one in sorted(taken)),
            *(
                f'the argument "{one}" is required, hidden and without a value: no call can succeed'
                for one in sorted((needed & override.hidden) - override.fixed.keys() - override.defaults.keys())
            ),
        )

    @cached_property
    def _own(self) -> frozenset[str]:
        schema = self.raw.get("inputSchema")
        found = schema.get("properties") if isinstance(schema, Mapping) else None
        return frozenset(found) if isinstance(found, Mapping) else frozenset()


def same(one: Json, other: Json) -> bool:
    """Whether two values are equal as JSON is: true is not 1, also further inside."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _first(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for table in tables:
        out = {**table, **out}
    return out


def _refused(tool: str, *problems: ArgumentProblem) -> InvalidArguments:
    found = "; ".join(map(str, problems))
    hint = "Nothing was executed. Use the arguments of the listed schema, and list again if it may have changed."
    return InvalidArguments(f"The arguments do not fit the tool {tool!r}: {found}.", hint=hint, problems=problems)
