"""Lines to a file (proxy/telemetry/journal.py): whole, in order, rotated, and never lost in silence."""

import errno
import os
import threading
from pathlib import Path

import structlog.testing

from proxy.telemetry.journal import AppendedFile, Journal, Rotation

MANY = 100


def lost(lines: int) -> bytes:
    return b"lost %d\n" % lines


class Valve:
    """An output that takes nothing until it is opened, and then everything."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.tried = threading.Event()
        self.taken = b""

    def write(self, data: bytes) -> int:
        self.tried.set()
        if not self.opened.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        self.taken += data
        return len(data)

    def close(self) -> None:
        pass


class Dripping(Valve):
    """Takes a few bytes at a time."""

    def write(self, data: bytes) -> int:
        self.taken += data[:3]
        return min(3, len(data))


def test_lines_are_in_the_file_in_their_order_when_the_journal_is_closed(tmp_path: Path) -> None:
    journal = Journal(AppendedFile(tmp_path / "a.log"), MANY, lost)
    for number in range(MANY):
        assert journal.put(b"%d\n" % number)
    journal.close()
    assert (tmp_path / "a.log").read_text().split() == [str(number) for number in range(MANY)]
    assert (journal.written, journal.lost) == (MANY, 0)


def test_the_file_is_for_its_owner_alone_and_is_appended_to(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        journal = Journal(AppendedFile(tmp_path / "deep" / "a.log"), MANY, lost)
        journal.put(text)
        journal.close()
    path = tmp_path / "deep" / "a.log"
    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_full_disk_loses_nothing_that_fits_into_the_queue_and_tells_what_does_not() -> None:
    out = Valve()
    with structlog.testing.capture_logs() as logs:
        journal = Journal(out, 3, lost)
        journal.put(b"1\n")
        assert out.tried.wait(10)
        taken = [journal.put(b"%d\n" % number) for number in range(2, 8)]
        assert journal.failing.endswith("No space left on device")
        out.opened.set()
        journal.close()
    assert taken == [True, True, True, False, False, False]
    assert out.taken == b"1\n2\n3\n4\nlost 3\n"
    assert journal.lost == 3
    assert [one["event"] for one in logs] == ["journal.failing", "journal.full", "journal.recovered"]


def test_a_line_that_was_written_half_is_finished() -> None:
    out = Dripping()
    journal = Journal(out, MANY, lost)
    journal.put(b"a long line\n")
    journal.put(b"another\n")
    journal.close()
    assert out.taken == b"a long line\nanother\n"
    assert journal.written == 2


def test_what_cannot_be_written_at_the_end_is_told() -> None:
    with structlog.testing.capture_logs() as logs:
        journal = Journal(Valve(), MANY, lost)
        journal.put(b"gone\n")
        journal.close()
    assert [(one["event"], one.get("lines")) for one in logs][-1] == ("journal.lost", 1)


def test_a_file_that_would_grow_too_large_is_set_aside_and_so_many_are_kept(tmp_path: Path) -> None:
    file = AppendedFile(tmp_path / "a.log", Rotation(size=10, keep=2))
    for text in (b"1111111\n", b"2222222\n", b"3333333\n", b"4444444\n"):
        file.write(text)
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert [(tmp_path / name).read_text() for name in ("a.log", "a.log.1", "a.log.2")] == [
        "4444444\n",
        "3333333\n",
        "2222222\n",
    ]


def test_two_processes_that_share_a_file_rotate_it_once(tmp_path: Path) -> None:
    one, two = [AppendedFile(tmp_path / "a.log", Rotation(size=10, keep=5)) for _ in range(2)]
    one.write(b"1111111\n")
    one.write(b"2222222\n")  # sets it aside
    two.write(b"3\n")  # goes over to the new one: it has room
    one.close()
    two.close()
    assert (tmp_path / "a.log").read_text() == "2222222\n3\n"
    assert (tmp_path / "a.log.1").read_text() == "1111111\n"
    assert not (tmp_path / "a.log.2").exists()


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    file = AppendedFile(tmp_path / "a.log")
    file.write(b"before\n")
    (tmp_path / "a.log").rename(tmp_path / "moved.log")
    file.write(b"after\n")
    (tmp_path / "a.log").unlink()
    file.write(b"again\n")
    file.close()
    assert (tmp_path / "moved.log").read_text() == "before\n"
    assert (tmp_path / "a.log").read_text() == "again\n"


def test_a_pipe_is_written_to_and_never_rotated(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = AppendedFile(path, Rotation(size=1, keep=1))
    file.write(b"one\n")
    file.write(b"two\n")
    file.close()
    assert os.read(reader, 100) == b"one\ntwo\n"
    os.close(reader)
