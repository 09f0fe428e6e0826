"""Keywords of JSON Schema that a schema could use to hold up the whole program, made harmless.

A schema comes from an upstream. Python's regular expressions backtrack, so that ``(a+)+$`` takes a time which doubles
with every letter; RE2 takes one step per letter, whatever the pattern. What RE2 cannot do (references back, looking
around) is not checked, and the report says so. References of a schema to itself are followed a bounded number of times.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

import re2
from jsonschema import validators
from jsonschema.exceptions import ValidationError

from proxy.errors import ArgumentProblem

MAX_STEPS: Final = 10_000
"""How many references are followed in one check."""
MAX_TEXT: Final = 100_000
"""The longest text that is matched against a pattern, in characters."""
MAX_MEMORY: Final = 1 << 20
"""What one pattern may take, in bytes."""

_UNICODE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_LITERAL: Final = ("const", "enum", "default", "examples")
_UNEVALUATED: Final = "unevaluatedProperties"


class TooIntricate(Exception):
    """A check took more steps than it may."""


class Guard:
    """The patterns of one schema, and what one check of it has used up.

    Args:
        schema: the schema.

    Raises:
        re.error: it has a pattern that is none.
    """

    def __init__(self, schema: Any) -> None:
        self._patterns = {text: _compiled(text) for text in set(_patterns(schema))}
        self.named = _named(schema)
        """Whether it has rules for names that fit a pattern."""
        self._steps = 0
        self._skipped: dict[ArgumentProblem, None] = {}

    @contextmanager
    def checking(self) -> Iterator[dict[ArgumentProblem, None]]:
        """The keywords in this block are this schema's. Gives what could not be checked, as it is found."""
        self._steps, self._skipped = 0, {}
        token = _GUARD.set(self)
        try:
            yield self._skipped
        finally:
            _GUARD.reset(token)

    def matches(self, pattern: str, text: str) -> bool | None:
        """Whether a text fits a pattern; None if that cannot be said."""
        compiled = self._patterns.get(pattern)
        if compiled is not None and len(text) <= MAX_TEXT:
            return compiled.search(text) is not None
        reason = "the pattern needs more than one look at each letter" if compiled is None else "the text is too long"
        self.skip(f"a text that matches {pattern}", reason)
        return None

    def skip(self, rule: str, reason: str) -> None:
        """Note a rule that could not be checked."""
        self._skipped[ArgumentProblem("", rule, f"no check of that: {reason}")] = None

    def step(self) -> None:
        """Follow a reference.

        Raises:
            TooIntricate: once too often.
        """
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooIntricate


_GUARD: ContextVar[Guard] = ContextVar("manifold_schema_guard")


@lru_cache(maxsize=16)
def guarded(kind: Any) -> Any:
    """A class of validators whose dangerous keywords ask the guard."""
    own = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional,
        _UNEVALUATED: _unevaluated(kind.VALIDATORS.get(_UNEVALUATED)),
        **{name: _counted(kind.VALIDATORS.get(name)) for name in ("$ref", "$dynamicRef", "$recursiveRef")},
    }
    extend: Any = validators.extend
    return extend(kind, {name: rule for name, rule in own.items() if name in kind.VALIDATORS})


def undeclared(schema: Any) -> Any:
    """A schema without the names of dialects in it: they would lead to validators without a guard."""
    if isinstance(schema, Mapping):
        return {
            key: one if key in _LITERAL else undeclared(one)
            for key, one in schema.items()
            if not (key == "$schema" and isinstance(one, str))
        }
    return [undeclared(one) for one in schema] if isinstance(schema, list) else schema


# -- keywords ----------------------------------------------------------------------------------------------------------


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and _GUARD.get().matches(pattern, instance) is False:
        yield ValidationError("does not match")


def _pattern_properties(validator: Any, rules: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    guard = _GUARD.get()
    for pattern, schema in rules.items():
        for name, value in instance.items():
            if guard.matches(pattern, name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def extra_names(instance: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """The members of an object that its schema neither names nor fits with a pattern, as far as can be said."""
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    guard = _GUARD.get()
    return [
        name
        for name in instance
        if name not in known and all(guard.matches(pattern, name) is False for pattern in patterns)
    ]


def _additional(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    names = extra_names(instance, schema)
    if validator.is_type(rule, "object"):
        for name in names:
            yield from validator.descend(instance[name], rule, path=name)
    elif not rule and names:
        yield ValidationError("unexpected members")


def _unevaluated(original: Any) -> Any:
    def check(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        guard = _GUARD.get()
        if guard.named:
            guard.skip(f"what {_UNEVALUATED} asks for", "names are ruled by patterns besides")
            return
        yield from original(validator, rule, instance, schema) or ()

    return check


def _counted(original: Any) -> Any:
    def check(validator: Any, reference: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _GUARD.get().step()
        yield from original(validator, reference, instance, schema) or ()

    return check


# -- patterns ----------------------------------------------------------------------------------------------------------


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(pattern := schema.get("pattern"), str):
            yield pattern
        if isinstance(rules := schema.get("patternProperties"), Mapping):
            yield from rules
        for key, one in schema.items():
            if key not in _LITERAL:
                yield from _patterns(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from _patterns(one)


def _named(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return "patternProperties" in schema or any(map(_named, schema.values()))
    return isinstance(schema, list) and any(map(_named, schema))


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors, options.never_capture, options.max_mem = False, True, MAX_MEMORY
    try:
        return re2.compile(_UNICODE.sub(r"\\x{\1}", pattern), options)
    except (re2.error, UnicodeError):
        re.compile(pattern)  # one that is no pattern for anybody makes the schema unusable
        return None
