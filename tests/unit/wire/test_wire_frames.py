"""Lines that may be large: split as ``Lines`` splits them, wherever the chunks are cut."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.envelope import Malformed, Message
from proxy.wire.frames import Frames
from proxy.wire.large import LARGE, Frame, Scanned
from proxy.wire.lines import Lines, Oversized
from proxy.wire.sse import Event, Parser
from tests.support.wire_chunks import cut, fed

TEXT = b"x" * (3 * LARGE)
ANSWER = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"%b"}]}}' % TEXT


def plain(lines: "list[bytes | Frame | Oversized]") -> list[bytes | Oversized]:
    return [bytes(line) if isinstance(line, Frame) else line for line in lines]


@given(st.lists(st.sampled_from([b"{}", b"", b"[1]", TEXT[:9], b"\n", b"\n"])), st.lists(st.integers(0, 60)))
def test_small_lines_come_out_as_they_are(parts: list[bytes], at: list[int]) -> None:
    stream = b"".join(parts)
    frames, lines = Frames(5), Lines(5)
    assert fed(frames.feed, cut(stream, at)) == fed(lines.feed, cut(stream, at))
    assert frames.close() == lines.close()


def test_a_long_line_comes_out_as_a_frame_between_others() -> None:
    frames = Frames(10 * LARGE)
    found = fed(frames.feed, cut(b"one\n" + ANSWER + b"\ntwo\n", range(0, 4 * LARGE, 999)))
    assert plain(found) == [b"one", ANSWER, b"two"]
    large = found[1]
    assert isinstance(large, Frame)
    (message,) = large.finish()
    assert isinstance(message, Scanned)
    assert message.body is not None
    assert b"".join(message.body.parts) == ANSWER[len(b'{"jsonrpc":"2.0","id":7,"result":') : -1]


def test_a_frame_over_the_limit_is_cut_down_to_its_ends_as_any_line() -> None:
    frames, lines = Frames(2 * LARGE), Lines(2 * LARGE)
    chunks = list(cut(ANSWER + b"\nnext\n", range(0, 4 * LARGE, 999)))
    assert fed(frames.feed, chunks) == fed(lines.feed, chunks)


def test_large_data_of_an_event_are_a_frame() -> None:
    stream = b"id: 1\ndata: " + ANSWER + b"\n\ndata: {}\n\n"
    first, second = fed(Parser(10 * LARGE).feed, cut(stream, range(0, 4 * LARGE, 777)))
    assert isinstance(first, Event)
    assert isinstance(first.data, Frame)
    (message,) = first.data.finish()
    assert isinstance(message, Message)
    assert message.id == 7
    assert second == Event(b"{}", id="1")


def test_large_data_in_several_lines_are_joined() -> None:
    half = ANSWER.index(b",")
    (event,) = Parser(10 * LARGE).feed(b"data: " + ANSWER[: half + 1] + b"\ndata: " + ANSWER[half + 1 :] + b"\n\n")
    assert isinstance(event, Event)
    assert event.data == ANSWER[: half + 1] + b"\n" + ANSWER[half + 1 :]


def test_large_noise_in_a_stream_is_no_frame() -> None:
    assert Parser(10 * LARGE).feed(b":" + TEXT + b"\ndata: 1\n\n") == [Event(b"1")]


def test_large_noise_is_kept_for_the_log() -> None:
    frames = Frames(10 * LARGE)
    (line,) = frames.feed(b"no JSON, " + TEXT + b"\n")
    assert isinstance(line, Frame)
    (told,) = line.finish()
    assert isinstance(told, Malformed)
    assert bytes(line) == b"no JSON, " + TEXT
    assert line.ends.size == len(line)
