"""Notes: a small MCP server that keeps notes in memory while it runs.

Start it with ``python -m proxy.demo.notes`` (stdio) or ``--http PORT``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated

from fastmcp import FastMCP
from fastmcp.exceptions import ResourceError, ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from proxy import __version__
from proxy.demo.serving import run

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
CREATES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
DESTROYS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

NoteId = Annotated[int, Field(description="The number of the note", ge=1)]


class Note(BaseModel):
    """One note."""

    id: int
    title: str
    text: str


@dataclass
class Notebook:
    """All notes of one server process."""

    notes: dict[int, Note] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def create(self, title: str, text: str) -> Note:
        """Add a note under the next number."""
        note = Note(id=next(self.numbers), title=title, text=text)
        self.notes[note.id] = note
        return note

    def read(self, note_id: int) -> Note:
        """One note. Raises KeyError if there is none with this number."""
        return self.notes[note_id]

    def search(self, words: str) -> list[Note]:
        """The notes in which every word occurs, in title or text, in any case."""
        wanted = words.casefold().split()
        return [note for note in self.notes.values() if _has_all(note, wanted)]

    def delete(self, note_id: int) -> bool:
        """Remove a note; false if there was none."""
        return self.notes.pop(note_id, None) is not None


def _has_all(note: Note, words: list[str]) -> bool:
    text = f"{note.title}\n{note.text}".casefold()
    return all(word in text for word in words)


def build() -> FastMCP:
    """A server with an empty notebook."""
    server = FastMCP(
        "notes", version=__version__, instructions="Keeps short notes. They live as long as this server runs."
    )
    book = Notebook()
    _add_reading(server, book)
    _add_writing(server, book)
    _add_context(server, book)
    return server


def _add_reading(server: FastMCP, book: Notebook) -> None:
    @server.tool(annotations=READS)
    def list_notes() -> list[Note]:
        """List all notes, oldest first."""
        return list(book.notes.values())

    @server.tool(annotations=READS)
    def read_note(note_id: NoteId) -> Note:
        """Read one note."""
        try:
            return book.read(note_id)
        except KeyError:
            raise ToolError(_missing(note_id)) from None

    @server.tool(annotations=READS)
    def search_notes(words: Annotated[str, Field(description="Words that must all occur")]) -> list[Note]:
        """Find notes by words in their title or text."""
        return book.search(words)


def _add_writing(server: FastMCP, book: Notebook) -> None:
    @server.tool(annotations=CREATES)
    def create_note(title: str, text: str = "") -> Note:
        """Write a new note and return it with its number."""
        return book.create(title, text)

    @server.tool(annotations=DESTROYS)
    def delete_note(note_id: NoteId) -> str:
        """Delete one note for good."""
        if not book.delete(note_id):
            raise ToolError(_missing(note_id))
        return f"Note {note_id} is deleted."


def _add_context(server: FastMCP, book: Notebook) -> None:
    @server.resource("note://all", name="all_notes", mime_type="text/markdown")
    def all_notes() -> str:
        """All notes as one Markdown text."""
        return "\n\n".join(_markdown(note) for note in book.notes.values()) or "There are no notes."

    @server.resource("note://{note_id}", name="note", mime_type="text/markdown")
    def one_note(note_id: int) -> str:
        """One note as Markdown."""
        try:
            return _markdown(book.read(note_id))
        except KeyError:
            raise ResourceError(_missing(note_id)) from None

    @server.prompt
    def summarise(topic: str = "") -> str:
        """Ask for a summary of the notes, or of those on one topic."""
        notes = book.search(topic) if topic else list(book.notes.values())
        body = "\n\n".join(_markdown(note) for note in notes) or "(no notes)"
        return f"Summarise these notes in three sentences:\n\n{body}"


def _markdown(note: Note) -> str:
    return f"# {note.title}\n\n{note.text}".strip()


def _missing(note_id: int) -> str:
    return f"There is no note {note_id}. Use list_notes to see the numbers."


if __name__ == "__main__":
    run(build)
