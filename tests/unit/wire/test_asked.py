"""Plain requests in one pass: they mean what the envelope says that they mean, and nothing else passes as one."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire import envelope
from proxy.wire.asked import Asked, plain

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
MEMBERS = st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "other"]), VALUES, max_size=7
)
LIKELY = {"jsonrpc": st.just("2.0"), "id": st.integers() | st.text(), "method": st.text()}


def by_envelope(data: bytes) -> tuple[Any, str, dict[str, Any]] | None:
    """What a request is by the strict way; None if it is none."""
    try:
        message = envelope.decode(data)
        if message.kind is not envelope.Kind.REQUEST:
            return None
        asked = Asked.of(message)
    except envelope.Malformed:
        return None
    return asked.id, asked.method, asked.params


@settings(deadline=None)
@given(MEMBERS, st.fixed_dictionaries(LIKELY, optional={"params": st.dictionaries(st.text(), VALUES)}))
def test_it_says_what_the_envelope_says(wild: dict[str, Any], likely: dict[str, Any]) -> None:
    for message in (wild, likely, wild | likely, likely | wild):
        data = json.dumps(message).encode()
        asked = plain(data)
        assert asked is None or (asked.id, asked.method, asked.params) == by_envelope(data)


@settings(deadline=None)
@given(st.integers() | st.text(), st.text(), st.dictionaries(st.text(), VALUES))
def test_requests_with_params_are_plain(number: Any, method: str, params: dict[str, Any]) -> None:
    data = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}, ensure_ascii=False)
    asked = plain(data.encode("utf-8", "surrogatepass"))
    assert asked is None or (asked.method, asked.params) == (method, params)
    assert asked is not None or not data.isprintable() or by_envelope(data.encode("utf-8", "surrogatepass")) is None


@given(st.binary())
def test_garbage_is_not(data: bytes) -> None:
    assert plain(data) is None or by_envelope(data) is not None


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","method":"m","params":{}}',
        b'{"jsonrpc":"2.0","id":null,"method":"m","params":{}}',
        b'{"jsonrpc":"2.0","id":true,"method":"m","params":{}}',
        b'{"jsonrpc":"1.0","id":1,"method":"m","params":{}}',
        b'{"id":1,"method":"m","params":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":[]}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{},"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{},"error":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'[{"jsonrpc":"2.0","id":1,"method":"m","params":{}}]',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\xff"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{},"other":"\xff"}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\\ud800"}}',
    ],
)
def test_what_is_no_plain_request_is_left_to_the_envelope(data: bytes) -> None:
    assert plain(data) is None


@pytest.mark.parametrize("number", [1, "x", 1.5, 2**70, -1])
def test_the_envelope_way_makes_the_same_of_an_id(number: Any) -> None:
    data = json.dumps({"jsonrpc": "2.0", "id": number, "method": "m", "params": {"a": [1]}}).encode()
    asked = plain(data)
    assert asked is not None
    assert (asked.id, asked.method, asked.params) == by_envelope(data) == (number, "m", {"a": [1]})


@given(st.integers() | st.text() | st.none() | st.floats(allow_nan=False, allow_infinity=False), VALUES)
def test_an_answer_on_bytes_is_the_one_that_the_encoder_writes(number: Any, result: Any) -> None:
    raw = json.dumps(result).encode()
    written = envelope.answer(number, raw)
    assert json.loads(written) == {"jsonrpc": "2.0", "id": number, "result": result}
    assert envelope.decode(written).kind is envelope.Kind.RESPONSE
