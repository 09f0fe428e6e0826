"""The lives of an upstream, as a machine: doors that open and close, crashes, credentials, calls, reloads, stops.

A whole ``Upstream`` runs on a clock and on dice of the test's, before a server that does as it is told.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from itertools import zip_longest
from typing import Any, Final, TypeVar

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from proxy.config.model import UpstreamConfig
from proxy.errors import UpstreamError
from proxy.model import Call, Reply, StatusEvent
from proxy.model import UpstreamState as S
from proxy.service.backoff import ceiling
from proxy.service.health import HealthStatus
from proxy.upstream.lifecycle import SERVING
from proxy.upstream.standing import AGAIN, FREE, Hooks
from proxy.upstream.supervisor import BACKOFF, CRASH_LOOP, STABLE, Means
from proxy.upstream.upstream import Upstream
from tests.support.clock import ManualClock, settle
from tests.support.lives import Door, Life, Server

ALIVE: Final = {S.DEGRADED, S.ERROR, S.BACKING_OFF, S.AUTH_REQUIRED, S.IDLE, S.READY}
LEGAL: Final = {
    S.IDLE: {S.CONNECTING},
    S.CONNECTING: {S.READY, S.BACKING_OFF, S.ERROR, S.AUTH_REQUIRED},
    S.READY: ALIVE,
    S.DEGRADED: ALIVE,
    S.ERROR: ALIVE | {S.CONNECTING},
    S.BACKING_OFF: {S.CONNECTING, S.ERROR, S.AUTH_REQUIRED},
    S.AUTH_REQUIRED: {S.CONNECTING},
    S.DRAINING: set[S](),
    S.STOPPED: {S.IDLE},
}
"""What may follow a state, besides draining and the end."""

COMMAND: Final = "never-run"
DOORS: Final = st.sampled_from([*[Door.OPEN] * 5, *[Door.HANGS] * 2, *Door])
T = TypeVar("T")


class Lives(RuleBasedStateMachine):
    """Beside the upstream runs a model: what it told, when it was wanted, and when it may be tried again."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.server = Server(self.clock)
        self.told: list[StatusEvent] = []
        self.wants: list[float] = []
        self.draw = 0.5
        self.calls: list[asyncio.Task[Reply | UpstreamError]] = []
        self.gone = 0
        """Lives before the last stop."""

    # -- the world -----------------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def quiet() -> T:
            result = await work
            for _ in range(3):
                await settle()
            return result

        with capture_logs():
            return self.loop.run_until_complete(quiet())

    def dice(self) -> float:
        if self.life is not None:
            self.life.draw = self.draw
        return self.draw

    def hear(self, event: StatusEvent) -> None:
        self.told.append(event)
        if event.new is S.IDLE and self.life is not None:
            self.life.idle = True

    @property
    def life(self) -> Life | None:
        """The last life since it was started."""
        return self.server.lives[-1] if len(self.server.lives) > self.gone else None

    @initialize(door=DOORS, lazy=st.booleans(), idle=st.sampled_from([None, 4.0]))
    def begin(self, door: Door, lazy: bool, idle: float | None) -> None:
        self.server.door = door
        hooks = Hooks(status=self.hear)
        config = UpstreamConfig(command=COMMAND, lazy=lazy, idle_timeout=idle)
        self.upstream = Upstream(
            "a", config, hooks=hooks, clock=self.clock, means=Means(self.server.connect, rng=self.dice)
        )
        self.begin_again()

    @precondition(lambda self: self.task.done())
    @rule()
    def begin_again(self) -> None:
        self.gone = len(self.server.lives)
        if not self.upstream.config.lazy:
            self.wants.append(self.clock.now())

        async def owned() -> None:
            with self.scope:
                await self.upstream.run()

        async def started() -> asyncio.Task[None]:
            self.scope = anyio.CancelScope()
            return asyncio.get_running_loop().create_task(owned())

        self.task = self.run(started())

    @rule(seconds=st.sampled_from([0.3, 1.0, 5.0, 11.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.clock.advance(min(seconds, 5.0) if self.calling else seconds))

    @rule(door=DOORS, closing=st.sampled_from([0.0, 2.0]), draw=st.sampled_from([0.05, 0.5, 0.99]))
    def becomes(self, door: Door, closing: float, draw: float) -> None:
        self.server.closing, self.draw = closing, draw
        self.run(self._do(lambda: self.server.becomes(door)))

    @precondition(lambda self: self.server.link is not None)
    @rule()
    def crash(self) -> None:
        if (link := self.server.link) is not None:
            self.run(self._do(lambda: link.die("crashed")))

    @precondition(lambda self: self.server.link is not None)
    @rule(
        times=st.sampled_from([2, 6, 7]),
        lasting=st.sampled_from([0.0, 0.0, 11.0]),
        then=st.sampled_from([Door.OPEN, Door.REFUSES, Door.FAULT]),
    )
    def crash_again_and_again(self, times: int, lasting: float, then: Door) -> None:
        self.becomes(Door.OPEN, 0.0, self.draw)
        for _ in range(times):
            if self.server.link is not None:
                self.run(self.clock.advance(lasting))
                self.crash()
            else:
                self.run(self.clock.advance(self.clock.next_due() or 0.0))
            self.it_is_tried_again_when_it_is_due_and_not_before()
        self.becomes(then, 0.0, self.draw)

    @precondition(lambda self: self.server.link is not None)
    @rule(later=st.sampled_from([1.0, 70.0]))
    def lose_the_credential(self, later: float) -> None:
        self.becomes(Door.AUTH, 0.0, self.draw)
        self.crash()
        self.run(self.clock.advance(later))

    @precondition(lambda self: self.server.link is not None)
    @rule(fail=st.booleans())
    def pings(self, fail: bool) -> None:
        assert self.server.link is not None
        self.server.link.pings_fail = fail

    # -- those who use it ----------------------------------------------------------------------------------------------

    @property
    def calling(self) -> list[asyncio.Task[Reply | UpstreamError]]:
        return [call for call in self.calls if not call.done()]

    @precondition(lambda self: len(self.calling) < 3)
    @rule(answered=st.sampled_from([True, True, False]))
    def call(self, answered: bool) -> None:
        async def one() -> Reply | UpstreamError:
            try:
                return await self.upstream.request(Call("a", "tools/call", {"name": "x"}))
            except UpstreamError as error:
                return error

        async def start() -> None:
            self.calls.append(asyncio.get_running_loop().create_task(one()))

        self.wants.append(self.clock.now())
        self.run(start())
        if answered:
            self.answer()

    @rule(given_up=st.booleans())
    def call_right_after_a_loss(self, given_up: bool) -> None:
        """It waits for the next session, and is answered by that."""
        link = self.server.link
        if self.server.door is not Door.OPEN or link is None or len(self.calling) > 2:
            return
        if given_up:
            self.upstream.expire("its session is unknown")
        else:
            link.die("crashed")
        self.call(answered=False)
        self.run(self.clock.advance(2.0 + AGAIN))
        self.answer()
        assert isinstance(self.calls[-1].result(), Reply)

    @precondition(lambda self: self.calling)
    @rule()
    def give_up(self) -> None:
        self.run(self._do(self.calling[0].cancel))

    @rule()
    def answer(self) -> None:
        if self.server.link is not None:
            self.run(self._do(self.server.link.answer))

    # -- those who look after it ---------------------------------------------------------------------------------------

    @rule()
    def start(self) -> None:
        self.wants.append(self.clock.now())
        self.run(self._do(self.upstream.start))

    @rule()
    def expire(self) -> None:
        self.run(self._do(lambda: self.upstream.expire("its session is unknown")))

    @rule(status=st.sampled_from(HealthStatus))
    def judge(self, status: HealthStatus) -> None:
        self.run(self._do(lambda: self.upstream.judged(status, "its calls say so")))

    @rule(
        lazy=st.booleans(),
        idle=st.sampled_from([None, 4.0, 20.0]),
        health=st.sampled_from([0.0, 20.0]),
        refresh=st.sampled_from([30.0, 1800.0]),
    )
    def retune(self, lazy: bool, idle: float | None, health: float, refresh: float) -> None:
        config = UpstreamConfig(command=COMMAND, lazy=lazy, idle_timeout=idle, health=health, refresh=refresh)

        def do() -> None:
            self.upstream.config = config
            if not lazy:
                self.upstream.start()

        if not lazy:
            self.wants.append(self.clock.now())
        self.run(self._do(do))

    @precondition(lambda self: not self.task.done())
    @rule(drain=st.booleans(), later=st.sampled_from([0.0, 3.0, 100.0]))
    def stop(self, drain: bool, later: float) -> None:
        if drain:
            self.run(self.upstream.drain(0))
            before = len(self.server.lives)
            assert self.upstream.state is S.DRAINING
            self.crash()
            self.run(self.clock.advance(min(later, 5.0)))
            assert len(self.server.lives) == before, "connected for nobody"
        self._stop()

    def _stop(self) -> None:
        self.run(self._do(self.scope.cancel))
        self.run(self.clock.advance(2.0))  # as long as an end may take
        assert self.task.done()
        assert self.upstream.state is S.STOPPED
        assert self.upstream.session is None
        assert self.server.children == 0
        assert self.clock.armed == 0, "a timer of an upstream that is stopped"
        assert not self.calling, "a call that nobody will ever answer"

    async def _do(self, deed: Callable[[], object]) -> None:
        deed()

    # -- what is always true -------------------------------------------------------------------------------------------

    @invariant()
    def every_transition_is_legal_and_follows_the_one_before(self) -> None:
        states = [S.IDLE, *(event.new for event in self.told)]
        assert [event.old for event in self.told] == states[:-1]
        assert states[-1] is self.upstream.state
        for event in self.told:
            assert event.new in LEGAL[event.old] | {S.DRAINING, S.STOPPED}, event

    @invariant()
    def there_are_never_two_children(self) -> None:
        assert self.server.most <= 1

    @invariant()
    def the_state_says_what_there_is(self) -> None:
        state, live = self.upstream.state, self.upstream.is_live
        crashing = state is S.ERROR and self.server.link is None
        assert (state in SERVING) == live or crashing or state is S.DRAINING, (state, live)
        assert state is not S.CONNECTING or (self.life is not None and self.life.ready is None)
        assert not live or (self.upstream.error is None and self.server.link is not None)

    @invariant()
    def it_is_tried_again_when_it_is_due_and_not_before(self) -> None:
        lives = self.server.lives[self.gone :]
        failures = 0
        resting = not self.task.done() and self.upstream.state is not S.DRAINING
        for before, after in zip_longest(lives, lives[1:]):
            if before.closed is None or before.left is None or (after is None and not resting):
                return
            failures = 0 if self._rested(before) else failures + 1
            due = self._due(before, failures)
            if after is None:
                assert self.clock.now() < due, (failures, before, self.upstream.state)
                assert self.upstream.state is self._resting(before, failures), (failures, before)
            else:
                wanted = any(before.left <= want <= after.began for want in self.wants)
                assert after.began == due or (wanted and after.began < due), (failures, before, after)
                assert after.began >= self._soonest(before, failures, due), (failures, before, after)

    def _rested(self, life: Life) -> bool:
        """Whether the count of failures begins anew with the end of a life."""
        lasted = 0.0 if life.ready is None or life.left is None else life.left - life.ready
        return lasted >= STABLE or life.idle

    def _resting(self, life: Life, failures: int) -> S:
        """The state between two lives."""
        if life.idle:
            return S.IDLE
        if life.ready is None and life.door is Door.AUTH:
            return S.AUTH_REQUIRED
        return S.ERROR if failures >= CRASH_LOOP else S.BACKING_OFF

    def _soonest(self, life: Life, failures: int, due: float) -> float:
        """When it may be tried again because somebody wants it."""
        assert life.closed is not None
        rests = failures > FREE and life.ready is not None and not life.idle
        return min(due, life.closed + AGAIN) if rests else life.closed

    def _due(self, life: Life, failures: int) -> float:
        """When it is tried again though nobody wants it."""
        assert life.closed is not None
        if life.idle or (life.ready is None and life.door is Door.AUTH):
            return math.inf
        if life.ready is not None and failures <= 1:
            return life.closed
        assert life.draw is not None, "without dice"
        return life.closed + life.draw * ceiling(failures, BACKOFF)

    def teardown(self) -> None:
        """However it went: a server that is well is reached within the longest wait, and the end leaves nothing."""
        try:
            if not hasattr(self, "task"):
                return
            if not self.task.done() and self.upstream.state is not S.DRAINING:
                self.server.closing = 0.0
                self.run(self._do(lambda: self.server.becomes(Door.OPEN)))
                self.run(self.clock.advance(4.0))  # whatever is under way has ended
                self.start()
                self.run(self.clock.advance(0.0))
                assert self.upstream.is_live
                self.run(self._do(lambda: [call.cancel() for call in self.calling]))
                self.call(answered=True)
                assert isinstance(self.calls[-1].result(), Reply)
                self._stop()
            elif not self.task.done():
                self._stop()
        finally:
            self.loop.close()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
