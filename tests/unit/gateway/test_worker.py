"""One task serves the hot requests of a connection: none of them inherits anything from the one before it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from proxy.gateway.taken import Taken
from tests.support.raw_http import request, running
from tests.unit.gateway.test_direct import HEAD, LAST, App, Door, all_gone, echo, talk

Serve = Callable[[Taken], Coroutine[Any, Any, None]]
MARK: ContextVar[bytes] = ContextVar("mark", default=b"")
ONE, TWO, THREE = request(b"1"), request(b"2"), request(b"3")


def own_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_requests_of_a_connection_share_a_task_and_those_of_others_do_not() -> None:
    door = Door()
    async with running(App(door)) as (_, port):
        await talk(port, ((ONE,), (TWO,), (THREE,)))
        assert len(set(door.tasks)) == 1
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(talk(port, ((ONE,), (TWO,))))
    assert len(door.bodies) == 4 + 3 * 3
    assert door.over == len(door.bodies)


async def test_what_an_app_goes_on_with_has_the_task_to_itself() -> None:
    door = Door(declines=lambda taken: taken.body == b"2")

    async def note(taken: Taken) -> None:
        assert MARK.get() == b""
        await echo(taken)

    class Marking(App):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            MARK.set(b"left behind by an app, which need not tidy up")
            await super().__call__(scope, receive, send)

    door.how = note
    app = Marking(door)
    async with running(app) as (_, port):
        said = await talk(port, ((ONE,), (TWO,), (THREE,)))
    assert said.count(b"HTTP/1.1 200") == 4
    assert len(app.scopes) == 1
    assert len(set(door.tasks)) == 2


async def test_a_cancellation_that_nobody_took_back_does_not_meet_the_next_request() -> None:
    async def cancelled(taken: Taken) -> None:
        if taken.body == b"1":
            own_task().cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
        assert own_task().cancelling() == (taken.body == b"1")
        await asyncio.sleep(0)
        await echo(taken)

    door = Door(cancelled)
    async with running(App(door)) as (_, port):
        said = await talk(port, ((ONE,), (TWO,), (THREE,)))
    assert said.count(b"HTTP/1.1 200") == 4
    assert len(set(door.tasks)) == 2


async def test_a_request_that_is_cut_leaves_the_connection_to_the_next_one() -> None:
    async def cut(taken: Taken) -> None:
        if taken.body != b"1":
            await echo(taken)
            return
        task = own_task()
        asyncio.get_running_loop().call_soon(task.cancel)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            task.uncancel()
            taken.whole(401, HEAD, b"cut")

    door = Door(cut)
    async with running(App(door)) as (_, port):
        said = await talk(port, ((ONE,), (TWO,)))
    assert [said.count(one) for one in (b"HTTP/1.1 401", b"HTTP/1.1 200")] == [1, 2]
    assert len(set(door.tasks)) == 1


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_a_request_that_breaks_is_answered_and_harms_no_other_connection(how: str) -> None:
    async def broken(taken: Taken) -> None:
        if taken.body != b"2":
            await echo(taken)
        elif how == "failed":
            raise RuntimeError("no")
        else:
            own_task().cancel()
            await asyncio.sleep(60)

    door = Door(broken)
    async with running(App(door)) as (server, port):
        async with (
            await anyio.connect_tcp("127.0.0.1", port) as other,
            await anyio.connect_tcp("127.0.0.1", port) as one,
        ):
            for stream, data, status in (
                (other, ONE, b"200"),
                (one, ONE, b"200"),
                (one, TWO, b"500"),
                (other, THREE, b"200"),
            ):
                await stream.send(data)
                assert (await stream.receive()).startswith(b"HTTP/1.1 " + status)
        await all_gone(server)
    assert door.over == len(door.bodies) == 4


async def test_requests_behind_one_that_is_served_wait_for_it_and_come_in_order() -> None:
    go = anyio.Event()

    async def first_waits(taken: Taken) -> None:
        if taken.body == b"1":
            await go.wait()
        await echo(taken)

    async with running(App(Door(first_waits))) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for data in (ONE, TWO, THREE + LAST):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.01)
        go.set()
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
    bodies = [part.rpartition(b"\r\n\r\n")[2] for part in said.split(b"HTTP/1.1 200 OK")]
    assert bodies == [b"", b"1", b"2", b"3", b"last"]


async def test_a_request_that_comes_while_the_last_one_is_tidied_up_does_not_wait() -> None:
    tidy = anyio.Event()

    async def lingers(taken: Taken) -> None:
        await echo(taken)
        if taken.body == b"1":
            await tidy.wait()

    door = Door(lingers)
    async with running(App(door)) as (server, port):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            for data in (ONE, TWO, THREE):
                await stream.send(data)
                assert (await stream.receive()).endswith(data[-1:])
            assert len(set(door.tasks)) == 2
            tidy.set()
        await all_gone(server)
    assert door.over == 3


@pytest.mark.parametrize("phase", ["idle", "begun", "being served", "answered"])
async def test_a_client_that_leaves_leaves_no_task_behind(phase: str) -> None:
    came, go = anyio.Event(), anyio.Event()

    async def waits(taken: Taken) -> None:
        if phase == "answered":
            await echo(taken)
        came.set()
        if phase in ("being served", "answered"):
            await go.wait()
        if not taken.response_started:
            await echo(taken)

    door = Door(waits)
    async with running(App(door)) as (server, port):
        stream = await anyio.connect_tcp("127.0.0.1", port)
        await stream.send(ONE)
        if phase != "begun":
            await came.wait()
        if phase in ("idle", "answered"):
            await stream.receive()
        await stream.aclose()
        while server.server_state.connections:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0)
        go.set()
        await all_gone(server)
    assert door.over == len(door.bodies)


async def test_an_idle_connection_does_not_hold_up_a_server_that_stops() -> None:
    door = Door()
    async with running(App(door)) as (server, port):
        stream = await anyio.connect_tcp("127.0.0.1", port)
        async with stream:
            await stream.send(ONE)
            await stream.receive()
            assert len(server.server_state.tasks) == 1
            server.stop()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            await all_gone(server)
