"""The tasks extension (SEP-2663) through Manifold: the suite's scenarios, and what the suite does not look at."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.conformance.conftest import Owners
from tests.conformance.stage import HERE, configured, manifold, manifold_command, running
from tests.conformance.suite import run
from tests.conformance.test_crossings import listening
from tests.conformance.wire import MODERN, PATIENCE, Client, Json, over_http, over_stdio
from tests.e2e.peers.published import Peers
from tests.e2e.peers.serving import free_port

TASKS: Final[Json] = {"extensions": {"io.modelcontextprotocol/tasks": {}}, "elicitation": {"form": {}}}
CELLS: Final = ("http-http", "http-stdio", "stdio-http", "stdio-stdio")
"""How the downstream reaches Manifold, and how Manifold reaches the upstream."""

SCENARIOS: Final = (
    "lifecycle",
    "capability-negotiation",
    "wire-fields",
    "request-state-removal",
    "mrtr-input",
    "request-headers",
    "dispatch-and-envelope",
    "required-task-error",
    "mrtr-composition",
)
"""All but ``status-notifications``, which the suite itself always skips: it waits for a rewrite of the scenario."""


@contextmanager
def served(folder: Path, link: str, **server: Any) -> Iterator[tuple[Path, str]]:
    """The tasks fixture, in a configuration; and its URL, if it has one."""
    fixture = [sys.executable, str(HERE / "tasks_fixture.py")]
    if link == "stdio":
        yield configured(folder, {"jobs": {"command": fixture[0], "args": [fixture[1], "--stdio"]}}, **server), ""
        return
    port = free_port()
    with running(folder / "jobs.log", [*fixture, str(port)], port):
        url = f"http://127.0.0.1:{port}/mcp"
        yield configured(folder, {"jobs": {"url": url}}, **server), url


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Manifold before the tasks fixture, which passes all scenarios by itself."""
    folder = tmp_path_factory.mktemp("tasks")
    with served(folder, "http") as (config, _), manifold(folder, config) as opened:
        yield opened


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_passes(url: str, scenario: str, peers: Peers, tmp_path: Path) -> None:
    arguments = ["server", "--url", url, "--scenario", f"tasks-{scenario}", "-o", str(tmp_path)]
    outcome = run(peers, arguments, tmp_path)
    assert len(outcome.checks) == 1, outcome.said
    assert outcome.failures() == []
    assert outcome.empty() == []


@pytest.fixture(scope="module")
async def client(
    request: pytest.FixtureRequest, owners: Owners, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """A client that understands tasks, in a cell."""
    door, link = request.param.split("-")
    folder = tmp_path_factory.mktemp("tasks")
    with ExitStack() as stack:
        config, _ = stack.enter_context(served(folder, link))
        opened: AbstractAsyncContextManager[Client]
        if door == "http":
            url = stack.enter_context(manifold(folder, config))
            opened = over_http(url, version=MODERN, capabilities=TASKS)
        else:
            env = {"XDG_STATE_HOME": str(folder / "state")}
            opened = over_stdio(manifold_command(config, "--stdio"), version=MODERN, capabilities=TASKS, env=env)
        async with owners.own(opened) as connected:
            yield connected


def everywhere() -> pytest.MarkDecorator:
    """Run a test in every cell."""
    return pytest.mark.parametrize("client", CELLS, ids=lambda cell: f"MM-{cell}", indirect=True)


async def _begun(client: Client, name: str, arguments: Json) -> Json:
    task = (await client.send("tools/call", {"name": name, "arguments": arguments})).result
    assert task["resultType"] == "task"
    return task


async def _about(client: Client, what: str, task: str, **params: Any) -> Json:
    answer: Json = (await client.send(f"tasks/{what}", {"taskId": task, **params}, headers={"Mcp-Name": task})).answer
    return answer


async def _until(client: Client, task: str, *statuses: str) -> Json:
    with anyio.fail_after(PATIENCE):
        while True:
            found: Json = (await _about(client, "get", task))["result"]
            if found["status"] in statuses:
                return found
            await anyio.lowlevel.checkpoint()


@everywhere()
async def test_a_task_is_followed_to_its_result_under_an_id_of_ours(client: Client) -> None:
    task = await _begun(client, "slow_compute", {"seconds": 0.2, "label": "x"})
    done = await _until(client, task["taskId"], "completed")
    assert done["taskId"] == task["taskId"]
    assert "task/" not in task["taskId"]
    own = done["result"]["content"][0]["text"]
    assert own.startswith("computed x by task/")


@everywhere()
async def test_a_task_asks_is_answered_and_is_cancelled(client: Client) -> None:
    asking = await _begun(client, "confirm_delete", {"filename": "f"})
    asked = await _until(client, asking["taskId"], "input_required")
    assert asked["inputRequests"]["confirm"]["params"]["message"] == "Delete f?"
    answers = {"confirm": {"action": "accept", "content": {"confirm": True}}}
    acknowledged = await _about(client, "update", asking["taskId"], inputResponses=answers)
    assert acknowledged["result"]["resultType"] == "complete"
    done = await _until(client, asking["taskId"], "completed")
    assert done["result"]["content"][0]["text"] == "deleted={'confirm': True}"
    slow = await _begun(client, "slow_compute", {"seconds": 60})
    assert (await _about(client, "cancel", slow["taskId"]))["result"]["resultType"] == "complete"
    assert "result" not in await _until(client, slow["taskId"], "cancelled")


@everywhere()
async def test_news_of_tasks_come_on_a_listen_stream(client: Client) -> None:
    task = await _begun(client, "slow_compute", {"seconds": 0.5})
    unknown = "no such task"
    async with listening(client, {"taskIds": [task["taskId"], unknown]}) as heard:
        acknowledged = heard.of("notifications/subscriptions/acknowledged")[-1]["params"]["notifications"]
        assert acknowledged == {"taskIds": [task["taskId"]]}
        news = (await heard.until("notifications/tasks"))[-1]["params"]
    assert (news["taskId"], news["status"]) == (task["taskId"], "completed")


@everywhere()
async def test_an_unknown_task_is_refused(client: Client) -> None:
    for what in ("get", "update", "cancel"):
        assert (await _about(client, what, "nothing of ours"))["error"]["code"] == -32602


@everywhere()
async def test_extensions_that_manifold_can_carry_are_offered(client: Client) -> None:
    await client.send("tools/list")  # by then the upstream has said what it can do
    offered = (await client.send("server/discover")).result["capabilities"]["extensions"]
    assert offered == {"io.modelcontextprotocol/tasks": {}, "io.modelcontextprotocol/ui": {"mimeTypes": ["a/b"]}}


async def test_a_task_of_one_agent_is_nobody_elses(owners: Owners, tmp_path: Path) -> None:
    agents = {"one": {"servers": ["jobs"]}, "two": {"servers": ["jobs"]}}
    with served(tmp_path, "http", agents=agents) as (config, _), manifold(tmp_path, config) as url:
        doors = [url.replace("/mcp", f"/agents/{name}/mcp") for name in agents]
        async with (
            owners.own(over_http(doors[0], version=MODERN, capabilities=TASKS)) as mine,
            owners.own(over_http(doors[1], version=MODERN, capabilities=TASKS)) as other,
        ):
            task = (await _begun(mine, "slow_compute", {"seconds": 0}))["taskId"]
            assert "result" in await _about(mine, "get", task)
            stolen = await _about(other, "get", task)
    assert stolen["error"]["code"] == -32602
