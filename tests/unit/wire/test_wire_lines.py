from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.lines import EDGE, Lines, Oversized
from tests.support.wire_chunks import cut, fed, places

streams = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"x" * 9, b"\n\n"]), max_size=40).map(b"".join)


@given(streams, places, st.integers(1, 20))
def test_where_the_chunks_are_cut_makes_no_difference(stream: bytes, at: list[int], limit: int) -> None:
    whole, pieces = Lines(limit), Lines(limit)
    assert fed(pieces.feed, cut(stream, at)) == whole.feed(stream)
    assert pieces.close() == whole.close()


@given(st.lists(st.binary(max_size=50).map(lambda line: line.replace(b"\n", b"")), max_size=20), places)
def test_lines_come_out_as_they_went_in(lines: list[bytes], at: list[int]) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter = Lines(50)
    assert fed(splitter.feed, cut(stream, at)) == lines
    assert splitter.close() is None


@given(st.integers(1, 3000), places)
def test_an_oversized_line_is_reported_by_its_ends_and_the_stream_goes_on(extra: int, at: list[int]) -> None:
    long = b"<" + b"m" * (extra + 98) + b">"
    splitter = Lines(99)
    first, second = fed(splitter.feed, cut(long + b"\nnext\n", at))
    assert first == Oversized(long[:EDGE], long[-EDGE:], len(long))
    assert second == b"next"


def test_an_oversized_line_takes_no_more_memory_than_its_ends() -> None:
    splitter = Lines(1000)
    for _ in range(1000):
        assert splitter.feed(b"x" * 1000) == []
    last = splitter.close()
    assert isinstance(last, Oversized)
    assert (len(last.head), len(last.tail), last.size) == (EDGE, EDGE, 1_000_000)


def test_a_last_line_without_its_end_comes_out_when_the_stream_closes() -> None:
    splitter = Lines(10)
    assert splitter.feed(b"one\ntwo") == [b"one"]
    assert splitter.close() == b"two"
    assert splitter.close() is None
