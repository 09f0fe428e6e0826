"""Every example of the guide runs as it stands there."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import anyio
import anyio.to_thread
import pytest

from proxy import Manifold
from tests.support.store_peer import Json, Peer, Refusal, serving, text

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "python.md"
ADDRESS = "http://127.0.0.1:9000/mcp"
TITLE = re.compile(r"^## ([^\n]+)$|^```(python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """Each example with the heading above it."""
    heading = ""
    for number, found in enumerate(TITLE.finditer(GUIDE.read_text())):
        if found[1]:
            heading = found[1]
        elif found[2] == kind:
            yield f"{heading} ({number})", found[3]


EXAMPLES = dict(blocks("python"))


def notebook() -> Peer:
    """The server of the examples."""
    notes: dict[int, Json] = {}
    title: Json = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    words: Json = {"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]}
    number: Json = {"type": "object", "properties": {"note_id": {"type": "integer"}}, "required": ["note_id"]}

    async def add_note(arguments: Json) -> Json:
        if "title" not in arguments:
            raise Refusal(-32602, "title is missing")
        note = {"id": len(notes) + 1, "text": "", **arguments}
        notes[note["id"]] = note
        return text(note["title"], structuredContent=note)

    async def list_notes(_arguments: Json) -> Json:
        return text("\n".join(note["title"] for note in notes.values()))

    async def search_notes(arguments: Json) -> Json:
        found = [note["title"] for note in notes.values() if arguments["words"] in note["title"].lower()]
        return text("\n".join(found) or "Nothing was found.")

    async def delete_note(arguments: Json) -> Json:
        gone = notes.pop(arguments["note_id"], None)
        return text("gone") if gone else text(f"There is no note {arguments['note_id']}.", isError=True)

    tools = {"add_note": add_note, "list_notes": list_notes, "search_notes": search_notes, "delete_note": delete_note}
    schemas = {"add_note": title, "list_notes": {"type": "object"}, "search_notes": words, "delete_note": number}
    return Peer("notes", dict(tools), dict(schemas))


def compiled(source: str) -> CodeType:
    code: CodeType = compile(source, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


@pytest.mark.parametrize("title", EXAMPLES)
async def test_the_example_runs(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with serving(notebook()) as (notes,):
        settings = next(source for _, source in blocks("yaml")).replace(ADDRESS, notes.url)
        (tmp_path / "manifold.yaml").write_text(settings)
        names: dict[str, Any] = {}
        code = compiled(EXAMPLES[title].replace(ADDRESS, notes.url))
        with anyio.fail_after(30):
            if not code.co_flags & inspect.CO_COROUTINE:
                await anyio.to_thread.run_sync(_run, code, names)
                return
            async with Manifold("manifold.yaml") as manifold:
                names["manifold"] = manifold
                await manifold.for_store().list_tools()
                await eval(code, names)  # noqa: S307 - the guide's own examples


def _run(code: CodeType, names: dict[str, Any]) -> None:
    exec(code, names)  # noqa: S102 - same


def test_the_guide_names_everything_that_is_public() -> None:
    import proxy

    page = GUIDE.read_text()
    assert len(EXAMPLES) > 12
    assert [name for name in proxy.__all__ if name != "__version__" and f"`{name}`" not in page] == []
    methods = {name for kind in (proxy.Manifold, proxy.Context) for name in vars(kind) if not name.startswith("_")}
    untold = {"list_resources", "list_resource_templates", "list_prompts", "read_resource", "get_prompt", "agent"}
    untold |= {"statuses", "is_registered", "reset_metrics", "get_tool"}
    assert sorted(name for name in methods - untold if name not in page) == []
