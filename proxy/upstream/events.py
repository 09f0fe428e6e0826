"""The JSON-RPC messages of an SSE response, in their order."""

import time
from collections import deque

import anyio

from proxy.upstream.http_response import Response
from proxy.upstream.share import READING, Share, Turns
from proxy.upstream.slices import slice_of
from proxy.wire import large
from proxy.wire.envelope import Malformed, Message
from proxy.wire.lines import Oversized
from proxy.wire.sse import Event, Parser


class Events:
    """One SSE response, read event by event."""

    def __init__(self, response: Response, max_message: int, large: Share, patience: float | None = None) -> None:
        """``large`` has the account of large events; ``patience`` is how many seconds of silence count as the end.

        With None it waits for ever.
        """
        self._response = response
        self._patience = patience
        self.mark = ""
        """The id of the last event that had anything in it; empty while there was none with an id."""
        self.silent = False
        """Whether it ended by that."""
        self._parser = Parser(max_message)
        self._waiting: deque[Event | Oversized] = deque()
        self._turns = Turns(large)
        self._chunk = b""
        self._taken = 0
        """How much of the chunk has been looked at."""
        self.since = 0.0
        """When it went on after the last wait, by the monotonic clock: it has had the event loop since then."""

    @property
    def last_id(self) -> str:
        """The id to resume after; empty when the stream gave none."""
        return self._parser.last_id

    @property
    def retry(self) -> float | None:
        """How many seconds to wait before resuming, if the stream said so."""
        return None if self._parser.retry is None else self._parser.retry / 1000

    async def next(self) -> Event | Oversized | None:
        """The next event; None at the end of the stream.

        Raises:
            Broken: the connection broke.
        """
        while not self._waiting:
            if self._taken >= len(self._chunk):
                self._chunk, self._taken = await (self._response.some() if self._patience is None else self._soon()), 0
                self.since = time.monotonic()
                if not self._chunk:
                    return None
            start = self._taken
            self._taken += slice_of(self._chunk, start)  # whoever reads may let others run between two events
            self._waiting.extend(self._parser.feed(self._chunk[start : self._taken]))
            if not self._waiting:  # a large event is not there at once
                self._turns.begin(self.since - (self._taken - start) * READING)
                await self._turns.pause()
                self.since = time.monotonic()
        return self._waiting.popleft()

    async def _soon(self) -> bytes:
        with anyio.move_on_after(self._patience):
            return await self._response.some()
        self.silent = True
        return b""

    async def messages(self) -> list[Message | Malformed | Oversized] | None:
        """The messages of the next event, usually one; none for a mere sign of life; None at the end of the stream.

        Raises:
            Broken: the connection broke.
        """
        self.since = time.monotonic()
        event = await self.next()
        if event is None or isinstance(event, Oversized):
            return None if event is None else [event]
        if not event.data or event.event != "message":
            return []
        self.mark = event.id or self.mark
        return [*large.read(event.data)]
