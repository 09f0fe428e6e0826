"""The published peers, installed: how to start the servers, and how to run the clients."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio

from tests.e2e.peers import rig

CLIENT_TIMEOUT: Final = 60.0
"""Seconds for one client run, its start included."""


@dataclass(frozen=True)
class Target:
    """Where a client connects to: a URL, or a command to start."""

    type: str
    """``http``, ``sse`` or ``stdio``."""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    @classmethod
    def http(cls, url: str, **headers: str) -> "Target":
        """A streamable HTTP endpoint."""
        return cls("http", url=url, headers=headers)

    @classmethod
    def sse(cls, url: str) -> "Target":
        """An HTTP+SSE endpoint (2024-11-05)."""
        return cls("sse", url=url)

    @classmethod
    def stdio(cls, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> "Target":
        """A command that speaks over its standard streams."""
        return cls("stdio", command=command, env=env or {}, cwd=cwd)

    def request(self) -> dict[str, Any]:
        """This target as the client scripts read it."""
        if self.type != "stdio":
            return {"type": self.type, "url": self.url, "headers": dict(self.headers)}
        program, *arguments = self.command
        known = {"command": program, "args": arguments, "env": dict(self.env)}
        return {"type": "stdio", **known, **({"cwd": str(self.cwd)} if self.cwd else {})}


@dataclass(frozen=True)
class Peers:
    """The installed peers. ``node`` is the machine's own node."""

    node: Path

    def npm_server(self, name: str, *arguments: str) -> list[str]:
        """The command of an npm server: ``everything``, ``filesystem`` or ``memory``."""
        module = self._module(rig.NPM, f"@modelcontextprotocol/server-{name}", "dist", "index.js")
        return [str(self.node), str(module), *arguments]

    def python_server(self, name: str, *arguments: str) -> list[str]:
        """The command of a Python server: ``time``, ``git`` or ``fetch``."""
        return [str(self.python_tool(f"mcp-server-{name}")), *arguments]

    def python_tool(self, name: str) -> Path:
        """A program of the environment which holds the Python servers and ``hadolint``."""
        return rig.PYTHON_SERVERS.folder / "bin" / name

    def conformance(self, *arguments: str, upcoming: bool = False) -> list[str]:
        """The command of the conformance suite, on node 22: the stable one, or the one for the 2026-07-28 revision."""
        part = rig.CONFORMANCE_NEXT if upcoming else rig.CONFORMANCE
        module = self._module(part, "@modelcontextprotocol/conformance", "dist", "index.js")
        return [str(self.node22), str(module), *arguments]

    @property
    def node22(self) -> Path:
        """The node 22 from npm. Raises PeersError where npm has none for this machine."""
        found = next(rig.NODE22.folder.glob("node_modules/node-*/bin/node"), None)
        if found is None:
            raise rig.PeersError("npm has no node 22 for this kind of machine; put one on PATH.")
        return found

    def ts_sdk_client(self) -> list[str]:
        """The client on the classic TypeScript SDK: handshake era."""
        return self._script("ts_sdk_client.mjs")

    def ts_client(self) -> list[str]:
        """The client on the new TypeScript client package: both eras."""
        return self._script("ts_client.mjs")

    def py1_client(self) -> list[str]:
        """The client on the Python SDK 1.x: handshake era."""
        return [str(rig.PYTHON_MCP1.folder / "bin" / "python"), str(rig.PINS / "py1_client.py")]

    def _script(self, name: str) -> list[str]:
        # Node looks for packages beside the script, so the scripts stand where the packages are.
        for script in ("steps.mjs", name):
            _copy(rig.PINS / script, rig.NPM.folder / script)
        return [str(self.node), str(rig.NPM.folder / name)]

    def _module(self, part: rig.Part, *path: str) -> Path:
        return part.folder.joinpath("node_modules", *path)


def _copy(source: Path, target: Path) -> None:
    """Copy in one step, for another test process may be reading the old one."""
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copyfile(source, fresh)
    fresh.replace(target)


async def run_client(
    client: Sequence[str], target: Target, *steps: Sequence[Any], era: str = "handshake"
) -> dict[str, Any]:
    """Connect a client to a target, run the steps, and return its answer (see steps.mjs).

    A step is a name with its arguments: ``("list_tools",)``, ``("list_resources",)``, ``("list_templates",)``,
    ``("list_prompts",)``, ``("call", NAME, {...})``, ``("read", URI)``, ``("get_prompt", NAME, {...})``,
    ``("complete", REF, ARGUMENT)``, ``("ping",)``. Raises AssertionError with the client's stderr if it fails.
    """
    request = json.dumps({"transport": target.request(), "era": era, "steps": steps})
    with anyio.fail_after(CLIENT_TIMEOUT):
        done = await anyio.run_process([*client, request], check=False)
    said = f"{done.stdout.decode()}\n{done.stderr.decode()}"
    assert done.returncode == 0, f"{Path(client[-1]).name} exited with {done.returncode}:\n{said}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
