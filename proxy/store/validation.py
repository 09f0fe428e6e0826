"""Arguments against a tool's schema: which argument, what was expected, what kind of value came instead.

A schema comes from an upstream and is not trusted: references to other documents are never fetched, and one that cannot
be used is reported as such. Nothing in it can make a check take long (``patterns``).
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from proxy.config.suggest import did_you_mean
from proxy.errors import ArgumentProblem
from proxy.store.arguments import kind_of
from proxy.store.caching import Tally
from proxy.store.patterns import MAX_STEPS, Guard, TooIntricate, extra_names, guarded, undeclared

MAX_PROBLEMS: Final = 20
"""How many problems a report names at most."""
MAX_SCHEMAS: Final = 4096
"""How many schemas are kept ready."""

_SHOWN: Final = 10
_TYPES: Final = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_LIMITS: Final = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "a text of at least {} characters",
    "maxLength": "a text of at most {} characters",
    "minItems": "a list of at least {} items",
    "maxItems": "a list of at most {} items",
    "minProperties": "an object with at least {} members",
    "maxProperties": "an object with at most {} members",
    "pattern": "a text that matches {}",
    "format": "a text in the format {}",
}


class Uncheckable(Exception):
    """A schema cannot be used: it is no schema, or refers to documents elsewhere."""


class _Validator(Protocol):
    def iter_errors(self, instance: Any) -> Iterator[ValidationError]: ...


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    problems: tuple[ArgumentProblem, ...] = ()
    """What is wrong with the arguments."""
    skipped: tuple[ArgumentProblem, ...] = ()
    """Rules of the schema that could not be checked."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    validator: _Validator
    guard: Guard


class Validators:
    """Checks arguments; remembers prepared schemas, by the identity of the schema, which a catalog never changes."""

    def __init__(self) -> None:
        self._ready: OrderedDict[int, tuple[Any, _Prepared | Uncheckable]] = OrderedDict()
        self.tally = Tally()

    def __len__(self) -> int:
        return len(self._ready)

    def clear(self) -> None:
        """Forget all prepared schemas."""
        self._ready.clear()

    def check(self, schema: Any, arguments: Mapping[str, Any]) -> Report:
        """What is wrong with arguments, and which rules could not be checked.

        Raises:
            Uncheckable: the schema cannot be used.
        """
        prepared = self._validator(schema)
        if isinstance(prepared, Uncheckable):
            raise prepared
        with prepared.guard.checking() as skipped:
            problems = self._problems(prepared.validator, arguments)
        return Report(problems, tuple(skipped)[:MAX_PROBLEMS])

    @staticmethod
    def _problems(validator: _Validator, arguments: Mapping[str, Any]) -> tuple[ArgumentProblem, ...]:
        try:
            found = [problem for error in validator.iter_errors(arguments) for problem in _problems(error)]
        except Unresolvable as error:  # also jsonschema's own, which is made of it
            raise Uncheckable(f"it refers to {getattr(error, 'ref', 'something')!r}, which is not in it") from None
        except TooIntricate:
            raise Uncheckable(f"a check follows more than {MAX_STEPS} references in it") from None
        except (RecursionError, re.error, TypeError, ValueError) as error:
            raise Uncheckable(f"{type(error).__name__} while checking") from None
        return tuple(dict.fromkeys(found))[:MAX_PROBLEMS]

    def _validator(self, schema: Any) -> _Prepared | Uncheckable:
        known = self._ready.get(id(schema))
        if known is not None and known[0] is schema:
            self.tally.hits += 1
            self._ready.move_to_end(id(schema))
            return known[1]
        self.tally.misses += 1
        made = _prepared(schema)
        self._ready[id(schema)] = (schema, made)
        if len(self._ready) > MAX_SCHEMAS:
            self._ready.popitem(last=False)
        return made


def _prepared(schema: Any) -> _Prepared | Uncheckable:
    if not isinstance(schema, Mapping):
        return Uncheckable("it is not an object")
    kind: Any = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(dict(schema), format_checker=_NO_FORMATS)
        guard = Guard(schema)
        own = undeclared(schema)
    except SchemaError as error:
        return Uncheckable(f"it is no valid JSON Schema: at {error.json_path}")
    except re.error as error:
        return Uncheckable(f"it has a pattern that is none: {error.msg}")
    except (RecursionError, OverflowError) as error:
        return Uncheckable(type(error).__name__)
    nothing_elsewhere: Registry[Any] = EMPTY_REGISTRY  # without a ``retrieve``: nothing is ever fetched
    return _Prepared(guarded(kind)(own, registry=nothing_elsewhere, format_checker=_FORMATS), guard)


_NO_FORMATS: Final = FormatChecker(formats=())
_FORMATS: Final = FormatChecker()


@_FORMATS.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    if isinstance(value, str):
        found = datetime.fromisoformat(value)
        return "T" in value.upper() and found.tzinfo is not None
    return True


@_FORMATS.checks("date", raises=ValueError)
def _is_date(value: object) -> bool:
    if isinstance(value, str):
        date.fromisoformat(value)
        return re.fullmatch(r"\d{4}-\d\d-\d\d", value) is not None
    return True


@_FORMATS.checks("uri", raises=ValueError)
def _is_uri(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return bool(urlsplit(value).scheme) and not re.search(r"[\s<>\"{}|\\^`]", value)


# -- in words ----------------------------------------------------------------------------------------------------------


def _problems(error: ValidationError) -> Iterator[ArgumentProblem]:
    where = _path(error.absolute_path)
    if error.validator == "required":
        yield from _missing(error, where)
    elif error.validator == "additionalProperties" and error.validator_value is False:
        yield from _unexpected(error, where)
    else:
        yield ArgumentProblem(where, _expected(error), kind_of(error.instance))


def _missing(error: ValidationError, where: str) -> Iterator[ArgumentProblem]:
    known = _members(error)
    wanted: Any = error.validator_value
    given: Any = error.instance
    for name in wanted:
        if name not in given:
            yield ArgumentProblem(_below(where, name), _described(known.get(name)), "nothing: it is required")


def _unexpected(error: ValidationError, where: str) -> Iterator[ArgumentProblem]:
    known = _members(error)
    schema: Any = error.schema
    given: Any = error.instance
    for name in extra_names(given, schema):
        value = given[name]
        near = did_you_mean(name, known)
        choice = near or (f"known: {', '.join(list(known)[:_SHOWN])}" if known else "it takes none")
        yield ArgumentProblem(_below(where, name), f"no such argument ({choice})", kind_of(value))


def _members(error: ValidationError) -> Mapping[str, Any]:
    members = error.schema.get("properties") if isinstance(error.schema, Mapping) else None
    return members if isinstance(members, Mapping) else {}


def _expected(error: ValidationError) -> str:
    rule = str(error.validator)
    value: Any = error.validator_value
    if rule == "type":
        return _types(value)
    if rule in ("enum", "const"):
        return _one_of(value if rule == "enum" else [value])
    if rule in _LIMITS:
        return _LIMITS[rule].format(value)
    if rule in ("anyOf", "oneOf") and isinstance(value, list):
        return " or ".join(dict.fromkeys(_described(form) for form in value))
    if rule == "uniqueItems":
        return "a list without repetitions"
    return f"what {rule} of the tool's schema asks for"


def _described(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "a value"
    if isinstance(choices := schema.get("enum"), list):
        return _one_of(choices)
    return _types(schema["type"]) if "type" in schema else "a value"


def _types(value: Any) -> str:
    names: Iterable[Any] = value if isinstance(value, list) else [value]
    return " or ".join(_TYPES.get(str(name), str(name)) for name in names)


def _one_of(choices: list[Any]) -> str:
    shown = ", ".join(repr(choice) for choice in choices[:_SHOWN])
    more = f" and {len(choices) - _SHOWN} more" if len(choices) > _SHOWN else ""
    return f"one of {shown}{more}" if len(choices) > 1 else shown


def _path(parts: Iterable[str | int]) -> str:
    path = ""
    for part in parts:
        path = f"{path}[{part}]" if isinstance(part, int) else _below(path, part)
    return path


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
