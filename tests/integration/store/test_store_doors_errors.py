"""One implementation, two doors: every class of error says the same at both, and is counted the same."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from proxy import Manifold
from proxy.bridge.failed import describe, details
from proxy.config.model import EraChoice, Transport, UpstreamConfig
from proxy.errors import Rejected, UpstreamError
from proxy.model import Call
from proxy.runtime import Runtime
from proxy.upstream.connect import connected
from proxy.upstream.negotiate import Offer
from tests.integration.store.test_store_doors import counted, served
from tests.support.link_http import Response
from tests.support.store_peer import Json, Peer, Refusal, serving, text

Ask = Callable[[str], Awaitable[Any]]


@dataclass
class Moody(Peer):
    """An upstream that fails in every way."""

    go: anyio.Event = field(default_factory=anyio.Event)

    async def _call(self, number: Any, params: Json, response: Response) -> None:
        match params["name"]:
            case "drop":
                await response.drop()
            case "garble":
                response.whole(200, b'{"hello": 1}')
            case "deny":
                response.whole(401, b"no", WWW_Authenticate="Bearer")
            case "break":
                response.whole(500, b"oops")
            case _:
                await super()._call(number, params, response)


async def hold(_arguments: Json) -> Json:
    await anyio.sleep_forever()
    return {}


async def refuse(_arguments: Json) -> Json:
    raise Refusal(-32000, "not today")


async def fail(_arguments: Json) -> Json:
    return text("the disk is full", isError=True)


def peers() -> tuple[Moody, ...]:
    def moody(name: str, *tools: str, **made: Any) -> Moody:
        peer = Moody(name)
        peer.define(*tools)
        for tool, does in made.items():
            peer.tools[tool], peer.schemas[tool] = does, {"type": "object"}
        return peer

    busy = moody("busy")

    async def wait(_arguments: Json) -> Json:
        await busy.go.wait()
        return text("went")

    busy.tools["wait"], busy.schemas["wait"] = wait, {"type": "object"}
    return (
        moody("moody", "fine", "drop", "garble", "refused", "failing", refuse=refuse, fail=fail, hold=hold),
        busy,
        moody("limited", "fine"),
        moody("breaking", "break"),
        moody("closed", "deny"),
    )


LIMITS: dict[str, Any] = {
    "moody": {"timeout": 0.3},
    "busy": {"concurrency": 1, "queue": 0},
    "limited": {"rate_limit": {"rate": 0.001, "burst": 1}},
    "breaking": {"breaker": {"min_calls": 1, "failure_rate": 0.01, "open_for": 60}},
    "closed": {},
}


def config(every: tuple[Moody, ...]) -> dict[str, Any]:
    servers = {peer.name: peer.entry(retry={"attempts": 1}, **LIMITS[peer.name]) for peer in every}
    return {"server": {"port": 0}, "mcpServers": servers}


SCENARIO = (
    *("moody.fine", "moody.fail", "moody.refuse", "moody.drop", "moody.garble", "moody.hold", "moody.fine"),
    *("limited.fine", "limited.fine", "breaking.break", "breaking.break", "closed.deny", "nowhere.fine", "fine"),
)
CODES = {
    *("rejected", "lost", "protocol-fault", "deadline-exceeded"),
    *("rate-limited", "upstream", "circuit-open", "auth-required", "queue-full"),
}


async def played(ask: Ask, busy: Moody) -> list[Any]:
    """The whole scenario through one door."""
    told = [await ask(name) for name in SCENARIO]
    busy.go = anyio.Event()
    first: list[Any] = []

    async def wait() -> None:
        first.append(await ask("busy.wait"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        while not busy.at_once:
            await checkpoint()
        told.append(await ask("busy.wait"))
        busy.go.set()
    return [plain(one) for one in [*told, *first]]


def plain(told: Any) -> Any:
    """Without how long it took, or has to be waited."""
    if isinstance(told, dict):
        return {key: plain(one) for key, one in told.items()}
    if isinstance(told, list):
        return [plain(one) for one in told]
    if isinstance(told, float):
        return "some time"
    return re.sub(r"\d+(\.\d+)? (s|ms)\b", "some time", told) if isinstance(told, str) else told


@asynccontextmanager
async def api(settings: dict[str, Any]) -> AsyncIterator[tuple[Ask, Runtime]]:
    async with Manifold(settings) as manifold:
        store = manifold.for_store()
        await store.list_tools(wait=20)

        async def ask(name: str) -> Any:
            result = await store.call_tool(name, errors="result")
            error = result.error
            if isinstance(error, Rejected):
                return {"code": error.jsonrpc, "message": error.message, "data": error.data}
            if error is not None and not isinstance(error, UpstreamError):
                return {"code": error.jsonrpc, "message": describe(error), "data": details(error)}
            return {"text": result.text, "error": result.is_error, "meta": result.raw.get("_meta")}

        yield ask, manifold.runtime


@asynccontextmanager
async def server(settings: dict[str, Any]) -> AsyncIterator[tuple[Ask, Runtime]]:
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(served(settings))
        await door.runtime.ready(None)
        client = UpstreamConfig(type=Transport.HTTP, url=door.url)
        offer = Offer(EraChoice.HANDSHAKE)
        session = await stack.enter_async_context(connected("server", client, lambda _method, _params: None, offer))
        await session.open()

        async def ask(name: str) -> Any:
            try:
                reply = await session.request(Call("server", "tools/call", {"name": name, "arguments": {}}))
            except Rejected as error:
                return {"code": error.jsonrpc, "message": error.message, "data": error.data}
            result = reply.result
            words = "\n".join(block["text"] for block in result["content"])
            return {"text": words, "error": result.get("isError", False), "meta": result.get("_meta")}

        yield ask, door.runtime


async def test_every_class_of_error_is_the_same_and_counts_the_same_at_both_doors() -> None:
    told: list[list[Any]] = []
    figures: list[Any] = []
    for door in (api, server):
        every = peers()
        async with serving(*every):
            addresses = {peer.url: peer.name for peer in every}
            with anyio.fail_after(50):
                async with door(config(every)) as (ask, runtime):
                    answers = await played(ask, every[1])
                    figures.append(counted(runtime))
            told.append([_elsewhere(answer, addresses) for answer in answers])
    for mine, theirs in zip(*told, strict=True):
        assert mine == theirs
    assert figures[0] == figures[1]
    assert {code for _, _, failures in figures[0].values() for code in failures} >= CODES


def _elsewhere(told: Any, addresses: dict[str, str]) -> str:
    """The same, with a name for the address of each server."""
    words = repr(told)
    for url, name in addresses.items():
        words = words.replace(url, f"http://{name}")
    return words
