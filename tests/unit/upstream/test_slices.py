"""What one upstream says is taken in turns with all else that wants to run."""

import asyncio

import anyio
import anyio.lowlevel
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.slices import TURN, Slices


class Pipe(asyncio.ReadTransport):
    """A transport that only notes whether it is read."""

    reading = True
    closing = False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

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
