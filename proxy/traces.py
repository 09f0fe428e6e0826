"""Errors that are told, and not raised any further, do without the frames they passed through."""

from typing import Final, TypeVar

E = TypeVar("E", bound=BaseException)

_DEEP: Final = 16
"""How many errors behind one another are looked at."""


def traceless(error: E) -> E:
    """Let go of the frames that an error and its causes have passed through. Returns it.

    A frame often leads back to the error, by the request that keeps it as its outcome, say. Such a circle is freed by
    the garbage collector only, and what that costs is paid by the calls that are under way meanwhile.
    """
    each: BaseException | None = error
    for _ in range(_DEEP):
        if each is None:
            break
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error
