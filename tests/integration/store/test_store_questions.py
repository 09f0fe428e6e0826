"""What a program answers when upstreams ask, in both eras, and what it hears during calls."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from proxy import Handlers, Manifold
from proxy.errors import DeadlineExceeded

ASKER = str(Path(__file__).parents[2] / "support" / "store_asker.py")
ACCEPT: Mapping[str, Any] = {"action": "accept", "content": {"name": "Ada"}}
REPLY: Mapping[str, Any] = {"role": "assistant", "content": {"type": "text", "text": "42"}, "model": "scripted"}

pytestmark = pytest.mark.parametrize("era", ["handshake", "modern"])


def entry(era: str, **more: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": [ASKER], "era": era, "start_timeout": 30, "grace": 30, **more}


@asynccontextmanager
async def running(era: str, handlers: Handlers | None = None, **agents: Any) -> AsyncIterator[Manifold]:
    config = {"mcpServers": {"asker": entry(era)}, "agents": agents}
    with anyio.fail_after(50):
        async with Manifold(config, handlers=handlers) as manifold:
            yield manifold


async def test_elicitation_sampling_and_roots_are_answered_by_the_program(era: str) -> None:
    asked: list[Any] = []

    async def elicitation(params: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(params["message"])
        return ACCEPT

    async def sampling(params: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(params["messages"][0]["content"])
        return REPLY

    handlers = Handlers(elicitation=elicitation, sampling=sampling, roots=["file:///here"])
    async with running(era, handlers) as manifold:
        store = manifold.for_store()
        assert (await store.call_tool("greet")).text == "Hello, Ada"
        assert (await store.call_tool("think")).text == "I think 42"
        assert (await store.call_tool("where")).text == "file:///here"
        assert asked[0] == "Who are you?"
        assert len(asked) == 2


async def test_an_upstream_is_told_of_exactly_what_the_program_can_answer(era: str) -> None:
    async def elicitation(_params: Mapping[str, Any]) -> Mapping[str, Any]:
        return ACCEPT

    async with running(era, Handlers(elicitation=elicitation)) as manifold:
        assert (await manifold.for_store().call_tool("can")).data == ["elicitation"]
        silent = manifold.for_store(handlers=Handlers())
        assert (await silent.call_tool("can")).data == []
        roots = manifold.for_store(handlers=Handlers(roots=[]))
        assert (await roots.call_tool("can")).data == ["roots"]


async def test_each_agent_has_its_own_answers(era: str) -> None:
    def answering(name: str) -> Handlers:
        async def elicitation(_params: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"action": "accept", "content": {"name": name}}

        return Handlers(elicitation=elicitation)

    async with running(era, a={}, b={}) as manifold:
        contexts = {name: manifold.for_agent(name, handlers=answering(name)) for name in ("a", "b")}
        for _ in range(2):
            for name, context in contexts.items():
                assert (await context.call_tool("greet")).text == f"Hello, {name}"


async def test_a_program_may_decline(era: str) -> None:
    async def elicitation(_params: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"action": "decline"}

    async with running(era, Handlers(elicitation=elicitation)) as manifold:
        assert (await manifold.for_store().call_tool("greet")).text == "Hello, nobody"


@pytest.mark.parametrize("fault", ["raises", "nonsense"])
async def test_a_handler_that_fails_fails_the_call_and_nothing_else(era: str, fault: str) -> None:
    async def elicitation(_params: Mapping[str, Any]) -> Mapping[str, Any]:
        if fault == "raises":
            raise KeyError("secret of the program")
        return {"hello": 1}

    async with running(era, Handlers(elicitation=elicitation)) as manifold:
        store = manifold.for_store()
        result = await store.call_tool("greet", errors="result")
        assert not result
        assert "secret of the program" not in result.text
        assert (await store.call_tool("can")).data == ["elicitation"]


async def test_without_a_handler_the_upstream_hears_that_nobody_answers(era: str) -> None:
    async with running(era) as manifold:
        result = await manifold.for_store().call_tool("greet", errors="result")
        assert not result
        assert "elicitation/create" in result.text


async def test_an_answer_counts_into_the_time_of_the_call(era: str) -> None:
    async def elicitation(_params: Mapping[str, Any]) -> Mapping[str, Any]:
        await anyio.sleep_forever()
        return ACCEPT

    async with running(era, Handlers(elicitation=elicitation)) as manifold:
        with pytest.raises(DeadlineExceeded):
            await manifold.for_store().call_tool("greet", timeout=0.2)


async def test_progress_and_log_lines_are_heard_during_the_call(era: str) -> None:
    progress: list[Any] = []
    lines: list[Any] = []
    handlers = Handlers(progress=progress.append, log=lines.append, log_level="warning")
    async with running(era, handlers) as manifold:
        assert (await manifold.for_store().call_tool("work")).text == "done"
    assert [(one["progress"], one["total"]) for one in progress] == [(1, 2), (2, 2)]
    assert [one["data"] for one in lines] == ["be careful"]


async def test_a_listener_that_fails_costs_nothing(era: str) -> None:
    def fails(_params: Mapping[str, Any]) -> None:
        raise RuntimeError("a bug of the program's")

    async with running(era, Handlers(progress=fails, log=fails)) as manifold:
        assert (await manifold.for_store().call_tool("work")).text == "done"
