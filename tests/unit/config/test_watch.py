import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psutil
import pytest
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs

from proxy.config.watch import Watch, trail

NEVER = 3600.0
"""An interval between two looks that no test waits for: what is noticed was reported by the system."""


class Noticed:
    """Counts what a watch reports."""

    def __init__(self) -> None:
        self.count = 0
        self.listeners: list[Callable[[], None]] = []
        self._more = anyio.Event()

    def __call__(self) -> None:
        self.count += 1
        for listener in self.listeners:
            listener()
        self._more.set()

    async def reach(self, count: int) -> None:
        with anyio.fail_after(10):
            while self.count < count:
                self._more = anyio.Event()
                await self._more.wait()


@asynccontextmanager
async def watching(*files: Path, interval: float = NEVER) -> AsyncIterator[tuple[Watch, Noticed]]:
    """A watch which has had its first look."""
    noticed = Noticed()
    watch = Watch(files, noticed, interval=interval)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        await noticed.reach(1)
        yield watch, noticed
        tasks.cancel_scope.cancel()


def put(file: Path, content: str) -> None:
    file.write_text(content)


def move(file: Path, to: Path) -> None:
    file.rename(to)


async def settled(noticed: Noticed, file: Path, content: str) -> None:
    """Nothing was reported until now: the next thing that is reported is this change."""
    before = noticed.count
    put(file, content)
    await noticed.reach(before + 1)
    assert noticed.count == before + 1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "manifold.yaml"
    path.write_text("old")
    return path


async def test_a_file_that_is_rewritten_is_noticed(file: Path) -> None:
    async with watching(file) as (_, noticed):
        put(file, "new")
        await noticed.reach(2)
        put(file, "newer")
        await noticed.reach(3)


async def test_a_file_that_an_editor_renames_into_place_is_noticed_again_and_again(file: Path) -> None:
    async with watching(file) as (_, noticed):
        for count in range(2, 5):
            other = file.with_suffix(".tmp")
            other.write_text(f"new {count}")
            other.replace(file)
            await noticed.reach(count)


async def test_a_file_that_an_editor_moves_away_and_writes_anew_is_noticed(file: Path) -> None:
    async with watching(file) as (_, noticed):
        move(file, file.with_suffix(".bak"))
        put(file, "new")
        await noticed.reach(2)


async def test_a_mounted_volume_whose_data_link_is_swapped_is_noticed(tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "config.yaml").write_text(version)
    (tmp_path / "..data").symlink_to("..1")
    file = tmp_path / "config.yaml"
    file.symlink_to("..data/config.yaml")
    async with watching(file) as (_, noticed):
        for count, version in ((2, "2"), (3, "3")):
            (tmp_path / "..tmp").symlink_to(f"..{version}")
            (tmp_path / "..tmp").replace(tmp_path / "..data")
            shutil.rmtree(tmp_path / f"..{count - 1}")
            await noticed.reach(count)
            assert file.read_text() == version


async def test_the_file_that_a_link_leads_to_is_watched_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    real = tmp_path / "dotfiles" / "manifold.yaml"
    put(real, "old")
    (tmp_path / "link.yaml").symlink_to(real)
    async with watching(tmp_path / "link.yaml") as (_, noticed):
        put(real, "new")
        await noticed.reach(2)


async def test_a_link_to_a_folder_on_the_way_is_watched(tmp_path: Path) -> None:
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "manifold.yaml").write_text(release)
    current = tmp_path / "current"
    current.symlink_to("1")
    async with watching(current / "manifold.yaml") as (_, noticed):
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").replace(current)
        await noticed.reach(2)
        (tmp_path / "2" / "manifold.yaml").write_text("where the link leads now")
        await noticed.reach(3)


async def test_only_another_content_counts(file: Path) -> None:
    async with watching(file) as (_, noticed):
        put(file, "old")
        os.utime(file, (1, 1))
        (file.parent / "another.yaml").write_text("not ours")
        await settled(noticed, file, "new")


async def test_a_file_that_goes_is_noticed_and_so_is_its_return(file: Path) -> None:
    async with watching(file) as (_, noticed):
        move(file, file.with_suffix(".bak"))
        await noticed.reach(2)
        put(file, "back")
        await noticed.reach(3)


async def test_half_a_file_is_not_reported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.config.watch.SETTLE", 1.5)
    reported: list[str] = []

    def write_slowly() -> None:
        with file.open("w") as stream:
            stream.write("half")
            stream.flush()
            threading.Event().wait(0.4)  # longer than events are gathered
            stream.write(" and half")

    async with watching(file) as (_, noticed):
        noticed.listeners.append(lambda: reported.append(file.read_text()))
        await anyio.to_thread.run_sync(write_slowly)
        await noticed.reach(2)
    assert reported == ["half and half"]


async def test_what_the_system_does_not_report_is_found_after_a_while(file: Path, tmp_path: Path) -> None:
    # As with a file that is mounted alone: its own name is elsewhere, and so are the events.
    mounted = tmp_path / "elsewhere"
    mounted.mkdir()
    (mounted / "manifold.yaml").hardlink_to(file)
    async with watching(mounted / "manifold.yaml", interval=0.05) as (_, noticed):
        put(file, "new")
        await noticed.reach(2)


async def test_a_folder_that_is_made_again_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "manifold.yaml"
    put(file, "old")
    async with watching(file, interval=0.05) as (_, noticed):
        shutil.rmtree(folder)
        await noticed.reach(2)
        folder.mkdir()
        put(file, "new")
        await noticed.reach(3)
        await settled(noticed, file, "newer")


async def test_a_folder_that_another_takes_the_place_of_is_watched(tmp_path: Path) -> None:
    for name in ("etc", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifold.yaml").write_text(name)
    file = tmp_path / "etc" / "manifold.yaml"
    async with watching(file) as (watch, noticed):
        move(tmp_path / "etc", tmp_path / "old")
        move(tmp_path / "new", tmp_path / "etc")
        watch.follow([file])  # no event tells it; this stands for the look that comes after a while
        await noticed.reach(2)
        await settled(noticed, file, "newer")


async def test_another_file_is_watched_instead(file: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    secret = tmp_path / "sub" / "token"
    put(secret, "1")
    async with watching(file) as (watch, noticed):
        watch.follow([file, secret])
        await noticed.reach(2)  # nobody knows whether it changed since it was read
        put(secret, "2")
        await noticed.reach(3)
        watch.follow([file])
        put(secret, "3")
        await settled(noticed, file, "new")


async def test_a_file_that_is_no_file_is_no_obstacle(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    async with watching(pipe, loop, tmp_path, tmp_path / "missing" / "x") as (_, noticed):
        assert noticed.count == 1


async def test_a_system_without_watches_is_looked_at_from_time_to_time(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_args: object, **_options: object) -> AsyncIterator[None]:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("proxy.config.watch.awatch", none_left)
    with capture_logs() as logs:
        async with watching(file, interval=0.05) as (_, noticed):
            put(file, "new")
            await noticed.reach(2)
    assert [(log["event"], log["reason"]) for log in logs] == [("config.watch.polling", "OS file watch limit reached")]


async def test_watching_ends_at_once_and_leaves_no_thread_or_file_open(file: Path) -> None:
    process = psutil.Process()

    def held() -> tuple[int, int]:
        # The system's threads that are not Python's: anyio keeps some of its own for the next one who needs one.
        return process.num_fds(), process.num_threads() - threading.active_count()

    before = held()
    with anyio.fail_after(20):
        for _ in range(5):
            async with watching(file):
                assert held() > before
        while held() > before:
            await checkpoint()  # the system's last thread closes its file when it ends


def test_a_trail_names_every_link_and_the_file_each_in_its_real_folder(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    (root / "a").mkdir()
    (root / "b").mkdir()
    (root / "b" / "file").touch()
    (root / "a" / "up").symlink_to("../b")
    (root / "start").symlink_to(root / "a" / "up" / "file")
    assert list(trail(root / "a" / ".." / "start")) == [root / "start", root / "a" / "up", root / "b" / "file"]
