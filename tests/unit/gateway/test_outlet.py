"""What leaves on a pipe: whole lines, in order, whoever waits or gives up (proxy/gateway/outlet.py)."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from proxy.gateway.outlet import CROWD, PIECE, Pipe

LARGE = [b'"' + b"x" * PIECE, b"\r\n" * 10, b"y" * (8 * PIECE) + b'"']
SENT = b'"' + b"x" * PIECE + b"  " * 10 + b"y" * (8 * PIECE) + b'"\n'


class Reader:
    """The other end of a pipe."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream

    async def rest(self) -> bytes:
        with anyio.fail_after(10):
            return await self._stream.read()

    async def line(self) -> bytes:
        with anyio.fail_after(10):
            return await self._stream.readuntil(b"\n")


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Pipe, int]]:
    """An outlet, and the descriptor at the other end of its pipe."""
    source, sink = os.pipe()
    loop = asyncio.get_running_loop()
    _, outlet = await loop.connect_write_pipe(Pipe, os.fdopen(sink, "wb", 0))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outlet.run)
        try:
            yield outlet, source
        finally:
            outlet.close()
            tasks.cancel_scope.cancel()
    await anyio.lowlevel.checkpoint()  # the transport closes its file in the next turn


@asynccontextmanager
async def read(source: int) -> AsyncIterator[Reader]:
    stream = asyncio.StreamReader(limit=1 << 24)
    with os.fdopen(source, "rb", 0) as file:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), file)
        try:
            yield Reader(stream)
        finally:
            transport.close()
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("frame", [b'{\n"a":1\r\n}', [b"{\n", b'"a":1', b"\r\n}"]])
async def test_a_message_with_line_breaks_is_one_line(frame: bytes | list[bytes]) -> None:
    async with opened() as (outlet, source), read(source) as reader:
        outlet.put(frame)
        assert await reader.line() == b'{ "a":1  }\n'


async def test_what_is_put_while_a_large_line_leaves_comes_after_it() -> None:
    async with opened() as (outlet, source):
        outlet.put(b"first")
        outlet.put(LARGE)
        for number in range(100):
            outlet.put(b"%d" % number)
        outlet.put(LARGE)
        outlet.put(b"last")
        async with read(source) as reader:
            assert await reader.line() == b"first\n"
            assert await reader.line() == SENT
            assert [await reader.line() for _ in range(100)] == [b"%d\n" % number for number in range(100)]
            assert await reader.line() == SENT
            assert await reader.line() == b"last\n"


async def test_who_sends_waits_for_a_reader_that_lags_behind_and_may_give_up() -> None:
    async with opened() as (outlet, source):
        outlet.put(LARGE)
        with anyio.move_on_after(0.01) as waiting:
            await outlet.send(b"given up")
        assert waiting.cancelled_caught
        assert outlet.lags
        async with read(source) as reader, anyio.create_task_group() as tasks:
            tasks.start_soon(outlet.send, b"sent")
            assert [await reader.line() for _ in range(3)] == [SENT, b"given up\n", b"sent\n"]
        assert not outlet.lags


async def test_everything_has_left_when_it_is_flushed() -> None:
    async with opened() as (outlet, source), read(source) as reader:
        outlet.put(b"z" * (PIECE // 2))
        outlet.put(LARGE)
        outlet.put(b"z" * (PIECE // 2))
        with anyio.fail_after(10):
            await outlet.flushed()
        outlet.close()
        assert len(await reader.rest()) == len(SENT) + PIECE + 2


async def test_nothing_waits_for_a_reader_that_is_gone() -> None:
    async with opened() as (outlet, source):
        outlet.put(LARGE)
        os.close(source)
        with anyio.fail_after(10):
            await outlet.send(b"nobody")
            await outlet.flushed()
        outlet.put(b"nobody")
        assert not outlet.lags


async def test_it_is_crowded_while_too_much_waits() -> None:
    async with opened() as (outlet, source):
        count = 0
        while not outlet.crowded:
            outlet.put(LARGE)
            count += 1
        assert count * len(SENT) >= CROWD
        async with read(source) as reader:
            assert [await reader.line() for _ in range(count)] == [SENT] * count
            with anyio.fail_after(10):
                await outlet.room()
        assert not outlet.crowded
