"""``/status.json`` and ``mcp-manifold status``: what they show, and to whom."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.requests import Request as HttpRequest

from proxy.cli.status import lines
from proxy.config.model import Config, UpstreamConfig
from proxy.gateway.status import StatusDoor, report
from proxy.model import Caller
from proxy.router import Request
from proxy.runtime import Runtime
from tests.support.manifold import Home, serving
from tests.support.scripted import upstream
from tests.support.tower_http import served

SECRET = "s3cret-token"  # noqa: S105 - no secret


def config(url: str, *, status: bool = False) -> Config:
    entry = UpstreamConfig.model_validate({"url": url, "headers": {"Authorization": f"Bearer {SECRET}"}, "cache": {}})
    return Config.model_validate({"upstreams": {"one": entry}, "server": {"status": status}})


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with served("one") as server:
        yield server.url


async def answer(runtime: Runtime, host: str, **headers: str) -> tuple[int, Any]:
    scope = {
        "type": "http",
        "client": (host, 5000),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    response = await StatusDoor(runtime).get(HttpRequest(scope))
    return response.status_code, json.loads(bytes(response.body))


async def call(runtime: Runtime, tool: str) -> None:
    request = Request("tools/call", {"name": tool, "arguments": {}}, Caller())
    await runtime.router.send(await runtime.router.route(request))


async def test_it_shows_states_counts_breakers_and_what_is_slow_but_no_secret(url: str) -> None:
    async with Runtime(config(url)) as runtime:
        runtime.start()
        await runtime.ready(None)
        await call(runtime, "mcp_one_who")
        await call(runtime, "mcp_one_who")
        await call(runtime, "mcp_one_note")
        shown = report(runtime)

    one = shown["upstreams"]["one"]
    assert (one["state"], one["era"], one["protocol"]) == ("ready", "handshake", "2025-06-18")
    assert one["offers"] == {"tools": 7, "resources": 0, "templates": 0, "prompts": 0}
    assert one["breaker"] == {"state": "closed", "retry_in": 0.0}
    assert (one["calls"]["calls"], one["calls"]["failures"]) == (3, {})
    assert one["cache"]["hits"] == 1
    assert shown["catalog"]["tools"] == 7
    assert {each["tool"] for each in shown["slowest"]["tools"]} == {"who", "note"}
    assert [each["upstream"] for each in shown["slowest"]["upstreams"]] == ["one"]
    assert SECRET not in json.dumps(shown)
    text = "\n".join(lines(shown))
    assert "● one  ready" in text
    assert "one: note" in text


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.8.8.8"])
async def test_clients_on_this_machine_are_answered(url: str, host: str) -> None:
    async with Runtime(config(url)) as runtime:
        status, shown = await answer(runtime, host)
    assert status == 200
    assert list(shown["upstreams"]) == ["one"]


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("192.0.2.7", {}),
        ("somewhere", {}),
        ("127.0.0.1", {"x_forwarded_for": "192.0.2.7"}),
        ("127.0.0.1", {"forwarded": "for=192.0.2.7"}),
    ],
)
async def test_others_are_refused_unless_the_configuration_lets_them(
    url: str, host: str, headers: dict[str, str]
) -> None:
    async with Runtime(config(url)) as runtime:
        status, shown = await answer(runtime, host, **headers)
        assert (status, list(shown)) == (403, ["error"])
    async with Runtime(config(url, status=True)) as runtime:
        assert (await answer(runtime, host, **headers))[0] == 200


async def test_what_was_counted_of_an_upstream_that_is_gone_is_forgotten(url: str) -> None:
    async with Runtime(config(url)) as runtime:
        runtime.start()
        await runtime.ready(None)
        await call(runtime, "mcp_one_note")
        await runtime.apply(Config())
        with anyio.fail_after(20):
            while runtime.registry._leaving:
                await checkpoint()
        assert report(runtime)["upstreams"] == {}
        assert runtime.registry.metrics.tools() == []


async def test_the_command_asks_a_running_manifold(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"here": upstream("here", "echo")})
    async with serving(home) as manifold:
        await manifold.banner()
        shown = await home.run("status", "--url", manifold.url)
        as_json = await home.run("status", "--json", "--url", manifold.base)

    assert shown.returncode == 0, shown.stderr
    assert "● here  ready" in shown.stdout
    assert json.loads(as_json.stdout)["upstreams"]["here"]["state"] == "ready"


async def test_the_command_says_when_nobody_answers(tmp_path: Path) -> None:
    home = Home(tmp_path).write({}, server={"port": 1})
    done = await home.run("status")
    assert done.returncode == 1
    assert "http://127.0.0.1:1/status.json does not answer" in done.stderr
    assert "--url" in done.stderr
