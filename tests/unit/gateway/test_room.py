"""Room for new sessions (proxy/gateway/room.py)."""

import math
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.types import Message, Receive, Scope, Send

from proxy.gateway.room import Room

OPENING = {"type": "http", "method": "POST", "headers": []}


@dataclass
class Transport:
    """A session's transport, as far as room is concerned."""

    idle_scope: anyio.CancelScope


@dataclass
class House:
    """Sessions that leave when they are told to, and the app that opens another one for each request."""

    live: dict[str, Transport] = field(default_factory=dict)
    served: list[Scope] = field(default_factory=list)
    most: int = 0
    used: dict[str, float] = field(default_factory=dict)
    """Sessions that were used past their transports, and when they are due now."""

    def settle(self) -> None:
        for name, due in self.used.items():
            self.live[name].idle_scope.deadline = due

    def open(self, name: str, deadline: float) -> None:
        self.live[name] = Transport(anyio.CancelScope(deadline=deadline))

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        await anyio.lowlevel.checkpoint()
        self.served.append(scope)
        self.open(f"new {len(self.served)}", 1e6 + len(self.served))
        self.most = max(self.most, len(self.live))

    def sweep(self) -> dict[str, Any]:
        for name in [name for name, one in self.live.items() if one.idle_scope.cancel_called]:
            del self.live[name]
        return dict(self.live)


async def request(room: Room, scope: Scope = OPENING) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    await room(scope, receive, send)


async def test_the_session_that_was_idle_longest_makes_room() -> None:
    house = House()
    for name, deadline in (("b", 20.0), ("a", 10.0), ("busy", math.inf)):
        house.open(name, deadline)
    room = Room(house, house.sweep, 3, house.settle)
    await request(room)
    assert set(house.sweep()) == {"b", "busy", "new 1"}


async def test_a_session_that_was_just_used_past_its_transport_was_not_idle_longest() -> None:
    house = House()
    for name, deadline in (("a", 10.0), ("b", 20.0)):
        house.open(name, deadline)
    house.used["a"] = 30.0
    await request(Room(house, house.sweep, 2, house.settle))
    assert set(house.sweep()) == {"a", "new 1"}


async def test_a_session_with_a_request_under_way_never_goes() -> None:
    house = House()
    for name in ("x", "y"):
        house.open(name, math.inf)
    await request(Room(house, house.sweep, 2, house.settle))
    assert {"x", "y"} <= set(house.live)
    assert len(house.served) == 1, "the manager says no, not we"


async def test_many_that_come_at_once_all_find_room() -> None:
    house = House()
    for number in range(50):
        house.open(f"old {number}", 10.0 + number)
    room = Room(house, house.sweep, 50, house.settle)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(request, room)
    assert len(house.served) == 20
    assert house.most <= 50


@pytest.mark.parametrize(
    "scope",
    [
        {**OPENING, "method": "GET"},
        {**OPENING, "headers": [(b"mcp-session-id", b"a")]},
        {**OPENING, "headers": [(b"mcp-protocol-version", b"2026-07-28")]},
    ],
    ids=["a stream", "a request of a session", "a modern request"],
)
async def test_what_opens_no_session_ends_none(scope: Scope) -> None:
    house = House()
    house.open("a", 10.0)
    await request(Room(house, house.sweep, 1, house.settle), scope)
    assert not house.live["a"].idle_scope.cancel_called
