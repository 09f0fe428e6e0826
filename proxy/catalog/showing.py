"""Showing a text that a server wrote to people: nothing in it stays invisible, and nothing moves their cursor."""

import re
from typing import Final

INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\U000e0000-\U000e01ef]|[\ufe00-\ufe0f]{2,}"
)
"""What nobody sees, or what turns the direction of a text; a single variation selector belongs to an emoji."""
CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Control characters, which may also begin a terminal's escape sequences; line ends and tabs are none here."""
_LINE_ENDS: Final = re.compile("[\r\u2028\u2029]")
"""What ends a line, or moves the cursor to its beginning, besides a line feed."""
_WHITE: Final = re.compile(r"[\n\t]")


def visible(text: str) -> str:
    """A text in which everything that cannot be seen is written as its code point; line feeds and tabs stay."""
    return _LINE_ENDS.sub(_escaped, CONTROL.sub(_escaped, INVISIBLE.sub(_escaped, text)))


def on_one_line(text: str) -> str:
    """The same, with line feeds and tabs written as code points too: nobody can add a line to a report."""
    return _WHITE.sub(_escaped, visible(text))


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"\\u{{{ord(character):x}}}" for character in match[0])
