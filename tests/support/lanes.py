"""Clients to which everything is said on one stream, by pipe or legacy SSE, with and without the express lane.

Also requests of all kinds, mostly right, for a comparison of both.
"""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import strategies as st

from tests.support.legacy import legacy
from tests.support.manifold import Home, Json, Wire, serving, stdio
from tests.support.pipe_peer import config
from tests.support.scripted import upstream

LANES: Final = {"lane": True, "no lane": False}
EITHER: Final = pytest.mark.parametrize("express", LANES.values(), ids=list(LANES))
DOORS: Final = pytest.mark.parametrize("door", ["pipe", "sse"])
VERSION: Final = "2026-07-28"
META: Final = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
}
PROCESS: Final = re.compile(r', \\*"pid\\*": \d+')
STATE: Final = re.compile(r'("requestState": )"[^"]+"')
"""Sealed, and never twice the same."""
FIRST: Final = "t"
LARGE: Final = 5_000_000


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    express: bool,
    door: str = "pipe",
    modern: bool = False,
    capabilities: Json | None = None,
    **server: Any,
) -> AsyncIterator[Wire]:
    """A Manifold with two upstreams, whose client has introduced itself."""
    files = upstream("b", "work", prompts=["ask"], resources=["file:///open"], templates=["file:///{name}"])
    home = Home(folder).write({"a": config(), "b": files}, server={"express": express, **server})
    async with at(home, door) as wire:
        if modern:
            await wire.request("server/discover", {"_meta": META})
        else:
            await introduce(wire, capabilities)
        meta = {"_meta": META} if modern else {}
        for name in "ab":
            await wire.manifold.event("upstream.state", upstream=name, new="ready")
        assert len((await wire.request("tools/list", meta))["tools"]) == 7
        yield wire


@asynccontextmanager
async def at(home: Home, door: str) -> AsyncIterator[Wire]:
    """A client at a door, which has said nothing yet."""
    if door == "pipe":
        async with stdio(home) as wire:
            yield wire
        return
    async with serving(home) as manifold, legacy(manifold) as session:
        yield session


async def introduce(wire: Wire, capabilities: Json | None = None) -> None:
    """Shake hands."""
    await wire.request("initialize", {**Wire.HELLO, "capabilities": capabilities or {}})
    await wire.send({"method": "notifications/initialized"})


async def say(wire: Wire, *messages: Json | bytes) -> list[int]:
    """Send messages; returns what is said to each at once, if that is anything."""
    return await wire.say(
        *(one if isinstance(one, bytes) else json.dumps({"jsonrpc": "2.0", **one}).encode() for one in messages)
    )


def call(number: Any, tool: str, token: Any = None, /, **arguments: Any) -> Json:
    params: Json = {"name": f"mcp_a_{tool}", "arguments": arguments}
    return {
        "id": number,
        "method": "tools/call",
        "params": params | ({"_meta": {"progressToken": token}} if token else {}),
    }


async def until(wire: Wire, number: Any) -> list[Json]:
    """Everything that comes until a request is answered, its answer last."""
    seen = [await wire.next()]
    while seen[-1].get("id") != number or "method" in seen[-1]:
        seen.append(await wire.next())
    return seen


async def answered_next(wire: Wire) -> list[Json]:
    """The answers that come until a later call is answered."""
    await say(wire, call("next", "echo"))
    return [one for one in await until(wire, "next") if "id" in one]


async def asked(wire: Wire) -> Json:
    while (question := await wire.next()).get("method") != "elicitation/create":
        assert "id" not in question
    return question


def sorted_out(seen: list[Json]) -> list[Json]:
    """Without what is different in each process, and what belongs to no request."""
    apart = (one for one in seen if not str(one.get("method")).endswith("list_changed"))
    return [json.loads(STATE.sub(r'\1"sealed"', PROCESS.sub("", json.dumps(one)))) for one in apart]


# -- requests of all kinds ---------------------------------------------------------------------------------------------

NUMBERS: Final = st.integers(-7, 2**53) | st.text("ab7", max_size=3) | st.just(10**30)
NO_NUMBERS: Final[st.SearchStrategy[Any]] = st.sampled_from([None, 1.5, True, [], {}])
ODD: Final = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
NAMES: Final = st.sampled_from(["mcp_a_echo", "echo", "work", "mcp_b_work", "nothing", "", "ask", "mcp_b_ask"])
URIS: Final = st.sampled_from(["file:///open", "b+file:///open", "file:///else", "test://nobody", "", "file:///{name}"])
TOKENS: Final = st.integers(0, 9) | st.text(max_size=2) | st.booleans() | st.none() | st.floats(0, 1)
META_MEMBERS: Final = st.fixed_dictionaries({}, optional={"progressToken": TOKENS, "a/b": ODD})
ARGUMENTS: Final = st.dictionaries(
    st.text("xyz", max_size=2), ODD | st.just({"q": [1.0, "ü\u2028\ud83d\ude00"]}), max_size=2
)


def params(**members: Any) -> "st.SearchStrategy[Json]":
    """Params that mostly have what they should have, now and then with a member that is odd."""
    odd = {name: strategy | ODD for name, strategy in members.items()}
    right = st.fixed_dictionaries(members, optional={"_meta": META_MEMBERS})
    return right | right | st.fixed_dictionaries({}, optional={**odd, "_meta": META_MEMBERS | ODD, "cursor": ODD})


REFERENCES: Final = st.sampled_from(
    [{"type": "ref/prompt", "name": "ask"}, {"type": "ref/resource", "uri": "file:///{name}"}, {"type": "x"}, {}]
)
REQUESTS: Final = st.one_of(
    st.tuples(st.just("tools/call"), params(name=NAMES, arguments=ARGUMENTS)),
    st.tuples(st.just("prompts/get"), params(name=NAMES)),
    st.tuples(st.just("resources/read"), params(uri=URIS)),
    st.tuples(st.just("completion/complete"), params(ref=REFERENCES, argument=st.just({"name": "a", "value": ""}))),
    st.tuples(st.just("logging/setLevel"), params(level=st.sampled_from(["info", "error", "loud", ""]))),
    st.tuples(st.sampled_from(["tools/list", "prompts/list", "resources/list", "resources/templates/list"]), params()),
    st.tuples(st.sampled_from(["ping", "tools/Call", "resources/subscribe", "tasks/get", "nothing", ""]), params()),
)
ENVELOPES: Final = st.sampled_from(
    [
        META,
        META,
        META | {"io.modelcontextprotocol/clientInfo": {"name": 1}},
        META | {"io.modelcontextprotocol/clientCapabilities": {"roots": 1}},
        META | {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}},
        META | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"},
        META | {"io.modelcontextprotocol/logLevel": "info"},
        META | {"io.modelcontextprotocol/logLevel": 5},
        {"io.modelcontextprotocol/protocolVersion": VERSION},
    ]
)
ASKS: Final[Json] = {
    "id": 1,
    "method": "tools/call",
    "params": {"name": "mcp_a_ask", "arguments": {}},
    "envelope": META | {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}},
}
"""One whose answer is a question."""


@st.composite
def lines(draw: st.DrawFn) -> tuple[Json, bool]:
    """One request, and whether its id is odd; whether its envelope is of the other era is a matter of luck."""
    method, own = draw(REQUESTS)
    odd = draw(st.integers(0, 9)) == 0
    message: Json = {"id": draw(NO_NUMBERS if odd else NUMBERS), "method": method}
    if draw(st.integers(0, 9)):
        message["params"] = own
    envelope = draw(ENVELOPES) if draw(st.integers(0, 9)) else {}
    return {**message, "envelope": envelope}, odd


def dressed(message: Json, *, modern: bool) -> Json:
    """A request in the clothes of an era; rarely those of the other one."""
    rest = {key: value for key, value in message.items() if key != "envelope"}
    envelope = message["envelope"]
    if modern == bool(envelope) and isinstance(rest.get("params", {}), dict):
        own = rest.get("params", {})
        meta = own.get("_meta", {})
        if envelope and isinstance(meta, dict):
            rest["params"] = {**own, "_meta": {**meta, **envelope}}
    return rest
