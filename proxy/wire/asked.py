"""A plain request, decoded in one pass with its params: what nearly all are that come in.

Anything out of the ordinary is left to ``envelope``, which says what it is, or what is wrong with it.
"""

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from proxy.wire.envelope import Echo, Message


class Asked(Struct, frozen=True):
    """A request: what is asked, under which id, with which params."""

    jsonrpc: Literal["2.0"]
    id: Echo
    method: str
    params: dict[str, Any]
    result: Raw = Raw()
    error: Raw = Raw()

    @classmethod
    def of(cls, message: Message) -> "Asked":
        """The same of a message that is a request.

        Raises:
            Malformed: its params are not an object.
        """
        number = None if message.id is msgspec.UNSET else message.id
        return cls("2.0", number, str(message.method), message.decoded_params() or {})


_decode = msgspec.json.Decoder(Asked).decode


def plain(data: bytes) -> Asked | None:
    """The request that a message is, if it is a plain one."""
    try:
        if not data.isascii():
            str(data, "utf-8")  # msgspec does not look into members that it skips
        found = _decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return None if found.id is None or found.result or found.error else found
