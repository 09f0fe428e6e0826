"""What a child writes for people: into our log, line by line, bounded in length and rate."""

import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from proxy.telemetry.ration import Ration
from proxy.wire.lines import Lines, Oversized

MAX_LINE: Final = 4096
"""The longest line of output that is logged whole, in bytes."""

_KEPT_LINES: Final = 20
_KEPT_CHARACTERS: Final = 400
_SHORTEST_SECRET: Final = 6
_CONTROLS: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)

log = structlog.get_logger(__name__)


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function which masks the given secrets in a text. Very short ones are no secrets, but would mask a lot."""
    known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)
    if not known:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, known)))
    return lambda text: pattern.sub("***", text)


class Tap:
    """Logs a child's output under an event name, and keeps its last lines."""

    def __init__(self, event: str, upstream: str, redact: Callable[[str], str], *, warn: bool = False) -> None:
        self._event = event
        self._redact = redact
        self._log = log.bind(upstream=upstream)
        self._write = self._log.warning if warn else self._log.info
        self._lines = Lines(MAX_LINE)
        self._ration = Ration(rate=20, burst=200)
        self._last: deque[str] = deque(maxlen=_KEPT_LINES)

    def feed(self, data: bytes) -> None:
        """Take a chunk of the stream."""
        for line in self._lines.feed(data):
            self.line(line)

    def close(self) -> None:
        """The stream is over."""
        if (line := self._lines.close()) is not None:
            self.line(line)
        if self._ration.refused:
            self._log.warning(self._event + ".suppressed", lines=self._ration.refused)
            self._ration.refused = 0

    def line(self, line: bytes | Oversized) -> None:
        """Take one line."""
        text = self._readable(line)
        if text.strip():
            self._last.append(text[:_KEPT_CHARACTERS])
            if (refused := self._ration.take()) is not None:
                self._write(self._event, line=text, **({"suppressed": refused} if refused else {}))

    def last_words(self, count: int) -> str:
        """The last lines that say something by themselves: indented ones are the stack in a traceback."""
        telling = [line for line in self._last if not line[0].isspace()] or list(self._last)
        return " | ".join(telling[-count:])

    def _readable(self, line: bytes | Oversized) -> str:
        if isinstance(line, Oversized):
            text = f"{line.head.decode(errors='replace')} … ({line.size} bytes)"
        else:
            text = line[:MAX_LINE].decode(errors="replace")
        return self._redact(_CONTROLS.sub("", text)).rstrip()
