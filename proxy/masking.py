"""Secrets that are known to this process, and how no text that leaves it carries one. Nothing of ours is imported.

Theory of operation. Whoever reads or receives a secret tells it here (``learn``). Logs, error messages, reports and
pages put their texts through ``masked``: one search for all secrets at once, and one for what looks like a credential
(a password in a URL, a bearer token). Known secrets belong to the process and not to one Manifold in it: its log does
too.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

MASK: Final = "•••"

SHORTEST: Final = 8
"""Characters that a value must have to be taken for a secret: a shorter one would mask half of every text."""

MOST: Final = 4096
"""Secrets that are remembered; beyond that, the oldest ones that were learned at run time go."""

_SOUNDS: Final = re.compile(
    r"token|secret|passw|api.?key|private.?key|authorization|credential|cookie|jwt|bearer", re.IGNORECASE
)
_PLAIN: Final = re.compile(
    r"[A-Za-z]+|[\d.,:_-]+|(?:[\w.+-]+/[\w.+*-]+(?:[,;] ?)?)+|(?:~|[A-Za-z]:)?(?:[/\\][^/\\]*)+|https?://[^@?\s]*"
)
"""Values that say something to people: words, numbers, media types, paths, addresses without a password."""

_SHAPES: Final = re.compile(
    r"(?P<a>\b(?:bearer|basic)\s+)(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}"
    r"|(?P<b>://[^\s/:@\"'\\]{0,128}:)[^\s/@\"'\\]{1,512}(?=@)"
    r"|(?P<c>[?&](?:\w*token|\w*secret|api_?key|key|password|sig|signature|code|assertion)=)[^&\s\"'\\#]+",
    re.IGNORECASE,
)
_HINTS: Final = ("://", "earer", "asic", "EARER", "?", "&")


class Secrets:
    """The secrets of a process, and the search for them. ``learn`` and ``masked`` of this module use one of these."""

    def __init__(self) -> None:
        self._known: dict[str, None] = {}
        self._pattern: re.Pattern[str] | None = None
        self._stale = False

    def learn(self, values: Iterable[str]) -> None:
        """Know further secrets from now on; those too short to be one are left out."""
        for value in values:
            for form in _forms(value.strip()):
                if len(form) >= SHORTEST and form not in self._known:
                    self._known[form] = None
                    self._stale = True
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]

    def known_masked(self, text: str) -> str:
        """A text without any known secret."""
        if self._stale:
            # The longest first: one secret may begin like another.
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            self._stale = False
        return text if self._pattern is None else self._pattern.sub(MASK, text)


_SECRETS: Final = Secrets()


def learn(values: Iterable[str]) -> None:
    """Tell this process of secrets that no log, error or page may show."""
    _SECRETS.learn(values)


def known_masked(text: str) -> str:
    """A text without any known secret: for texts of others, which otherwise stay as they are."""
    return _SECRETS.known_masked(text)


def encodable(text: str) -> str:
    """A text without the halves of characters that stand for bytes which are no UTF-8: nobody could send them on."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def masked(text: str) -> str:
    """A text without any known secret, and without what looks like one: credentials in URLs, bearer tokens."""
    text = _SECRETS.known_masked(text)
    return _SHAPES.sub(_shape, text) if any(hint in text for hint in _HINTS) else text


def masked_value(value: Any) -> Any:
    """A JSON value of which every text is without any known secret."""
    if isinstance(value, str):
        return known_masked(value)
    if isinstance(value, Mapping):
        return {key: masked_value(each) for key, each in value.items()}
    return [masked_value(each) for each in value] if isinstance(value, list | tuple) else value


def sounds_secret(name: str) -> bool:
    """Whether a value under this name is a secret, by the name."""
    return _SOUNDS.search(name) is not None


def telling(value: str) -> bool:
    """Whether a value is for people, and so no secret by itself: a word, a number, a path."""
    return _PLAIN.fullmatch(value) is not None


def _shape(match: re.Match[str]) -> str:
    return f"{match['a'] or match['b'] or match['c']}{MASK}"


def _forms(value: str) -> tuple[str, ...]:
    """A secret as it is, and as it stands in JSON and in a URL."""
    if value.isascii() and value.isalnum():
        return (value,)
    scheme, blank, credential = value.partition(" ")
    alone = (credential.strip(),) if blank and scheme.isalpha() else ()
    return (value, *alone, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(value, safe=""))
