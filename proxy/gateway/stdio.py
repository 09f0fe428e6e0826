"""Standard input and output as a door.

The wire is served from private duplicates of the two descriptors while descriptor 0 reads nothing and descriptor 1
leads to standard error, so a stray ``print`` anywhere in the process cannot break the protocol. Reading and writing go
through the event loop and not through threads: a blocked read could not be cancelled, and a signal could not end us.
"""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from io import FileIO
from typing import Final

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, jsonrpc_message_adapter
from pydantic import ValidationError

from proxy.front.early import Opening
from proxy.gateway.batch import LineBatches
from proxy.gateway.outlet import Outlet, Pipe
from proxy.gateway.remember import Remember
from proxy.gateway.stdio_lane import StdioLane
from proxy.gateway.unread import Unread, unread
from proxy.wire import envelope
from proxy.wire.lines import Lines, Oversized

if sys.platform == "linux":
    import fcntl

log = structlog.get_logger(__name__)

CHUNK: Final = 256 * 1024
WIDTH: Final = 1 << 20
"""Bytes that standard output holds, where it is a pipe."""

Inbound = SessionMessage | Exception


@asynccontextmanager
async def stdio_streams(
    limit: int,
    opening: Opening | None = None,
    lane: StdioLane | None = None,
) -> AsyncIterator[tuple[MemoryObjectReceiveStream[Inbound], MemoryObjectSendStream[SessionMessage]]]:
    """The streams of one downstream on standard input and output.

    Args:
        limit: the longest message in bytes; a longer one is reported, answered if it is a request, and skipped.
        opening: what has been said already, and who remembers what is said.
        lane: serves what it can before anybody else sees it.
    """
    # From here on nobody else reads standard input, and standard output is where it was.
    remember = None if opening is None else Remember(opening)
    if not (_pollable(0) and _pollable(1)):
        # Redirected to or from a regular file, which no event loop can wait for.
        async with stdio_server() as (read, write):
            yield read, write
        return
    with _claimed() as (source, sink):
        reader, outlet = await _connect(source, sink)
        inbound_send, inbound = anyio.create_memory_object_stream[Inbound](0)
        outbound, outbound_receive = anyio.create_memory_object_stream[SessionMessage](0)
        batches = LineBatches()
        async with anyio.create_task_group() as tasks:
            both = (inbound_send, outbound.clone())
            tasks.start_soon(outlet.run)
            tasks.start_soon(_read, reader, both, (Lines(limit), batches), (remember, lane))
            tasks.start_soon(_write, outlet, outbound_receive, batches, remember)
            if remember is not None:
                tasks.start_soon(remember.run)
                if lane is not None:
                    lane.remembered_by(remember)
            try:
                async with nullcontext() if lane is None else lane.over(outlet):
                    yield inbound, outbound
            finally:
                inbound.close()
                outbound.close()
                with anyio.move_on_after(1, shield=True):
                    await outlet.flushed()
                tasks.cancel_scope.cancel()
                outlet.close()


async def _read(
    reader: asyncio.StreamReader,
    ways: tuple[MemoryObjectSendStream[Inbound], MemoryObjectSendStream[SessionMessage]],
    framing: tuple[Lines, LineBatches],
    first: tuple[Remember | None, StdioLane | None],
) -> None:
    lines, batches = framing
    inbound, outbound = ways
    remember, lane = first
    chunk = b"" if remember is None else remember.data
    with inbound, outbound:
        while chunk := chunk or await reader.read(CHUNK):
            for line in lines.feed(chunk):
                instead = unread(line, lines.limit)
                if lane is not None and _taken(lane, line, instead):
                    continue
                if instead is not None and instead.outwards is not None:
                    await outbound.send(instead.outwards)
                for message in _messages(line, batches) if instead is None else (instead.inwards,):
                    if remember is not None and isinstance(message, SessionMessage):
                        remember.heard(message.message)
                    try:
                        if message is not None:
                            await inbound.send(message)
                    except anyio.BrokenResourceError:
                        return
            chunk = b""


def _taken(lane: StdioLane, line: bytes | Oversized, instead: Unread | None) -> bool:
    """Whether the lane has taken a line, or what is said in place of it."""
    if instead is None:
        return not isinstance(line, Oversized) and lane.take(line)
    error = None if instead.inwards is None else instead.inwards.message
    if not isinstance(error, JSONRPCError):
        return False
    return lane.take_answer(envelope.decode(envelope.error(error.id, error.error.code, error.error.message)))


def _messages(line: bytes | Oversized, batches: LineBatches) -> Iterator[Inbound]:
    if not isinstance(line, Oversized) and line.strip():
        yield from map(_parsed, batches.apart(line))


def _parsed(line: bytes) -> Inbound:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValidationError as error:
        return error


async def _write(
    outlet: Outlet,
    outbound: MemoryObjectReceiveStream[SessionMessage],
    batches: LineBatches,
    remember: Remember | None,
) -> None:
    with outbound:
        async for one in outbound:
            for message in (one.message,) if remember is None else remember.said(one.message):
                if frame := batches.frame(message):
                    await outlet.send(frame)


async def _connect(source: FileIO, sink: FileIO) -> tuple[asyncio.StreamReader, Pipe]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2 * CHUNK)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    _widen(sink)
    _, outlet = await loop.connect_write_pipe(Pipe, sink)
    return reader, outlet


def _widen(sink: FileIO) -> None:
    """Have a pipe hold more: a large answer leaves in fewer turns. Where that cannot be had, it takes more of them."""
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(sink.fileno(), fcntl.F_SETPIPE_SZ, WIDTH)


def _pollable(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


@contextmanager
def _claimed() -> Iterator[tuple[FileIO, FileIO]]:
    """Private files on what was standard input and output; both descriptors are put back at the end."""
    wire_in, wire_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    try:
        with os.fdopen(os.dup(wire_in), "rb", buffering=0) as source, os.fdopen(os.dup(wire_out), "wb", 0) as sink:
            yield source, sink
    finally:
        os.set_blocking(wire_in, True)
        os.set_blocking(wire_out, True)
        os.dup2(wire_in, 0)
        os.dup2(wire_out, 1)
        os.close(wire_in)
        os.close(wire_out)
