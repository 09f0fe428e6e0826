"""The audit log: one line for what happened at any door, and none of what must not be in it."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import structlog.testing
from mcp import Client

from proxy import Manifold
from proxy.auditing import Auditor, act
from proxy.config.audit import AuditConfig
from proxy.config.model import Config
from proxy.errors import ConfigError, RateLimited, Rejected, RoutingError, Unavailable, UpstreamError
from proxy.masking import MASK
from proxy.model import Caller, Principal
from proxy.router import Request
from proxy.runtime import Runtime
from tests.support.manifold import Home, Json, serving, stdio
from tests.support.scripted import upstream

CLIENT = {"clientInfo": {"name": "raw", "version": "1"}, "protocolVersion": "2025-11-25", "capabilities": {}}


def lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def calls(path: Path, kind: str = "call") -> list[Json]:
    return [line for line in lines(path) if line["kind"] == kind]


async def ask(runtime: Runtime, tool: str, arguments: Json, caller: Caller | None = None) -> Any:
    request = Request("tools/call", {"name": tool, "arguments": arguments}, caller or Caller(), None, 7)
    with anyio.fail_after(20):
        return await runtime.router.send(await runtime.router.route(request))


def config(path: Path | str, **audit: Any) -> Config:
    entry = upstream("a", "work")
    return Config.model_validate({"upstreams": {"a": entry}, "audit": {"to": str(path), **audit}})


# -- at every door -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("express", [True, False], ids=["lane", "no lane"])
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_call_over_http_is_one_line(tmp_path: Path, mode: Any, *, express: bool) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")}, audit={"to": "audit.log"}, server={"express": express})
    async with serving(home) as manifold, Client(manifold.url, mode=mode) as client:
        with anyio.fail_after(20):
            await client.list_tools()
            await client.call_tool("mcp_a_work", {"secret": "in the arguments"})
    (call,) = calls(tmp_path / "audit.log")
    assert call["time"].endswith("+00:00")
    assert (call["method"], call["target"], call["upstream"]) == ("tools/call", "mcp_a_work", "a")
    assert (call["outcome"], call["attempts"]) == ("ok", 1)
    assert call["request"] is not None
    assert call["ms"] > 0
    assert "arguments" not in call
    assert "in the arguments" not in (tmp_path / "audit.log").read_text()
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


async def test_calls_over_stdio_and_what_was_administered_are_in_it(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")}, audit={"to": "audit.log"}, agents={"coder": {}})
    async with stdio(home, "--agent", "coder") as wire:
        await wire.open()
        await wire.call("work", do="swell", size=10)
        await wire.call("a_tool_that_is_not_there")
        assert await wire.close() == 0
    started, call, refusal, stopped = lines(tmp_path / "audit.log")
    assert (started["act"], started["facts"]["upstreams"], started["facts"]["agents"]) == (
        "manifold.started",
        ["a"],
        ["coder"],
    )
    assert (call["kind"], call["agent"], call["target"], call["request"]) == ("call", "coder", "mcp_a_work", 2)
    assert call["client"] == "wire/1"
    assert len(call["session"]) == 12
    assert (refusal["kind"], refusal["target"], refusal["error"]) == (
        "refusal",
        "a_tool_that_is_not_there",
        "unknown-target",
    )
    assert refusal["sent"] == "no"
    assert stopped["act"] == "manifold.stopped"


async def test_calls_of_a_program_and_its_batches_are_in_it_if_it_says_so(tmp_path: Path) -> None:
    async with Manifold(config(tmp_path / "audit.log")) as manifold:
        store = manifold.for_store()
        with anyio.fail_after(20):
            await store.call_tool("mcp_a_work", {})
            await store.batch_call([("mcp_a_work", {}), ("mcp_a_work", {}), ("nothing", {})])
    assert [call["outcome"] for call in calls(tmp_path / "audit.log")] == ["ok", "ok", "ok"]
    assert [one["target"] for one in calls(tmp_path / "audit.log", "refusal")] == ["nothing"]


async def test_who_was_turned_away_at_a_door_is_in_it(tmp_path: Path) -> None:
    home = Home(tmp_path).write({}, audit={"to": "audit.log"})
    async with serving(home) as manifold, aiohttp.ClientSession() as http:
        async with http.get(manifold.base + "/status.json?token=abc", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 421
        async with http.get(manifold.base + "/mcp", headers={"Origin": "http://evil.example"}) as answer:
            assert answer.status == 403
    first, second = calls(tmp_path / "audit.log", "refusal")
    assert (first["error"], first["facts"]["path"]) == ("http-421", "/status.json")
    assert (second["error"], second["facts"]["status"]) == ("http-403", 403)
    assert second["facts"]["client"].startswith("127.0.0.1:")


async def test_a_reload_and_a_broken_file_are_in_it(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")}, audit={"to": "audit.log"})
    async with serving(home, "--no-watch") as manifold:
        await manifold.banner()
        home.write({"b": upstream("b", "work")}, audit={"to": "audit.log"})
        os.kill(manifold.pid, signal.SIGHUP)
        await manifold.event("config.applied")
        home.write({"b": {"no": "server"}}, audit={"to": "audit.log"})
        os.kill(manifold.pid, signal.SIGHUP)
        await manifold.event("config.kept")
    applied, rejected = [one for one in lines(tmp_path / "audit.log") if one["act"].startswith("config.")]
    assert (applied["act"], applied["facts"]["trigger"]) == ("config.applied", ["SIGHUP"])
    assert rejected["act"] == "config.rejected"
    assert "manifold.json" in rejected["facts"]["problems"][0]


async def test_the_file_may_be_moved_away_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    async with Runtime(config(log)) as runtime:
        runtime.start()
        await ask(runtime, "mcp_a_work", {})
        with anyio.fail_after(20):
            while not log.read_text():  # noqa: ASYNC110 - no event tells what a thread has written
                await anyio.sleep(0.005)
        log.rename(tmp_path / "audit.log.old")
        await ask(runtime, "mcp_a_work", {})
    assert len(calls(tmp_path / "audit.log.old")) == 1
    assert len(calls(log)) == 1


# -- what is in it -----------------------------------------------------------------------------------------------------


async def test_who_called_is_in_it_and_the_session_s_own_name_is_not(tmp_path: Path) -> None:
    caller = Caller(principal=Principal("token:3f9a", name="ci"), session="a-session-id")
    async with Runtime(config(tmp_path / "audit.log")) as runtime:
        runtime.start()
        await ask(runtime, "mcp_a_work", {}, caller)
    (call,) = calls(tmp_path / "audit.log")
    assert (call["principal"], call["name"], call["request"]) == ("token:3f9a", "ci", 7)
    assert "a-session-id" not in json.dumps(call)


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        ("drop", None),
        ("keep", {"user": {"Password": "p"}, "list": [{"api_key": "k"}], "body": {"x": "y"}, "n": 1}),
        ("redact", {"user": {"Password": MASK}, "list": [{"api_key": MASK}], "body": {"x": MASK}, "n": 1}),
    ],
)
async def test_arguments_are_kept_as_configured(tmp_path: Path, mode: str, kept: Any) -> None:
    rules = {} if mode != "redact" else {"redact": ["*password*", "*api_key*", "body.*"]}
    async with Runtime(config(tmp_path / "audit.log", arguments=mode, **rules)) as runtime:
        runtime.start()
        own = {"user": {"Password": "p"}, "list": [{"api_key": "k"}], "body": {"x": "y"}, "n": 1}
        await ask(runtime, "mcp_a_work", own)
    (call,) = calls(tmp_path / "audit.log")
    assert call.get("arguments") == kept


async def test_large_arguments_are_left_out(tmp_path: Path) -> None:
    async with Runtime(config(tmp_path / "audit.log", arguments="keep", max_arguments="1KiB")) as runtime:
        runtime.start()
        await ask(runtime, "mcp_a_work", {"x": "y" * 2000})
    (call,) = calls(tmp_path / "audit.log")
    assert call["arguments"] == {"left_out": "2008 bytes"}


async def test_a_secret_of_the_configuration_is_not_in_it_whatever_is_kept(tmp_path: Path) -> None:
    entry = upstream("a", "work", env={"API_TOKEN": "planted-audit-secret-1"})
    audit = {"to": str(tmp_path / "audit.log"), "arguments": "keep"}
    async with Runtime(Config.model_validate({"upstreams": {"a": entry}, "audit": audit})) as runtime:
        runtime.start()
        await ask(runtime, "mcp_a_work", {"said": "it is planted-audit-secret-1"})
    (call,) = calls(tmp_path / "audit.log")
    assert call["arguments"] == {"said": f"it is {MASK}"}


async def test_how_a_call_failed_is_in_it_and_whether_it_was_sent(tmp_path: Path) -> None:
    async with Runtime(config(tmp_path / "audit.log")) as runtime:
        runtime.start()
        with pytest.raises(UpstreamError):
            await ask(runtime, "mcp_a_work", {"do": "die"})
        with pytest.raises(Rejected, match="must be a string"):
            await runtime.router.route(Request("tools/call", {"name": 7}, Caller()))
    died, refused = lines(tmp_path / "audit.log")
    assert (died["outcome"], died["error"], died["sent"]) == ("failed", "lost", "maybe")
    assert (refused["kind"], refused["error"], refused["target"]) == ("refusal", "rejected", "7")


async def test_a_call_that_was_tried_again_says_how_often(tmp_path: Path) -> None:
    tool = {"name": "work", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
    entry = upstream("a", tool, retry={"attempts": 2})
    settings = {"upstreams": {"a": entry}, "audit": {"to": str(tmp_path / "audit.log")}}
    async with Runtime(Config.model_validate(settings)) as runtime:
        runtime.start()
        with pytest.raises(UpstreamError):
            await ask(runtime, "mcp_a_work", {"do": "die"})
    (call,) = calls(tmp_path / "audit.log")
    assert call["attempts"] == 2


async def test_only_the_named_methods_are_in_it(tmp_path: Path) -> None:
    async with Runtime(config(tmp_path / "audit.log", methods=["resources/*"])) as runtime:
        runtime.start()
        await ask(runtime, "mcp_a_work", {})
    assert lines(tmp_path / "audit.log") == []


# -- when it cannot be written -----------------------------------------------------------------------------------------


async def test_a_log_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"audit\.to: .*cannot be written"):
        await Runtime(config(tmp_path / "file" / "audit.log")).__aenter__()


async def test_standard_output_is_refused_where_it_speaks_the_protocol(tmp_path: Path) -> None:
    done = await Home(tmp_path).write({}, audit={"to": "stdout"}).run("serve", "--stdio")
    assert done.returncode == 1
    assert "audit.to: is standard output" in done.stderr


@pytest.mark.parametrize("on_failure", ["continue", "refuse"])
async def test_while_it_cannot_be_written_calls_go_on_or_are_refused(on_failure: str) -> None:
    async with Runtime(config("/dev/full", on_failure=on_failure)) as runtime:
        runtime.start()
        await ask(runtime, "mcp_a_work", {})
        journal = runtime.audit.journal
        assert journal is not None
        with anyio.fail_after(20):
            while not journal.failing:  # noqa: ASYNC110 - same
                await anyio.sleep(0.005)
        if on_failure == "continue":
            await ask(runtime, "mcp_a_work", {})
        else:
            with pytest.raises(Unavailable, match="audit log cannot be written") as caught:
                await ask(runtime, "mcp_a_work", {})
            assert caught.value.sent.value == "no"


# -- for the commands --------------------------------------------------------------------------------------------------


def test_a_command_writes_one_act(tmp_path: Path) -> None:
    settings = AuditConfig(to=str(tmp_path / "audit.log"))
    act(settings, "token.created", principal=Principal("token:1", name="me"), id="3f9a", agents=["coder"], note="")
    (line,) = lines(tmp_path / "audit.log")
    assert (line["kind"], line["act"], line["principal"], line["name"]) == ("act", "token.created", "token:1", "me")
    assert line["facts"] == {"id": "3f9a", "agents": ["coder"]}


def test_without_an_audit_log_nothing_is_written_and_nothing_goes_around_the_towers(tmp_path: Path) -> None:
    act(AuditConfig(), "token.created", id="x")
    with Auditor(AuditConfig()) as auditor:
        auditor.act("x")
        assert auditor.layers == []
    assert list(tmp_path.iterdir()) == []


async def test_tokens_that_are_made_and_revoked_by_command_are_in_it_but_not_the_token(tmp_path: Path) -> None:
    home = Home(tmp_path).write({}, audit={"to": "audit.log"}, agents={"coder": {}})
    made = await home.run("token", "create", "ci", "--agent", "coder")
    assert made.returncode == 0
    assert (await home.run("token", "revoke", "ci")).returncode == 0
    created, revoked = lines(tmp_path / "audit.log")
    assert (created["act"], created["facts"]["token_name"], created["facts"]["agents"]) == (
        "token.created",
        "ci",
        ["coder"],
    )
    assert created["principal"] == f"user:{os.getuid()}"
    assert (revoked["act"], revoked["facts"]["id"]) == ("token.revoked", created["facts"]["id"])
    assert made.stdout.strip() not in (tmp_path / "audit.log").read_text()


async def test_who_has_no_credential_is_in_it_and_who_has_one_is_named(tmp_path: Path) -> None:
    token = "a-token-of-the-store-1"  # noqa: S105 - the test's own
    home = Home(tmp_path).write({"a": upstream("a", "work")}, audit={"to": "audit.log"}, auth={"tokens": [token]})
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": CLIENT}
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "mcp_a_work", "arguments": {}}}
    async with serving(home) as manifold, aiohttp.ClientSession() as http:
        with anyio.fail_after(20):
            async with http.post(manifold.url, json=hello, headers=headers) as refused:
                assert refused.status == 401
            own = {**headers, "Authorization": f"Bearer {token}"}
            async with http.post(manifold.url, json=hello, headers=own) as opened:
                own["Mcp-Session-Id"] = opened.headers["Mcp-Session-Id"]
            note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            async with http.post(manifold.url, json=note, headers=own) as noted:
                assert noted.status == 202
            async with http.post(manifold.url, json=call, headers=own) as answer:
                assert answer.status == 200
                await answer.read()
    (turned_away,) = calls(tmp_path / "audit.log", "refusal")
    assert (turned_away["error"], turned_away["facts"]["path"]) == ("http-401", "/mcp")
    (made,) = calls(tmp_path / "audit.log")
    assert made["principal"]
    assert token not in (tmp_path / "audit.log").read_text() + manifold.said


async def test_what_is_no_text_does_not_keep_a_line_from_being_written(tmp_path: Path) -> None:
    async with Runtime(config(tmp_path / "audit.log")) as runtime:
        with pytest.raises(RoutingError):
            await runtime.router.route(Request("tools/call", {"name": "lone \ud800 surrogate"}, Caller()))
    (refusal,) = calls(tmp_path / "audit.log", "refusal")
    assert refusal["target"] == "(not text)"


async def test_a_call_over_an_agent_s_limit_is_a_line_and_one_event(tmp_path: Path) -> None:
    agents = {"coder": {"limits": {"calls": "1/h"}}}
    settings = {
        "upstreams": {"a": upstream("a", "work")},
        "agents": agents,
        "audit": {"to": str(tmp_path / "audit.log")},
    }
    async with Runtime(Config.model_validate(settings)) as runtime:
        runtime.start()
        caller = Caller(agent="coder")
        with structlog.testing.capture_logs() as logs:
            await ask(runtime, "work", {}, caller)
            with pytest.raises(RateLimited):
                await ask(runtime, "work", {}, caller)
            with pytest.raises(UpstreamError):
                await ask(runtime, "mcp_a_work", {"do": "die"})
    served, limited, died = calls(tmp_path / "audit.log")
    assert served["outcome"] == "ok"
    assert (limited["outcome"], limited["error"], limited["sent"]) == ("failed", "rate-limited", "no")
    assert died["error"] == "lost"
    done = [one for one in logs if one["event"] == "call.done"]
    assert [(one["error"], one["sent"]) for one in done] == [("rate-limited", "no"), ("lost", "maybe")]
