"""HTTP/1.1 responses (RFC 9112), incremental and without I/O: what one connection brings, a response at a time."""

from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

HEAD_LIMIT: Final = 1 << 16
"""Bytes of header fields, trailers included, that a response may have; the same for bytes that lead nowhere."""

_FINAL: Final = 200
_SWITCHING: Final = 101


class Garbled(ValueError):
    """Bytes that are no HTTP response, or one that we cannot take."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Responses:
    """Takes in the bytes of one connection. ``begin`` before each request; the attributes tell how far its answer is.

    Interim responses (1xx) are passed over. Where the bytes are cut makes no difference.
    """

    __slots__ = (
        "_aimless",
        "_moved",
        "_parser",
        "_size",
        "_why",
        "fields",
        "over",
        "parts",
        "reusable",
        "started",
        "status",
        "waiting",
    )

    status: int
    """The status of the response; 0 until its head is complete."""
    fields: dict[bytes, bytes]
    """Its header fields by lower-case name; values of a repeated one are joined by commas (RFC 9110, 5.3)."""
    parts: list[bytes]
    """What has come of its body and was not taken yet."""
    waiting: int
    """Bytes in ``parts``."""
    started: bool
    """Whether anything has come since ``begin``."""
    over: bool
    """Whether the response is complete."""
    reusable: bool
    """Whether the connection may bear another exchange: the response is complete and nothing came behind it."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        # What a client must be able to bear; it cannot be deceived, for it never has two requests on a connection.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.begin()

    def begin(self) -> None:
        """A request goes out: its response is the next."""
        self.status = self.waiting = self._size = self._aimless = 0
        self.fields = {}
        self.parts = []
        self.started = self.over = self.reusable = False
        self._why = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            Garbled: they are no response; the connection is of no more use.
        """
        self.started = True
        self._moved = False
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.reusable = False
            if not self.over:
                raise Garbled(self._why or _reason(error)) from None
        if not self._moved:
            self._aimless += len(data)
            if self._aimless > HEAD_LIMIT:
                self.reusable = False
                raise Garbled("its head, or something between the parts of its body, has no end")

    def end(self) -> bool:
        """The peer sends no more. Whether the response is complete, maybe by that very end (RFC 9112, 6.3)."""
        self.reusable = False
        coded = self.fields.get(b"transfer-encoding", b"")
        if self.status and b"content-length" not in self.fields and not coded.lower().endswith(b"chunked"):
            self.over = True
        return self.over

    def take(self) -> bytes:
        """What has come of the body since the last time."""
        parts = self.parts
        if not parts:
            return b""
        self.parts = []
        self.waiting = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def length(self) -> int | None:
        """The length of the body, in bytes, if the head told it."""
        value = self.fields.get(b"content-length")
        return int(value) if value is not None and value.isdigit() else None

    def close(self) -> None:
        """Let go of the parser, which holds on to us."""
        del self._parser

    # -- what the parser calls -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a response."""
        if self.over:
            self._refuse("something came behind it")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or one of the trailers, which say nothing to us."""
        self._size += len(name) + len(value)
        if self._size > HEAD_LIMIT:
            self._refuse(f"its head has more than {HEAD_LIMIT} bytes")
        if self.status == 0:
            name = name.lower()
            known = self.fields.get(name)
            self.fields[name] = value.strip() if known is None else known + b", " + value.strip()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._moved = True
        status = self._parser.get_status_code()
        if status >= _FINAL:
            self.status = status
        elif status == _SWITCHING:
            self._refuse("it switches to another protocol")
        else:
            self.fields = {}

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._moved = True
        self.parts.append(part)
        self.waiting += len(part)

    def on_message_complete(self) -> None:
        """The response is complete, unless it was an interim one."""
        self._moved = True
        if self.status:
            self.over = True
            self.reusable = self._parser.should_keep_alive()

    def _refuse(self, why: str) -> None:
        self._why = why
        raise Garbled(why)


def _reason(error: Exception) -> str:
    return str(error.args[0]) if error.args and isinstance(error.args[0], str) else type(error).__name__
