"""A person's time to think is nobody's fault: neither the idle limit nor the deadline runs while a question is open."""

from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from proxy.bridge.suspend import TTL, Asked, Claim, Suspender
from proxy.config.model import UpstreamConfig
from proxy.model import Backchannel, Call, Listing, Reply
from proxy.service.health import HealthStatus
from proxy.telemetry.metrics import Metrics
from proxy.upstream.stack import Shared, Tower
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, Ear, make_call

ELICITATION: dict[str, Any] = {"elicitation": {}}
CLAIM = Claim("", "digest")


class Asking:
    """An upstream that asks once in the middle of a call."""

    listing: Listing | None = None
    is_live = True

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.left = False

    def judged(self, status: HealthStatus, reason: str, /) -> None:
        del status, reason

    async def request(self, call: Call, /) -> Reply:
        assert call.back is not None
        try:
            self.answers.append(await call.back.ask("elicitation/create", {"message": "?", "requestedSchema": {}}))
        except BaseException:
            self.left = True
            raise
        return OK


async def test_a_parked_call_lives_as_long_as_its_place_and_not_as_its_limits() -> None:
    clock, upstream, metrics = ManualClock(), Asking(), Metrics()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            config = UpstreamConfig(command="x", timeout=20, deadline=30)
            tower = Tower(config, {"up": upstream}, Shared(tasks, metrics, clock))
            suspender = Suspender(clock)
            tasks.start_soon(suspender.run)
            await settle()

            async def send(back: Backchannel) -> Reply:
                return await tower.service(make_call("write", back=back))

            asked = await suspender.start(CLAIM, ELICITATION, Ear(), send)
            assert isinstance(asked, Asked)
            await clock.advance(TTL - 1.0)
            answers = {key: {"action": "accept", "content": {}} for key in asked.requests}
            reply = await suspender.resume(asked.handle, CLAIM, answers, Ear())
            assert reply is OK

            again = await suspender.start(CLAIM, ELICITATION, Ear(), send)
            assert isinstance(again, Asked)
            await clock.advance(TTL + 1.0)
            while not upstream.left:
                await checkpoint()
            [seen] = metrics.tools()
            assert (seen.successes, seen.failures) == (1, {"cancelled": 1})
            tasks.cancel_scope.cancel()


async def test_a_downstream_that_is_asked_at_once_may_think_longer_than_the_deadline() -> None:
    clock, upstream, ear = ManualClock(), Asking(), Ear()
    replies: list[Reply] = []
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            config = UpstreamConfig(command="x", timeout=20, deadline=30, attempt_timeout=5)
            tower = Tower(config, {"up": upstream}, Shared(tasks, Metrics(), clock))

            async def call() -> None:
                replies.append(await tower.service(make_call("who", safe=True, back=ear)))

            tasks.start_soon(call)
            await clock.advance(300.0)
            assert ear.thinking is not None
            ear.thinking.set_result({"action": "accept"})
            await settle()
            assert replies == [OK]
            tasks.cancel_scope.cancel()
