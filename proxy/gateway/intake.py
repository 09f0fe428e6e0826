"""Taking in a request for the express lane, and giving it back as if it had not been touched."""

from collections.abc import Iterable, Mapping
from typing import Final

from starlette.types import Message, Receive, Scope

from proxy.gateway.admission import METHOD, NAME, PARAM_PREFIX, VERSION

SESSION: Final = b"mcp-session-id"

_ONCE: Final = frozenset(
    {VERSION, METHOD, NAME, SESSION, b"host", b"origin", b"authorization", b"content-length", b"content-type"}
)
"""Headers that decide something: twice the same name could mean one thing to us and another to somebody else."""


def headers_of(scope: Scope) -> Mapping[bytes, bytes] | None:
    """The headers by name; None if the lane should not touch the request."""
    found = posted(scope)
    accept = b"" if found is None else found.get(b"accept", b"")
    return found if b"application/json" in accept and b"text/event-stream" in accept else None


def posted(scope: Scope) -> Mapping[bytes, bytes] | None:
    """The same of a request that is only told whether it was taken (legacy SSE): whatever it accepts."""
    headers = scope["headers"]
    found: dict[bytes, bytes] = dict(headers)
    if len(found) != len(headers) and _doubled(headers):
        return None
    for name in found:
        if name.startswith(PARAM_PREFIX):
            return None
    return found if found.get(b"content-type", b"").startswith(b"application/json") else None


def bounded(headers: Mapping[bytes, bytes], largest: int) -> bool:
    """Whether a body says how long it is, and is no longer than so many bytes."""
    length = headers.get(b"content-length", b"")
    return length.isdigit() and int(length) <= largest


def _doubled(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    seen = [name for name, _ in headers if name in _ONCE]
    return len(seen) != len(set(seen))


async def body_of(receive: Receive) -> bytes | None:
    """The whole body; None if the downstream went away."""
    first = await receive()
    if first["type"] != "http.request":
        return None
    if not first.get("more_body"):
        return bytes(first["body"])
    parts = [first["body"]]
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message["body"])
        if not message.get("more_body"):
            return b"".join(parts)


def again(body: bytes | None, receive: Receive) -> Receive:
    """The request's body once more, for the app behind the lane."""
    first: list[Message] = (
        [{"type": "http.disconnect"}] if body is None else [{"type": "http.request", "body": body, "more_body": False}]
    )

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
