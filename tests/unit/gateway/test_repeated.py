"""Heads that a connection has had before: they mean the same again, and whatever differs is read in full."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway.known import Known
from proxy.gateway.repeated import LARGEST, Repeated

HEADERS = [(b"host", b"x"), (b"content-length", b"5"), (b"accept", b"*/*")]
HEAD = b"POST /hot HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nAccept: */*\r\n\r\n"
SCOPE: dict[str, Any] = {"type": "http", "headers": HEADERS, "state": {"kept": 1}}


def known(data: bytes = HEAD + b"hello") -> Repeated:
    found = Repeated.of(data, SCOPE, Known(dict(HEADERS)))
    assert found is not None
    return found


def with_length(length: bytes) -> bytes:
    return HEAD.replace(b"Length: 5", b"Length: " + length)


@given(st.integers(0, 999_999_999), st.binary())
def test_it_is_known_again_with_any_length_of_the_body(length: int, body: bytes) -> None:
    head = with_length(b"%d" % length)
    assert known().match(head + body) == (len(head), length)


@given(st.integers(0, len(HEAD) - 1), st.integers(0, 255))
def test_a_head_that_differs_in_anything_else_is_not_known(place: int, byte: int) -> None:
    other = HEAD[:place] + bytes([byte]) + HEAD[place + 1 :]
    same = other == HEAD or (other[place : place + 1].isdigit() and HEAD[place : place + 1] == b"5")
    assert (known().match(other + b"hello") is not None) is same


@pytest.mark.parametrize(
    "length", [b"", b"-1", b"+5", b"5 ", b" 5", b"0x5", b"5\t", b"5,5", b"12345678901", b"\xd9\xa5"]
)
def test_a_length_that_is_no_plain_number_is_not_known(length: bytes) -> None:
    assert known().match(with_length(length) + b"hello") is None


@given(st.integers(0, len(HEAD) - 1))
def test_a_part_of_a_head_is_not_known(length: int) -> None:
    assert known().match(HEAD[:length]) is None


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"POST", b"GET"),
        b"\r\n" + HEAD,
        HEAD.replace(b"Host: x\r\n", b"Host: x\n"),
        HEAD.replace(b"Content-Length: 5\r\n", b""),
        HEAD.replace(b"Length: 5", b"Length:  5"),
        HEAD.replace(b"Length: 5", b"Length: 5 "),
        HEAD.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * LARGEST + b"\r\n\r\n"),
        HEAD[:-2],
    ],
)
def test_an_unusual_head_is_not_kept(head: bytes) -> None:
    assert Repeated.of(head + b"hello", SCOPE, Known(dict(HEADERS))) is None


def test_each_request_may_have_a_scope_of_its_own_with_its_own_length() -> None:
    one = known().restored(77)
    assert one["headers"] == [(b"host", b"x"), (b"content-length", b"77"), (b"accept", b"*/*")]
    one["headers"].clear()
    one["state"]["kept"] = 2
    assert known().restored(5) == SCOPE


def test_what_all_requests_share_does_not_name_a_length() -> None:
    assert b"content-length" not in known().known.headers
