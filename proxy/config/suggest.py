"""Near misses: which known word somebody probably meant. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches

_CLOSE = 0.75


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, compared without case, ``-`` and ``_``; None when none is near."""
    plain = {_plain(each): each for each in known}
    found = get_close_matches(_plain(word), plain, n=1, cutoff=_CLOSE)
    return plain[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question for people, or an empty text when nothing is near."""
    found = nearest(word, known)
    return f"did you mean {found}?" if found else ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
