"""What a child writes is on the account of its share, whatever it is, unless it answers (proxy/upstream/stdio.py)."""

import time

import anyio
import pytest

from proxy.config.model import Transport, UpstreamConfig
from proxy.model import Json, Params
from proxy.upstream.fair import here
from proxy.upstream.stdio import StdioLink

MANY = 20_000


class Nobody:
    """Listens, and says nothing."""

    def notification(self, method: str, params: Params | None) -> None:
        pass

    def owner(self, method: str) -> None:
        pass

    async def request(self, method: str, params: Params | None) -> Json:
        del method, params
        await anyio.lowlevel.checkpoint()


UNASKED = {
    "notifications": b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n',
    "questions": b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n',
    "garbage": b'{"jsonrpc":"2.0"}\n',
    "noise": b"Server is running\n",
}


@pytest.mark.parametrize("line", UNASKED.values(), ids=UNASKED)
async def test_a_flood_of_what_nobody_asked_for_is_followed_by_a_rest(line: bytes) -> None:
    async with anyio.create_task_group() as tasks:
        link = StdioLink("up", UpstreamConfig(type=Transport.STDIO, command="true"), Nobody(), tasks)
        link.output(line * (MANY // 10))
        here().demand.noted("other", time.monotonic())
        assert link.rest() > 0.0
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("kind", sorted(UNASKED.keys() - {"questions"}))  # many of those rest for another reason
async def test_it_is_not_while_nobody_calls_another_upstream(kind: str) -> None:
    async with anyio.create_task_group() as tasks:
        link = StdioLink("up", UpstreamConfig(type=Transport.STDIO, command="true"), Nobody(), tasks)
        here().demand.noted("up", time.monotonic())
        link.output(UNASKED[kind] * (MANY // 10))
        assert link.rest() == 0.0
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("size", "limit"), [(1 << 21, 1 << 22), (1 << 24, 1 << 20)], ids=["taken", "skipped"])
async def test_a_large_answer_is_followed_by_a_rest_while_others_call(size: int, limit: int) -> None:
    async with anyio.create_task_group() as tasks:
        config = UpstreamConfig(type=Transport.STDIO, command="true", max_message=limit)
        link = StdioLink("up", config, Nobody(), tasks)
        rests, large = [], b'{"jsonrpc":"2.0","id":1,"result":{"text":"' + b"x" * size
        for who in ("up", "other"):
            link.output(large)
            here().demand.noted(who, time.monotonic())
            rests.append(link.rest() > 0.0)
            link.output(b'"}}\n')
        assert rests == [False, True]


async def test_a_flood_of_answers_is_followed_by_none() -> None:
    async with anyio.create_task_group() as tasks:
        link = StdioLink("up", UpstreamConfig(type=Transport.STDIO, command="true"), Nobody(), tasks)
        link.output(b'{"jsonrpc":"2.0","id":1,"result":{}}\n' * MANY)
        assert link.rest() == 0.0
