"""A server whose lives a test decides: whether it lets us in, how long it takes to end, when it dies.

Stands where ``proxy.upstream.connect.connected`` does, so that a supervisor can live through years without a process.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import anyio

from proxy.config.model import UpstreamConfig
from proxy.errors import AuthRequired, ConnectFailed, Lost
from proxy.model import Backchannel, Era, Params, Reply
from proxy.upstream.connect import Way
from proxy.upstream.incoming import Heard, SessionIncoming
from proxy.upstream.negotiate import Negotiated, Offer
from proxy.upstream.session import Session
from tests.support.clock import ManualClock

_PROMPT: Final = ("tools/list", "ping")


class Door(StrEnum):
    """What becomes of an attempt to connect."""

    OPEN = "open"
    REFUSES = "refuses"
    AUTH = "auth"
    FAULT = "fault"
    """A fault of ours."""
    HANGS = "hangs"
    """Until the door is another."""


class LivesLink:
    """A link that answers lists and pings at once, and calls when it is told to."""

    attributes = True

    def __init__(self) -> None:
        self.closed: str | None = None
        self.pings_fail = False
        self.one_at_a_time = False
        """Whether pings are answered only together with calls."""
        self.asked: list[str] = []
        self._answers = anyio.Event()
        self._over = anyio.Event()

    def answer(self) -> None:
        """Answer all calls that wait."""
        self._answers.set()
        self._answers = anyio.Event()

    def die(self, reason: str) -> None:
        """End as a crashed child does."""
        self.closed = self.closed or reason
        self._over.set()
        self.answer()

    async def request(
        self,
        method: str,
        params: Params | None,
        *,
        back: Backchannel | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        del params, back, headers
        self.asked.append(method)
        if self.closed is not None:
            raise ConnectFailed(self.closed)
        if method == "ping" and self.pings_fail:
            raise Lost("no answer")
        if method not in _PROMPT or (method == "ping" and self.one_at_a_time):
            await self._answers.wait()
            if self.closed is not None:
                raise Lost(self.closed)
        return Reply.of({"tools": []})

    async def notify(self, method: str, params: Params | None, *, headers: Mapping[str, str] | None = None) -> None:
        del method, params, headers

    def agree(self, version: str) -> None:
        pass

    def listen(self) -> None:
        pass

    async def wait_closed(self) -> str:
        await self._over.wait()
        return self.closed or ""


@dataclass
class Life:
    """One attempt to connect, and what became of it. Times are the clock's."""

    began: float
    door: Door
    ready: float | None = None
    """When we were let in."""
    left: float | None = None
    """When we began to close it."""
    closed: float | None = None
    idle: bool = False
    """Whether it ended because nobody used it."""
    draw: float | None = None
    """What the dice said about the wait after it."""


@dataclass
class Server:
    """Whom a supervisor connects to."""

    clock: ManualClock
    door: Door = Door.OPEN
    closing: float = 0.0
    """Seconds that an end takes."""
    lives: list[Life] = field(default_factory=list)
    link: LivesLink | None = None
    most: int = 0
    """The most children that there were at once."""
    _changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def children(self) -> int:
        """How many there are now."""
        return sum(life.closed is None for life in self.lives)

    def becomes(self, door: Door) -> None:
        """From now on this becomes of attempts, those under way included."""
        self.door = door
        self._changed.set()
        self._changed = anyio.Event()

    @asynccontextmanager
    async def connect(
        self, name: str, config: UpstreamConfig, heard: Heard, offer: Offer, *, way: Way | None = None
    ) -> AsyncIterator[Session]:
        """Stands for ``connected``."""
        del config, offer, way
        life = Life(self.clock.now(), self.door)
        self.lives.append(life)
        self.most = max(self.most, self.children)
        try:
            while self.door is Door.HANGS:
                await self._changed.wait()
            life.door = self.door
            self._refuse(life.door)
            link = self.link = LivesLink()
            life.ready = self.clock.now()
            negotiated = Negotiated(Era.HANDSHAKE, "2025-11-25", {"tools": {"listChanged": True}})
            yield Session(name, link, negotiated, SessionIncoming(name, heard))
        finally:
            life.left = self.clock.now()
            if self.link is not None:
                self.link.die("closed")
                self.link = None
            with anyio.CancelScope(shield=True):
                await self.clock.sleep(self.closing)
            life.closed = self.clock.now()

    @staticmethod
    def _refuse(door: Door) -> None:
        if door is Door.REFUSES:
            raise ConnectFailed("nobody is there")
        if door is Door.AUTH:
            raise AuthRequired("wants a token")
        if door is Door.FAULT:
            raise RuntimeError("a fault of ours")
