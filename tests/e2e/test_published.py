"""Published servers behind one Manifold, used by published clients."""

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastmcp.client.transports import StdioTransport
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.e2e.peers.published import Peers, Target, run_client
from tests.e2e.peers.serving import everything_over_http
from tests.support import python_clients
from tests.support.link_http import serve
from tests.support.manifold import ROOT, Home, Json, Manifold, serving

pytestmark = pytest.mark.published

HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
SCRIPTED = pytest.mark.parametrize(
    ("client", "era"),
    [("ts_sdk_client", "handshake"), ("ts_client", "handshake"), ("ts_client", "modern"), ("py1_client", "handshake")],
)
PYTHON = pytest.mark.parametrize(
    ("mode", "versions"), [("legacy", HANDSHAKE), ("auto", (MODERN,)), (MODERN, (MODERN,))]
)


@dataclass(frozen=True)
class Place:
    """A Manifold with all published servers behind it, and what they work on."""

    manifold: Manifold
    folder: Path
    page: str
    """The address of a web page to fetch."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def place(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("published")
    repository(folder)
    async with AsyncExitStack() as stack:
        remote = await stack.enter_async_context(everything_over_http(peers.npm_server("everything")))
        old = await stack.enter_async_context(everything_over_http(peers.npm_server("everything"), sse=True))
        site = await stack.enter_async_context(serve(page))
        upstreams = {**local(peers, folder), "remote": {"url": remote}, "old": {"url": old}}
        patient = {name: {**one, "grace": "30s"} for name, one in upstreams.items()}
        manifold = await stack.enter_async_context(serving(Home(folder).write(patient)))
        await manifold.banner()
        yield Place(manifold, folder, site.url)


def local(peers: Peers, folder: Path) -> Json:
    """The upstreams over stdio."""
    commands = {
        "everything": peers.npm_server("everything"),
        "files": peers.npm_server("filesystem", str(folder)),
        "memory": peers.npm_server("memory"),
        "time": peers.python_server("time"),
        "git": peers.python_server("git"),
        "fetch": peers.python_server("fetch", "--ignore-robots-txt", "--allow-private-ips"),
    }
    env = {"memory": {"MEMORY_FILE_PATH": str(folder / "memory.jsonl")}}
    return {
        name: {"command": command[0], "args": command[1:], "env": env.get(name, {})}
        for name, command in commands.items()
    }


def repository(folder: Path) -> None:
    """Make the folder a repository with one commit."""
    (folder / "poem.txt").write_text("so much depends\n")
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    for arguments in (["init", "-q"], ["add", "poem.txt"], [*identity, "commit", "-q", "-m", "Add a poem"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)


async def page(_request: Any, response: Any) -> None:
    response.whole(200, b"upon a red wheel barrow", "text/plain")


def steps(place: Place, everything: str = "everything", hop: str = "") -> list[tuple[Any, ...]]:
    """Something of each kind from each server; ``hop`` is what a Manifold in between puts before URIs."""
    ada = [{"name": "Ada", "entityType": "person", "observations": ["wrote programs"]}]
    return [
        ("list_tools",),
        ("list_resources",),
        ("list_templates",),
        ("list_prompts",),
        ("call", f"mcp_{everything}_echo", {"message": "hello"}),
        ("call", f"mcp_{everything}_get-structured-content", {"location": "Chicago"}),
        ("call", f"mcp_{everything}_get-tiny-image", {}),
        ("read", f"{hop}{everything}+demo://resource/static/document/features.md"),
        ("read", f"{hop}{everything}+demo://resource/dynamic/text/7"),
        ("get_prompt", f"mcp_{everything}_args-prompt", {"city": "Rome"}),
        (
            "complete",
            {"type": "ref/prompt", "name": f"mcp_{everything}_completable-prompt"},
            {"name": "department", "value": "Eng"},
        ),
        ("call", "mcp_files_read_text_file", {"path": str(place.folder / "poem.txt")}),
        ("call", "mcp_memory_create_entities", {"entities": ada}),
        ("call", "mcp_memory_search_nodes", {"query": "programs"}),
        ("call", "mcp_time_convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}),
        ("call", "mcp_git_git_log", {"repo_path": str(place.folder)}),
        ("call", "mcp_fetch_fetch", {"url": place.page, "raw": True}),
    ]


def check(results: list[Json], everything: str = "everything", hop: str = "") -> None:
    """What the steps must have found."""
    tools, resources, templates, prompts, echo, structured, image, document, dynamic, prompt, completed, *rest = results
    assert sum(tool["name"].startswith(f"mcp_{everything}_") for tool in tools["tools"]) >= 10
    assert {tool["name"].split("_")[1] for tool in tools["tools"]} >= {"files", "memory", "time", "git", "fetch"}
    uri = f"{hop}{everything}+demo://resource"
    assert f"{uri}/static/document/features.md" in {one["uri"] for one in resources["resources"]}
    assert f"{uri}/dynamic/text/{{resourceId}}" in {one["uriTemplate"] for one in templates["resourceTemplates"]}
    assert {f"mcp_{everything}_args-prompt", "mcp_fetch_fetch"} <= {one["name"] for one in prompts["prompts"]}
    assert text(echo) == "Echo: hello"
    assert structured["structuredContent"]["conditions"]
    assert any(block["type"] == "image" for block in image["content"])
    assert document["contents"][0]["uri"] == f"{uri}/static/document/features.md"
    assert dynamic["contents"][0]["uri"] == f"{uri}/dynamic/text/7"
    assert "Rome" in prompt["messages"][0]["content"]["text"]
    assert completed["completion"]["values"] == ["Engineering"]
    poem, _, found, converted, log, fetched = rest
    assert text(poem) == "so much depends\n"
    assert found["structuredContent"]["entities"][0]["name"] == "Ada"
    assert json.loads(text(converted))["target"]["datetime"].endswith("T21:00:00+09:00")
    assert "Add a poem" in text(log)
    assert "upon a red wheel barrow" in text(fetched)


def text(result: Json) -> str:
    found: str = result["content"][0]["text"]
    return found


def wire(answer: Json) -> list[Json]:
    """The results of a scripted client, as its wire had them."""
    keys = ("tools", "resources", "resourceTemplates", "prompts")
    done = [step["ok"] for step in answer["steps"] if "ok" in step]
    assert [step["error"] for step in answer["steps"] if "error" in step] == []
    return [{key: one} for key, one in zip(keys, done[:4], strict=True)] + done[4:]


# -- over streamable HTTP --------------------------------------------------------------------------------------------


@PYTHON
async def test_the_python_sdk_over_http(place: Place, mode: str, versions: tuple[str, ...]) -> None:
    version, results = await python_clients.sdk(place.manifold.url, steps(place), mode=mode)
    assert version in versions
    check(results)


async def test_the_fastmcp_client_over_http(place: Place) -> None:
    check(await python_clients.fast(place.manifold.url, steps(place)))


@SCRIPTED
async def test_a_client_of_another_sdk_over_http(place: Place, peers: Peers, client: str, era: str) -> None:
    target = Target.http(place.manifold.url)
    answer = await run_client(getattr(peers, client)(), target, *steps(place), era=era)
    assert answer["era"] == era
    check(wire(answer))


@pytest.mark.parametrize("everything", ["remote", "old"])
async def test_upstreams_over_http_and_sse_are_like_those_over_stdio(place: Place, everything: str) -> None:
    _, results = await python_clients.sdk(place.manifold.url, steps(place, everything))
    check(results, everything)


# -- over legacy SSE -------------------------------------------------------------------------------------------------


async def test_the_python_sdk_over_sse(place: Place) -> None:
    _, results = await python_clients.sdk(sse_client(f"{place.manifold.base}/sse"), steps(place), mode="legacy")
    check(results)


@pytest.mark.parametrize("client", ["ts_sdk_client", "py1_client"])
async def test_a_client_of_another_sdk_over_sse(place: Place, peers: Peers, client: str) -> None:
    target = Target.sse(f"{place.manifold.base}/sse")
    check(wire(await run_client(getattr(peers, client)(), target, *steps(place))))


# -- over stdio, and through a second Manifold: a Manifold whose only upstream is the first one ----------------------


HOP = "first+"


@pytest.fixture(scope="module")
def second(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Home:
    first = {"url": place.manifold.url, "grace": "30s"}
    return Home(tmp_path_factory.mktemp("second")).write({"first": first})


@PYTHON
async def test_the_python_sdk_over_stdio(place: Place, second: Home, mode: str, versions: tuple[str, ...]) -> None:
    command, *args = second.command("serve", "--stdio")
    parameters = StdioServerParameters(command=command, args=args, env=second.env())
    version, results = await python_clients.sdk(stdio_client(parameters), steps(place, hop=HOP), mode=mode)
    assert version in versions
    check(results, hop=HOP)


async def test_the_fastmcp_client_over_stdio(place: Place, second: Home) -> None:
    command, *args = second.command("serve", "--stdio")
    transport = StdioTransport(command, args, env=second.env())
    check(await python_clients.fast(transport, steps(place, hop=HOP)), hop=HOP)


@SCRIPTED
async def test_a_client_of_another_sdk_over_stdio(
    place: Place, second: Home, peers: Peers, client: str, era: str
) -> None:
    target = Target.stdio(*second.command("serve", "--stdio"), env={"PYTHONPATH": str(ROOT)})
    answer = await run_client(getattr(peers, client)(), target, *steps(place, hop=HOP), era=era)
    assert answer["era"] == era
    check(wire(answer), hop=HOP)


async def test_published_servers_over_stdio_on_both_sides(place: Place, peers: Peers, tmp_path: Path) -> None:
    home = Home(tmp_path).write({name: {**one, "grace": "30s"} for name, one in local(peers, place.folder).items()})
    target = Target.stdio(*home.command("serve", "--stdio"), env={"PYTHONPATH": str(ROOT)})
    check(wire(await run_client(peers.ts_sdk_client(), target, *steps(place))))


async def test_a_chained_manifold_does_not_stack_prefixes(place: Place, second: Home) -> None:
    async with serving(second) as chained:
        _, behind = await python_clients.sdk(
            place.manifold.url, [("list_tools",), ("list_resources",), ("list_prompts",)]
        )
        _, before = await python_clients.sdk(chained.url, steps(place, hop=HOP))
    check(before, hop=HOP)
    assert names(before[0]["tools"]) == names(behind[0]["tools"])
    assert names(before[3]["prompts"]) == names(behind[2]["prompts"])
    uris = {one["uri"] for one in before[1]["resources"]}
    assert uris == {f"{HOP}{one['uri']}" for one in behind[1]["resources"]}


def names(entries: list[Json]) -> set[str]:
    return {entry["name"] for entry in entries}


async def test_published_servers_raise_no_suspicion(place: Place) -> None:
    answer = await anyio.run_process(["curl", "-s", f"{place.manifold.base}/status.json"])
    upstreams = json.loads(answer.stdout)["upstreams"]
    assert len(upstreams) > 5
    assert {name: one["pinning"]["suspicious"] for name, one in upstreams.items() if one["pinning"]["suspicious"]} == {}
