r"""Server-sent events (WHATWG HTML, 9.2), incremental and without I/O.

Lines may end with ``\n``, ``\r\n`` or ``\r``, and chunks may be cut anywhere. One deviation from the browser's
algorithm: ``data`` stays bytes, since it is JSON which somebody decodes (or forwards) later.
"""

from dataclasses import dataclass
from typing import Final

from proxy.wire.frames import Frames
from proxy.wire.large import Frame
from proxy.wire.lines import Cut, Oversized

_BOM: Final = b"\xef\xbb\xbf"
_FIELD: Final = b"data: "
_MAX_RETRY_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``id`` is the last event id in effect; ``retry`` (milliseconds) is set if this event carries one.

    Large data are a frame that was looked at while it came in.
    """

    data: bytes | Frame
    event: str = "message"
    id: str = ""
    retry: int | None = None


class Parser:
    """Turns chunks of a stream into events. An event over ``limit`` bytes of data comes out as ``Oversized``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines = Frames(limit + len(_FIELD), _large_data)
        self._start: bytes | None = b""
        self._after_cr = False
        self._seen_id = ""
        self._event = ""
        self._event_retry: int | None = None
        self._data: list[bytes | Frame] = []
        self._size = 0
        self._cut: Cut | None = None
        self.last_id = ""
        """The id to resume after (``Last-Event-ID``); empty when the stream gave none."""
        self.retry: int | None = None
        """How long to wait before reconnecting, in milliseconds, if the stream said so."""

    def feed(self, chunk: bytes) -> list[Event | Oversized]:
        """Take a chunk; return the events that ended in it."""
        events = []
        for line in self._lines.feed(self._plain(chunk)):
            if line:
                self._take(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        return events

    def _plain(self, chunk: bytes) -> bytes:
        r"""Drop the byte order mark and turn every line end into ``\n``."""
        if self._start is not None:
            chunk = self._start + chunk
            if _BOM.startswith(chunk) and chunk != _BOM:
                self._start = chunk
                return b""
            chunk = chunk.removeprefix(_BOM)
            self._start = None
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _take(self, line: bytes | Frame | Oversized) -> None:
        if isinstance(line, Oversized):
            self._take_oversized(line)
        elif isinstance(line, Frame):
            self._take_data(line)
        elif line.startswith(b"data: "):
            self._take_data(line[6:])
        elif not line.startswith(b":"):
            name, _, value = line.partition(b":")
            self._take_field(name, value.removeprefix(b" "))

    def _take_field(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self._take_data(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._seen_id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self._event_retry = self.retry = int(value)

    def _take_data(self, value: bytes | Frame) -> None:
        self._size += len(value) + bool(self._data)
        if self._cut is None and self._size <= self._limit:
            self._data.append(value)
        else:
            self._passing_by().add(bytes(value))

    def _take_oversized(self, line: Oversized) -> None:
        if line.head.startswith(b"data:"):  # a comment or an unknown field says nothing, however long
            head = line.head.removeprefix(b"data:").removeprefix(b" ")
            self._passing_by().add_cut(Oversized(head, line.tail, line.size - len(line.head) + len(head)))

    def _passing_by(self) -> Cut:
        if self._cut is None:
            self._cut = Cut()
            self._cut.add(_joined(self._data))
        if self._cut.size:
            self._cut.add(b"\n")
        return self._cut

    def _dispatch(self) -> Event | Oversized | None:
        self.last_id = self._seen_id
        found: Event | Oversized | None = None
        if self._cut is not None:
            found = self._cut.done()
        elif self._data:
            data = self._data[0] if len(self._data) == 1 else _joined(self._data)
            found = Event(data, self._event or "message", self.last_id, self._event_retry)
        self._cut = self._event_retry = None
        self._event = ""
        self._size = 0
        self._data.clear()
        return found


def _large_data(start: bytes) -> Frame | None:
    """The frame that a long line is, if it is one of data."""
    return Frame(start[5:].removeprefix(b" ")) if start.startswith(b"data:") else None


def _joined(lines: list[bytes | Frame]) -> bytes:
    return b"\n".join([bytes(line) for line in lines])


def encode(data: bytes, *, event: str = "", id: str | None = None, retry: int | None = None) -> bytes:  # noqa: A002 - the field's name
    """Write one event. ``retry`` is in milliseconds.

    Raises:
        ValueError: the event's name or id has a line break (or the id a NUL), which the format cannot carry.
    """
    fields = []
    if event:
        fields.append(b"event: " + _one_line(event))
    if id is not None:
        fields.append(b"id: " + _one_line(id))
    if retry is not None:
        fields.append(b"retry: %d" % retry)
    if b"\n" not in data and b"\r" not in data:
        fields.append(b"data: ")
        return b"".join((b"\n".join(fields), data, b"\n\n"))  # copied once: it may be large
    plain = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    fields += [b"data: " + line for line in plain.split(b"\n")]
    return b"\n".join(fields) + b"\n\n"


def _one_line(text: str) -> bytes:
    if set(text) & set("\r\n\0"):
        raise ValueError("a field of a server-sent event must be a single line without NUL")
    return text.encode()
