"""The end of reading a document."""


class Unreadable(Exception):
    """A document is not of its format; nothing after ``line`` is known."""

    def __init__(self, message: str, line: int | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.hint = hint
