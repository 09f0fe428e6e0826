"""Many clients at once, all in the middle of something: each gets its own answers, questions, progress and log lines.

Every client calls a tool which logs, reports progress, closes its stream so that Manifold has to come back for the
rest, asks the user and the model, and logs again: all of it under the name of that one call. The clients speak both
eras and can be asked different things; the servers speak both eras, too, over HTTP and on pipes. Whose something is
must follow from how it came, so nothing of another call may ever be seen; and over HTTP nothing may be missing either.
"""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

import anyio
import pytest

from tests.conformance.stage import configured, manifold, running
from tests.conformance.wire import HANDSHAKE, MODERN, Client, Exchange, Json, over_http
from tests.e2e.peers.serving import free_port

USER: Final[Json] = {"elicitation": {}}
MODEL: Final[Json] = {"sampling": {}}
EVERYBODY: Final = tuple(product((HANDSHAKE, MODERN), ({}, USER, MODEL, USER | MODEL, USER)))
"""The clients, by what they speak and what they can be asked. Two of each era can be asked the same: they share."""
TIMES: Final = 4
"""Calls of each client that are under way at the same time."""
PATIENCE: Final = 25.0
SERVER: Final = [sys.executable, "-m", "tests.support.ordeal_server"]
ONE_PROCESS: Final = "does not say which it belongs to"
"""What a server on a pipe is told that asks while several clients wait for it."""


@dataclass
class Ordeal:
    """One call and what was seen of it."""

    name: str
    client: Client
    seen: Exchange = field(default_factory=Exchange)

    @property
    def token(self) -> str:
        return f"token of {self.name}"

    async def call(self, tool: str) -> None:
        """Make the call, and answer its questions."""
        params = {"name": tool, "arguments": {"name": self.name}, "_meta": {"progressToken": self.token}}
        self.seen = await self.client.call("tools/call", params, answer=self._answer, patience=PATIENCE)

    def _answer(self, method: str, _params: Json | None) -> Json:
        if method == "elicitation/create":
            return {"action": "accept", "content": {"name": f"user of {self.name}"}}
        return {"role": "assistant", "model": "m", "content": {"type": "text", "text": f"model of {self.name}"}}

    @property
    def said(self) -> str:
        """The text of its result, or of its error."""
        answer = self.seen.answer
        said: str = answer["error"]["message"] if "error" in answer else answer["result"]["content"][0]["text"]
        return said

    @property
    def asked(self) -> list[str]:
        """Whom the questions were for, by the names in them."""
        return [_asked_of(one["params"]) for one in self.seen.asked]

    def of(self, method: str) -> list[Json]:
        return [note["params"] for note in self.seen.notes if note["method"] == method]

    @property
    def logged(self) -> list[Json]:
        return [params["data"] for params in self.of("notifications/message")]

    def nothing_is_somebody_elses(self) -> None:
        assert {self.name}.issuperset(self.asked)
        assert {self.name}.issuperset(data["name"] for data in self.logged)
        progress = self.of("notifications/progress")
        assert {(self.name, self.token)}.issuperset((one["message"], one["progressToken"]) for one in progress)

    def everything_is_there(self) -> None:
        can = self.client.capabilities
        assert json.loads(self.said) == {
            "name": self.name,
            "user": f"user of {self.name}" if "elicitation" in can else None,
            "model": f"model of {self.name}" if "sampling" in can else None,
        }
        assert len(self.asked) == len(can)
        if not self.client.modern:  # between two rounds of a modern one there is no stream for what is said meanwhile
            assert [one["progress"] for one in self.of("notifications/progress")] == [1, 2]
            assert [data["at"] for data in self.logged] == ["start", *([] if can else ["away"]), "end"]


def _asked_of(params: Json) -> str:
    name: str = params["message"] if "message" in params else params["messages"][0]["content"]["text"]
    return name


class Crowd:
    """All clients, connected to one Manifold."""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients

    async def suffer(self, tool: str, clients: list[Client], times: int = TIMES) -> list[Ordeal]:
        """Everybody calls a tool, several times at once."""
        every = [Ordeal(f"{tool} {who} {time}", one) for who, one in enumerate(clients) for time in range(times)]
        async with anyio.create_task_group() as tasks:
            for ordeal in every:
                tasks.start_soon(ordeal.call, tool)
        return every


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Manifold before servers of both eras, over HTTP and on pipes."""
    folder = tmp_path_factory.mktemp("whose")
    upstreams: dict[str, Any] = {
        "alone": {"command": SERVER[0], "args": [*SERVER[1:], "--stdio", "--era", "legacy"], "session": "client"},
        "shared": {"command": SERVER[0], "args": [*SERVER[1:], "--stdio", "--era", "legacy"]},
    }
    with ExitStack() as stack:
        for era in ("legacy", "modern", "dual"):
            port = free_port()
            command = [*SERVER, "--port", str(port), "--era", era]
            stack.enter_context(running(folder / f"{era}.log", command, port))
            upstreams[era] = {"url": f"http://127.0.0.1:{port}/mcp"}
        yield stack.enter_context(manifold(folder, configured(folder, upstreams, prefixed=True)))


@asynccontextmanager
async def crowd(url: str) -> AsyncIterator[Crowd]:
    clients: list[Client] = []
    async with anyio.create_task_group() as tasks:

        async def connect(version: str, capabilities: Json, *, task_status: Any) -> None:
            async with over_http(url, version=version, capabilities=capabilities) as client:
                task_status.started(client)
                await anyio.sleep_forever()

        for version, capabilities in EVERYBODY:
            clients.append(await tasks.start(connect, version, capabilities))
        yield Crowd(clients)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("server", ["legacy", "modern", "dual"])
async def test_over_http_everybody_gets_everything_of_the_own_calls_and_nothing_else(url: str, server: str) -> None:
    async with crowd(url) as everybody:
        ordeals = await everybody.suffer(f"mcp_{server}_ordeal", everybody.clients)
        for ordeal in ordeals:
            ordeal.nothing_is_somebody_elses()
            ordeal.everything_is_there()
        assert not [one for client in everybody.clients for one in client.heard.messages]


async def test_on_a_pipe_of_its_own_a_client_gets_everything(url: str) -> None:
    async with crowd(url) as everybody:
        sessions = [client for client in everybody.clients if not client.modern]
        # One after the other: which of its own calls a question on a pipe belongs to, nobody can say.
        for _ in range(2):
            for ordeal in await everybody.suffer("mcp_alone_ordeal", sessions, times=1):
                ordeal.nothing_is_somebody_elses()
                ordeal.everything_is_there()


async def test_on_a_shared_pipe_a_question_is_put_to_its_client_or_to_nobody(url: str) -> None:
    async with crowd(url) as everybody:
        ordeals = await everybody.suffer("mcp_shared_ordeal", everybody.clients, times=1)
        for ordeal in ordeals:
            ordeal.nothing_is_somebody_elses()
            assert ordeal.said.startswith("{") or ONE_PROCESS in ordeal.said, ordeal.said
        # Now it is known that this tool asks: whoever calls it at the same time as others gets another process.
        for ordeal in await everybody.suffer(
            "mcp_shared_ordeal", [client for client in everybody.clients if not client.modern], times=1
        ):
            ordeal.nothing_is_somebody_elses()
            ordeal.everything_is_there()
