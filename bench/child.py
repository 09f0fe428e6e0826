"""A process that speaks MCP over standard input and output."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Self

from bench.targets import environment


class Child:
    """A process, its pipes, and one request at a time. Raises OSError and ValueError.

    Args:
        command: how it is started.
        folder: where it runs, and keeps what it remembers.
        patience: seconds for an answer.
    """

    def __init__(self, command: Sequence[str], folder: Path, patience: float) -> None:
        with (folder / "said.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )
        self._patience = patience
        self._rest = b""
        self._numbers = count(1)
        self.pid = self._process.pid

    @property
    def pipes(self) -> tuple[int, int]:
        """File descriptors: what it says, and what it hears."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno(), self._process.stdin.fileno()

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def ask(self, method: str, params: Any) -> Any:
        """Ask, and return the result."""
        number = next(self._numbers)
        self.tell({"id": number, "method": method, "params": params})
        until = time.monotonic() + self._patience
        while True:
            try:
                message = json.loads(self._line(until))
            except json.JSONDecodeError:
                continue  # some print other things there
            if message.get("id") == number and "method" not in message:
                return message["result"]

    def _line(self, until: float) -> bytes:
        handle, _ = self.pipes
        while b"\n" not in self._rest:
            if not select.select([handle], [], [], max(0.0, until - time.monotonic()))[0]:
                raise ValueError(f"no answer for {self._patience:.0f} s")
            chunk = os.read(handle, 1 << 18)
            if not chunk:
                raise ValueError("it ended")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, number)
        self._process.wait()
        self._process.stdout.close()
