"""What one upstream says is taken in turns with all else that wants to run."""

import asyncio

import anyio
import anyio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.upstream.slices import TURN, Slices


class Pipe(asyncio.ReadTransport):
    """A transport that only notes whether it is read."""

    reading = True
    closing = False

    def __init__(self) -> None:
        super().__init__()
        self.resumed = anyio.Event()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.resumed.set()

    def is_closing(self) -> bool:
        return self.closing


def burn(_data: bytes) -> None:
    """Take longer than a turn."""
    end = asyncio.get_running_loop().time() + TURN
    while asyncio.get_running_loop().time() < end:
        pass


async def test_others_run_while_a_flood_is_taken_in() -> None:
    pipe, taken = Pipe(), bytearray()

    def take(data: bytes) -> None:
        burn(data)
        taken.extend(data)

    flood = b"x\n" * 5_000
    Slices(take).feed(flood, pipe)
    turns = 0
    with anyio.fail_after(10):
        while len(taken) < len(flood):
            assert not pipe.reading
            await anyio.lowlevel.checkpoint()
            turns += 1
    assert turns > 3
    assert taken == flood
    assert pipe.reading


async def test_reading_rests_as_long_as_it_is_told_to() -> None:
    pipe, taken, rests = Pipe(), bytearray(), [0.001, 0.001, 0.0]
    Slices(taken.extend, lambda: rests.pop(0) if rests else 0.0).feed(b"one\n", pipe)
    assert not pipe.reading
    with anyio.fail_after(10):
        await pipe.resumed.wait()
    assert taken == b"one\n"


async def test_a_rest_ends_although_the_reason_for_it_lasts() -> None:
    """Otherwise nothing could end the reason: it may be behind what is not read."""
    taken = bytearray()
    slices = Slices(taken.extend, lambda: 0.001)
    for part in (b"one\n", b"two\n"):
        pipe = Pipe()
        slices.feed(part, pipe)
        with anyio.fail_after(10):
            await pipe.resumed.wait()
    assert taken == b"one\ntwo\n"


@settings(deadline=None)
@given(st.lists(st.binary(max_size=5_000)))
def test_nothing_is_lost_or_reordered(chunks: list[bytes]) -> None:
    taken = bytearray()

    async def feed() -> None:
        slices = Slices(taken.extend)
        for chunk in chunks:
            slices.feed(chunk, Pipe())
        slices.flush()

    asyncio.run(feed())
    assert bytes(taken) == b"".join(chunks)


async def test_what_is_left_when_the_pipe_closes_is_taken_in() -> None:
    pipe, taken = Pipe(), bytearray()

    def take(data: bytes) -> None:
        burn(data)
        taken.extend(data)

    flood = b"x\n" * 5_000
    Slices(take).feed(flood, pipe)
    pipe.closing = True
    with anyio.fail_after(10):
        while len(taken) < len(flood):
            await anyio.lowlevel.checkpoint()
    assert taken == flood
