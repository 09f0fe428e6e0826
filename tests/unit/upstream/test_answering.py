"""An upstream that asks more than can be answered (proxy/upstream/answering.py)."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs

from proxy.model import Json, Params
from proxy.upstream.answering import MAX_RUNNING, Answering
from proxy.upstream.share import Share
from proxy.wire import envelope
from proxy.wire.envelope import Message
from tests.support.clock import settle


class Asked:
    """Takes an upstream's questions, and thinks about each until it is told to answer."""

    def __init__(self) -> None:
        self.think = anyio.Event()
        self.asked = 0
        self.sent: Counter[str] = Counter()
        """How often each outcome was sent."""

    async def ask(self, method: str, params: Params | None) -> Json:
        del method, params
        self.asked += 1
        await self.think.wait()
        return {}

    async def send(self, frame: bytes) -> None:
        self.sent["error" if "error" in msgspec.json.decode(frame) else "result"] += 1

    async def until_sent(self, count: int) -> None:
        """Wait until so many answers were sent, and nothing more is to be."""
        while self.sent.total() < count:
            await checkpoint()
        await settle()


@asynccontextmanager
async def answering(asked: Asked) -> AsyncIterator[Answering]:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            yield Answering("up", tasks, asked.send, Share())
            tasks.cancel_scope.cancel()


def question(number: int) -> Message:
    (message,) = envelope.read(b'{"jsonrpc":"2.0","id":%d,"method":"roots/list"}' % number)
    assert isinstance(message, Message)
    return message


async def test_each_question_is_answered() -> None:
    asked = Asked()
    asked.think.set()
    async with answering(asked) as answers:
        for number in range(10):
            answers.take(question(number), asked.ask)
        await settle()
    assert asked.sent == {"result": 10}


@pytest.mark.parametrize("one_id", [False, True])
async def test_too_many_at_once_are_refused_and_no_more_of_them_than_can_be_kept(*, one_id: bool) -> None:
    asked = Asked()
    async with answering(asked) as answers:
        for number in range(3 * MAX_RUNNING):
            answers.take(question(1 if one_id else number), asked.ask)
        assert answers.busy
        with capture_logs() as logs:
            await asked.until_sent(MAX_RUNNING)
            assert asked.asked == MAX_RUNNING
            assert asked.sent == {"error": MAX_RUNNING}
        assert [each for each in logs if each["event"] == "link.requests.dropped"] == [
            {"event": "link.requests.dropped", "log_level": "warning", "upstream": "up", "count": MAX_RUNNING}
        ]
        asked.think.set()
        await asked.until_sent(2 * MAX_RUNNING)
        assert asked.sent == {"error": MAX_RUNNING, "result": MAX_RUNNING}
        assert not answers.busy


async def test_what_was_dropped_is_told_when_the_link_ends_too() -> None:
    class Stuck(Asked):
        async def send(self, frame: bytes) -> None:
            del frame
            await anyio.sleep_forever()

    asked = Stuck()
    with capture_logs() as logs:
        async with answering(asked) as answers:
            for number in range(2 * MAX_RUNNING + 7):
                answers.take(question(number), asked.ask)
            await settle()
            assert not logs
    assert [each["count"] for each in logs if each["event"] == "link.requests.dropped"] == [7]


async def test_a_question_taken_back_makes_room() -> None:
    asked = Asked()
    async with answering(asked) as answers:
        for number in range(MAX_RUNNING):
            answers.take(question(number), asked.ask)
        await settle()
        assert answers.cancel(0)
        await settle()
        assert not answers.cancel(0)
        answers.take(question(MAX_RUNNING), asked.ask)
        await settle()
        assert asked.sent == {}
        assert asked.asked == MAX_RUNNING + 1
