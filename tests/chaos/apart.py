"""Callers in a process of their own, so that what they do with their answers costs the one that measures nothing.

Run as a module with one argument, the URL. For each line on standard input, a JSON object with ``tool`` and
``at_once``, it makes so many calls in one session and writes their answers as one line of JSON: ``answer``, the whole
message with long texts replaced by their length, and ``said``, how many notifications came before it.
"""

import http.client
import json
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
from anyio.abc import Process

from tests.support.faulty import aside, step_back

Json = dict[str, Any]

ROOT: Final = Path(__file__).parents[2]

ACCEPT: Final = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
HELLO: Final = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "apart", "version": "1"}}
TOLD: Final = 10_000
"""Characters of a text that are worth passing on."""


class Apart:
    """The one that starts the program, and asks it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._rest = b""

    async def call(self, tool: str, at_once: int) -> list[Json]:
        """Make calls; their answers."""
        assert self._process.stdin is not None
        await self._process.stdin.send(json.dumps({"tool": tool, "at_once": at_once}).encode() + b"\n")
        answers: list[Json] = json.loads(await self.line())
        return answers

    async def line(self) -> bytes:
        """What it writes next."""
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            self._rest += await self._process.stdout.receive()
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@asynccontextmanager
async def apart(url: str) -> AsyncIterator[Apart]:
    """Run the program until the block is left."""
    process = await anyio.open_process([*aside(), sys.executable, "-m", __name__, url], cwd=ROOT, stderr=None)
    try:
        there = Apart(process)
        with anyio.fail_after(20):
            assert await there.line() == b"ready"
        yield there
    finally:
        with anyio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.aclose()


# -- the program -------------------------------------------------------------------------------------------------------


class Session:
    """One downstream session."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._headers = dict(ACCEPT)
        response = self._post({"id": 0, "method": "initialize", "params": HELLO})
        self._headers |= {"Mcp-Session-Id": response.headers["Mcp-Session-Id"], "Mcp-Protocol-Version": "2025-11-25"}
        self._post({"method": "notifications/initialized"})

    def call(self, number: int, tool: str) -> Json:
        """Call a tool."""
        params = {"name": tool, "arguments": {}, "_meta": {"progressToken": f"p{number}"}}
        return heard(self._post({"id": number, "method": "tools/call", "params": params}))

    def _post(self, message: Json) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=60)
        connection.request("POST", self._url.path, json.dumps({"jsonrpc": "2.0", **message}), self._headers)
        return connection.getresponse()


def heard(response: http.client.HTTPResponse) -> Json:
    """The answer in a response, JSON or an event stream whose last message is the answer."""
    messages = 0
    last = b""
    if response.headers["Content-Type"] == "application/json":
        last = response.read()
    else:
        for line in response:
            if line.startswith(b"data: {"):
                messages += 1
                last = line.removeprefix(b"data: ")
    answer = json.loads(last)
    for one in answer.get("result", {}).get("content", ()):
        one["text"] = one["text"] if len(one["text"]) <= TOLD else f"{len(one['text'])} characters"
    return {"answer": answer, "said": max(0, messages - 1)}


def main() -> None:
    step_back()
    session = Session(sys.argv[1])
    print("ready", flush=True)
    number = 0
    with ThreadPoolExecutor(8) as threads:
        for line in sys.stdin:
            wanted = json.loads(line)
            numbers = range(number + 1, number + 1 + wanted["at_once"])
            number += wanted["at_once"]
            answers = threads.map(lambda one, tool=wanted["tool"]: session.call(one, tool), numbers)
            print(json.dumps([*answers]), flush=True)


if __name__ == "__main__":
    main()
