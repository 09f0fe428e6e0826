"""A server with one tool that does to its caller everything that a call may do, each time under the caller's own name.

It is the conformance fixture with one tool more: it keeps the events of all its sessions together, by request id alone,
as servers on the Python SDK do. Run it as ``python -m tests.support.ordeal_server`` with the fixture's arguments.
"""

import asyncio
import json
from typing import Any, Final

from tests.conformance import fixture

PRIMED: Final = 0.05
"""Seconds until the event that says where to go on is surely out: the SDK closes a stream even before it wrote that."""
RESUMED: Final = 0.02
"""Seconds until a stream that was come back to is surely fed again: the SDK loses what it is given in between."""


@fixture.tool("ordeal", "Logs, reports progress, goes away, asks, logs again", fixture.obj(["name"], name=fixture.STR))
async def ordeal(c: Any) -> Any:
    name = c.args["name"]
    if not c.answers:
        await c.log("info", {"name": name, "at": "start"})
        await c.progress(1, 3, name)
        if c.ctx.close_sse_stream is not None:
            await asyncio.sleep(PRIMED)
            await c.ctx.close_sse_stream()
        asks = {}
        if "elicitation" in c.capabilities:
            asks["user"] = fixture.elicit(name, fixture.NAME_SCHEMA)
        if "sampling" in c.capabilities:
            asks["model"] = fixture.sample(name)
        if asks:
            return fixture.Ask(asks)
        await c.log("info", {"name": name, "at": "away"})
    await asyncio.sleep(RESUMED)
    await c.log("info", {"name": name, "at": "end"})
    await c.progress(2, 3, name)
    told = {"user": fixture.form(c.answers.get("user"), "name"), "model": fixture.sampled(c.answers.get("model"))}
    return fixture.text(json.dumps({"name": name, **told}))


if __name__ == "__main__":
    fixture.main()
