"""What a child writes is on the account of its share, whatever it is, unless it answers (proxy/upstream/stdio.py)."""

import anyio
import pytest

from proxy.config.model import Transport, UpstreamConfig
from proxy.model import Json, Params
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
        assert link.rest() > 0.0
        tasks.cancel_scope.cancel()


async def test_a_flood_of_answers_is_followed_by_none() -> None:
    async with anyio.create_task_group() as tasks:
        link = StdioLink("up", UpstreamConfig(type=Transport.STDIO, command="true"), Nobody(), tasks)
        link.output(b'{"jsonrpc":"2.0","id":1,"result":{}}\n' * MANY)
        assert link.rest() == 0.0
