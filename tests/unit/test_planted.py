"""The search for planted secrets (tests/support/planted.py) finds what it is there to find."""

from pathlib import Path

from tests.support.planted import CHILD_VARIABLE, HEADER, Search, plant


def test_every_upstream_gets_a_secret_and_keeps_its_own() -> None:
    own = {"a": {"command": "x", "env": {"K": "v"}}, "b": {"url": "http://h", "headers": {"H": "v"}}, "c": None}
    assert plant(own, "s") == {
        "a": {"command": "x", "env": {"K": "v", CHILD_VARIABLE: "s"}},
        "b": {"url": "http://h", "headers": {"H": "v", HEADER: "Bearer s"}},
        "c": None,
    }


def test_a_secret_is_found_in_texts_and_in_files_and_nothing_else_is(tmp_path: Path) -> None:
    search = Search("the-secret")
    search.look("nothing\nhere", "log")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "clean").write_bytes(b"\xff\x00")
    search.look_at(tmp_path)
    assert search.found == []
    search.look("one\ntwo the-secret three", "log")
    (tmp_path / "deep" / "file").write_bytes(b"\xff the-secret \x00")
    search.look_at(tmp_path)
    assert search.found == ["log: two <SECRET> three", str(tmp_path / "deep" / "file")]
