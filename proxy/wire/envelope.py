"""The JSON-RPC 2.0 envelope on bytes: params and results stay undecoded.

Strict about what a message is (``jsonrpc``, exactly one of request, notification, response, error), tolerant about
what cannot mislead: unknown members, ``error: null`` beside a result, ``id: null`` on a notification.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.traces import traceless
from proxy.wire.lines import Oversized
from proxy.wire.repair import repaired

Id = int | str
"""The id of a request, as MCP allows it."""

Echo = int | str | float | None
"""The id of an answer: whatever the request had."""

_NULL: Final = b"null"
_INTERNAL_ERROR: Final = -32603


class Kind(StrEnum):
    """What a message is."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"
    ERROR = "error"


class Malformed(ValueError):
    """Bytes that are not a JSON-RPC message. ``id`` is the request they seem to answer, if that can be told."""

    def __init__(self, reason: str, answers: Id | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.id = answers


class Unwritable(ValueError):
    """A value that JSON cannot carry."""


class Fault(Struct, frozen=True):
    """The ``error`` member of a message."""

    code: int
    message: str
    data: Any = None


class Message(Struct, frozen=True):
    """One message, envelope only. Absent members are ``UNSET`` or empty bytes."""

    jsonrpc: Literal["2.0"]
    id: Echo | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw = Raw()
    result: Raw = Raw()
    error: Raw = Raw()

    @property
    def kind(self) -> Kind:
        """What it is; ``decode`` has made sure that it is one of them."""
        if self.method is not UNSET:
            return Kind.NOTIFICATION if self.id is UNSET or self.id is None else Kind.REQUEST
        return Kind.ERROR if self._failed else Kind.RESPONSE

    @property
    def answers(self) -> Id | None:
        """The id as an answer bears it; None for an error that answers no request in particular."""
        return integral(self.id)

    @property
    def fault(self) -> Fault:
        """The error of an error message. Wrong types inside become an internal error with what can be read."""
        error = msgspec.json.decode(self.error)
        if not isinstance(error, dict):
            return Fault(_INTERNAL_ERROR, str(error))
        code, text = error.get("code"), error.get("message", "")
        number = code if isinstance(code, int) and not isinstance(code, bool) else _INTERNAL_ERROR
        return Fault(number, text if isinstance(text, str) else str(text), error.get("data"))

    def decoded_params(self) -> dict[str, Any] | None:
        """The params of a request or notification, decoded anew for every call; None when it has none.

        Raises:
            Malformed: they are not an object (MCP has no positional params), or hold a number that is too large.
        """
        try:
            return _decode_params(self.params) if self.params else None
        except msgspec.MsgspecError as error:
            raise Malformed(f"params: {error}") from error

    @property
    def _failed(self) -> bool:
        return bool(self.error) and bytes(self.error) != _NULL


class _Head(Struct):
    """What can be told of a message that is wrong elsewhere."""

    id: Any = None
    method: str | None = None


class _Request(Struct, tag_field="jsonrpc", tag="2.0"):
    id: Id
    method: str
    params: Any = UNSET


class _Notification(Struct, tag_field="jsonrpc", tag="2.0"):
    method: str
    params: Any = UNSET


class _Response(Struct, tag_field="jsonrpc", tag="2.0"):
    id: Echo
    result: Any


class _FaultOut(Struct, omit_defaults=True):
    code: int
    message: str
    data: Any = None


class _Error(Struct, tag_field="jsonrpc", tag="2.0"):
    id: Echo
    error: _FaultOut


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


_decode = msgspec.json.Decoder(Message).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_params = msgspec.json.Decoder(dict[str, Any] | None).decode
_split = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder(enc_hook=_as_json).encode


def integral(value: object) -> Id | None:
    """An id as a peer echoes it: whole floats count as integers; anything but an integer or text is None."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def decode(data: bytes | Raw) -> Message:
    """Decode one message.

    Raises:
        Malformed: it is not one.
    """
    try:
        if isinstance(data, bytes) and not data.isascii():
            str(data, "utf-8")  # msgspec does not look into what it leaves undecoded
        message = _decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error), _answered_by(data)) from error
    has_outcome = bool(message.result) or message._failed  # noqa: SLF001 - its own module
    if (message.method is UNSET) is not has_outcome:
        reason = "it has a method and an outcome" if has_outcome else "it has neither method nor result nor error"
        raise Malformed(reason, None if message.method is not UNSET else message.answers)
    return message


def read(frame: bytes) -> list[Message | Malformed]:
    """The messages of one frame: one, or the members of a batch (2025-03-26). What is none is told in its place.

    A frame that is almost JSON is repaired rather than lost (``repair``).
    """
    try:
        return [decode(frame)]
    except Malformed as error:
        return _read_unusual(frame, error)


def _read_unusual(frame: bytes, error: Malformed) -> list[Message | Malformed]:
    cause = error.__cause__
    if isinstance(cause, UnicodeDecodeError | msgspec.DecodeError) and not isinstance(cause, msgspec.ValidationError):
        better = repaired(frame)
        if better is None:
            return [traceless(error)]
        frame = better
    members: list[bytes] | list[Raw] = [frame]
    if frame.lstrip()[:1] == b"[":
        try:
            members = _split(frame)
        except (msgspec.MsgspecError, RecursionError) as failure:
            return [Malformed(str(failure))]
    return [_decoded_or_told(member) for member in members]


def _decoded_or_told(data: bytes | Raw) -> Message | Malformed:
    try:
        return decode(data)
    except Malformed as error:
        return traceless(error)


_JSONRPC: Final = rb'"jsonrpc"\s*:\s*"2\.0"\s*'
_ID: Final = rb'"id"\s*:\s*(-?\d+|"[^"\\]*")\s*'
_OUTCOME: Final = rb'"(?:result|error)"\s*:'
_HEAD_WITH_ID: Final = re.compile(
    rb"\s*\{\s*(?:" + _JSONRPC + rb",\s*)?" + _ID + rb",\s*(?:" + _JSONRPC + rb",\s*)?" + _OUTCOME
)
_HEAD_WITH_OUTCOME: Final = re.compile(rb"\s*\{\s*(?:" + _JSONRPC + rb",\s*)?" + _OUTCOME)
_TAIL_WITH_ID: Final = re.compile(rb",\s*" + _ID + rb"(?:,\s*" + _JSONRPC + rb")?\}\s*$")


def answered(frame: Oversized) -> Id | None:
    """Which request an oversized frame answers, told by its ends; None when it is no answer or that cannot be told."""
    match = _HEAD_WITH_ID.match(frame.head)
    if match is None and _HEAD_WITH_OUTCOME.match(frame.head):
        match = _TAIL_WITH_ID.search(frame.tail)
    if match is None:
        return None
    return id_in(match[1])


def id_in(text: bytes) -> Id | None:
    """An id as it stands in a frame that may be garbled; None if it is none."""
    try:
        found: Id = msgspec.json.decode(text, type=int | str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found


def _answered_by(data: bytes | Raw) -> Id | None:
    try:
        head = _decode_head(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        view = bytes(data)
        return answered(Oversized(view[:512], view[-512:], len(view)))
    return None if head.method is not None else integral(head.id)


def request(number: Id, method: str, params: Any = None) -> bytes:
    """Write a request. ``params`` is a mapping, or JSON bytes wrapped in ``msgspec.Raw``, or None.

    Raises:
        Unwritable: params hold something that JSON cannot carry.
    """
    return _written(_Request(number, method, UNSET if params is None else params))


def notification(method: str, params: Any = None) -> bytes:
    """Write a notification; ``params`` as for ``request``.

    Raises:
        Unwritable: params hold something that JSON cannot carry.
    """
    return _written(_Notification(method, UNSET if params is None else params))


def response(number: Echo, result: Any) -> bytes:
    """Write the answer to a request; ``result`` is any JSON value, or JSON bytes wrapped in ``msgspec.Raw``.

    Raises:
        Unwritable: the result holds something that JSON cannot carry.
    """
    return _written(_Response(number, result))


def answer(number: Echo, result: bytes) -> bytes:
    """The same for a result that is JSON bytes."""
    if type(number) is int:
        return b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (number, result)  # four times as fast as the encoder
    return response(number, Raw(result))


def error(number: Echo, code: int, message: str, data: Any = None) -> bytes:
    """Write an error. ``data`` None is left out.

    Raises:
        Unwritable: ``data`` holds something that JSON cannot carry.
    """
    return _written(_Error(number, _FaultOut(code, message, data)))


def _written(message: Struct) -> bytes:
    try:
        return _encode(message)
    except (TypeError, ValueError, RecursionError, OverflowError) as failure:
        raise Unwritable(f"cannot be written as JSON: {failure}") from failure
