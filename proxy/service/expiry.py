"""Time limits, many at once, for less than a microsecond each.

Theory of operation. ``anyio.fail_after`` costs about 10 µs a call and ``asyncio.timeout`` 6, most of it for a timer
that is armed and cancelled again (bench/layers.py has the figures). Here, all limits of one duration share a *lane*.
Within a lane they run out in the order in which they began, so one timer, armed for the oldest, serves them all: a
call which ends in time costs one entry in a dict and its removal. The timer stays armed for a call that has ended;
it then rings once, for nothing, and moves on to the oldest which is left.

A limit that runs out cancels its task with ``Task.cancel`` and gives that cancellation back with ``Task.uncancel``,
as ``asyncio.timeout`` does. If somebody else cancelled the task as well (an anyio scope, or a plain ``cancel``), that
wins: the cancellation travels on. All layers of one tower belong to one event loop.
"""

import asyncio
from typing import Any, Final, Protocol

import msgspec

from proxy.service.clock import Clock, Timer

EXPIRED: Final = "manifold: a time limit ran out"
"""The message of a cancellation which comes from a limit. Layers inside tell it from a downstream that left."""


def is_expiry(error: BaseException) -> bool:
    """Whether this cancellation came from a time limit, directly or as the reason of an anyio scope."""
    return isinstance(error, asyncio.CancelledError) and str(error).endswith(EXPIRED)


class Alarm(Protocol):
    """What waits in a lane."""

    at: float
    """When it rings; the lane sets it."""

    def ring(self) -> None:
        """The time is over. Called from the event loop, at most once per start; must not raise."""
        ...


class Lane:
    """Alarms that all take equally long. Mutable state: the alarms, oldest first, and one armed timer."""

    __slots__ = ("_alarms", "_clock", "_now", "_timer", "loop", "seconds")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.seconds = seconds
        self._clock = clock
        self._now = clock.now
        self._alarms: dict[Alarm, None] = {}
        self._timer: Timer | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop of those who wait here; asking which one runs costs a system call."""

    def start(self, alarm: Alarm) -> None:
        """Let ``alarm`` ring ``seconds`` from now, unless it is stopped; starts again what already waits here."""
        alarms = self._alarms
        if alarm in alarms:
            del alarms[alarm]  # it goes to the end
        alarm.at = at = self._now() + self.seconds
        alarms[alarm] = None
        if self._timer is None:
            self._timer = self._clock.call_at(at, self._ring)

    def stop(self, alarm: Alarm) -> None:
        """Forget ``alarm``; harmless when it does not wait."""
        self._alarms.pop(alarm, None)

    def _ring(self) -> None:
        self._timer = None
        due = self._due()
        for alarm in due:
            del self._alarms[alarm]
        oldest = next(iter(self._alarms), None)
        if oldest is not None:
            self._timer = self._clock.call_at(oldest.at, self._ring)
        for alarm in due:
            alarm.ring()

    def _due(self) -> list[Alarm]:
        now, due = self._now(), []
        for alarm in self._alarms:
            if alarm.at > now:
                break
            due.append(alarm)
        return due


class Lanes:
    """The lanes of one layer, one per duration. Durations come from policies, so they are few."""

    __slots__ = ("_clock", "_lanes")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lanes: dict[float, Lane] = {}

    def of(self, seconds: float) -> Lane:
        """The lane for this duration."""
        lane = self._lanes.get(seconds)
        if lane is None:
            lane = self._lanes[seconds] = Lane(self._clock, seconds)
        return lane


class Interrupt(msgspec.Struct, eq=False, kw_only=True):
    """A cancellation of the current task which can be taken back. The task that makes it must also end it."""

    rung: bool = False
    """Whether the task was cancelled."""
    _task: asyncio.Task[Any] | None = None
    _base: int = 0
    _ended: bool = False

    def __post_init__(self) -> None:
        self._of(asyncio.current_task())

    def _of(self, task: asyncio.Task[Any] | None) -> None:
        if task is None:
            raise RuntimeError("Only a running task can be interrupted.")
        self._task = task
        self._base = task.cancelling()

    def cancel(self, message: str) -> None:
        """Cancel the task, unless that is done or the interrupt has ended."""
        if not (self.rung or self._ended) and self._task is not None:
            self.rung = True
            self._task.cancel(message)

    def end(self) -> bool:
        """Take the cancellation back, and say whether the task was cancelled by this and by nobody else.

        To be called whatever happened; only the first call counts.
        """
        if self._ended:
            return False
        self._ended = True
        return self.rung and self._task is not None and self._task.uncancel() <= self._base


class Limit(Interrupt, kw_only=True):
    """Limits the current task: cancels it when its lane's time is over. Begins at once; the same task ends it."""

    lane: Lane
    at: float = 0.0
    _held: int = 0

    def __post_init__(self) -> None:
        lane = self.lane
        if lane.loop is None:
            lane.loop = asyncio.get_running_loop()
        self._of(asyncio.current_task(lane.loop))
        lane.start(self)

    def ring(self) -> None:
        """Cancel the task."""
        self.cancel(EXPIRED)

    def touch(self) -> None:
        """Give it the full time again."""
        if not (self._held or self._ended or self.rung):
            self.lane.start(self)

    def hold(self) -> None:
        """Stop the time until ``resume``; holds nest."""
        self._held += 1
        self.lane.stop(self)

    def resume(self) -> None:
        """End one ``hold``; after the last one the full time begins again."""
        self._held -= 1
        self.touch()

    def end(self) -> bool:
        """Stop limiting, and say whether the time ran out and nobody else cancelled the task."""
        self.lane.stop(self)
        if self.rung:
            return super().end()
        self._ended = True
        return False
