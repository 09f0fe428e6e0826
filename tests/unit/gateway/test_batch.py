"""Batches taken apart and put together, on bytes."""

import json
from typing import Any

import pytest
from mcp_types import JSONRPCNotification, JSONRPCResponse

from proxy.gateway.batch import MAX_BATCH, LineBatches, taken_apart

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def initialize(version: str) -> bytes:
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": version}}
    return json.dumps(message).encode()


def answer(number: int | str) -> JSONRPCResponse:
    return JSONRPCResponse(jsonrpc="2.0", id=number, result={})


def batches(version: str = "2025-03-26") -> LineBatches:
    made = LineBatches()
    assert made.apart(initialize(version)) == [initialize(version)]
    return made


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b"[]", []),
        (b" [1, {} ]", [b"1", b"{}"]),
        (b"{}", []),
        (b"[1", []),
        (b"", []),
        (b"[" + PING + b"]", [PING]),
    ],
)
def test_a_batch_is_an_array_that_holds_something(body: bytes, messages: list[bytes]) -> None:
    assert taken_apart(body) == messages


def test_the_answers_of_a_batch_are_one_line_and_everything_else_stands_alone() -> None:
    door = batches()
    other = PING.replace(b"1", b'"b"')
    assert door.apart(b"[" + PING + b"," + other + b"]") == [PING, other]
    note = JSONRPCNotification(jsonrpc="2.0", method="notifications/message")
    assert door.frame(note) == b'{"jsonrpc":"2.0","method":"notifications/message"}'
    assert door.frame(answer("b")) == b""
    assert json.loads(door.frame(answer(7)))["id"] == 7
    whole: list[Any] = json.loads(door.frame(answer(1)))
    assert [one["id"] for one in whole] == ["b", 1]


def test_a_batch_without_requests_has_no_answer() -> None:
    door = batches()
    told = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
    assert door.apart(b"[" + told + b"]") == [told]
    assert json.loads(door.frame(answer(1)))["id"] == 1


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
def test_other_revisions_have_no_batches(version: str) -> None:
    line = b"[" + PING + b"]"
    assert batches(version).apart(line) == [line]


def test_a_batch_that_is_too_long_is_no_batch() -> None:
    line = b"[" + b",".join([PING] * (MAX_BATCH + 1)) + b"]"
    assert batches().apart(line) == [line]


def test_a_later_message_that_mentions_initialize_changes_nothing() -> None:
    door = batches()
    call = b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"initialize","x":"initialize"}}'
    assert door.apart(call) == [call]
    assert door.apart(b"[" + PING + b"]") == [PING]
