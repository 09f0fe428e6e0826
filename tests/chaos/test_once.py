"""An upstream that dies at any moment of the exchange: what may do harm runs once at most, a read is answered.

The server counts in a file what it runs, and is told by another file when to die: after any number of bytes of the
request or of the answer, and just before or after it executes. Hypothesis chooses; the moments that have a name are
tried in any case. All examples of a test meet one Manifold, so that each follows on whatever the one before left.
``MANIFOLD_SOAK=full`` tries ten times as many moments.
"""

import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.chaos.calling import Caller, Json, calling
from tests.support.faulty import faulty_child, faulty_site
from tests.support.manifold import Home, serving

EXAMPLES: Final = 600 if os.environ.get("MANIFOLD_SOAK") == "full" else 25
MAY_HAVE_RUN: Final = "may have"
SAFE: Final = "was not executed"

PATIENT: Final = {"retry": {"budget": 1.0, "attempts": 5}, "breaker": {"enabled": False}, "stop_timeout": "200ms"}
"""Otherwise an upstream that keeps dying is left alone, as it should be."""

MOMENTS: Final = st.one_of(
    st.builds(lambda size: {"read": size}, st.integers(0, 700)),
    st.builds(lambda after: {"executed": after}, st.booleans()),
    st.builds(lambda size: {"written": size}, st.integers(1, 300)),
)
HOWS: Final = ("kill", "abort", "close")
"""The process dies, or resets the connection, or says that it will say no more. On a pipe the last two are one."""
NAMED: Final = (
    {"read": 0},  # before anything of it was read
    {"read": 20},  # within the headers
    {"read": 500},  # within the body
    {"executed": False},
    {"executed": True},
    {"written": 1},
    {"written": 60},  # within the answer
)


PHASES: Final = (Phase.explicit, Phase.generate)
"""No shrinking: a moment is as small as it gets, and a failure that waits for a timeout is not repeated for long."""


class Bench:
    """A Manifold before such a server, and what is known of the server."""

    def __init__(self, folder: Path, caller: Caller) -> None:
        self.plan = folder / "plan"
        self.count = folder / "count"
        self._caller = caller
        self._numbers = itertools.count(1)

    async def exchange(self, tool: str, plan: Json) -> tuple[Json, int]:
        """Make one call of a server that dies as planned: the result, and how often it ran."""
        number = f"n{next(self._numbers)}"
        fresh = self.plan.with_suffix(".new")
        fresh.write_text(json.dumps(plan))
        fresh.rename(self.plan)
        result = await self._caller.call(f"mcp_faulty_{tool}", n=number)
        self.plan.unlink(missing_ok=True)
        return result, self.count.read_text().split().count(number)


@asynccontextmanager
async def bench(folder: Path, over: str, **script: Any) -> AsyncIterator[Bench]:
    count, plan = folder / "count", folder / "plan"
    count.touch()
    async with AsyncExitStack() as stack:
        if over == "stdio":
            config = faulty_child("", count=count, plan=plan, **script)
        else:
            config = {"url": await stack.enter_async_context(faulty_site("", count=count, plan=plan, **script))}
        home = Home(folder).write({"faulty": {**config, **PATIENT}})
        manifold = await stack.enter_async_context(serving(home))
        await manifold.event("upstream.state", upstream="faulty", new="ready")
        yield Bench(folder, await stack.enter_async_context(calling(manifold.url)))


SERVERS: Final = {
    "stdio": {"over": "stdio"},
    "kept connections": {"over": "http"},
    "new connections": {"over": "http", "close": True},
    "no sessions": {"over": "http", "session": False},
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_call_is_never_executed_twice(tmp_path: Path, server: Json) -> None:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(bench(tmp_path, **server)) as there:

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=PHASES
        )
        @given(MOMENTS, st.sampled_from(HOWS[:: 2 if server["over"] == "stdio" else 1]))
        def dies(moment: Json, how: str) -> None:
            result, runs = portal.call(partial(there.exchange, "note", {**moment, "how": how}))
            text = result["content"][0]["text"]
            assert runs <= 1
            if result.get("isError") is not True:
                assert runs == 1
            elif SAFE in text:
                assert runs == 0
            else:
                assert MAY_HAVE_RUN in text

        for moment in NAMED:
            for how in HOWS:
                dies = example(moment, how)(dies)
        dies()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_read_is_answered_in_the_end(tmp_path: Path, server: Json) -> None:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(bench(tmp_path, **server)) as there:

        @settings(
            max_examples=EXAMPLES // 2,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=PHASES,
        )
        @given(MOMENTS, st.sampled_from(HOWS))
        def dies(moment: Json, how: str) -> None:
            result, runs = portal.call(partial(there.exchange, "look", {**moment, "how": how}))
            assert result.get("isError") is not True, result
            assert runs >= 1

        for moment in NAMED:
            dies = example(moment, "kill")(dies)
        dies()
