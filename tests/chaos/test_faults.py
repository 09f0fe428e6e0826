"""One faulty upstream at a time beside a healthy one: its callers get the right error, and nobody else notices.

How the neighbour is measured: a steady stream of calls to it goes on all the time, and the fault is there in every
second phase of one run. Beside the fault the median 99th percentile may be ``FACTOR`` times as high as in the calm
phases, plus what calm phases differ by among themselves: see ``steady``. A failed call of the neighbour fails the test
at once. The faulty process and those who call it have processes of their own, and the system runs them when nobody
else wants the processor: in life they run elsewhere, and what 20 000 notifications or 50 MB cost their sender and
their receiver is not Manifold's doing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import psutil
import pytest

from proxy.catalog.store import ListingStore
from proxy.config.load import load
from proxy.model import Listing
from proxy.upstream.identity import identity_of
from tests.chaos.apart import Apart, apart
from tests.chaos.calling import Caller, Json, calling
from tests.chaos.steady import measure
from tests.support import scripted
from tests.support.faulty import FLOOD, faulty_child, faulty_site
from tests.support.link_http import Request, Response, serve
from tests.support.link_tls import self_signed
from tests.support.manifold import Home, Manifold, serving

BOUND: Final = 8.0
"""Seconds within which the faulty one's caller must have its answer; the timeouts below are six at most."""

QUICK: Final = {"timeout": "6s", "start_timeout": "5s", "stop_timeout": "300ms", "breaker": {"enabled": False}}
"""Without its breaker, so that each call meets the fault itself and not the memory of it."""

MAY_HAVE_RUN: Final = ("may have",)
NOT_EXECUTED: Final = ("was not executed", "safe to try again")


@dataclass(frozen=True)
class Fault:
    """A fault, and what its callers are to be told."""

    config: Callable[[Path], AbstractAsyncContextManager[Json]]
    code: str = ""
    """Of the error; empty where the call is answered all the same."""
    says: tuple[str, ...] = ()
    """What the text has in it."""
    options: Json = field(default_factory=dict)
    at_once: int = 2
    """Calls that meet the fault in each phase."""
    hears: int = 0
    """Notifications that each call passes on before its answer."""
    within: float = BOUND
    """Seconds for the answers."""
    listed: bool = True
    """Whether it can be listed at all; otherwise its listing is known from better days."""


def child(fault: str, **options: Any) -> Callable[[Path], AbstractAsyncContextManager[Json]]:
    def config(folder: Path) -> AbstractAsyncContextManager[Json]:
        script = {"family": folder / "family"} if fault == "family" else {}
        return nullcontext({**faulty_child(fault, **script), **options})

    return config


def site(fault: str, **script: Any) -> Callable[[Path], AbstractAsyncContextManager[Json]]:
    @asynccontextmanager
    async def config(_folder: Path) -> AsyncIterator[Json]:
        async with faulty_site(fault, **script) as url:
            yield {"url": url}

    return config


def unknown_host(_folder: Path) -> AbstractAsyncContextManager[Json]:
    return nullcontext({"url": "http://no-such-host.invalid/mcp"})


@asynccontextmanager
async def untrusted(folder: Path) -> AsyncIterator[Json]:
    async def handler(_request: Request, response: Response) -> None:
        response.whole(500)

    async with serve(handler, tls=self_signed(folder)) as there:
        yield {"url": there.url}


@asynccontextmanager
async def no_tls(folder: Path) -> AsyncIterator[Json]:
    def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    del folder
    async with await asyncio.start_server(hello, "127.0.0.1", 0) as server:
        yield {"url": f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"}


LOST: Final = ("connection was lost during the call", *MAY_HAVE_RUN)
NO_ANSWER: Final = ("no answer within 0.8 s", *MAY_HAVE_RUN)
ODD: Final = ("cannot be used", "fault of that server")
SMALL: Final = {"max_message": "4MiB"}
HASTY: Final = {"timeout": "800ms"}
"""For faults that nothing but a timeout ends. Others have time: the faulty ones run when nobody else wants to."""
FLOODED: Final = {"timeout": "30s"}
TOO_LARGE: Final = ("more than the 4194304 allowed", "Raise max_message")

FAULTS: Final = {
    "stdio: hang before the request was read": Fault(child("deaf"), "deadline-exceeded", NO_ANSWER, HASTY),
    "stdio: hang after the request was read": Fault(child("hang"), "deadline-exceeded", NO_ANSWER, HASTY),
    "stdio: crash in the call": Fault(child("crash"), "lost", (*LOST, "killed by SIGKILL", "connects again")),
    "stdio: garbage frames": Fault(child("garbage"), "protocol-fault", ODD),
    "stdio: a frame of 50 MB": Fault(child("big"), "protocol-fault", TOO_LARGE, SMALL),
    "stdio: slow drip of bytes": Fault(child("drip"), "deadline-exceeded", NO_ANSWER, HASTY),
    "stdio: flood of notifications": Fault(child("flood"), options=FLOODED, at_once=1, hears=FLOOD, within=30),
    "stdio: flood of progress": Fault(child("progress"), options=FLOODED, at_once=1, hears=FLOOD, within=30),
    "stdio: flood of questions": Fault(child("requests"), options=FLOODED, at_once=1, within=30),
    "stdio: flood of pings": Fault(child("pings"), options=FLOODED, at_once=1, within=30),
    "stdio: storm of list_changed": Fault(child("storm")),
    "stdio: half closed": Fault(child("close"), "lost", LOST),
    "stdio: endless pagination": Fault(child("endless_pages")),
    "stdio: other tools at each call": Fault(child("changing_tools")),
    "stdio: pollution of standard output": Fault(child("pollution")),
    "stdio: grandchildren": Fault(child("family"), "lost", LOST),
    "stdio: full standard error": Fault(child("stderr")),
    "http: hang before the request was read": Fault(site("deaf"), "deadline-exceeded", NO_ANSWER, HASTY),
    "http: hang after the request was read": Fault(site("hang"), "deadline-exceeded", NO_ANSWER, HASTY),
    "http: crash in the call": Fault(site("crash"), "lost", LOST),
    "http: garbage body": Fault(site("garbage_body"), "protocol-fault", ODD),
    "http: garbage events": Fault(site("garbage"), "protocol-fault", ODD),
    "http: a body of 50 MB": Fault(site("big"), "protocol-fault", TOO_LARGE, SMALL),
    "http: slow drip of bytes": Fault(site("drip"), "deadline-exceeded", NO_ANSWER, HASTY),
    "http: flood of notifications": Fault(site("flood"), options=FLOODED, at_once=1, hears=FLOOD, within=30),
    "http: flood of progress": Fault(site("progress"), options=FLOODED, at_once=1, hears=FLOOD, within=30),
    "http: flood of questions": Fault(site("requests", many=FLOOD // 8), options=FLOODED, at_once=1, within=30),
    "http: storm of list_changed": Fault(site("storm")),
    "http: half closed": Fault(site("close"), "lost", LOST),
    "http: endless pagination": Fault(site("endless_pages")),
    "http: other tools at each call": Fault(site("changing_tools")),
    "http: 500": Fault(site("status", status="500"), "upstream", ("HTTP 500", *MAY_HAVE_RUN)),
    "http: 429": Fault(site("status", status="429"), "rate-limited", ("HTTP 429", *NOT_EXECUTED)),
    "http: 404": Fault(site("status", status="404"), "session-gone", ("HTTP 404", *NOT_EXECUTED)),
    "http: 401": Fault(site("status", status="401"), "auth-required", ("HTTP 401", "credentials", "not executed")),
    "http: unknown host": Fault(unknown_host, "connect-failed", ("unknown host", "Check the host"), listed=False),
    "http: untrusted certificate": Fault(untrusted, "connect-failed", ("certificate is not trusted",), listed=False),
    "http: no TLS at all": Fault(no_tls, "connect-failed", ("TLS handshake failed",), listed=False),
}

pytestmark = pytest.mark.usefixtures("first_core")


@pytest.mark.timeout(170)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_is_told_to_its_callers_and_costs_no_other(tmp_path: Path, fault: Fault) -> None:
    async with fault.config(tmp_path) as config:
        upstreams = {"faulty": {**config, **QUICK, **fault.options}, "healthy": scripted.upstream("healthy", "work")}
        home = Home(tmp_path).write(upstreams)
        if not fault.listed:
            remember(home)
        async with serving(home) as manifold:
            await manifold.event("upstream.state", upstream="healthy", new="ready")
            if fault.listed:
                await manifold.event("upstream.state", upstream="faulty", new="ready")
            await undisturbed(manifold, fault)
    _, alive = await anyio.to_thread.run_sync(psutil.wait_procs, list(grandchildren(tmp_path)), 5)
    assert alive == []


@pytest.mark.timeout(170)
@pytest.mark.parametrize("over", ["stdio", "http"])
async def test_an_answer_over_the_limit_takes_no_memory(tmp_path: Path, over: str) -> None:
    large = Fault((child if over == "stdio" else site)("big"), "protocol-fault", TOO_LARGE, at_once=2)
    async with large.config(tmp_path) as config:
        home = Home(tmp_path).write({"faulty": {**config, **QUICK, **SMALL}})
        async with serving(home) as manifold:
            await manifold.event("upstream.state", upstream="faulty", new="ready")
            async with apart(manifold.url) as other:
                before = peak(manifold)
                for _ in range(3):
                    await told(other, large)
                # Two at once, of at most 4 MiB each and their copies, of 300 MB that came.
                assert peak(manifold) - before < 32 * 2**20


def peak(manifold: Manifold) -> int:
    """The most memory that it has used, in bytes."""
    status = Path(f"/proc/{manifold.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


async def undisturbed(manifold: Manifold, fault: Fault) -> None:
    async with calling(manifold.url) as one, apart(manifold.url) as other:
        heard: list[int] = []
        measured = await measure(lambda: one.timed("mcp_healthy_work"), lambda: told(other, fault, heard))

        def dropped() -> int:
            return sum(one["count"] for one in manifold.events if one["event"] == "link.notifications.dropped")

        # The caller has little of the machine: what it is too slow for is dropped, in its order, and the log says so.
        await manifold.until(lambda: sum(heard) + dropped() == fault.hears * len(heard) or None)
    print(measured)
    assert measured.undisturbed, str(measured)


@asynccontextmanager
async def beside(folder: Path, fault: Fault) -> AsyncIterator[tuple[Caller, Apart]]:
    """Callers of a healthy upstream and, on a core apart, of one that floods or answers with much."""
    async with fault.config(folder) as upstream:
        upstreams = {"faulty": {**upstream, **QUICK, **FLOODED}, "healthy": scripted.upstream("healthy", "work")}
        async with serving(Home(folder).write(upstreams)) as manifold:
            for name in upstreams:
                await manifold.event("upstream.state", upstream=name, new="ready")
            async with calling(manifold.url) as one, apart(manifold.url) as other:
                yield one, other


async def told(caller: Apart, fault: Fault, heard: list[int] | None = None) -> None:
    """Meet the fault; how many notifications each call heard goes to ``heard``."""
    with anyio.fail_after(fault.within):
        answers = await caller.call("mcp_faulty_act", fault.at_once)
    assert len(answers) == fault.at_once
    for one in answers:
        right(one["answer"]["result"], fault)
        if heard is not None:
            heard.append(one["said"])


def right(result: Json, fault: Fault) -> None:
    """Whether an answer is what it has to be."""
    (content,) = result["content"]
    if not fault.code:
        assert result.get("isError") is not True, content
        assert fault.says == () or content["text"] in fault.says
        return
    assert result["isError"] is True
    assert result["_meta"]["mcp-manifold/error"]["code"] == fault.code, content
    assert "faulty" in str(result["_meta"]["mcp-manifold/error"]["upstream"])
    for words in fault.says:
        assert words in content["text"]


def remember(home: Home) -> None:
    """Have Manifold know what the faulty one offered on a better day."""
    listing = Listing(tools=({"name": "act", "inputSchema": {"type": "object"}},), version="2025-11-25")
    identity = identity_of(load(home.config).config.upstreams["faulty"])
    assert ListingStore(home.state / "mcp-manifold" / "listings").save("faulty", identity, listing, at=0.0) == ""


def grandchildren(folder: Path) -> Iterator[psutil.Process]:
    """Those that are still there."""
    file = folder / "family"
    for pid in file.read_text().split() if file.exists() else ():
        with suppress(psutil.NoSuchProcess):
            yield psutil.Process(int(pid))
