"""The rig itself: every scripted client against the demo servers and the published servers, with no proxy between."""

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.e2e.peers import rig
from tests.e2e.peers.published import Peers, Target, run_client
from tests.e2e.peers.serving import demo_over_http, everything_over_http

LIBRARY_STEPS: tuple[tuple[Any, ...], ...] = (
    ("list_tools",),
    ("list_resources",),
    ("list_templates",),
    ("list_prompts",),
    ("call", "search_books", {"subject": "mathematics", "limit": 2}),
    ("read", "library://books/emma"),
    ("get_prompt", "recommend", {"author": "Jane Austen"}),
    ("complete", {"type": "ref/prompt", "name": "recommend"}, {"name": "author", "value": "dar"}),
    ("read", "library://books/none"),
)
CLIENTS = pytest.mark.parametrize(
    ("client", "era"),
    [("ts_sdk_client", "handshake"), ("ts_client", "handshake"), ("ts_client", "modern"), ("py1_client", "handshake")],
)


def check_library(answer: dict[str, Any], era: str) -> None:
    assert answer["era"] == era
    assert answer["server"]["name"] == "library"
    tools, resources, templates, prompts, found, book, prompt, completed, missing = answer["steps"]
    assert [tool["name"] for tool in tools["ok"]] == ["search_books", "get_book"]
    assert [resource["uri"] for resource in resources["ok"]] == ["library://catalogue"]
    assert {template["uriTemplate"] for template in templates["ok"]} == {
        "library://books/{book_id}",
        "library://authors/{author}",
    }
    assert [entry["name"] for entry in prompts["ok"]] == ["recommend"]
    assert found["ok"]["structuredContent"]["next_offset"] == 2
    assert '"emma"' in book["ok"]["contents"][0]["text"]
    assert "I like Jane Austen" in prompt["ok"]["messages"][0]["content"]["text"]
    assert completed["ok"]["completion"]["values"] == ["Charles Darwin"]
    assert "none" in missing["error"]["message"]


@CLIENTS
async def test_a_scripted_client_works_over_http(peers: Peers, client: str, era: str) -> None:
    async with demo_over_http("library") as url:
        answer = await run_client(getattr(peers, client)(), Target.http(url), *LIBRARY_STEPS, era=era)
    check_library(answer, era)


@CLIENTS
async def test_a_scripted_client_works_over_stdio(peers: Peers, client: str, era: str) -> None:
    target = Target.stdio(sys.executable, "-m", "proxy.demo.library", cwd=rig.ROOT)
    answer = await run_client(getattr(peers, client)(), target, *LIBRARY_STEPS, era=era)
    check_library(answer, era)


@CLIENTS
async def test_a_scripted_client_shows_progress(peers: Peers, client: str, era: str) -> None:
    async with demo_over_http("clock") as url:
        step = ("call", "countdown", {"steps": 2, "interval": 0})
        answer = await run_client(getattr(peers, client)(), Target.http(url), step, era=era)
    assert [update["progress"] for update in answer["steps"][0]["progress"]] == [0, 1, 2]


async def test_every_published_server_starts_over_stdio(peers: Peers, tmp_path: Path) -> None:
    commands = {
        "everything": peers.npm_server("everything"),
        "filesystem": peers.npm_server("filesystem", str(tmp_path)),
        "memory": peers.npm_server("memory"),
        "time": peers.python_server("time"),
        "git": peers.python_server("git"),
        "fetch": peers.python_server("fetch"),
    }
    tools: dict[str, int] = {}

    async def count_tools(name: str, command: list[str]) -> None:
        target = Target.stdio(*command, env={"MEMORY_FILE_PATH": str(tmp_path / "memory.jsonl")})
        answer = await run_client(peers.ts_client(), target, ("list_tools",), era="auto")
        tools[name] = len(answer["steps"][0]["ok"])

    async with anyio.create_task_group() as tasks:
        for name, command in commands.items():
            tasks.start_soon(count_tools, name, command)
    assert {name for name, count in tools.items() if count} == set(commands)


@pytest.mark.parametrize("sse", [False, True])
async def test_the_everything_server_starts_over_http(peers: Peers, *, sse: bool) -> None:
    async with everything_over_http(peers.npm_server("everything"), sse=sse) as url:
        target = Target.sse(url) if sse else Target.http(url)
        answer = await run_client(peers.ts_sdk_client(), target, ("call", "echo", {"message": "hello"}))
    assert answer["steps"][0]["ok"]["content"][0]["text"] == "Echo: hello"


@pytest.mark.parametrize("upcoming", [False, True])
async def test_the_conformance_suite_starts(peers: Peers, *, upcoming: bool) -> None:
    done = await anyio.run_process(peers.conformance("--version", upcoming=upcoming))
    assert done.stdout.decode().strip() == ("0.2.0-alpha.12" if upcoming else "0.1.16")
