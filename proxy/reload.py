"""Hot reload: a configuration that changed is read again, and the runtime goes over to it while it serves.

Theory of operation. One task owns reloading, so reloads never overlap: whoever asks for one while one is under way gets
the next, however many ask. A configuration that cannot be read changes nothing; it is told, and tried again from time
to time, because what was missing may be a file that nobody knows of yet.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from proxy.config.diff import Plan, restart_needed
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.config.watch import INTERVAL, Watch
from proxy.errors import ConfigError, ManifoldError, Problem
from proxy.runtime import Runtime

log = structlog.get_logger(__name__)

CHANGED: Final = "file"
"""The trigger of a reload because a file changed."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration comes from.

    Args:
        load: reads it; called in a thread. Raises ManifoldError with what is wrong.
        files: everything that was read the last time; nothing is watched if it is empty.
        interval: seconds between two looks at the files when the system reports nothing.
    """

    load: Callable[[], Loaded]
    files: tuple[Path, ...] = ()
    interval: float = INTERVAL

    @classmethod
    def of(cls, loaded: Loaded, load: Callable[[], Loaded], *, watch: bool = True) -> "Source":
        """The source of what was loaded just now; a configuration from a pipe is not watched: it comes only once."""
        there = watch and all(file.is_file() for file in loaded.files)
        return cls(load, (*loaded.files, *loaded.also_read) if there else ())


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload ended."""

    plan: Plan | None = None
    """What changed; None if nothing did because the configuration cannot be used."""
    problems: tuple[Problem, ...] = ()
    """Why it cannot be used."""


@dataclass(eq=False, slots=True)
class _Round:
    """A reload that was asked for and has not begun."""

    triggers: set[str] = field(default_factory=set)
    done: anyio.Event = field(default_factory=anyio.Event)
    outcome: Outcome = field(default_factory=Outcome)


class Reloader:
    """Reloads a runtime's configuration. ``run`` it in a task group.

    Args:
        runtime: what is reloaded.
        source: where its configuration comes from.
        applied: called after another configuration took effect.
    """

    def __init__(
        self, runtime: Runtime, source: Source, applied: Callable[[Config, Plan], None] = lambda _config, _plan: None
    ) -> None:
        self._runtime = runtime
        self._source = source
        self._applied = applied
        self._started_with = runtime.config
        self._watch = Watch(source.files, lambda: self.request(CHANGED), interval=source.interval)
        self._next = _Round()
        self._asked = anyio.Event()
        self._rejected: tuple[Problem, ...] = ()
        self._warned: tuple[Problem, ...] = ()

    def request(self, trigger: str) -> None:
        """Ask for a reload and do not wait for it.

        Args:
            trigger: what asks, for the log.
        """
        self._next.triggers.add(trigger)
        self._asked.set()

    async def reload(self, trigger: str = "request") -> Outcome:
        """Reload, and wait until a reload that began after this has ended."""
        wanted = self._next
        self.request(trigger)
        await wanted.done.wait()
        return wanted.outcome

    async def run(self) -> None:
        """Reload whenever somebody asks or a file changes, until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                self._start_watching(tasks)
                while True:
                    await self._round(await self._due())
        finally:
            self._next.outcome = Outcome(problems=(Problem("", "Manifold is being stopped"),))
            self._next.done.set()

    def _start_watching(self, tasks: TaskGroup) -> None:
        if self._source.files:
            tasks.start_soon(self._watch.run)

    async def _due(self) -> _Round:
        patience = self._source.interval if self._rejected and self._source.files else None
        with anyio.move_on_after(patience):
            await self._asked.wait()
        due, self._next, self._asked = self._next, _Round(), anyio.Event()
        return due

    async def _round(self, due: _Round) -> None:
        try:
            due.outcome = await self._reload(due.triggers)
        except ManifoldError as error:
            problems = error.problems if isinstance(error, ConfigError) else (Problem("", error.text()),)
            due.outcome = self._reject(problems, due.triggers)
        except Exception:
            # A fault of ours: what runs goes on running.
            log.exception("config.reload_failed")
            due.outcome = Outcome(problems=(Problem("", "the reload failed", "the log has the details"),))
        finally:
            due.done.set()

    async def _reload(self, triggers: set[str]) -> Outcome:
        loaded = await anyio.to_thread.run_sync(self._source.load, abandon_on_cancel=True)
        self._watch.follow((*loaded.files, *loaded.also_read))
        plan = await self._runtime.apply(loaded.config)
        recovered, self._rejected = bool(self._rejected), ()
        if plan:
            self._report(plan, loaded, triggers)
            self._applied(loaded.config, plan)
        else:
            level = log.info if recovered or triggers - {CHANGED} else log.debug
            level("config.unchanged", trigger=sorted(triggers))
        return Outcome(plan)

    def _reject(self, problems: tuple[Problem, ...], triggers: set[str]) -> Outcome:
        if problems != self._rejected or triggers - {CHANGED}:
            for each in problems:
                log.error(
                    "config.rejected",
                    file=each.file,
                    line=each.line,
                    path=each.path,
                    problem=each.message,
                    hint=each.hint,
                )
            log.error("config.kept", reason="the new configuration cannot be used", problems=len(problems))
            told = [str(each) for each in problems]
            self._runtime.audit.act("config.rejected", trigger=sorted(triggers), problems=told)
        self._rejected = problems
        return Outcome(problems=problems)

    def _report(self, plan: Plan, loaded: Loaded, triggers: set[str]) -> None:
        log.info("config.applied", trigger=sorted(triggers), **_told(plan))
        self._runtime.audit.act("config.applied", trigger=sorted(triggers), **_told(plan))
        if waiting := restart_needed(self._started_with, loaded.config):
            log.warning("config.restart_needed", settings=list(waiting))
        if loaded.warnings != self._warned:
            for each in loaded.warnings:
                log.warning("config.doubtful", file=each.file, line=each.line, path=each.path, problem=each.message)
        self._warned = loaded.warnings


def _told(plan: Plan) -> dict[str, Any]:
    """What a plan says, without what it says nothing of."""
    words: dict[str, Any] = {
        "added": sorted(plan.added),
        "removed": sorted(plan.removed),
        "changed": sorted(plan.changed),
        "retuned": sorted(plan.retuned),
        "renamed": dict(plan.renamed),
        "reordered": plan.reordered,
        "agents": sorted(plan.agents),
        "naming": plan.naming,
        "pinning": plan.pinning,
        "auth": plan.auth,
        "log": plan.log,
        "server": sorted(plan.live),
    }
    return {key: value for key, value in words.items() if value}
