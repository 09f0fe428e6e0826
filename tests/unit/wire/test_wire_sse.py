import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.lines import Oversized
from proxy.wire.sse import Event, Parser, encode
from tests.support.wire_chunks import cut, fed, places

MANY = 1 << 20

fields = [b"data", b"data:", b"data: x", b"event: e", b"id: 7", b"id", b"retry: 5", b"retry: x", b":c", b"unknown: z"]
pieces = st.sampled_from([*fields, b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"y" * 30, b"\xef\xbb\xbf", b"\0"])
streams = st.lists(pieces, max_size=40).map(b"".join)
single_lines = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)
contents = st.binary(max_size=200).map(lambda data: data.replace(b"\r", b""))


@given(streams, places, st.sampled_from([8, 40, MANY]))
def test_where_the_chunks_are_cut_makes_no_difference(stream: bytes, at: list[int], limit: int) -> None:
    whole, parts = Parser(limit), Parser(limit)
    assert fed(parts.feed, cut(stream, at)) == whole.feed(stream)
    assert (parts.last_id, parts.retry) == (whole.last_id, whole.retry)


@given(contents, single_lines, st.none() | single_lines, st.none() | st.integers(0, 10**9 - 1), places)
def test_an_encoded_event_is_parsed_back(
    data: bytes,
    event: str,
    id_: str | None,
    retry: int | None,
    at: list[int],
) -> None:
    parser = Parser(MANY)
    stream = encode(data, event=event, id=id_, retry=retry)
    assert fed(parser.feed, cut(stream, at)) == [Event(data, event or "message", id_ or "", retry)]
    assert parser.last_id == (id_ or "")


@given(st.lists(contents, max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]), places)
def test_every_kind_of_line_end_is_understood(datas: list[bytes], end: bytes, at: list[int]) -> None:
    stream = b"".join(encode(data) for data in datas).replace(b"\n", end)
    assert [event.data for event in fed(Parser(MANY).feed, cut(stream, at)) if isinstance(event, Event)] == datas


def test_comments_unknown_fields_and_a_byte_order_mark_are_passed_over() -> None:
    stream = b"\xef\xbb\xbf: hello\ndata: 1\nunknown: x\nnonsense\n:\n\n: bye\n\n"
    assert Parser(MANY).feed(stream) == [Event(b"1")]


def test_several_data_lines_make_one_event() -> None:
    assert Parser(MANY).feed(b"data: a\ndata\ndata:b\n\n") == [Event(b"a\n\nb")]


def test_an_id_stays_in_effect_until_the_next_one() -> None:
    parser = Parser(MANY)
    assert parser.feed(b"id: 1\ndata: a\n\ndata: b\n\nid: 2\n\n") == [Event(b"a", id="1"), Event(b"b", id="1")]
    assert parser.last_id == "2"


def test_an_id_counts_only_when_its_event_is_complete() -> None:
    parser = Parser(MANY)
    parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert parser.last_id == "1"


def test_an_id_with_a_nul_is_ignored() -> None:
    parser = Parser(MANY)
    assert parser.feed(b"id: a\0b\ndata: 1\n\n") == [Event(b"1")]


def test_an_event_with_empty_data_still_carries_its_id() -> None:
    """The priming event of revision 2025-11-25."""
    assert Parser(MANY).feed(b"id: 1\nretry: 500\ndata:\n\n") == [Event(b"", id="1", retry=500)]


def test_a_retry_without_data_is_remembered() -> None:
    parser = Parser(MANY)
    assert parser.feed(b"retry: 250\n\n") == []
    assert parser.retry == 250


@given(st.integers(1, 5000), places)
def test_an_oversized_event_is_reported_by_its_ends_and_the_stream_goes_on(extra: int, at: list[int]) -> None:
    data = b"<" + b"m" * (98 + extra) + b">"
    first, second = fed(Parser(99).feed, cut(b"event: e\ndata: " + data + b"\n\ndata: next\n\n", at))
    assert isinstance(first, Oversized)
    assert (first.size, first.head[:1], first.tail[-1:]) == (len(data), b"<", b">")
    assert second == Event(b"next")


@given(st.integers(2, 50), places)
def test_many_small_lines_over_the_limit_are_an_oversized_event_too(count: int, at: list[int]) -> None:
    stream = b"data: 1234567890\n" * (count + 9) + b"\ndata: next\n\n"
    first, second = fed(Parser(100).feed, cut(stream, at))
    assert isinstance(first, Oversized)
    assert (first.size, first.head[:10], first.tail[-10:]) == (11 * (count + 9) - 1, b"1234567890", b"1234567890")
    assert second == Event(b"next")


def test_a_comment_over_the_limit_harms_no_event() -> None:
    assert Parser(10).feed(b"data: 1\n:" + b"x" * 100 + b"\ndata: 2\n\n") == [Event(b"1\n2")]


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_a_field_that_cannot_be_carried_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="single line"):
        encode(b"", event=text)
    with pytest.raises(ValueError, match="single line"):
        encode(b"", id=text)
