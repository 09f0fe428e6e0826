"""The audit log and agents' limits see what takes no tower, and tell which lines belong together."""

import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import mcp_types
import pytest
from mcp import Client

from proxy import Manifold
from proxy.errors import UnknownServer
from tests.conformance.stage import Cast, upstream_of
from tests.conformance.test_crossings import listening
from tests.conformance.test_tasks import TASKS, served
from tests.conformance.wire import MODERN, over_http
from tests.integration.policy import subscribing_peer
from tests.support.changing_server import changing, offer, tool
from tests.support.manifold import Home, Json, serving, stdio
from tests.support.scripted import upstream

PEER: Json = {"command": sys.executable, "args": ["-S", subscribing_peer.__file__]}
PERSON = {"username": "ann", "email": "ann@example.com"}
LIMITED: Json = {
    "a": {"limits": {"calls": "2/h", "concurrency": 1, "queue": 0}, "resources": {"deny": ["other:*"]}},
}


def lines(folder: Path, **wanted: str) -> list[Json]:
    every = [json.loads(line) for line in (folder / "audit.log").read_text().splitlines()]
    return [line for line in every if all(line.get(key) == value for key, value in wanted.items())]


# -- tasks -------------------------------------------------------------------------------------------------------------


async def test_what_is_asked_about_tasks_is_audited_and_counts(tmp_path: Path) -> None:
    agents = {"a": {"limits": {"calls": "2/h"}}}
    with served(tmp_path, "http") as (_, url):
        home = Home(tmp_path).write({"jobs": {"url": url}}, agents=agents, audit={"to": "audit.log"})
        async with (
            serving(home) as manifold,
            over_http(manifold.agent("a"), version=MODERN, capabilities=TASKS) as client,
        ):
            with anyio.fail_after(60):
                made = (await client.tool("slow_compute", {})).result["taskId"]
                about, headers = {"taskId": made}, {"Mcp-Name": made}
                assert (await client.call("tasks/get", about, headers=headers)).result["taskId"] == made
                limited = (await client.call("tasks/get", about, headers=headers)).error
                assert "over the limit" in limited["message"]
                assert "result" in (await client.call("tasks/cancel", about, headers=headers)).answer
                guessed = await client.call("tasks/get", {"taskId": "guessed"}, headers={"Mcp-Name": "guessed"})
                assert "Task not found" in guessed.error["message"]
    got, refused, cancelled = lines(tmp_path, kind="call")[1:]
    assert (got["method"], got["upstream"], got["agent"], got["outcome"]) == ("tasks/get", "jobs", "a", "ok")
    assert (refused["error"], refused["sent"]) == ("rate-limited", "no")
    assert (cancelled["method"], cancelled["outcome"]) == ("tasks/cancel", "ok")
    assert [line["method"] for line in lines(tmp_path, kind="refusal")] == ["tasks/get"]
    assert made not in (tmp_path / "audit.log").read_text()


# -- subscriptions -----------------------------------------------------------------------------------------------------


async def test_subscriptions_are_audited_and_count_but_their_ends_do_not(tmp_path: Path) -> None:
    audit = {"to": "audit.log", "methods": ["resources/*"]}
    home = Home(tmp_path).write({"peer": PEER}, agents=LIMITED, audit=audit)
    async with stdio(home, "--agent", "a") as wire:
        await wire.open()
        assert await wire.request("resources/subscribe", {"uri": "file:///one"}) == {}
        assert "code" in await wire.request("resources/subscribe", {"uri": "other://nowhere"})
        assert await wire.request("resources/unsubscribe", {"uri": "file:///one"}) == {}
        assert await wire.request("resources/subscribe", {"uri": "file:///two"}) == {}
        assert "over the limit" in (await wire.request("resources/subscribe", {"uri": "file:///three"}))["message"]
        assert await wire.request("resources/unsubscribe", {"uri": "file:///two"}) == {}
    found = [(line["method"], line["target"], line["outcome"]) for line in lines(tmp_path, kind="call")]
    assert found == [
        ("resources/subscribe", "file:///one", "ok"),
        ("resources/unsubscribe", "file:///one", "ok"),
        ("resources/subscribe", "file:///two", "ok"),
        ("resources/subscribe", "file:///three", "failed"),
        ("resources/unsubscribe", "file:///two", "ok"),
    ]
    (refused,) = lines(tmp_path, kind="refusal")
    assert (refused["target"], refused["agent"]) == ("other://nowhere", "a")


async def test_a_listen_stream_is_audited_when_it_opens_and_takes_no_place_while_it_is_open(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"peer": PEER}, agents=LIMITED, audit={"to": "audit.log"})
    async with serving(home) as manifold, over_http(manifold.agent("a"), version=MODERN) as client:
        wanted: Json = {"toolsListChanged": True, "resourceSubscriptions": ["file:///one", "other://nowhere"]}
        with anyio.fail_after(60):
            async with listening(client, wanted):
                assert "result" in (await client.tool("touch", {"uri": "file:///one"})).answer
                over = await client.send("subscriptions/listen", {"notifications": wanted})
                assert "over the limit" in over.error["message"]
    opened, touched, limited = lines(tmp_path, kind="call")
    assert (touched["method"], touched["outcome"], limited["error"]) == ("tools/call", "ok", "rate-limited")
    assert (opened["method"], opened["outcome"], opened["agent"]) == ("subscriptions/listen", "ok", "a")
    assert opened["target"] == "toolsListChanged file:///one other://nowhere"
    (refused,) = lines(tmp_path, kind="refusal")
    assert refused["target"] == "other://nowhere"


# -- rounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("express", [True, False], ids=["lane", "no lane"])
@pytest.mark.parametrize(
    ("mode", "era", "outcomes"),
    [("auto", "modern", ["asked", "ok"]), ("legacy", "modern", ["asked", "ok"]), ("auto", "legacy", ["ok"])],
)
async def test_the_rounds_of_one_request_are_one_exchange(
    tmp_path: Path, mode: Any, era: str, outcomes: list[str], *, express: bool
) -> None:
    async def answer(context: Any, params: Any) -> mcp_types.ElicitResult:
        del context, params
        return mcp_types.ElicitResult(action="accept", content=dict(PERSON))

    with upstream_of(tmp_path, "fixture", Cast(era, "http")) as (config, _):
        home = Home(tmp_path).write({"up": config}, audit={"to": "audit.log"}, server={"express": express})
        async with serving(home) as manifold, Client(manifold.url, mode=mode, elicitation_callback=answer) as client:
            with anyio.fail_after(90):
                for _ in range(2):
                    await client.call_tool("mcp_up_test_elicitation", {"message": "Who?"})
    found = lines(tmp_path, kind="call")
    assert [line["outcome"] for line in found] == outcomes * 2
    half = len(outcomes)
    first, second = {line["exchange"] for line in found[:half]}, {line["exchange"] for line in found[half:]}
    assert len(first) == len(second) == 1
    assert first != second


# -- who was turned away -----------------------------------------------------------------------------------------------


async def test_who_may_come_in_but_not_here_is_named(tmp_path: Path) -> None:
    token = "a-token-of-an-agent-1"  # noqa: S105 - the test's own
    agents = {"coder": {"tokens": [token]}}
    home = Home(tmp_path).write({"a": upstream("a", "work")}, agents=agents, audit={"to": "audit.log"})
    async with serving(home) as manifold, aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
        with anyio.fail_after(20):
            async with http.get(manifold.base + "/status.json") as refused:
                assert refused.status == 403
            async with http.get(manifold.url, headers={"Origin": "http://evil.example"}) as refused:
                assert refused.status == 403
    beyond, elsewhere = lines(tmp_path, kind="refusal")
    assert beyond["principal"]
    assert beyond["facts"]["path"] == "/status.json"
    assert token not in (tmp_path / "audit.log").read_text()
    assert elsewhere["error"] == "http-403"


# -- decisions of a program --------------------------------------------------------------------------------------------


async def test_what_a_program_decides_about_definitions_is_audited(tmp_path: Path) -> None:
    offer(tmp_path / "offer.json", tool("read", "Reads."))
    settings = {
        "mcpServers": {"a": changing(tmp_path / "offer.json", pin="hold")},
        "audit": {"to": str(tmp_path / "audit.log")},
    }
    async with Manifold(settings) as manifold:
        with anyio.fail_after(20):
            await manifold.for_store().list_tools()
            trust = manifold.runtime.trust
            await trust.reject("a", trust.findings("a"))
            await trust.approve("a", trust.findings("a"))
            with pytest.raises(UnknownServer):
                await trust.approve("nobody", ())
    rejected, approved = lines(tmp_path, kind="act")
    assert (rejected["act"], approved["act"]) == ("pin.rejected", "pin.approved")
    assert rejected["facts"]["upstream"] == "a"
    assert rejected["facts"]["definitions"] == approved["facts"]["definitions"]
    assert any(one.startswith("tool read  @") for one in approved["facts"]["definitions"])
