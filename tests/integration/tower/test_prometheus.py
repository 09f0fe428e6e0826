"""``/metrics``: the figures for Prometheus, and to whom they are shown."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import anyio
import pytest
from mcp import Client
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request as HttpRequest

from proxy.config.model import Config
from proxy.errors import UpstreamError
from proxy.gateway.prometheus import rendered
from proxy.gateway.status import MetricsDoor
from proxy.model import Caller
from proxy.router import Request
from proxy.runtime import Runtime
from tests.support.manifold import ROOT, Home, serving
from tests.support.scripted import upstream
from tests.support.tower_http import served

LABELS = ("upstream", "member", "method", "outcome", "state", "kind", "version", "le")
Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(text: str) -> Samples:
    return {
        (one.name, tuple(one.labels[label] for label in LABELS if label in one.labels)): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with served("one") as server:
        yield server.url


async def call(runtime: Runtime, tool: str) -> None:
    request = Request("tools/call", {"name": tool, "arguments": {}}, Caller())
    await runtime.router.send(await runtime.router.route(request))


async def test_calls_are_counted_by_upstream_method_and_outcome_and_never_by_tool(url: str) -> None:
    entry = {"url": url, "breaker": {}}
    async with Runtime(Config.model_validate({"upstreams": {"one": entry}})) as runtime:
        runtime.start()
        await runtime.ready(None)
        for tool in ("mcp_one_who", "mcp_one_note", "mcp_one_who"):
            await call(runtime, tool)
        text = rendered(runtime, 3).decode()
    found = samples(text)
    assert found["manifold_calls_total", ("one", "tools/call", "ok")] == 3
    assert found["manifold_call_duration_seconds_count", ("one", "tools/call")] == 3
    assert found["manifold_call_duration_seconds_bucket", ("one", "tools/call", "+Inf")] == 3
    assert found["manifold_upstream_state", ("one", "one", "ready")] == 1
    assert found["manifold_upstream_state", ("one", "one", "error")] == 0
    assert found["manifold_breaker_state", ("one", "one", "closed")] == 1
    assert found["manifold_calls_in_flight", ("one",)] == 0
    assert found["manifold_sessions", ()] == 3
    assert found["manifold_catalog_entries", ("tool",)] == 7
    assert "process_resident_memory_bytes" in text or sys.platform != "linux"
    assert "who" not in text
    assert "note" not in text


async def test_buckets_grow_and_hold_every_timed_call(url: str) -> None:
    async with Runtime(Config.model_validate({"upstreams": {"one": {"url": url}}})) as runtime:
        for seconds in (0.00001, 0.001, 0.3, 5.0, 3000.0):
            runtime.registry.metrics.record("one", "t", None, seconds)
        found = samples(rendered(runtime, 0).decode())
    counts = [value for (name, _), value in found.items() if name == "manifold_call_duration_seconds_bucket"]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 5)
    assert found["manifold_call_duration_seconds_sum", ("one", "tools/call")] == pytest.approx(3005.30101)


async def test_failures_and_attempts_beyond_the_first_are_counted(tmp_path: Path) -> None:
    tool = {"name": "work", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
    entry = upstream("a", tool, retry={"attempts": 2})
    settings = {"upstreams": {"a": entry}, "audit": {"to": str(tmp_path / "audit.log")}}
    async with Runtime(Config.model_validate(settings)) as runtime:
        runtime.start()
        request = Request("tools/call", {"name": "mcp_a_work", "arguments": {"do": "die"}}, Caller())
        with anyio.fail_after(20):
            routed = await runtime.router.route(request)
            with pytest.raises(UpstreamError):
                await runtime.router.send(routed)
        found = samples(rendered(runtime, 0).decode())
    assert found["manifold_calls_total", ("a", "tools/call", "lost")] == 1
    assert found["manifold_retries_total", ("a",)] == 1
    assert found["manifold_audit_lost_total", ()] == 0
    assert found["manifold_audit_failing", ()] == 0


@pytest.mark.parametrize(
    ("host", "shown", "status"), [("127.0.0.1", False, 200), ("10.0.0.9", False, 403), ("10.0.0.9", True, 200)]
)
async def test_they_are_shown_where_the_status_is(host: str, status: int, *, shown: bool) -> None:
    scope = {"type": "http", "client": (host, 5000), "headers": []}
    async with Runtime(Config.model_validate({"server": {"status": shown}})) as runtime:
        answer = await MetricsDoor(runtime, lambda: 0).get(HttpRequest(scope))
    assert answer.status_code == status


async def test_a_running_manifold_is_scraped(tmp_path: Path) -> None:
    async with serving(Home(tmp_path).write({"a": upstream("a", "work")})) as manifold:
        with anyio.fail_after(20):
            async with Client(manifold.url, mode="legacy") as client:
                await client.list_tools()
                await client.call_tool("mcp_a_work", {})
                async with aiohttp.ClientSession() as http, http.get(manifold.base + "/metrics") as answer:
                    assert answer.status == 200
                    assert answer.content_type == "text/plain"
                    found = samples(await answer.text())
    assert found["manifold_calls_total", ("a", "tools/call", "ok")] == 1
    assert found["manifold_sessions", ()] == 1


def test_the_start_up_does_not_wait_for_the_client_library() -> None:
    code = "import sys, proxy.app; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
