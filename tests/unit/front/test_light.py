"""The front stays light, and its files are found only by those for whom they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.front.early import Early
from proxy.front.memory import Memory, fingerprint
from proxy.front.place import Place, for_agent
from proxy.front.session import Session, missed, one_line

ROOT = Path(__file__).parents[3]
NAMES_OF_MODULES = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"


@pytest.mark.parametrize(
    "module", ["proxy.cli, proxy.front.main", "proxy.cli, proxy.front.early", "proxy.front.start, proxy.front.place"]
)
def test_the_front_imports_nothing_but_the_standard_library(module: str) -> None:
    code = f"import {module}; {NAMES_OF_MODULES}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name for name in done.stdout.split() if name not in sys.stdlib_module_names} <= {"proxy", "__main__"}
    assert not {"asyncio", "subprocess", "logging"} & set(done.stdout.split())


def test_a_first_introduction_needs_neither_fastmcp_nor_the_sdk_nor_the_command_line() -> None:
    code = f"import proxy.cli, proxy.cli.first; {NAMES_OF_MODULES}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"fastmcp", "mcp", "mcp_types", "structlog", "cyclopts", "asyncio", "uvicorn", "httptools", "rich"}
    assert not heavy & set(done.stdout.split())


def test_the_note_of_a_running_manifold_is_there_as_long_as_it_runs(tmp_path: Path) -> None:
    place = Place.of([tmp_path / "a.yaml"], {"XDG_STATE_HOME": str(tmp_path)})
    with place.announced("http://127.0.0.1:1/mcp"):
        found = place.read()
        assert found is not None
        assert (found.pid, found.url) == (os.getpid(), "http://127.0.0.1:1/mcp")
    assert place.read() is None


def test_a_later_server_keeps_its_note_when_an_earlier_one_ends(tmp_path: Path) -> None:
    place = Place.of([tmp_path / "a.yaml"], {"XDG_STATE_HOME": str(tmp_path)})
    with place.announced("http://127.0.0.1:1/mcp"):
        other = {"pid": os.getppid(), "url": "http://127.0.0.1:2/mcp", "config": place.key}
        place.note.write_text(json.dumps(other))
    assert place.note.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', '{"pid": 999999999, "url": "u"}'])
def test_a_note_that_cannot_be_right_is_no_note(tmp_path: Path, content: str) -> None:
    place = Place.of([tmp_path / "a.yaml"], {"XDG_STATE_HOME": str(tmp_path)})
    place.prepare()
    place.note.write_text(content)
    assert place.read() is None


def test_a_configuration_is_the_same_by_any_path_to_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    places = [Place.of([path / "a.yaml"], {"HOME": "/h"}) for path in (tmp_path, tmp_path / "link")]
    assert places[0] == places[1]
    assert places[0] != Place.of([tmp_path / "b.yaml"], {"HOME": "/h"})


def test_an_agent_has_its_endpoint_beside_the_stores() -> None:
    assert for_agent("http://127.0.0.1:8300/mcp", None) == "http://127.0.0.1:8300/mcp"
    assert for_agent("http://127.0.0.1:8300/mcp", "a b/c") == "http://127.0.0.1:8300/agents/a%20b%2Fc/mcp"


def test_a_fingerprint_changes_with_files_and_with_the_variables_that_they_name(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("x: ${env:ONE} ${TWO:-default}")
    env = {"ONE": "1", "TWO": "2", "THREE": "3"}
    first = fingerprint([str(file)], env)
    assert first == fingerprint([str(file)], env | {"THREE": "4"})
    assert first != fingerprint([str(file)], env | {"ONE": "4"})
    assert first != fingerprint([str(file)], env | {"TWO": "4"})
    file.write_text("x: ${env:ONE} ${TWO:-default} ")
    assert first != fingerprint([str(file)], env)
    assert fingerprint([str(tmp_path / "gone")], env) == ""


def test_what_was_learned_is_there_the_next_time_and_not_for_another_agent(tmp_path: Path) -> None:
    file, env = tmp_path / "a.yaml", {"XDG_STATE_HOME": str(tmp_path)}
    file.write_text("a: 1")
    memory = Memory.of([file], None, env)
    assert memory.learn("2025-11-25", "tools/list", {"tools": []})
    assert not memory.learn("2025-11-25", "tools/list", {"tools": []})
    memory.save(memory.state, ())
    assert Memory.of([file], None, env).answers == memory.answers
    assert Memory.of([file], "reader", env).answers == {}
    file.write_text("a: 2")
    assert Memory.of([file], None, env).answers == {}


def test_the_early_front_answers_what_it_knows_and_keeps_every_byte(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m", "s", {"2025-11-25": {"initialize": {"x": 1}, "tools/list": {"tools": []}}})
    (source, say), (hear, sink) = os.pipe(), os.pipe()
    early = Early(memory, source, sink)
    early.begin()
    said = (
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}\n'
        b'nonsense\n{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{}}\n'
        b'{"jsonrpc":"2.0","id":"3","method":"tools/list","params":{"cursor":"x"}}\n'
        b'{"jsonrpc":"2.0","id":4,"method":"tools/list"}\n{"jsonrpc":"2.0","id":'
    )
    for start in range(0, len(said), 7):
        os.write(say, said[start : start + 7])
    with os.fdopen(hear, "rb") as answers:
        heard = [json.loads(answers.readline()) for _ in range(2)]
        given = early.end()
    assert [(one["id"], one["result"]) for one in heard] == [(1, {"x": 1}), (4, {"tools": []})]
    assert given.answered == {1: ("initialize", {"x": 1}), 4: ("tools/list", {"tools": []})}
    assert given.data + os.read(source, 1000) == said if len(given.data) < len(said) else given.data == said
    for descriptor in (source, say, sink):
        os.close(descriptor)


def test_a_session_that_is_opened_again_is_brought_to_where_it_was() -> None:
    session = Session(hello={}, ready=True)
    session.note("logging/setLevel", {"level": "debug"})
    for uri in ("a:1", "a:2"):
        session.note("resources/subscribe", {"uri": uri})
    session.note("resources/unsubscribe", {"uri": "a:1"})
    again = [json.loads(line) for line in session.again()]
    assert [(one["method"], one.get("params")) for one in again] == [
        ("notifications/initialized", None),
        ("logging/setLevel", {"level": "debug"}),
        ("resources/subscribe", {"uri": "a:2"}),
    ]


def test_only_what_was_listened_for_may_have_been_missed() -> None:
    acknowledged = {"params": {"notifications": {"toolsListChanged": True, "promptsListChanged": False}}}
    assert [json.loads(one)["method"] for one in missed(acknowledged)] == ["notifications/tools/list_changed"]


def test_a_message_on_several_lines_becomes_one_line() -> None:
    assert one_line(b'{\r\n "a": "b\\n"\n}\n') == b'{   "a": "b\\n" }'
