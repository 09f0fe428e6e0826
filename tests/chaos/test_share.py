"""A stream of progress has all of Manifold while nobody else calls, and its part of it while somebody does.

Compared within one run: the same flood alone, and beside steady calls of another upstream.
"""

from pathlib import Path
from statistics import median
from typing import Final

import anyio
import pytest

from proxy.runtime import background
from tests.chaos.apart import Apart
from tests.chaos.calling import Caller
from tests.chaos.test_faults import Fault, beside, child, site, told

EVERY: Final = 0.004
"""Seconds from one call of the other upstream to the next."""
ROUNDS: Final = 3
FASTER: Final = 1.5
"""How many times as fast the flood has to be alone, at least; it is about five times."""

pytestmark = pytest.mark.usefixtures("first_core")


@pytest.mark.timeout(170)
@pytest.mark.parametrize("over", [child, site], ids=["stdio", "http"])
async def test_a_flood_of_progress_is_much_faster_while_nobody_else_calls(tmp_path: Path, over: object) -> None:
    flood = Fault(over("progress"), at_once=1, within=60)  # type: ignore[operator]
    async with beside(tmp_path, flood) as (one, other):
        alone, accompanied = [], []
        for _ in range(ROUNDS):
            alone.append(await seconds(other, flood))
            async with background() as tasks:
                tasks.start_soon(call_again_and_again, one)
                accompanied.append(await seconds(other, flood))
    assert median(accompanied) > FASTER * median(alone), (alone, accompanied)


async def seconds(caller: Apart, flood: Fault) -> float:
    """How long one flood takes."""
    began = anyio.current_time()
    await told(caller, flood)
    return anyio.current_time() - began


async def call_again_and_again(caller: Caller) -> None:
    """Call the other upstream steadily."""
    while True:
        await caller.timed("mcp_healthy_work")
        await anyio.sleep(EVERY)  # the pace, not a wait for anything
