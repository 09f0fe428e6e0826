"""The early front of ``serve --stdio``: answers from memory while the rest of the program is still being imported.

It reads standard input in a thread. Every byte is kept for the real door, which gets all of them when it opens, so it
finds the conversation as if it had heard it itself; what it answers to a request that was answered here goes nowhere.
A request that memory does not know is left to the door. Where nothing is remembered at all, introductions wait until
the configuration is read and somebody can tell what they must say (``Early.teach``).
"""

import json
import os
import select
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from proxy.config.discover import discover
from proxy.front.memory import Memory, fingerprint
from proxy.front.session import modern_version

CHUNK: Final = 64 * 1024
MOST: Final = 4 * 1024 * 1024
"""Bytes that are read ahead; the rest waits in the pipe for the door."""
INTRODUCTIONS: Final = ("initialize", "server/discover")
META_PREFIX: Final = "io.modelcontextprotocol/"

Introduce = Callable[[str, str], Mapping[str, Any] | None]
"""The result of an introduction, by method and the revision that was asked for; None leaves it to the door."""


@dataclass
class Given:
    """What the real door takes over."""

    data: bytes = b""
    """Everything that was read."""
    answered: dict[Any, tuple[str, Any]] = field(default_factory=dict)
    """Id -> method and result, of the requests that were answered."""


class Early:
    """Answers the first requests. One thread; ``begin``, then ``end``.

    Args:
        memory: what to answer.
        source: the descriptor to read.
        sink: the descriptor to write.
    """

    def __init__(self, memory: Memory, source: int = 0, sink: int = 1) -> None:
        self._memory = memory
        self.instance = ""
        """As which Manifold it introduces us; empty if it does not, or by memory."""
        self.hello: Mapping[str, Any] | None = None
        """The params of the ``initialize`` that was answered."""
        self._introduce: Introduce | None = None
        self._unknown: list[Mapping[str, Any]] = []
        self._source, self._sink = source, sink
        self._claims = False
        self._given = Given()
        self._done = 0
        self._known: Mapping[str, Any] | None = None
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def claim(self) -> None:
        """Keep standard output for the wire until the end: what an import prints goes to standard error."""
        self._sink, self._claims = os.dup(1), True
        os.dup2(2, 1)

    def begin(self) -> None:
        """Start to answer."""
        self._thread.start()

    def teach(self, introduce: Introduce, instance: str) -> None:
        """Answer introductions that memory does not know, those which wait already among them.

        Args:
            introduce: tells what they say.
            instance: which Manifold they are of.
        """
        self._introduce, self.instance = introduce, instance
        os.write(self._waker, b"!")

    def end(self) -> Given:
        """Stop, and give over."""
        os.close(self._waker)
        self._thread.join()
        os.close(self._wake)
        if self._claims:
            os.dup2(self._sink, 1)
            os.close(self._sink)
        return self._given

    def _run(self) -> None:
        while len(self._given.data) < MOST:
            ready, _, _ = select.select([self._source, self._wake], [], [])
            if self._wake in ready:
                if not os.read(self._wake, 1):
                    return
                self._catch_up()
                continue
            chunk = os.read(self._source, CHUNK)
            if not chunk:
                return  # the door finds the end itself
            self._given.data += chunk
            self._answer_lines()

    def _answer_lines(self) -> None:
        while (end := self._given.data.find(b"\n", self._done)) >= 0:
            line, self._done = self._given.data[self._done : end], end + 1
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                continue  # the door says what is wrong with it
            if isinstance(message, dict) and "id" in message and isinstance(message.get("method"), str):
                self._answer(message)

    def _answer(self, message: Mapping[str, Any]) -> None:
        method, params = message["method"], message.get("params") or {}
        if not isinstance(params, dict) or params.get("cursor") is not None or not isinstance(message["id"], int | str):
            return
        version = modern_version(message) or (params.get("protocolVersion") if method == "initialize" else None)
        if version is not None:
            self._known = self._memory.answers.get(str(version))
        if self._known is not None and method in self._known:
            self._say(message, self._known[method])
        elif method in INTRODUCTIONS and isinstance(version, str) and _is_sound(method, params):
            self._unknown.append(message)
            self._catch_up()

    def _catch_up(self) -> None:
        """Answer the introductions that wait, if somebody knows them by now."""
        if self._introduce is None:
            return
        for message in self._unknown:
            version = modern_version(message) or message["params"]["protocolVersion"]
            if (result := self._introduce(message["method"], version)) is not None:
                self._say(message, result)
        self._unknown.clear()

    def _say(self, message: Mapping[str, Any], result: Any) -> None:
        method = message["method"]
        if method == "initialize":
            self.hello = message["params"]
        frame = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}, ensure_ascii=False)
        self._given.answered[message["id"]] = (method, result)
        _write(self._sink, frame.encode() + b"\n")


def _is_sound(method: str, params: Mapping[str, Any]) -> bool:
    """Whether nobody can find fault with an introduction; the door says what is wrong with any other."""
    if method == "initialize":
        client, capabilities = params.get("clientInfo"), params.get("capabilities")
    else:
        meta = params["_meta"]
        client, capabilities = (meta.get(META_PREFIX + name) for name in ("clientInfo", "clientCapabilities"))
    if not isinstance(client, dict) or not isinstance(capabilities, dict):
        return False
    named = all(isinstance(client.get(name), str) for name in ("name", "version"))
    return named and all(isinstance(one, dict) for one in capabilities.values())


def _write(descriptor: int, frame: bytes) -> None:
    rest = memoryview(frame)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BrokenPipeError:
            return  # the client is gone; the door finds out


class Served(Protocol):
    """A configuration that was loaded."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files."""
        ...

    @property
    def also_read(self) -> tuple[Path, ...]:
        """What else was read."""
        ...


class Opening:
    """How a stdio door begins: what the early front has heard and said, and the memory for the next start.

    Args:
        served: the configuration.
        agent: as which agent it is served.
        env: the environment.
        early: the front that is at work; None if there is none.
    """

    def __init__(
        self, served: Served, agent: str | None, env: Mapping[str, str], *, early: Early | None = None
    ) -> None:
        self._read = [str(file.resolve()) for file in (*served.files, *served.also_read)]
        self._also = self._read[len(served.files) :]
        self._env = env
        self._state = fingerprint(self._read, env)
        self.memory = Memory.of(served.files, agent, env)
        self._early = early

    @property
    def instance(self) -> str:
        """As which Manifold the early front has introduced us; empty if it has not. Before ``take``."""
        return "" if self._early is None else self._early.instance

    @property
    def declared(self) -> Mapping[str, Any] | None:
        """What the client can do, if it has introduced itself by a handshake that was answered. Before ``take``."""
        hello = None if self._early is None else self._early.hello
        found = None if hello is None else hello.get("capabilities")
        return found if isinstance(found, dict) else None

    def take(self) -> Given:
        """Stop the early front; once."""
        early, self._early = self._early, None
        return Given() if early is None else early.end()

    def save(self) -> None:
        """Keep the memory, unless the configuration has changed since it was read.

        Raises:
            OSError: it cannot be written.
        """
        if self._state and fingerprint(self._read, self._env) == self._state:
            self.memory.save(self._state, self._also)


_begun: list[Early] = []


@dataclass(frozen=True)
class Unknown:
    """A start of which nothing is remembered."""

    early: Early
    files: tuple[Path, ...]
    agent: str | None


def begin(arguments: Sequence[str], env: Mapping[str, str]) -> Unknown | None:
    """Begin for a command line of ``serve --stdio``. Returns what has to be taught if memory knows nothing."""
    chosen = _chosen(arguments)
    if chosen is None or not (_pollable(0) and _pollable(1)):
        return None
    files, agent = tuple(chosen[0] or discover(env, Path.cwd())), chosen[1]
    memory = Memory.of(files, agent, env)
    early = Early(memory)
    early.claim()
    early.begin()
    _begun.append(early)
    return None if memory.answers or not files else Unknown(early, files, agent)


def opening(served: Served, agent: str | None, env: Mapping[str, str]) -> Opening:
    """The opening of the door that serves a configuration."""
    return Opening(served, agent, env, early=_begun.pop() if _begun else None)


def _chosen(arguments: Sequence[str]) -> tuple[list[Path], str | None] | None:
    """The configuration files and the agent of a command line of ``serve --stdio``; None if it is another."""
    files: list[Path] = []
    agent, stdio = None, False
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name in ("--config", "-c", "--agent"):
            if not equals and not rest:
                return None
            value = value if equals else rest.pop(0)
            files, agent = (files, value) if name == "--agent" else ([*files, Path(value)], agent)
        elif name == "--stdio" and not equals:
            stdio = True
        elif name not in ("--watch", "--no-watch") or equals:
            return None
    return (files, agent) if stdio else None


def _pollable(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)
