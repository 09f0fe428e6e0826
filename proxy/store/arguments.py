"""Arguments in all the forms in which programs and models give them become one plain JSON object. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from proxy.errors import ArgumentProblem, InvalidArguments

_AS_OBJECT = "give a mapping, a JSON object in a string, or keywords"


def normalised(arguments: Any, keywords: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments as a JSON object of their own: nothing in it is shared with what was given.

    Args:
        arguments: a mapping, an object with ``model_dump`` (pydantic), a JSON object in a string or in bytes, or None.
        keywords: further arguments.

    Raises:
        InvalidArguments: they are none of these, cannot be written as JSON, or an argument is given twice.
    """
    given = _object(arguments)
    extra = dict(keywords or {})
    if twice := sorted(given.keys() & extra.keys()):
        problem = ArgumentProblem(twice[0], "one value", "two: in the arguments and as a keyword")
        raise InvalidArguments(str(problem), problems=[problem])
    try:
        plain: dict[str, Any] = msgspec.to_builtins(given | extra, str_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        problem = ArgumentProblem("", "values that JSON can hold", str(error) or "values nested too deeply")
        raise InvalidArguments(
            str(problem), hint="Convert them to text or numbers first.", problems=[problem]
        ) from None
    return plain


def _object(arguments: Any) -> dict[str, Any]:
    if arguments is None:
        return {}
    if isinstance(arguments, Mapping):
        return dict(arguments)
    if isinstance(arguments, str | bytes | bytearray):
        return _parsed(arguments)
    dump = getattr(arguments, "model_dump", None)
    dumped = dump(mode="json") if callable(dump) else None
    if isinstance(dumped, Mapping):
        return dict(dumped)
    raise _no_object(kind_of(arguments))


def _parsed(text: str | bytes | bytearray) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
        if isinstance(value, str):
            value = msgspec.json.decode(value)  # models now and then encode twice
    except (ValueError, RecursionError) as error:
        raise _no_object(f"text that is not JSON ({error})") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _no_object(kind_of(value))
    return value


def _no_object(got: str) -> InvalidArguments:
    problem = ArgumentProblem("", "a JSON object", got)
    return InvalidArguments(str(problem), hint=f"Please {_AS_OBJECT}.", problems=[problem])


_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "a text"),
    ((list, tuple), "a list"),
    (Mapping, "an object"),
    (type(None), "null"),
)


def kind_of(value: Any) -> str:
    """What kind of JSON value something is, in words; never the value itself."""
    return next((words for kind, words in _KINDS if isinstance(value, kind)), f"a {type(value).__name__}")
