"""How much of the event loop an upstream may have, while calls of others want it, for what costs more than calls do.

That is what nobody waits for (notifications, progress, noise, its log), and large frames. Small answers do not count:
a caller waits for each of them, and the bulkhead says how many there are. The rest has no such limit, and a flood of it
would slow down every turn of the loop, and so the calls to all other upstreams. So it gets a burst at full speed, and
after that its part of the time; meanwhile the link is not read, and its peer waits, as it would for any slow reader.

While nobody else wants the loop there is nobody to save it for: then all of it may be used, a turn at a time, so that
whoever calls next is served at once.
"""

import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

import anyio

from proxy.service.courtesy import give_way
from proxy.upstream.slices import TURN

T = TypeVar("T")

PART: Final = 0.1
"""The part of the event loop which an upstream has in the long run for what nobody waits for."""
LARGE_PART: Final = 0.5
"""The same for large frames, which somebody waits for."""
READING: Final = 3e-10
"""Seconds that the system takes to hand over one byte, about: of what is large this counts, and we cannot see it."""
WRITING: Final = 5e-10
"""The same for one that we hand over."""
BURST: Final = 0.001
"""Seconds of the event loop which it may have at once after a quiet time."""
_MOST: Final = 0.05
"""Seconds that one charge counts at most: one large message must not silence an upstream for long."""
_MOST_IN_TASK: Final = 0.005
"""The same in a task, which may have waited for its downstream meanwhile: that cost nobody anything."""


class Share:
    """The credit of one link, in seconds of the event loop. Pure but for its clock.

    Mutable state: the credit, below zero while it is overdrawn, and when that was true.

    Args:
        clock: monotonic seconds.
        part: of the loop, that it may have in the long run.
        others: whether anybody else wants the loop at a time of that clock.
        brief: seconds for which it may keep the loop to itself while others want it.
    """

    __slots__ = ("__weakref__", "_at", "_brief", "_clock", "_credit", "_others", "_part")

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        part: float = PART,
        others: Callable[[float], bool] = lambda _now: True,
        brief: float = TURN,
    ) -> None:
        self._clock = clock
        self._brief = brief
        self._part = part
        self._others = others
        self._credit = BURST
        self._at = clock()

    def charge(self, began: float, most: float = _MOST) -> None:
        """It has had the loop since ``began``, by its clock."""
        self._credit -= min(self._clock() - began, most)

    def now(self) -> float:
        """The time by its clock, in seconds."""
        return self._clock()

    def rest(self) -> float:
        """Seconds for which it has to leave the loop to others; 0.0 while it has credit."""
        if self._credit == BURST:
            return 0.0  # nothing was charged since it was full
        now = self._clock()
        self._credit = min(BURST, self._credit + (now - self._at) * self._part)
        self._at = now
        if self._credit > 0.0:
            return 0.0
        if not self._others(now):
            self._credit = 0.0  # it took from nobody: what was before is no debt, and no credit either
            return 0.0
        return (TURN - self._credit) / self._part

    @property
    def crowded(self) -> bool:
        """Whether others want the loop now."""
        return self._others(self._clock())

    def turn(self) -> float:
        """Seconds for which it may keep the loop to itself."""
        return self._brief if self.crowded else TURN

    def reading(self) -> float:
        """The same for reading a link, which need not be brief while nothing comes that counts here."""
        return self.turn() if self._credit < BURST else TURN


class Turns:
    """The work of a task that handles one thing after the other, on the account of a share."""

    __slots__ = ("_began", "_share", "_since")

    def __init__(self, share: Share) -> None:
        self._share = share
        self._began = self._since = share.now()

    def begin(self, since: float) -> None:
        """What was before ``since``, by the share's clock, does not count: it was a wait."""
        self._began = since

    async def pause(self) -> None:
        """One thing is handled: let others run if the turn is over, and for as long as the share says."""
        share = self._share
        share.charge(self._began, _MOST_IN_TASK)
        if share.crowded:
            give_way()  # also between the things of one turn: whoever waits for the processor is no task of ours
        self._began = share.now()
        if (rest := share.rest()) > 0.0 or self._began - self._since >= share.turn():
            await anyio.sleep(rest)
            self._began = self._since = share.now()


class Metered(Generic[T]):
    """Something to await, whose time on the event loop goes on the account of a share; its waits do not."""

    __slots__ = ("_share", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], share: Share) -> None:
        self._work = work
        self._share = share

    def __await__(self) -> Generator[Any, Any, T]:
        work, share = self._work, self._share
        step: Callable[[Any], Any] = work.send
        told: Any = None
        while True:
            began = share.now()
            try:
                waits_for = step(told)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # StopIteration is not generic
            finally:
                share.charge(began)
            try:
                step, told = work.send, (yield waits_for)
            except BaseException as error:  # noqa: BLE001 - a cancellation, say: it goes where it belongs
                step, told = work.throw, error
