"""A request whose answer comes while it is still being sent (HTTP+SSE: the answer has a connection of its own)."""

import asyncio

import anyio
import pytest

from proxy.errors import Lost
from proxy.upstream.pending import Pending
from proxy.upstream.share import Share
from proxy.wire import envelope
from proxy.wire.envelope import Message
from tests.support.link_peers import Back


async def test_what_was_said_before_an_early_answer_is_told_before_it() -> None:
    back = Back("t")
    pending = Pending("x", back, asyncio.get_running_loop().create_future(), Share())
    pending.deliver("a", {"n": 1})
    pending.deliver("b", {"n": 2})
    (answer,) = envelope.read(envelope.response(1, {}))
    assert isinstance(answer, Message)
    pending.resolve(answer)
    pending.deliver("c", {"n": 3})
    with anyio.fail_after(5):
        assert await pending.outcome() is answer
    assert back.said == [("a", {"n": 1}), ("b", {"n": 2})]


async def test_the_first_outcome_holds() -> None:
    pending = Pending("x", None, asyncio.get_running_loop().create_future(), Share())
    first = Lost("first")
    pending.resolve(first)
    pending.resolve(Lost("second"))
    with pytest.raises(Lost) as caught:
        await pending.outcome()
    assert caught.value is first
