"""Telling downstreams that lists changed (proxy/gateway/events.py)."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from proxy.gateway.events import METHODS, Audience, Listener
from proxy.model import Params
from tests.support.clock import settle

TOOLS, PROMPTS, RESOURCES = METHODS


class Downstream:
    """Takes news when it is told to."""

    def __init__(self, *, taking: bool = True) -> None:
        self.told: list[str] = []
        self.takes = anyio.Event()
        self._trying = anyio.Event()
        self._news = anyio.Event()
        if taking:
            self.takes.set()

    async def __call__(self, method: str, _params: Params | None, /) -> None:
        self._trying.set()
        await self.takes.wait()
        self.told.append(method)
        self._news.set()

    async def tried(self) -> None:
        with anyio.fail_after(10):
            await self._trying.wait()

    async def heard(self, count: int) -> None:
        """Wait until it was told so many things."""
        with anyio.fail_after(10):
            while len(self.told) < count:
                self._news = anyio.Event()
                await self._news.wait()


Say = Callable[..., None]


@asynccontextmanager
async def audience() -> AsyncIterator[tuple[Audience, Say]]:
    changed: set[str] = set()

    def changes(_agent: str | None) -> set[str]:
        taken = set(changed)
        changed.clear()
        return taken

    made = Audience(changes, lambda _agent: None)

    def say(*methods: str) -> None:
        changed.update(methods)
        made.changed()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run)
        yield made, say
        tasks.cancel_scope.cancel()


async def test_each_is_told_what_changed_and_what_it_asked_for() -> None:
    every, some = Downstream(), Downstream()
    async with audience() as (told, say):
        told.add(Listener(None, every))
        told.add(Listener(None, some, frozenset({PROMPTS})))
        say(PROMPTS, TOOLS)
        await every.heard(2)
        await some.heard(1)
    assert sorted(every.told) == sorted([PROMPTS, TOOLS])
    assert some.told == [PROMPTS]


async def test_a_downstream_that_takes_nothing_holds_up_nobody_and_hears_of_each_list_once_more() -> None:
    slow, quick = Downstream(taking=False), Downstream()
    async with audience() as (told, say):
        told.add(Listener(None, slow))
        told.add(Listener(None, quick))
        for round_ in range(1, 4):
            say(TOOLS)
            await quick.heard(round_)
            await slow.tried()
        assert slow.told == []
        slow.takes.set()
        await slow.heard(2)
        await settle()
    assert slow.told == [TOOLS, TOOLS]  # the first one, and one for all that came while it was on its way


async def test_who_has_left_is_not_told_of_what_was_due() -> None:
    slow = Downstream(taking=False)
    quick = Downstream()
    async with audience() as (told, say):
        leave = told.add(Listener(None, slow))
        told.add(Listener(None, quick))
        say(TOOLS)
        await slow.tried()
        say(PROMPTS)
        await quick.heard(2)
        leave()
        slow.takes.set()
        await settle()
    assert slow.told == [TOOLS]
