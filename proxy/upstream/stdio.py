"""The stdio transport: one JSON-RPC message a line over the pipes of a child process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio.abc import TaskGroup

from proxy.config.model import UpstreamConfig
from proxy.errors import ConnectFailed
from proxy.upstream.child import Child
from proxy.upstream.duplex import DuplexLink
from proxy.upstream.link import Incoming
from proxy.upstream.scope import tasks_of_link
from proxy.upstream.share import READING
from proxy.upstream.spawn import prepare
from proxy.upstream.tap import Tap, redactor
from proxy.wire import large
from proxy.wire.envelope import Malformed
from proxy.wire.frames import Frames
from proxy.wire.large import Frame
from proxy.wire.lines import Oversized

_TOLD_LINES: Final = 3
"""Lines of standard error that go into the reason of a child's death."""


@asynccontextmanager
async def open_stdio(name: str, config: UpstreamConfig, incoming: Incoming) -> AsyncIterator["StdioLink"]:
    """Start the upstream's command and be its peer until the block is left; then no process of it is left either.

    Raises:
        ConnectFailed: the command or its directory does not exist, or the system refuses to start it.
    """
    command = prepare(name, config)
    async with tasks_of_link() as tasks:
        link = StdioLink(name, config, incoming, tasks)
        try:
            link.child = await Child.start(command, link)
        except (OSError, ValueError) as error:
            raise _refused(name, str(config.command), error) from error
        try:
            yield link
        finally:
            link.leave()
            await link.child.stop(config.stop_timeout)


class StdioLink(DuplexLink):
    """A link to a child process. ``open_stdio`` makes one."""

    child: Child
    not_started = "It gets few of our environment variables: name what it needs under env or inherit_env."

    def __init__(self, name: str, config: UpstreamConfig, incoming: Incoming, tasks: TaskGroup) -> None:
        super().__init__(name, incoming, tasks, config.max_message)
        redact = redactor(secret.get_secret_value() for secret in config.env.values())
        self._lines = Frames(config.max_message)
        self._stderr = Tap("upstream.stderr", name, redact)
        self._noise = Tap("upstream.stdout.noise", name, redact, warn=True)

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self.child.pid

    @property
    def closed(self) -> str | None:
        """Why the link is dead, or None while it lives; asks the system, so it is true at once."""
        if self._reason is None and self.child.ending:
            return "its process has ended"
        return self._reason

    def leave(self) -> None:
        """Nobody uses the link any more: end what is under way."""
        self._die("Manifold closed it")

    def output(self, data: bytes) -> None:
        """The child wrote to its standard output."""
        if self._reason is None:
            began, heavy = self._share.now(), self._lines.large
            for line in self._lines.feed(data):
                heavy = heavy or type(line) is not bytes
                self._take(line)
            if heavy or self._lines.large:
                self._large.charge(began - len(data) * READING)
            else:
                self._charge(began)

    def errors(self, data: bytes) -> None:
        """The child wrote to its standard error."""
        began = self._share.now()
        self._stderr.feed(data)
        self._share.charge(began)

    def ended(self) -> None:
        """The child is at its end, and everything it wrote is here."""
        if self._reason is None and (line := self._lines.close()) is not None:
            if _cut_off(line):
                self._strange(line)
            else:
                self._take(line)
        self._stderr.close()
        self._noise.close()
        last = self._stderr.last_words(_TOLD_LINES)
        self._die(f"{self.child.status}: {last}" if last else self.child.status)

    def _take(self, line: bytes | Frame | Oversized) -> None:
        if type(line) is bytes:
            if line and not line.isspace():
                self._receive(line)
        elif isinstance(line, Oversized):
            self._receive_oversized(line)
        else:
            self._receive(line)

    def _strange(self, frame: bytes | Frame | Oversized) -> None:
        self._noise.line(frame.ends if isinstance(frame, Frame) else frame)

    def _put(self, frame: bytes) -> bool:
        return self._reason is None and self.child.offer(frame + b"\n")

    async def _ready(self) -> None:
        await self.child.writable()
        # Asked before anything is written: what is not written was not sent.
        if self._reason is None and self.child.ending:
            # What it died of is still on its way; ``ended`` follows soon.
            await self.wait_closed()
        if self._reason is not None:
            self._check_open()

    async def _write(self, frame: bytes) -> None:
        self.child.write(frame + b"\n")


def _cut_off(line: bytes | Frame | Oversized) -> bool:
    """Whether a last line without its end lacks more than that: then it says nothing but that the child has died."""
    return isinstance(line, Oversized) or any(isinstance(one, Malformed) for one in large.read(line))


def _refused(name: str, command: str, error: Exception) -> ConnectFailed:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hint = "A script needs a first line like #!/usr/bin/env python3." if "format" in why.lower() else ""
    return ConnectFailed(f"the command {command} cannot be started: {why}", upstream=name, hint=hint)
