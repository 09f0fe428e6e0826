"""What a head says is read once, and what a modern client says of itself is known again only if it is the very same."""

from typing import Any

import pytest

from proxy.gateway.known import LARGEST, Known
from proxy.model import ANONYMOUS, Principal

META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
}
MODERN = {b"mcp-protocol-version": b"2026-07-28", b"mcp-method": b"tools/call", b"mcp-name": b"echo"}
PARAMS: dict[str, Any] = {"name": "echo", "_meta": META}
ANN = Principal("token:ann")


def of(**meta: Any) -> dict[str, Any]:
    return {**PARAMS, "_meta": {**META, **{f"io.modelcontextprotocol/{name}": value for name, value in meta.items()}}}


def test_who_says_the_same_again_is_the_same_caller() -> None:
    known = Known(MODERN)
    who = known.who("reader", ANN)
    first = known.caller("tools/call", PARAMS, who)
    assert first is not None
    assert (first.agent, first.principal) == ("reader", ANN)
    assert known.caller("tools/call", {**PARAMS, "arguments": {"a": 1}}, known.who("reader", ANN)) is first


@pytest.mark.parametrize(
    "params",
    [
        of(clientCapabilities={}),
        of(clientCapabilities={"elicitation": {"form": 1}}),
        of(clientInfo={"name": "t", "version": "2"}),
        of(logLevel="debug"),
    ],
)
def test_who_says_something_else_is_another_one_from_then_on(params: dict[str, Any]) -> None:
    known = Known(MODERN)
    who = known.who(None, ANONYMOUS)
    assert known.caller("tools/call", PARAMS, who) != (other := known.caller("tools/call", params, who))
    assert other is not None
    assert known.caller("tools/call", params, who) is other


def test_true_is_not_taken_for_one() -> None:
    known = Known(MODERN)
    who = known.who(None, ANONYMOUS)
    told = [
        getattr(known.caller("tools/call", of(clientCapabilities={"sampling": {"a": value}}), who), "told", None)
        for value in (True, 1)
    ]
    assert told[0] != told[1]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {**PARAMS, "name": "other"}),
        ("prompts/get", PARAMS),
        ("tools/call", of(protocolVersion="2025-11-25")),
        ("tools/call", {"name": "echo"}),
        ("tools/call", of(clientCapabilities=[])),
    ],
)
def test_what_does_not_agree_with_the_head_is_refused_whatever_was_said_before(method: str, params: Any) -> None:
    known = Known(MODERN)
    who = known.who(None, ANONYMOUS)
    for _ in range(2):
        assert known.caller("tools/call", PARAMS, who) is not None
        assert known.caller(method, params, who) is None


@pytest.mark.parametrize(("agents", "principal"), [("writer", ANN), (None, ANN), ("reader", Principal("token:bob"))])
def test_somebody_else_with_the_same_head_is_somebody_else(agents: str | None, principal: Principal) -> None:
    known = Known(MODERN)
    first = known.caller("tools/call", PARAMS, known.who("reader", ANN))
    owner = known.owner
    other = known.caller("tools/call", PARAMS, known.who(agents, principal))
    assert first is not None
    assert other is not None
    assert (other.agent, other.principal) == (agents, principal)
    assert known.owner != owner
    assert (known.owner, owner) == (other.owner, first.owner)


def test_a_long_introduction_is_read_each_time_and_not_kept() -> None:
    known = Known(MODERN)
    who = known.who(None, ANONYMOUS)
    long = of(clientInfo={"name": "t" * LARGEST, "version": "1"})
    first = known.caller("tools/call", long, who)
    assert first == known.caller("tools/call", long, who)
    assert known.caller("tools/call", long, who) is not first


@pytest.mark.parametrize(
    ("headers", "session", "opens", "modern"),
    [
        ({}, None, True, False),
        ({b"mcp-session-id": b"s"}, b"s", False, False),
        ({b"mcp-session-id": b"s", b"mcp-protocol-version": b"2025-06-18"}, b"s", False, False),
        ({b"mcp-session-id": b"s", b"mcp-protocol-version": b"2026-07-28"}, None, False, True),
        ({b"mcp-session-id": b"s", b"mcp-protocol-version": b"1999"}, None, False, False),
        ({b"mcp-protocol-version": b"1999"}, None, False, False),
    ],
)
def test_a_head_says_which_era_and_which_session(
    headers: dict[bytes, bytes], session: bytes | None, opens: bool, modern: bool
) -> None:
    known = Known(headers)
    assert (known.session, known.opens, known.modern) == (session, opens, modern)
