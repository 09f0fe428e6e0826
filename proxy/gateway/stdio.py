"""Standard input and output as a door.

The wire is served from private duplicates of the two descriptors while descriptor 0 reads nothing and descriptor 1
leads to standard error, so a stray ``print`` anywhere in the process cannot break the protocol. Reading and writing go
through the event loop and not through threads: a blocked read could not be cancelled, and a signal could not end us.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import FileIO
from typing import Final

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from proxy.front.early import Opening
from proxy.gateway.batch import LineBatches
from proxy.gateway.remember import Remember
from proxy.gateway.unread import unread
from proxy.wire.lines import Lines, Oversized

log = structlog.get_logger(__name__)

CHUNK: Final = 256 * 1024

Inbound = SessionMessage | Exception


@asynccontextmanager
async def stdio_streams(
    limit: int,
    opening: Opening | None = None,
) -> AsyncIterator[tuple[MemoryObjectReceiveStream[Inbound], MemoryObjectSendStream[SessionMessage]]]:
    """The streams of one downstream on standard input and output.

    Args:
        limit: the longest message in bytes; a longer one is reported, answered if it is a request, and skipped.
        opening: what has been said already, and who remembers what is said.
    """
    # From here on nobody else reads standard input, and standard output is where it was.
    remember = None if opening is None else Remember(opening)
    if not (_pollable(0) and _pollable(1)):
        # Redirected to or from a regular file, which no event loop can wait for.
        async with stdio_server() as (read, write):
            yield read, write
        return
    with _claimed() as (source, sink):
        reader, writer = await _connect(source, sink)
        inbound_send, inbound = anyio.create_memory_object_stream[Inbound](0)
        outbound, outbound_receive = anyio.create_memory_object_stream[SessionMessage](0)
        batches = LineBatches()
        async with anyio.create_task_group() as tasks:
            both = (inbound_send, outbound.clone())
            tasks.start_soon(_read, reader, both, (Lines(limit), batches), remember)
            tasks.start_soon(_write, writer, outbound_receive, batches, remember)
            if remember is not None:
                tasks.start_soon(remember.run)
            try:
                yield inbound, outbound
            finally:
                inbound.close()
                outbound.close()
                with anyio.move_on_after(1, shield=True):
                    await _drained(writer)
                tasks.cancel_scope.cancel()
                writer.transport.abort()


async def _read(
    reader: asyncio.StreamReader,
    ways: tuple[MemoryObjectSendStream[Inbound], MemoryObjectSendStream[SessionMessage]],
    framing: tuple[Lines, LineBatches],
    remember: Remember | None,
) -> None:
    lines, batches = framing
    inbound, outbound = ways
    chunk = b"" if remember is None else remember.data
    with inbound, outbound:
        while chunk := chunk or await reader.read(CHUNK):
            for line in lines.feed(chunk):
                instead = unread(line, lines.limit)
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


def _messages(line: bytes | Oversized, batches: LineBatches) -> Iterator[Inbound]:
    if not isinstance(line, Oversized) and line.strip():
        yield from map(_parsed, batches.apart(line))


def _parsed(line: bytes) -> Inbound:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValidationError as error:
        return error


async def _write(
    writer: asyncio.StreamWriter,
    outbound: MemoryObjectReceiveStream[SessionMessage],
    batches: LineBatches,
    remember: Remember | None,
) -> None:
    with outbound:
        async for one in outbound:
            for message in (one.message,) if remember is None else remember.said(one.message):
                writer.write(batches.frame(message))
            try:
                await writer.drain()
            except ConnectionError:
                log.debug("downstream.gone")
                return


async def _drained(writer: asyncio.StreamWriter) -> None:
    try:
        await writer.drain()
    except ConnectionError:
        log.debug("downstream.gone")


async def _connect(source: FileIO, sink: FileIO) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2 * CHUNK)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sink)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


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
