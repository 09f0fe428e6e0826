"""Library: a small MCP server with a catalogue of books.

It shows structured output, resource templates and argument completion.
Start it with ``python -m proxy.demo.library`` (stdio) or ``--http PORT``.
"""

from typing import Annotated

from fastmcp import FastMCP
from fastmcp.exceptions import ResourceError, ToolError
from fastmcp.server.completions import CompletionReference
from mcp_types import CompletionArgument, CompletionContext, ToolAnnotations
from pydantic import BaseModel, Field

from proxy import __version__
from proxy.demo.serving import run

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


class Book(BaseModel):
    """One book of the catalogue."""

    id: str
    title: str
    author: str
    year: int
    subject: str


class Page(BaseModel):
    """A part of the books that were found."""

    books: list[Book]
    total: int = Field(description="How many books were found in all")
    next_offset: int | None = Field(description="The offset of the next part; null at the end")


BOOKS = (
    Book(id="frankenstein", title="Frankenstein", author="Mary Shelley", year=1818, subject="fiction"),
    Book(id="emma", title="Emma", author="Jane Austen", year=1815, subject="fiction"),
    Book(id="persuasion", title="Persuasion", author="Jane Austen", year=1817, subject="fiction"),
    Book(id="walden", title="Walden", author="Henry David Thoreau", year=1854, subject="essays"),
    Book(id="middlemarch", title="Middlemarch", author="George Eliot", year=1871, subject="fiction"),
    Book(id="origin", title="On the Origin of Species", author="Charles Darwin", year=1859, subject="science"),
    Book(id="beagle", title="The Voyage of the Beagle", author="Charles Darwin", year=1839, subject="travel"),
    Book(id="elements", title="Elements", author="Euclid", year=-300, subject="mathematics"),
    Book(id="laws", title="The Laws of Thought", author="George Boole", year=1854, subject="mathematics"),
    Book(id="meditations", title="Meditations", author="Marcus Aurelius", year=180, subject="philosophy"),
    Book(id="flatland", title="Flatland", author="Edwin Abbott", year=1884, subject="mathematics"),
    Book(id="time", title="The Time Machine", author="H. G. Wells", year=1895, subject="fiction"),
)
BY_ID = {book.id: book for book in BOOKS}
CHOICES = {
    "book_id": tuple(BY_ID),
    "author": tuple(sorted({book.author for book in BOOKS})),
    "subject": tuple(sorted({book.subject for book in BOOKS})),
}


def find(words: str = "", *, author: str = "", subject: str = "") -> list[Book]:
    """The books which fit everything that is given, in the order of the catalogue."""
    return [
        book
        for book in BOOKS
        if words.casefold() in book.title.casefold()
        and author.casefold() in book.author.casefold()
        and subject.casefold() in book.subject.casefold()
    ]


def page(books: list[Book], offset: int, limit: int) -> Page:
    """At most ``limit`` of ``books`` from ``offset`` on, with the way to the rest."""
    end = offset + limit
    return Page(books=books[offset:end], total=len(books), next_offset=end if end < len(books) else None)


def build() -> FastMCP:
    """A library server; the catalogue does not change."""
    server = FastMCP("library", version=__version__, instructions="A catalogue of a dozen classic books.")
    _add_tools(server)
    _add_resources(server)
    _add_prompt(server)
    server.completion(complete)
    return server


def _add_tools(server: FastMCP) -> None:
    @server.tool(annotations=READS)
    def search_books(
        title: Annotated[str, Field(description="Part of the title")] = "",
        author: Annotated[str, Field(description="Part of the author's name")] = "",
        subject: Annotated[str, Field(description="Part of the subject")] = "",
        offset: Annotated[int, Field(ge=0, description="Where to start")] = 0,
        limit: Annotated[int, Field(ge=1, le=50, description="How many books at most")] = 5,
    ) -> Page:
        """Search the catalogue; what is left out does not matter."""
        return page(find(title, author=author, subject=subject), offset, limit)

    @server.tool(annotations=READS)
    def get_book(book_id: Annotated[str, Field(description="The id of a book, from search_books")]) -> Book:
        """Get one book by its id."""
        if book_id not in BY_ID:
            raise ToolError(f"There is no book {book_id!r}. Use search_books to find ids.")
        return BY_ID[book_id]


def _add_resources(server: FastMCP) -> None:
    @server.resource("library://catalogue", name="catalogue", mime_type="text/plain")
    def catalogue() -> str:
        """All books, one a line."""
        return "\n".join(_line(book) for book in BOOKS)

    @server.resource("library://books/{book_id}", name="book", mime_type="application/json")
    def book(book_id: str) -> str:
        """One book."""
        if book_id not in BY_ID:
            raise ResourceError(f"There is no book {book_id!r}.")
        return BY_ID[book_id].model_dump_json()

    @server.resource("library://authors/{author}", name="books_by_author", mime_type="text/plain")
    def books_by_author(author: str) -> str:
        """The books of one author, one a line."""
        books = find(author=author)
        if not books:
            raise ResourceError(f"There is no author {author!r}.")
        return "\n".join(_line(book) for book in books)


def _add_prompt(server: FastMCP) -> None:
    @server.prompt
    def recommend(author: str, subject: str = "") -> str:
        """Ask for a book that somebody who likes an author may like."""
        about = f" about {subject}" if subject else ""
        return f"I like {author}. Which other book{about} from this list should I read next?\n\n" + "\n".join(
            _line(book) for book in BOOKS
        )


def complete(
    ref: CompletionReference, argument: CompletionArgument, context: CompletionContext | None
) -> list[str] | None:
    """Complete an author, a subject or a book id, wherever it is asked for."""
    del ref, context
    typed = argument.value.casefold()
    return [choice for choice in CHOICES.get(argument.name, ()) if typed in choice.casefold()]


def _line(book: Book) -> str:
    return f"{book.title}, {book.author} ({book.year})"


if __name__ == "__main__":
    run(build)
