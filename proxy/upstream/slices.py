"""Taking in what an upstream says a slice at a time, so that one which floods us leaves the loop to the others."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

import anyio.lowlevel

from proxy.service.courtesy import give_way
from proxy.service.steps import Steps

T = TypeVar("T")

TURN: Final = 0.00025
"""Seconds for which one upstream may keep the event loop to itself; a call of another takes several turns of it."""
BRIEF: Final = 0.00005
"""The same while calls of others are under way: they take some ten turns, and wait for all that is done in each."""
SLICE: Final = 256
"""Bytes between two looks at the clock, where many small messages come."""
_LITTLE: Final = 1024
"""Bytes of a chunk that is taken in without a look at the clock: a few answers."""
_WHOLE: Final = 1 << 16
"""The same within a large message, which is only gathered."""
_MUCH: Final = _WHOLE >> 1
"""Bytes of one chunk from which on more is likely to come at once: uvloop reads up to 32 times in one turn."""


class Turn:
    """How long somebody has had the event loop."""

    def __init__(self, seconds: float = TURN) -> None:
        self._until = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether it is time to let others run. Says so once, and the next turn begins."""
        now = time.monotonic()
        if now < self._until:
            return False
        self._until = now + TURN
        return True


async def in_turns(steps: Steps[T]) -> T:
    """Do work a turn at a time; its result. Others have the event loop in between."""
    turn = Turn()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if turn.over:
            give_way()
            await anyio.lowlevel.checkpoint()


def slice_of(data: bytes, start: int = 0) -> int:
    """How many bytes to take in before the next look at the clock: whole messages, where they are small."""
    end = data.find(b"\n", start + SLICE - 1, start + _WHOLE)
    return _WHOLE if end < 0 else end + 1 - start


class Slices:
    """Hands bytes on, in their order, for one turn of the event loop at a time; reading rests while some are left.

    Args:
        take: gets the bytes.
        rest: the seconds to rest before anything more is taken; asked after each turn.
        lasts: the seconds for which a turn lasts in which much comes.
    """

    def __init__(
        self,
        take: Callable[[bytes], None],
        rest: Callable[[], float] = lambda: 0.0,
        lasts: Callable[[], float] = lambda: TURN,
    ) -> None:
        self._take = take
        self._rest_for = rest
        self._lasts = lasts
        self._rest = b""
        self._transport: asyncio.ReadTransport | None = None
        self._turn: Turn | None = None
        """Of what is large in this turn of the loop, in which a transport may hand over several chunks."""
        self._brief = False
        """Whether such a turn is brief, because others call."""

    def feed(self, data: bytes, transport: asyncio.ReadTransport) -> None:
        """Take a chunk, which was read from this transport."""
        if self._transport is not None:
            self._rest += data
        elif len(data) > _LITTLE:
            self._rest = data
            self._go_on(transport)
        else:
            self._take(data)
            if (rest := self._rest_for()) > 0.0:
                self._rest_reading(transport, rest, over=False)

    def flush(self) -> None:
        """Hand on all that is left, at once."""
        rest, self._rest = self._rest, b""
        if rest:
            self._take(rest)

    def _go_on(self, transport: asyncio.ReadTransport) -> None:
        data, turn, start, over = self._rest, self._turn_for(self._rest), 0, False
        while start < len(data) and not over:
            end = start + slice_of(data, start)
            self._take(data[start:end])
            start = end
            over = turn.over
        self._rest = data[start:]
        if (over and self._lasts() < TURN) or (self._brief and len(data) >= _MUCH):
            give_way()
        self._rest_reading(transport, self._rest_for() if data else 0.0, over=over and turn is self._turn)

    def _turn_for(self, data: bytes) -> Turn:
        if len(data) < _MUCH:
            return Turn()
        if self._turn is None:
            lasts = self._lasts()
            self._turn, self._brief = Turn(lasts), lasts < TURN
            asyncio.get_running_loop().call_soon(self._turned)
        return self._turn

    def _turned(self) -> None:
        self._turn = None

    def _rest_reading(self, transport: asyncio.ReadTransport, delay: float, *, over: bool) -> None:
        if self._rest or delay > 0.0 or over:
            if self._transport is None:
                transport.pause_reading()
                self._transport = transport
            asyncio.get_running_loop().call_later(delay, self._again, transport)
        elif self._transport is not None:
            self._transport = None
            transport.resume_reading()

    def _again(self, transport: asyncio.ReadTransport) -> None:
        if transport.is_closing():
            self.flush()
        else:
            self._go_on(transport)
