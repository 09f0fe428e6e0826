"""Lists and calls of the store and of agents."""

import json
from typing import Any

import anyio
import pytest

from proxy import Call, Manifold, Reply, ToolCall
from proxy.errors import (
    AmbiguousName,
    ConfigError,
    DeadlineExceeded,
    InvalidArguments,
    Rejected,
    ToolFailed,
    UnknownServer,
    UnknownTarget,
    UpstreamError,
)
from proxy.model import Sent
from proxy.service.base import Service
from tests.support import scripted
from tests.support.store_peer import Json, Peer, Refusal, serving, text

SCHEMA = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "limit": {"type": "integer"}},
    "required": ["q"],
    "additionalProperties": False,
}


async def fails(_arguments: Json) -> Json:
    return text("the disk is full", isError=True)


def peers() -> tuple[Peer, Peer]:
    web = Peer("web").define("find", schema=SCHEMA).define("read")
    web.tools["fail"], web.schemas["fail"] = fails, {"type": "object"}
    return web, Peer("files").define("read", "write.all")


def config(*upstreams: Peer, **more: Any) -> dict[str, Any]:
    servers = {peer.name: peer.entry() for peer in upstreams}
    return {"mcpServers": servers, "agents": {"reader": {"servers": ["files"], "tools": {"deny": ["write*"]}}}, **more}


async def test_the_store_has_full_names_and_an_agent_local_ones() -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        full = [tool.name for tool in await manifold.for_store().list_tools()]
        assert full == ["mcp_web_find", "mcp_web_read", "mcp_web_fail", "mcp_files_read", "mcp_files_write_all"]
        assert [tool.name for tool in await manifold.for_agent("reader").list_tools()] == ["read"]
        everything = await manifold.create_agent("all")
        local = [tool.name for tool in await everything.list_tools()]
        assert local == ["find", "mcp_web_read", "fail", "mcp_files_read", "write_all"]


async def test_a_tool_is_found_by_every_form_of_its_name() -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        store = manifold.for_store()
        for name in ("mcp_files_write_all", "files.write.all", "files_write_all", "files/write.all", "write.all"):
            tool = await store.get_tool(name)
            assert (tool.server, tool.own_name) == ("files", "write.all")
            found = await store.parse_function_name(name)
            assert (found.name, found.server, found.tool) == ("mcp_files_write_all", "files", "write.all")
        with pytest.raises(AmbiguousName, match="fits 2 tools"):
            await store.get_tool("read")
        with pytest.raises(UnknownTarget) as caught:
            await store.get_tool("mcp_web_fnd")
        assert caught.value.suggestions[0] == "mcp_web_find"


async def test_what_an_agent_may_not_see_does_not_exist_for_it() -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        reader = manifold.for_agent("reader")
        for name in ("write_all", "mcp_files_write_all", "mcp_web_find", "web.find"):
            with pytest.raises(UnknownTarget):
                await reader.call_tool(name)
        assert all(peer.calls == [] for peer in both)
        with pytest.raises(UnknownServer):
            manifold.for_agent("nobody")


async def test_agents_come_and_go_at_run_time() -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        agent = await manifold.create_agent("new", {"servers": ["web"], "tools": ["find"]})
        assert [tool.name for tool in await agent.list_tools()] == ["find"]
        await manifold.create_agent("new", {"servers": ["files"]})
        assert [tool.name for tool in await agent.list_tools()] == ["read", "write_all"]
        await manifold.remove_agent("new")
        with pytest.raises(UnknownServer):
            await agent.list_tools()
        with pytest.raises(UnknownServer):
            await manifold.remove_agent("new")


@pytest.mark.parametrize(
    ("name", "settings"),
    [("a b", {}), ("a", {"servers": ["nowhere"]}), ("a", {"sevrers": ["web"]}), ("x" * 65, None)],
)
async def test_an_agent_that_makes_no_sense_is_refused(name: str, settings: Any) -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        with pytest.raises(ConfigError):
            await manifold.create_agent(name, settings)


@pytest.mark.parametrize("arguments", [{"q": "x"}, '{"q": "x"}', b'{"q": "x"}'])
async def test_arguments_arrive_in_whatever_form_they_were_given(arguments: Any) -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        store = manifold.for_store()
        result = await store.call_tool("mcp_web_find", arguments, limit=2)
        assert result
        assert result.data == {"server": "web", "tool": "find", "arguments": {"q": "x", "limit": 2}}
        assert json.loads(result.text) == result.structured
        assert (await store.call_tool("mcp_web_find", q="x")).data["arguments"] == {"q": "x"}
        assert (await store.call_tool("mcp_web_read")).data["arguments"] == {}


async def test_an_argument_may_be_called_name() -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        assert (await manifold.for_store().call_tool("web.read", name="n")).data["arguments"] == {"name": "n"}


async def test_strict_validation_sends_nothing_and_names_the_argument() -> None:
    async with serving(*peers()) as both, Manifold(config(*both), validate="strict") as manifold:
        store = manifold.for_store()
        with pytest.raises(InvalidArguments, match="q: expected a text, got nothing") as caught:
            await store.call_tool("mcp_web_find", limt=1)
        assert [problem.argument for problem in caught.value.problems] == ["q", "limt"]
        assert "did you mean limit?" in str(caught.value.problems[1])
        assert both[0].calls == []
        assert await store.call_tool("mcp_web_find", q="x", limit=1)
        assert await store.call_tool("mcp_web_find", limt=1, validate="off")
        assert manifold.caches()["schemas"].hits == 1


async def test_a_warning_is_in_the_result_and_the_call_is_made() -> None:
    async with serving(*peers()) as both, Manifold(config(*both), validate="warn") as manifold:
        result = await manifold.for_store().call_tool("mcp_web_find", {"q": 7})
        assert result
        assert [str(one) for one in result.warnings] == ["q: expected a text, got a whole number"]
        assert len(both[0].calls) == 1


async def test_a_rule_that_cannot_be_checked_is_told_and_refuses_nothing() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string", "pattern": "^(?=.*[0-9])(a+)+$"}}}
    web = Peer("web").define("find", schema=schema)
    async with serving(web), Manifold(config(web, agents={}), validate="strict") as manifold:
        with anyio.fail_after(20):
            result = await manifold.for_store().call_tool("find", q="a" * 4000 + "!")
        assert result
        assert [one.expected for one in result.warnings] == ["a text that matches ^(?=.*[0-9])(a+)+$"]
        with pytest.raises(InvalidArguments):
            await manifold.for_store().call_tool("find", q=7)


async def test_no_schema_holds_up_the_program() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string", "pattern": "^(a+)+$"}}}
    web = Peer("web").define("find", schema=schema)
    async with serving(web), Manifold(config(web, agents={}), validate="strict") as manifold:
        with anyio.fail_after(20), pytest.raises(InvalidArguments, match="matches"):
            await manifold.for_store().call_tool("find", q="a" * 4000 + "!")


async def test_a_tool_that_fails_is_a_false_result_and_an_exception_on_request() -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        result = await manifold.for_store().call_tool("mcp_web_fail")
        assert (bool(result), result.is_error, result.error) == (False, True, None)
        with pytest.raises(ToolFailed, match="the disk is full"):
            result.raise_for_error()


async def test_an_error_is_a_result_where_the_caller_wants_one() -> None:
    async with serving(*peers()) as both, Manifold(config(*both), errors="result") as manifold:
        store = manifold.for_store()
        result = await store.call_tool("mcp_web_fnd")
        assert isinstance(result.error, UnknownTarget)
        assert "mcp_web_find" in result.text
        meta = result.raw["_meta"]["mcp-manifold/error"]
        assert meta["code"] == "unknown-target"
        assert meta["documentation"] == "docs/errors.md#unknown-target"
        assert meta["suggestions"][0] == "mcp_web_find"
        with pytest.raises(UnknownTarget):
            await store.call_tool("mcp_web_fnd", errors="raise")
        wrong = await store.call_tool("mcp_web_find", "[1]")
        assert isinstance(wrong.error, InvalidArguments)
        both[0].down = True
        lost = await store.call_tool("mcp_web_find", q="x")
        assert isinstance(lost.error, UpstreamError)
        assert "'web'" in lost.text


async def test_a_call_that_takes_too_long_ends_with_what_may_have_happened() -> None:
    running = anyio.Event()

    async def hold(_arguments: Json) -> Json:
        running.set()
        await anyio.sleep_forever()
        return {}

    web = Peer("web").define("find")
    web.tools["hold"], web.schemas["hold"] = hold, {"type": "object"}
    async with serving(web), Manifold(config(web, agents={})) as manifold:
        with anyio.fail_after(10):
            with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.2 s") as caught:
                await manifold.for_store().call_tool("hold", timeout=0.2)
        assert running.is_set()
        assert (caught.value.upstream, caught.value.sent) == ("web", Sent.MAYBE)
        assert "check its effect" in caught.value.hint
        assert await manifold.for_store().call_tool("find", timeout=5)
        assert manifold.for_store().tool_metrics()["web.hold"].failures == {"deadline-exceeded": 1}
        with pytest.raises(ValueError, match="timeout"):
            await manifold.for_store().call_tool("find", timeout=0)


async def test_a_name_that_is_waited_for_in_vain_was_never_sent() -> None:
    web = Peer("web").define("find")
    slow = scripted.upstream("slow", "late", waits_for="/nonexistent/never", grace=60)
    async with serving(web), Manifold({"mcpServers": {"web": web.entry(), "slow": slow}}) as manifold:
        with anyio.fail_after(10):
            with pytest.raises(DeadlineExceeded) as caught:
                await manifold.for_store().call_tool("late", timeout=0.2)
        assert caught.value.sent is Sent.NO


async def test_listing_waits_as_long_as_it_is_told_to() -> None:
    slow = scripted.upstream("slow", "late", waits_for="/nonexistent/never", grace=60)
    fast = scripted.upstream("fast", "early")
    async with Manifold({"mcpServers": {"fast": fast, "slow": slow}}) as manifold:
        store = manifold.for_store()
        with anyio.fail_after(20):
            await manifold.connect("fast")
            assert [tool.name for tool in await store.list_tools(wait=False)] == ["mcp_fast_early"]
            assert [tool.name for tool in await store.list_tools(wait=0.1)] == ["mcp_fast_early"]


async def test_a_late_arrival_is_waited_for_longer_than_its_grace_where_a_number_says_so(tmp_path: Any) -> None:
    go = tmp_path / "go"
    slow = scripted.upstream("slow", "late", waits_for=go, grace=0)
    async with Manifold({"mcpServers": {"slow": slow}}) as manifold:
        store = manifold.for_store()
        assert await store.list_tools() == []
        go.touch()
        with anyio.fail_after(20):
            assert [tool.name for tool in await store.list_tools(wait=15)] == ["mcp_slow_late"]


async def test_a_batch_keeps_order_and_ids_and_one_failure_harms_no_other() -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        calls = [
            {"id": "1", "name": "mcp_web_find", "arguments": {"q": "x"}},
            {"id": "2", "name": "mcp_web_nothing"},
            ToolCall("mcp_web_fail", None, "3"),
            7,
            ("mcp_files_read", "{not json"),
            "mcp_files_read",
        ]
        results = await manifold.for_store().batch_call(calls, max_concurrent=3)
        assert [result.id for result in results] == ["1", "2", "3", "", "", ""]
        assert [bool(result) for result in results] == [True, False, False, False, False, True]
        kinds = [type(result.error) for result in results]
        assert kinds == [type(None), UnknownTarget, type(None), InvalidArguments, InvalidArguments, type(None)]


async def test_a_batch_never_runs_more_calls_than_allowed() -> None:
    four = anyio.Event()

    async def meet(_arguments: Json) -> Json:
        if web.at_once == 4:
            four.set()
        await four.wait()
        return text("met")

    web = Peer("web", {"meet": meet}, {"meet": {"type": "object"}})
    async with serving(web), Manifold(config(web, agents={})) as manifold:
        with anyio.fail_after(20):
            results = await manifold.for_store().batch_call(["meet"] * 40, max_concurrent=4)
        assert [result.text for result in results] == ["met"] * 40
        assert web.most_at_once == 4


async def test_resources_and_prompts_are_listed_and_read_under_exported_names() -> None:
    notes = scripted.upstream("notes", "x", resources=["note:///1"], templates=["note:///{id}"], prompts=["sum"])
    async with Manifold({"mcpServers": {"notes": notes}, "agents": {"none": {"servers": []}}}) as manifold:
        store = manifold.for_store()
        resource = (await store.list_resources())[0]["uri"]
        assert (await store.read_resource(resource))["contents"] == [{"uri": resource, "text": "notes has note:///1"}]
        assert len(await store.list_resource_templates()) == 1
        assert [prompt["name"] for prompt in await store.list_prompts()] == ["mcp_notes_sum"]
        assert (await store.get_prompt("mcp_notes_sum"))["messages"][0]["content"]["text"] == "notes"
        nobody = manifold.for_agent("none")
        assert await nobody.list_resources() == await nobody.list_prompts() == []
        with pytest.raises(UnknownTarget):
            await nobody.read_resource(resource)


async def test_an_upstreams_own_error_keeps_its_code_and_words() -> None:
    async def refuse(_arguments: Json) -> Json:
        raise Refusal(-32123, "not on Sundays", {"next": "Monday"})

    web = Peer("web", {"ask": refuse}, {"ask": {"type": "object"}})
    async with serving(web), Manifold(config(web, agents={})) as manifold:
        with pytest.raises(Rejected) as caught:
            await manifold.for_store().call_tool("ask")
        error = caught.value
        told = (error.upstream, error.jsonrpc, error.message, error.data)
        assert told == ("web", -32123, "not on Sundays", {"next": "Monday"})
        result = await manifold.for_store().call_tool("ask", errors="result")
        assert "not on Sundays" in result.text


async def test_what_was_cleared_is_listed_anew_when_it_is_asked_for() -> None:
    async with Manifold(
        {"mcpServers": {"a": scripted.upstream("a", "one"), "b": scripted.upstream("b", "x")}}
    ) as manifold:
        store = manifold.for_store()
        await store.call_tool("one", {"do": "offer_silently", "tool": "two"})
        await store.call_tool("x", {"do": "offer_silently", "tool": "y"})
        assert [tool.own_name for tool in await store.list_tools()] == ["one", "x"]
        manifold.clear_cache(server="a")
        assert [tool.own_name for tool in await store.list_tools()] == ["one", "two", "x"]
        manifold.clear_cache()
        assert [tool.own_name for tool in await store.list_tools()] == ["one", "two", "x", "y"]


async def test_what_an_agent_sees_can_be_cleared_alone() -> None:
    config = {
        "mcpServers": {"a": scripted.upstream("a", "one"), "b": scripted.upstream("b", "x")},
        "agents": {"only-b": {"servers": ["b"]}},
    }
    async with Manifold(config) as manifold:
        store = manifold.for_store()
        await store.call_tool("one", {"do": "offer_silently", "tool": "two"})
        await store.call_tool("x", {"do": "offer_silently", "tool": "y"})
        manifold.clear_cache(agent="only-b")
        assert [tool.own_name for tool in await manifold.for_agent("only-b").list_tools()] == ["x", "y"]
        assert [tool.own_name for tool in await store.list_tools()] == ["one", "x", "y"]
        assert [one.tools for one in (await manifold.refresh("a")).values()] == [2]
        assert [tool.own_name for tool in await store.list_tools()] == ["one", "two", "x", "y"]


async def test_a_refresh_that_fails_keeps_the_last_known_tools() -> None:
    web = Peer("web").define("find")
    async with serving(web), Manifold(config(web, agents={})) as manifold:
        store = manifold.for_store()
        before = await store.list_tools()
        web.down = True
        with anyio.fail_after(20):
            await manifold.refresh()
        assert await store.list_tools(wait=False) == before


async def test_caches_count_what_they_answer() -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        store = manifold.for_store()
        for _ in range(3):
            await store.list_tools()
        for _ in range(2):
            await store.get_tool("web.find")
        caches = manifold.caches()
        assert caches["tools"].size == 5
        assert caches["tools"].hits >= 2
        assert (caches["names"].hits, caches["names"].misses) == (1, 1)
        assert 0 < caches["names"].hit_rate < 1


async def test_figures_are_per_agent_and_all_together() -> None:
    async with serving(*peers()) as both, Manifold(config(*both)) as manifold:
        store, reader = manifold.for_store(), manifold.for_agent("reader")
        await reader.call_tool("read")
        await store.call_tool("files.read")
        await store.call_tool("mcp_web_fail")
        assert {name: one.calls for name, one in reader.tool_metrics().items()} == {"files.read": 1}
        assert {name: one.calls for name, one in store.tool_metrics().items()} == {"files.read": 2, "web.fail": 1}
        assert store.tool_metrics()["web.fail"].failures == {"tool-failed": 1}
        assert store.server_metrics()["files"].rate == 1.0
        assert {one.tool for one in store.slowest_tools()} == {"read", "fail"}
        manifold.reset_metrics()
        assert store.tool_metrics() == {}


async def test_middleware_and_handlers_are_on_the_way_of_every_call() -> None:
    seen: list[tuple[str, str | None]] = []

    async def audit(call: Call, call_next: Service) -> Reply:
        seen.append((call.target, call.caller.agent))
        return await call_next(call)

    async def now(_call: Call, _next: Service) -> Reply:
        return Reply.of(text("noon"))

    web = Peer("web").define("find", "time")
    more: dict[str, Any] = {"middleware": [audit], "tool_handlers": {"web.ti*": now}}
    async with serving(web), Manifold(config(web, agents={"a": {}}), **more) as manifold:
        assert (await manifold.for_store().call_tool("time")).text == "noon"
        assert (await manifold.for_agent("a").call_tool("find")).data["tool"] == "find"
        assert seen == [("time", None), ("find", "a")]
        assert [call["name"] for call in web.calls] == ["find"]


async def test_a_programs_own_changes_to_a_result_reach_nobody_else() -> None:
    web = Peer("web").define("find")
    async with serving(web), Manifold(config(web, agents={})) as manifold:
        first = await manifold.for_store().call_tool("find")
        first.data["server"] = "changed"
        assert (await manifold.for_store().call_tool("find")).data["server"] == "web"
