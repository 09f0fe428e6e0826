"""The common manner of all parts of the configuration model."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from proxy.config.rules import Fault


class Model(BaseModel):
    """Frozen, nothing unknown, no input in error texts (it may be secret)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


M = TypeVar("M", bound=Model)


def validated(title: str, build: Callable[[], M], faults: Iterable[Fault]) -> M:
    """Build a part and check its rules, so that one error names everything that is wrong with both.

    Raises:
        ValidationError: what ``build`` found, then the faults at places where it found nothing.
    """
    details: list[InitErrorDetails] = []
    built = None
    try:
        built = build()
    except ValidationError as error:
        details += [_again(each) for each in error.errors(include_url=False, include_input=False)]
    known = {tuple(detail["loc"]) for detail in details}
    details += [_detail(fault) for fault in faults if fault.loc not in known]
    if details or built is None:
        raise ValidationError.from_exception_data(title, details, hide_input=True)
    return built


def _detail(fault: Fault) -> InitErrorDetails:
    error = PydanticCustomError(fault.kind, "{what}", {"what": fault.message, "hint": fault.hint})
    return InitErrorDetails(type=error, loc=fault.loc, input=None)


def _again(each: ErrorDetails) -> InitErrorDetails:
    context = {"what": each["msg"], **each.get("ctx", {})}
    return InitErrorDetails(type=PydanticCustomError(each["type"], "{what}", context), loc=each["loc"], input=None)
