"""A child process with its three pipes, in a session and process group of its own.

``subprocess.Popen`` and the loop's pipe transports rather than ``loop.subprocess_exec``: uvloop's way of spawning forks
the whole interpreter and leaves the child copies of its own pipe ends, which hide their end of file. It also lets us
choose when to reap: a group may safely be signalled by its number as long as its leader has not been reaped.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import anyio

from proxy.upstream.exits import watch_exit
from proxy.upstream.group import group_lives, signal_group
from proxy.upstream.slices import Slices
from proxy.upstream.spawn import Command

_STDIN, _STDOUT, _STDERR, _EXIT = 0, 1, 2, 3
_LAST_SIGNS: Final = frozenset((_STDOUT, _STDERR, _EXIT))

_SMALL: Final = 1 << 12
"""Bytes up to which a frame may wait for others."""
_LAST_WORDS: Final = 0.5
"""Seconds after the first sign of a child's end in which the other signs (output, exit status) may still come."""
_REAP: Final = 2.0
"""Seconds to wait for the effects of SIGKILL; only a process in an uninterruptible sleep takes longer."""
_POLL: Final = 0.02
"""Seconds between looks at a process group: the system tells nobody when one becomes empty."""


class Audience(Protocol):
    """Who hears what a child does. Called from the event loop; must not raise."""

    def output(self, data: bytes) -> None:
        """The child wrote to its standard output."""
        ...

    def errors(self, data: bytes) -> None:
        """The child wrote to its standard error."""
        ...

    def rest(self) -> float:
        """Seconds for which none of its output is to be read."""
        ...

    def turn(self) -> float:
        """Seconds for which much of its output may be taken at once."""
        ...

    def ended(self) -> None:
        """The child exited or closed its pipes, and everything it wrote has been delivered. Called once."""
        ...


class Child:
    """A running child. ``Child.start`` makes one; whoever made it must ``stop`` it.

    Callbacks of the event loop rather than stream readers: its output is always drained, at the cost of one call.
    """

    def __init__(self, process: subprocess.Popen[bytes], audience: Audience) -> None:
        self._process = process
        self._audience = audience
        self._signs: set[int] = set()
        self._exited = anyio.Event()
        self._over = False
        self._dying = False
        """Whether any sign but the end of its standard error was seen."""
        self._outbox: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._looked = False
        """Whether the system was asked in this turn of the event loop whether it lives."""
        self._timer: asyncio.TimerHandle | None = None
        self._stdin = _Pipe(self, _STDIN)
        self._outputs = tuple(
            _Pipe(self, sign, Slices(take, audience.rest, audience.turn))
            for sign, take in ((_STDOUT, audience.output), (_STDERR, audience.errors))
        )
        self._unwatch: Callable[[], None] = _nothing

    @classmethod
    async def start(cls, command: Command, audience: Audience) -> "Child":
        """Start a command. Blocks the event loop until the system has loaded it, some milliseconds.

        Raises:
            OSError, ValueError: the system refuses to.
        """
        pipe = subprocess.PIPE
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - see above; running the operator's command is the purpose
            [command.program, *command.args],
            bufsize=0,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=command.cwd,
            env=dict(command.env),
            start_new_session=True,
        )
        child = cls(process, audience)
        # Shielded: cancelled half-way, a process would run that nobody knows.
        with anyio.CancelScope(shield=True):
            try:
                await child._connect()
            except BaseException:
                child._give_up()
                raise
        return child

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def ending(self) -> bool:
        """Whether there is any sign that the child is at its end. True at once when it has died.

        The system is asked once in a turn of the event loop: before the first frame that is written in it, or earlier.
        """
        if not (self._dying or self._looked):
            if self._exit_code() is not None:
                return True
            self._looked = True
            self._loop.call_soon(self._turn)
        return self._dying

    @property
    def status(self) -> str:
        """How it ended, for people."""
        code = self._exit_code()
        if code is None:
            return "it closed its standard output" if _STDOUT in self._signs else "it closed its standard input"
        if code < 0:
            with suppress(ValueError):
                return f"it was killed by {signal.Signals(-code).name}"
        return f"it exited with code {code}"

    def write(self, frame: bytes) -> None:
        """Write to its standard input; never waits. Small frames of one turn of the event loop go out together."""
        self._outbox.append(frame)
        if len(frame) > _SMALL or self._stdin.full is not None:
            self._flush()  # so that it shows at once whether there is room for more
        elif not self._looked:
            self._looked = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """A turn of the event loop is over."""
        self._looked = False
        self._flush()

    def _flush(self) -> None:
        frames, self._outbox = self._outbox, []
        if frames and not self._stdin.transport.is_closing():
            self._stdin.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def offer(self, frame: bytes) -> bool:
        """Write a frame if that can be done now: it lives, and has read most of what was written."""
        if self._stdin.full is not None or (self._dying if self._looked else self.ending):
            return False
        self.write(frame)
        return True

    async def writable(self) -> None:
        """Wait until the child has read most of what was written, or shows signs of its end."""
        while (full := self._stdin.full) is not None and not self.ending:
            await full.wait()

    async def stop(self, patience: float) -> None:
        """End the child and everything it started: close its input, SIGTERM, SIGKILL, ``patience`` seconds apart.

        Returns when no process of the group is left. Cannot be cancelled, but is bounded.
        """
        with anyio.CancelScope(shield=True):
            self._stdin.release()
            self._flush()
            self._stdin.transport.close()
            with anyio.move_on_after(patience):
                await self._exited.wait()
            if not await self._group_ends(signal.SIGTERM, patience):
                await self._group_ends(signal.SIGKILL, _REAP)
            for pipe in self._outputs:
                pipe.transport.close()
            if not self._stdin.closed.is_set():
                self._stdin.transport.abort()  # what it never read
            with anyio.move_on_after(_REAP):
                for pipe in (self._stdin, *self._outputs):
                    await pipe.closed.wait()
            self._unwatch()
            self._end()

    async def _group_ends(self, number: signal.Signals, patience: float) -> bool:
        """Send a signal to the group; whether nothing of it lives after at most ``patience`` seconds."""
        signal_group(self.pid, number)
        with anyio.move_on_after(patience):
            await self._exited.wait()
            self._process.poll()  # reaps
            while group_lives(self.pid):  # noqa: ASYNC110 - no event tells when a process group becomes empty
                await anyio.sleep(_POLL)
            return True
        return False

    async def _connect(self) -> None:
        loop = self._loop
        self._unwatch = watch_exit(self._process, loop, self._has_exited)
        await loop.connect_write_pipe(lambda: self._stdin, self._process.stdin)
        await loop.connect_read_pipe(lambda: self._outputs[0], self._process.stdout)
        await loop.connect_read_pipe(lambda: self._outputs[1], self._process.stderr)

    def _give_up(self) -> None:
        """End a child that could not be connected to (no file descriptors left, say)."""
        self._unwatch()
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def _exit_code(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs. Does not reap where that can be avoided."""
        if self._process.returncode is None and hasattr(os, "waitid"):  # not on macOS before Python 3.13
            try:
                state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return self._process.poll()
            if state is None:
                return None
            return state.si_status if state.si_code == os.CLD_EXITED else -state.si_status
        return self._process.poll()

    def _has_exited(self) -> None:
        self._exited.set()
        self.note(_EXIT)

    def note(self, sign: int) -> None:
        """Take a sign of the child's end: a pipe that closed, or its exit."""
        self._signs.add(sign)
        if sign != _STDERR:
            self._dying = True
            self._stdin.release()
        if self._signs >= _LAST_SIGNS:
            self._end()
        elif self._timer is None and sign != _STDERR and not self._over:
            self._timer = self._loop.call_later(_LAST_WORDS, self._end)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._over:
            self._over = True
            for pipe in self._outputs:
                pipe.slices.flush()
            self._audience.ended()


class _Pipe(asyncio.Protocol):
    """Our end of one pipe."""

    transport: Any
    """``asyncio.ReadTransport`` or ``WriteTransport``; set as soon as the pipe is connected."""

    def __init__(self, child: Child, sign: int, slices: Slices | None = None) -> None:
        self._child = child
        self._sign = sign
        self.full: anyio.Event | None = None
        self.closed = anyio.Event()
        self.slices = slices or Slices(_nothing)

    def data_received(self, data: bytes) -> None:
        self.slices.feed(data, self.transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # how a pipe broke says nothing that the exit status does not say better
        self.slices.flush()
        self.closed.set()
        self._child.note(self._sign)

    def pause_writing(self) -> None:
        self.full = anyio.Event()

    def resume_writing(self) -> None:
        self.release()

    def release(self) -> None:
        """Let those who wait for room look again."""
        full, self.full = self.full, None
        if full is not None:
            full.set()


def _nothing(*_args: object) -> None:
    """A hook that is not set."""
