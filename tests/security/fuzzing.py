"""What fuzzing is made of: bytes and messages that are nearly right. ``MANIFOLD_FUZZ=n`` makes n times as many."""

import json
import os
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.security.rig import ACCEPT, EVE, HELLO, LIST, META, MODERN, call, head_of, modern_request, post_of
from tests.support.manifold import Json

TIMES: Final = int(os.environ.get("MANIFOLD_FUZZ", "1"))
ROUND: Final = 12
"""Pieces that are tried at once."""


def effort(examples: int) -> settings:
    """Settings for so many rounds; the same ones each time, unless more is asked for."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


SESSION: Final = "s" * 32
"""Stands for the id of an open session."""
_SESSION_LINE: Final = f"Mcp-Session-Id: {SESSION}"

METHODS: Final = (
    "initialize",
    "ping",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "resources/templates/list",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
    "server/discover",
    "subscriptions/listen",
    "tasks/get",
    "tasks/update",
    "tasks/cancel",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
    "rpc.discover",
    "",
)
MEMBERS: Final = (
    *(
        "name",
        "arguments",
        "uri",
        "cursor",
        "_meta",
        "progressToken",
        "requestId",
        "taskId",
        "ref",
        "argument",
        "level",
    ),
    *(
        "protocolVersion",
        "capabilities",
        "clientInfo",
        "requestState",
        "inputResponses",
        "notifications",
        "type",
        "value",
    ),
    *(f"{META}protocolVersion", f"{META}clientCapabilities", f"{META}clientInfo", f"{META}logLevel", "extensions"),
)
WORDS: Final = (
    "echo",
    "mcp_files_echo",
    "file:///open",
    "files+file:///open",
    "ref/prompt",
    MODERN,
    "2025-11-25",
    "2.0",
)

_KEYS = st.sampled_from(MEMBERS) | st.text(max_size=6)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(WORDS)
    | st.sampled_from((2**63, -(2**63) - 1, 10**60, 1e308, 5e-324))
)
VALUES: Final = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=10
)
PARAMS: Final = st.dictionaries(_KEYS, VALUES, max_size=5) | VALUES
MESSAGES: Final = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | VALUES,
        "id": st.integers(0, 9) | st.text(max_size=4) | VALUES,
        "method": st.sampled_from(METHODS) | st.text(max_size=12) | VALUES,
        "params": PARAMS,
        "result": VALUES,
        "error": st.fixed_dictionaries({"code": VALUES, "message": VALUES}) | VALUES,
    },
)
REQUESTS: Final = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "id": st.integers(0, 9), "method": st.sampled_from(METHODS), "params": PARAMS}
)


def dumped(value: Any) -> bytes:
    """A value as JSON text, with ``NaN`` and single surrogates where they are in it."""
    return json.dumps(value, ensure_ascii=True).encode()


def wished(message: Json, *, agree: bool) -> bytes:
    """A message of the modern era over HTTP; its headers say the same, or nothing."""
    params = message.get("params")
    about = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    if agree and isinstance(params, dict):
        meta = params.get("_meta")
        message = {**message, "params": {**params, "_meta": {**(meta if isinstance(meta, dict) else {}), **about}}}
    name = params.get("name") if isinstance(params, dict) else None
    lines = [f"MCP-Protocol-Version: {MODERN}", f"Mcp-Method: {message.get('method')}"]
    lines += [f"Mcp-Name: {name}"] if isinstance(name, str) and name.isascii() and name.isprintable() else []
    safe = [line for line in lines if line.isascii() and line.isprintable()]
    return post_of("/mcp", dumped(message), *safe, token=EVE)


def _seeds() -> list[bytes]:
    new, headers = modern_request("tools/call", {"name": "echo", "arguments": {"a": 1}})
    lines = [f"{name}: {value}" for name, value in headers.items()]
    body = b"5\r\nhello\r\n0\r\n\r\n"
    return [
        post_of("/mcp", HELLO, token=EVE),
        post_of("/mcp", LIST, "Mcp-Session-Id: " + "0" * 32, token=EVE),
        post_of("/mcp", new, *lines, token=EVE),
        post_of("/agents/eve/mcp", new, *lines, token=EVE),
        post_of("/messages/?session_id=" + "0" * 32, call(1), token=EVE),
        post_of("/mcp", [LIST, call(2)], token=EVE),
        post_of("/mcp", call(3, a=1), _SESSION_LINE, "MCP-Protocol-Version: 2025-11-25", token=EVE),
        post_of("/mcp", {"jsonrpc": "2.0", "id": 1, "result": {}}, _SESSION_LINE, token=EVE),
        head_of("GET", "/mcp", f"Authorization: Bearer {EVE}", _SESSION_LINE, "Accept: text/event-stream"),
        head_of("GET", "/livez"),
        head_of("GET", "/status.json", f"Authorization: Bearer {EVE}"),
        head_of("DELETE", "/mcp", f"Authorization: Bearer {EVE}", "Mcp-Session-Id: x"),
        head_of("POST", "/mcp", "Transfer-Encoding: chunked", f"Accept: {ACCEPT}", f"Authorization: Bearer {EVE}")
        + body,
        head_of("GET", "/mcp?x=%00", "Expect: 100-continue", "Range: bytes=0-", "Last-Event-ID: 1"),
    ]


_TOKENS: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b":",
        b" ",
        b"\t",
        b"%",
        b"%00",
        b"/",
        b"..",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\",
    ),
    *(b"\\ud800", b"\xff", b"\xc0\x80", b"chunked", b"Content-Length: 0\r\n", b"Host: x\r\n", b"ffffffffffffffff\r\n"),
    *(b"-1", b"0", b"1e999", b"NaN", b"null", b"a" * 3000, b"[" * 3000, b'{"a":' * 500, b"HTTP/1.0", b"HTTP/9.9"),
)


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Something good, with a few changes."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        upto = min(len(data), at + draw(st.integers(0, 20)))
        piece = draw(st.sampled_from(_TOKENS) | st.binary(max_size=8) | st.just(data[at : at + 40]))
        data = draw(
            st.sampled_from((data[:at] + piece + data[at:], data[:at] + piece + data[upto:], data[:at] + data[upto:]))
        )
    return data


HTTP: Final = (
    mutated(tuple(_seeds()))
    | mutated(tuple(_seeds()))
    | st.binary(max_size=300)
    | st.builds(lambda message: post_of("/mcp", dumped(message), token=EVE), MESSAGES)
    | st.builds(lambda message: post_of("/mcp", dumped(message), _SESSION_LINE, token=EVE), MESSAGES | REQUESTS)
    | st.builds(lambda message: post_of("/mcp", dumped(message), _SESSION_LINE, token=EVE), REQUESTS)
    | st.builds(wished, MESSAGES, agree=st.just(value=False))
    | st.builds(wished, REQUESTS, agree=st.just(value=True))
    | st.builds(lambda messages: post_of("/mcp", dumped(messages), token=EVE), st.lists(MESSAGES, max_size=4))
)

_LINES: Final = tuple(
    dumped(one) for one in (HELLO, LIST, call(1), call(2, "mcp_files_echo", a=1), [LIST, call(3)], {"jsonrpc": "2.0"})
)
LINES: Final = (
    mutated(_LINES).map(lambda line: line.replace(b"\n", b" "))
    | st.binary(max_size=200)
    | st.builds(dumped, MESSAGES)
    | st.builds(dumped, REQUESTS)
    | st.builds(dumped, st.lists(MESSAGES, max_size=4))
)

_FRAMES: Final = tuple(
    dumped({"jsonrpc": "2.0", **one})
    for one in (
        {"id": 1, "result": {}},
        {"id": 3, "result": {"content": [{"type": "text", "text": "x"}], "isError": False}},
        {"id": 3, "error": {"code": -32602, "message": "no", "data": {}}},
        {"method": "notifications/tools/list_changed"},
        {"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}},
        {"method": "notifications/message", "params": {"level": "info", "data": "x"}},
        {"method": "notifications/cancelled", "params": {"requestId": 3}},
        {"id": 1, "method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}},
        {"id": "x", "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}},
        {"id": 2, "method": "roots/list"},
        {"id": 2, "method": "ping"},
    )
)
FRAMES: Final = (
    mutated(_FRAMES) | st.binary(max_size=200) | st.builds(dumped, MESSAGES) | st.builds(dumped, st.lists(MESSAGES))
)

_ANSWERS: Final = tuple(
    head + body
    for body in (_FRAMES[1], b"event: message\ndata: " + _FRAMES[1] + b"\n\n", b"5\r\nhello\r\n0\r\n\r\n", b"")
    for head in (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer resource_metadata="http://169.254.169.254/"\r\n\r\n',
        b"HTTP/1.1 307 There\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n",
    )
)
ANSWERS: Final = mutated(_ANSWERS) | st.sampled_from(_ANSWERS) | st.binary(max_size=300)
"""What an HTTP upstream may send instead of an answer."""
