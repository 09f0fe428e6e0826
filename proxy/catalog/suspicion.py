"""Looks for texts that are meant to mislead a model or whoever reviews them. A remark is a reason to look, not a proof.

Pure, and bounded by the size of what it looks at. What it cannot see: an attack in honest words, in another language,
or in what a tool answers.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from proxy.catalog.pinning import INSTRUCTIONS, Definition, Definitions, Part
from proxy.catalog.showing import CONTROL, INVISIBLE, on_one_line, visible
from proxy.catalog.wording import CARRIER_NAMES, CARRIERS, CARRIERS_NEED, ORDERS, ORDERS_NEED, SECRETS, SECRETS_NEED
from proxy.model import Json

LONG: Final = 5000
"""Characters after which a text is too long to be read by the people who should."""
LONG_INSTRUCTIONS: Final = 20_000
"""The same for a server's instructions."""
MOST: Final = 50
"""Remarks about one upstream; more tell nothing new."""

_EXCERPT: Final = 80
_LOOKED_AT: Final = 100_000
"""Characters of one text that are looked at."""
_SKIPPED: Final = frozenset({"_meta", "icons", "pattern", "$schema", "$id", "$ref", "mimeType"})
_PROSE: Final = frozenset({"description", "title", INSTRUCTIONS})
_NAMES: Final = frozenset({"name"})
_WORD: Final = re.compile(r"[A-Za-z][\w-]{5,}")
_DISTINCT: Final = re.compile(r"[_-]|[a-z][A-Z]")

_JOINERS: Final = frozenset("\u200c\u200d")
_FLAG: Final = re.compile("\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f")
"""Flags of regions are written with tag characters (Unicode, TR 51)."""
_FOREIGN_SCRIPTS: Final = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "FULLWIDTH", "MATHEMATICAL", "COPTIC", "LISU")


class What(StrEnum):
    """What is suspicious about a text."""

    HIDDEN = "hidden characters"
    CONTROL = "control characters"
    ALPHABETS = "a name in mixed alphabets"
    ORDERS = "instructions to the model"
    SECRETS = "asks for secrets"
    CARRIER = "a parameter that carries the conversation"
    FOREIGN = "names another server's tool"
    LONG = "very long"


_WORDINGS: Final = (
    (What.ORDERS, ORDERS_NEED, ORDERS),
    (What.SECRETS, SECRETS_NEED, SECRETS),
    (What.CARRIER, CARRIERS_NEED, CARRIERS),
)


@dataclass(frozen=True, slots=True)
class Remark:
    """One reason to look."""

    part: Part
    place: str
    """Where in the definition, as in ``inputSchema.properties.path.description``."""
    what: What
    excerpt: str
    """The text around it, with everything visible."""

    def __str__(self) -> str:
        return f"{on_one_line(str(self.part))}: {self.what.value} in {on_one_line(self.place)}: {self.excerpt}"


def suspicions(offered: Definitions, others: Mapping[str, Iterable[str]] | None = None) -> tuple[Remark, ...]:
    """What is suspicious in definitions of one upstream, at most ``MOST`` remarks.

    Args:
        offered: the definitions.
        others: the names of the tools of other upstreams.
    """
    own = {part.name for part in offered}
    foreign = {
        name: upstream
        for upstream, names in (others or {}).items()
        for name in names
        if name not in own and _WORD.fullmatch(name) and _DISTINCT.search(name)
    }
    found: dict[tuple[Part, str, What], Remark] = {}
    for part, definition in offered.items():
        for place, text in _texts(part, definition):
            for what, excerpt in _looked_at(place, text, part, foreign):
                found.setdefault((part, place, what), Remark(part, place, what, excerpt))
                if len(found) >= MOST:
                    return tuple(found.values())
    return tuple(found.values())


def _texts(part: Part, definition: Definition) -> Iterator[tuple[str, str]]:
    """Every text in a definition and where it stands; names of parameters too, as the place ``…{}``."""
    waiting: list[tuple[str, Json]] = [(INSTRUCTIONS if part.kind == INSTRUCTIONS else "", definition.content)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, str):
            yield place, value[:_LOOKED_AT]
        elif isinstance(value, Mapping):
            inner = [(key, each) for key, each in value.items() if key not in _SKIPPED or _last(place) == "properties"]
            yield from ((f"{place}{{}}", key) for key, _ in inner)
            waiting += reversed([(f"{place}.{key}" if place else key, each) for key, each in inner])
        elif isinstance(value, list):
            waiting += reversed([(f"{place}[{index}]", each) for index, each in enumerate(value)])


def _last(place: str) -> str:
    return place.rpartition(".")[2]


def _looked_at(place: str, text: str, part: Part, foreign: Mapping[str, str]) -> Iterator[tuple[What, str]]:
    yield from _characters(text)
    key = place.endswith("{}")
    if key or _last(place) in _NAMES:
        yield from _names(place, text)
    if key:
        return
    bare = text if text.isascii() else unicodedata.normalize("NFKC", INVISIBLE.sub("", text))
    plain = " ".join(bare.split())
    small = plain.lower()
    for what, need, pattern in _WORDINGS:
        if not any(word in small for word in need) or (what is What.CARRIER and "properties." not in place):
            continue
        if match := pattern.search(plain):
            yield what, _around(plain, *match.span())
    if _last(place) in _PROSE:
        yield from _foreign_names(plain, foreign)
    if len(text) > (LONG_INSTRUCTIONS if part.kind == INSTRUCTIONS else LONG):
        yield What.LONG, f"{len(text)} characters"


def _characters(text: str) -> Iterator[tuple[What, str]]:
    if text.isascii():
        hidden = None
    else:
        bare = _FLAG.sub("", text)
        hidden = next((match for match in INVISIBLE.finditer(bare) if not _joins(bare, match)), None)
        text = bare
    if hidden:
        yield What.HIDDEN, _around(text, *hidden.span())
    if control := CONTROL.search(text):
        yield What.CONTROL, _around(text, *control.span())


def _joins(text: str, match: re.Match[str]) -> bool:
    """Whether it is a joiner between letters of a script that needs it, or between the parts of an emoji."""
    if match[0] not in _JOINERS:
        return False
    around = text[max(match.start() - 1, 0) : match.start()] + text[match.end() : match.end() + 1]
    return len(around) > 1 and not any(one.isascii() or INVISIBLE.match(one) for one in around)


def _names(place: str, name: str) -> Iterator[tuple[What, str]]:
    if not name.isascii() and any("a" <= one.lower() <= "z" for one in name):
        strange = [one for one in name if unicodedata.name(one, "").startswith(_FOREIGN_SCRIPTS)]
        if strange:
            yield What.ALPHABETS, f"{on_one_line(name[:_EXCERPT])} ({unicodedata.name(strange[0])})"
    if place.endswith("properties{}") and re.sub(r"[\W_]", "", name).lower() in CARRIER_NAMES:
        yield What.CARRIER, on_one_line(name[:_EXCERPT])


def _foreign_names(text: str, foreign: Mapping[str, str]) -> Iterator[tuple[What, str]]:
    if not foreign:
        return
    for match in _WORD.finditer(text):
        if upstream := foreign.get(match[0]):
            yield What.FOREIGN, f"{match[0]} ({upstream}): {_around(text, *match.span())}"
            return


def _around(text: str, start: int, end: int) -> str:
    """An excerpt, cut at words where that is possible."""
    room = max((_EXCERPT - (end - start)) // 2, 0)
    first, last = max(start - room, 0), min(end + room, max(start + _EXCERPT, end if end - start < _EXCERPT else 0))
    shown = " ".join(visible(text[first:last]).split())
    return f"{'…' if first else ''}{shown}{'…' if last < len(text) else ''}"
