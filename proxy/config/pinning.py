"""What a configuration says about pinned definitions."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator


class PinMode(StrEnum):
    """What becomes of definitions that nobody has agreed to (docs/guide/pinning.md)."""

    OFF = "off"
    """Nothing is pinned; what is pinned already is kept, but does not count."""
    WARN = "warn"
    """They are served and reported."""
    HOLD = "hold"
    """They are held back until somebody approves them."""


def _spelled(data: Any) -> Any:
    # YAML takes a bare ``off`` for a boolean; a section without anything in it is an empty one.
    return PinMode.OFF if data is False or data == {} else data


PinChoice = Annotated[PinMode, BeforeValidator(_spelled)]
"""The same, as it may stand in a file."""
