from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.http1 import HEAD_LIMIT, Garbled, Responses
from tests.support.wire_chunks import cut, places


class Seen(NamedTuple):
    """What is known after some bytes."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes
    over: bool
    reusable: bool
    garbled: bool


def seen(chunks: list[bytes], *, ends: bool = False) -> Seen:
    responses, body, garbled = Responses(), b"", False
    try:
        for chunk in chunks:
            responses.feed(chunk)
            body += responses.take()
    except Garbled:
        garbled = True
        body += responses.take()
    if ends and not garbled:
        responses.end()
    return Seen(responses.status, responses.fields, body, responses.over, responses.reusable, garbled)


names = st.sampled_from([b"Content-Type", b"X-One", b"x-one", b"Mcp-Session-Id", b"Connection", b"Retry-After"])
values = st.sampled_from([b"a", b"close", b"keep-alive", b"text/plain; x=y", b"", b"\xc3\xa9", b" padded \t"])
bodies = st.binary(max_size=60)


@dataclass
class Answer:
    """A response to be written in one of the ways HTTP has."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes
    framing: str
    pieces: list[int] = field(default_factory=list)

    def written(self) -> bytes:
        lines = [b"HTTP/1.1 %d Status" % self.status, *(name + b": " + value for name, value in self.fields)]
        if self.framing == "length":
            lines.append(b"content-length: %d" % len(self.body))
        elif self.framing == "chunked":
            lines.append(b"Transfer-Encoding: chunked")
        return b"\r\n".join([*lines, b"", b""]) + (self._chunked() if self.framing == "chunked" else self.body)

    def _chunked(self) -> bytes:
        parts = [b"%x;ext\r\n%b\r\n" % (len(part), part) for part in cut(self.body, self.pieces) if part]
        return b"".join([*parts, b"0\r\nx-trailer: 1\r\n\r\n"])


answers = st.builds(
    Answer,
    status=st.sampled_from([200, 202, 307, 404, 503]),
    fields=st.lists(st.tuples(names, values), max_size=5),
    body=bodies,
    framing=st.sampled_from(["length", "chunked", "end"]),
    pieces=places,
)
hints = [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n"]
interims = st.lists(st.sampled_from(hints), max_size=2)
behind = st.sampled_from([b"", b"", b"\r\n", b"garbage", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"])


@given(answers, interims, behind, places)
def test_where_the_bytes_are_cut_makes_no_difference(
    answer: Answer, before: list[bytes], after: bytes, at: list[int]
) -> None:
    data = b"".join(before) + answer.written() + after
    assert seen(cut(data, at), ends=True) == seen([data], ends=True)


@given(st.binary(max_size=300) | answers.map(Answer.written), places, st.integers(0, 400), st.binary(max_size=3))
def test_any_bytes_are_a_response_or_garbled_however_they_are_cut(
    data: bytes, at: list[int], place: int, noise: bytes
) -> None:
    data = data[:place] + noise + data[place:]
    whole, parts = seen([data]), seen(cut(data, at))
    assert (parts.status, parts.over, parts.reusable, parts.garbled) == (
        whole.status,
        whole.over,
        whole.reusable,
        whole.garbled,
    )
    assert parts.body == whole.body


@given(answers, interims)
def test_a_response_is_read_back(answer: Answer, before: list[bytes]) -> None:
    found = seen([b"".join(before) + answer.written()], ends=True)
    assert (found.status, found.body, found.over, found.garbled) == (answer.status, answer.body, True, False)
    for name, _ in answer.fields:
        values_of = [value.strip() for each, value in answer.fields if each.lower() == name.lower()]
        assert found.fields[name.lower()] == b", ".join(values_of)


@given(st.lists(answers.filter(lambda answer: answer.framing != "end"), min_size=1, max_size=4), places)
def test_one_connection_brings_one_response_after_the_other(several: list[Answer], at: list[int]) -> None:
    responses = Responses()
    for answer in several:
        responses.begin()
        assert not responses.started
        for chunk in cut(answer.written(), at):
            responses.feed(chunk)
        assert (responses.status, responses.take(), responses.over) == (answer.status, answer.body, True)
        if not responses.reusable:
            return  # it says so itself: connection: close


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    responses = Responses()
    responses.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    assert (responses.over, responses.waiting) == (False, 3)
    responses.feed(b"lo")
    assert responses.end()
    assert (responses.take(), responses.reusable) == (b"hello", False)


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"]
)
def test_an_end_before_the_response_is_complete_does_not_complete_it(head: bytes) -> None:
    responses = Responses()
    responses.feed(head)
    assert not responses.end()


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    assert seen([b"HTTP/1.1 %d No\r\n\r\n" % status])[2:5] == (b"", True, True)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200 OK\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (HEAD_LIMIT + 1) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * HEAD_LIMIT,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * HEAD_LIMIT,
    ],
)
@pytest.mark.parametrize("size", [1 << 30, 1000])
def test_what_is_no_response_or_has_no_end_is_garbled(data: bytes, size: int) -> None:
    assert seen([data[start : start + size] for start in range(0, len(data), size)]).garbled


def test_a_chunk_whose_size_line_has_no_end_is_garbled() -> None:
    assert seen([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", *[b"x" * HEAD_LIMIT] * 2]).garbled


def test_what_comes_behind_a_response_costs_the_connection_and_not_the_response() -> None:
    good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
    assert seen([good])[2:] == (b"hi", True, True, False)
    assert seen([good + b"more"])[2:] == (b"hi", True, False, False)
    assert seen([good, b"more"])[2:] == (b"hi", True, False, False)
