"""The early front of ``serve --stdio``: answers from memory while the rest of the program is still being imported.

It reads standard input in a thread. Every byte is kept for the real door, which gets all of them when it opens, so it
finds the conversation as if it had heard it itself; what it answers to a request that was answered here goes nowhere.
A request that memory does not know is left to the door.
"""

import json
import os
import select
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from proxy.config.discover import discover
from proxy.front.memory import Memory, fingerprint
from proxy.front.session import modern_version

CHUNK: Final = 64 * 1024
MOST: Final = 4 * 1024 * 1024
"""Bytes that are read ahead; the rest waits in the pipe for the door."""


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
        self._source, self._sink = source, sink
        self._given = Given()
        self._done = 0
        self._known: Mapping[str, Any] | None = None
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """Start to answer."""
        self._thread.start()

    def end(self) -> Given:
        """Stop, and give over."""
        os.close(self._waker)
        self._thread.join()
        os.close(self._wake)
        return self._given

    def _run(self) -> None:
        while len(self._given.data) < MOST:
            ready, _, _ = select.select([self._source, self._wake], [], [])
            if self._wake in ready:
                return
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
        if self._known is None or method not in self._known:
            return
        result = self._known[method]
        frame = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}, ensure_ascii=False)
        self._given.answered[message["id"]] = (method, result)
        _write(self._sink, frame.encode() + b"\n")


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


def begin(arguments: Sequence[str], env: Mapping[str, str]) -> None:
    """Begin for a command line of ``serve``, if there is something to answer from."""
    chosen = _chosen(arguments)
    if chosen is None or not (_pollable(0) and _pollable(1)):
        return
    files, agent = chosen
    memory = Memory.of(files or discover(env, Path.cwd()), agent, env)
    if memory.answers:
        early = Early(memory)
        early.begin()
        _begun.append(early)


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
