import json
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import envelope
from proxy.wire.envelope import Kind, Malformed, Message
from proxy.wire.lines import Oversized

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = st.integers(-(2**53), 2**53) | texts
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(texts, values, max_size=4)


def one(frame: bytes) -> Message:
    (message,) = envelope.read(frame)
    assert isinstance(message, Message), message
    return message


def fault(frame: bytes) -> Malformed:
    (message,) = envelope.read(frame)
    assert isinstance(message, Malformed), message
    return message


@given(ids, texts, st.none() | objects)
def test_a_request_is_read_as_it_was_written(number: Any, method: str, params: dict[str, Any] | None) -> None:
    message = one(envelope.request(number, method, params))
    assert (message.kind, message.id, message.method) == (Kind.REQUEST, number, method)
    assert message.decoded_params() == params


@given(texts, st.none() | objects)
def test_a_notification_is_read_as_it_was_written(method: str, params: dict[str, Any] | None) -> None:
    message = one(envelope.notification(method, params))
    assert (message.kind, message.method, message.decoded_params()) == (Kind.NOTIFICATION, method, params)


@given(ids, values)
def test_a_response_is_read_as_it_was_written(number: Any, result: Any) -> None:
    message = one(envelope.response(number, result))
    assert (message.kind, message.answers) == (Kind.RESPONSE, number)
    assert msgspec.json.decode(message.result) == result


@given(ids, st.integers(-(2**31), 2**31), texts, values)
def test_an_error_is_read_as_it_was_written(number: Any, code: int, text: str, data: Any) -> None:
    message = one(envelope.error(number, code, text, data))
    assert (message.kind, message.answers) == (Kind.ERROR, number)
    assert message.fault == envelope.Fault(code, text, data)


@given(objects)
def test_what_we_write_is_plain_json(params: dict[str, Any]) -> None:
    written = json.loads(envelope.request(1, "m", params))
    assert written == {"jsonrpc": "2.0", "id": 1, "method": "m", "params": params}


def test_raw_bytes_cross_untouched() -> None:
    raw = b'{"b" : 1.50, "a":[ ]}'
    message = one(envelope.request(1, "m", msgspec.Raw(raw)))
    assert bytes(message.params) == raw


def test_any_mapping_can_be_params() -> None:
    assert one(envelope.request(1, "m", MappingProxyType({"a": 1}))).decoded_params() == {"a": 1}


def test_an_error_without_data_has_no_data_member() -> None:
    assert json.loads(envelope.error(None, -1, "x")) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -1, "message": "x"},
    }


@pytest.mark.parametrize("value", [object(), "\ud800", {1j: 1}])
def test_what_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(envelope.Unwritable, match="JSON"):
        envelope.request(1, "m", {"a": value})


def test_absent_members_are_no_members() -> None:
    assert b"params" not in envelope.request(1, "m")
    assert b"params" not in envelope.notification("m")


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'{"jsonrpc":"2.0","method":"m","id":null}', Kind.NOTIFICATION),
        (b'{"jsonrpc":"2.0","id":1,"result":null}', Kind.RESPONSE),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"error":null}', Kind.RESPONSE),
        (b'{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"x"}}', Kind.ERROR),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}', Kind.ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","extra":[1]}', Kind.REQUEST),
        (b' {"jsonrpc":"2.0","id":1,"method":"m"}\r', Kind.REQUEST),
    ],
)
def test_harmless_deviations_are_tolerated(frame: bytes, kind: Kind) -> None:
    assert one(frame).kind is kind


@pytest.mark.parametrize(
    "frame",
    [
        b"Server listening on port 3000",
        b"",
        b"17",
        b'"text"',
        b"{}",
        b'{"level":"info","method":"GET","id":1}',
        b'{"jsonrpc":"1.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":true,"result":{}}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":1,"error":null}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","result":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'[{"jsonrpc":"2.0"',
    ],
)
def test_what_is_no_message_is_told(frame: bytes) -> None:
    assert fault(frame).reason


@pytest.mark.parametrize(
    ("frame", "number"),
    [
        (b'{"jsonrpc":"2.0","id":7}', 7),
        (b'{"id":7,"result":{}}', 7),
        (b'{"jsonrpc":"2.0","id":"7","result":{},"method":5}', "7"),
        (b'{"jsonrpc":"2.0","id":7,"result":{', 7),
        (b'{"jsonrpc":"2.0","id":7,"method":"m","result":{}}', None),
    ],
)
def test_a_broken_answer_still_names_its_request(frame: bytes, number: Any) -> None:
    assert fault(frame).id == number


@pytest.mark.parametrize(("echo", "number"), [(b"3", 3), (b"3.0", 3), (b'"3"', "3"), (b"3.5", None), (b"null", None)])
def test_an_answer_names_its_request(echo: bytes, number: Any) -> None:
    assert one(b'{"jsonrpc":"2.0","id":' + echo + b',"result":{}}').answers == number


def test_a_batch_is_read_message_by_message() -> None:
    good = b'{"jsonrpc":"2.0","id":1,"result":{}}'
    first, second, third = envelope.read(b" [" + good + b',{"no":"message"},' + good + b"]")
    assert isinstance(first, Message)
    assert isinstance(second, Malformed)
    assert first == third


def test_an_empty_batch_has_no_messages() -> None:
    assert envelope.read(b"[]") == []


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (rb'"cut \ud83d"', "cut \ufffd"),
        (rb'"whole \ud83d\ude00 and \\ud83d"', "whole \U0001f600 and \\ud83d"),
        (b'"bad \xff utf-8"', "bad \ufffd utf-8"),
        (b"[NaN, -Infinity, 1.5]", [None, None, 1.5]),
    ],
)
def test_almost_json_is_repaired(result: bytes, value: Any) -> None:
    message = one(b'{"jsonrpc":"2.0","id":1,"result":' + result + b"}")
    assert msgspec.json.decode(message.result) == value


def test_params_that_are_no_object_are_refused() -> None:
    with pytest.raises(Malformed, match="object"):
        one(b'{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}').decoded_params()


@pytest.mark.parametrize("number", [b"1e400", b"1" * 5000])
def test_params_with_a_number_that_no_decoder_takes_are_malformed(number: bytes) -> None:
    with pytest.raises(Malformed):
        one(b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":%b}}' % number).decoded_params()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (b'"boom"', envelope.Fault(-32603, "boom")),
        (b'{"code":"E1","message":"x"}', envelope.Fault(-32603, "x")),
        (b'{"code":5,"message":{"a":1},"data":[1]}', envelope.Fault(5, "{'a': 1}", [1])),
    ],
)
def test_a_sloppy_error_is_still_an_error(error: bytes, expected: envelope.Fault) -> None:
    assert one(b'{"jsonrpc":"2.0","id":1,"error":' + error + b"}").fault == expected


@pytest.mark.parametrize(
    ("head", "tail", "number"),
    [
        (b'{"jsonrpc":"2.0","id":5,"result":{"x":"aaa', b'aaa"}}', 5),
        (b'{ "id" : "five", "jsonrpc":"2.0", "error":{', b"}}", "five"),
        (b'{"result":{"x":"aaa', b'aaa"},"jsonrpc":"2.0","id":5}', 5),
        (b'{"jsonrpc":"2.0","result":{"x":"aaa', b'aaa"},"id":5, "jsonrpc":"2.0"}\r', 5),
        (b'{"jsonrpc":"2.0","id":5,"method":"m","params":{', b"}}", None),
        (b'{"jsonrpc":"2.0","method":"m","params":{', b'},"id":5}', None),
        (b'{"result":{"x":"aaa', b'"id":5}}', None),
        (b"garbage", b"garbage", None),
    ],
)
def test_an_oversized_answer_names_its_request_by_its_ends(head: bytes, tail: bytes, number: Any) -> None:
    assert envelope.answered(Oversized(head, tail, 10**9)) == number


def test_a_garbled_id_answers_nothing() -> None:
    (found,) = envelope.read(b'{"jsonrpc":"2.0","id":"\x80","result":[}')
    assert isinstance(found, Malformed)
    assert found.id is None
