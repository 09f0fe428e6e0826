"""Room for new sessions (proxy/gateway/room.py)."""

import math
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    swept: bool = True
    """Whether those that were ended leave at once."""

    def open(self, name: str, deadline: float) -> None:
        self.live[name] = Transport(anyio.CancelScope(deadline=deadline))

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        await anyio.lowlevel.checkpoint()
        self.served.append(scope)
        self.open(f"new {len(self.served)}", 1e6 + len(self.served))
        self.most = max(self.most, len(self.live))

    def __len__(self) -> int:
        if self.swept:
            self.sweep()
        return len(self.live)

    def leaving(self) -> int:
        return sum(one.idle_scope.cancel_called for one in self.live.values())

    def idle(self) -> list[anyio.CancelScope]:
        for name, due in self.used.items():
            self.live[name].idle_scope.deadline = due
        scopes = [one.idle_scope for one in self.live.values()]
        return [one for one in scopes if one.deadline < math.inf and not one.cancel_called]

    def room(self, most: int) -> ASGIApp:
        return Room(self, most).over(self)

    def sweep(self) -> dict[str, Any]:
        for name in [name for name, one in self.live.items() if one.idle_scope.cancel_called]:
            del self.live[name]
        return dict(self.live)


async def request(room: ASGIApp, scope: Scope = OPENING) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    await room(scope, receive, send)


async def test_the_session_that_was_idle_longest_makes_room() -> None:
    house = House()
    for name, deadline in (("b", 20.0), ("a", 10.0), ("busy", math.inf)):
        house.open(name, deadline)
    room = house.room(3)
    await request(room)
    assert set(house.sweep()) == {"b", "busy", "new 1"}


async def test_a_session_that_was_just_used_past_its_transport_was_not_idle_longest() -> None:
    house = House()
    for name, deadline in (("a", 10.0), ("b", 20.0)):
        house.open(name, deadline)
    house.used["a"] = 30.0
    await request(house.room(2))
    assert set(house.sweep()) == {"a", "new 1"}


async def test_a_session_with_a_request_under_way_never_goes() -> None:
    house = House()
    for name in ("x", "y"):
        house.open(name, math.inf)
    await request(house.room(2))
    assert {"x", "y"} <= set(house.live)
    assert len(house.served) == 1, "the manager says no, not we"


async def test_many_that_come_at_once_all_find_room() -> None:
    house = House()
    for number in range(50):
        house.open(f"old {number}", 10.0 + number)
    room = house.room(50)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(request, room)
    assert len(house.served) == 20
    assert house.most <= 50


async def test_many_that_come_at_once_end_one_session_each_though_those_take_a_moment_to_leave() -> None:
    house = House(swept=False)
    for number in range(50):
        house.open(f"old {number}", 10.0 + number)
    old = dict(house.live)
    room = house.room(50)
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(request, room)
        await anyio.wait_all_tasks_blocked()
    assert sum(one.idle_scope.cancel_called for one in old.values()) == 20


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
    await request(house.room(1), scope)
    assert not house.live["a"].idle_scope.cancel_called
