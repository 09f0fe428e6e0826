"""What the layers note about one logical call while it passes through them, for the observation at its end.

A context variable, because ``Call`` is frozen and an attempt may run in a task of its own, which inherits the context.
"""

from contextvars import ContextVar
from typing import Final

import msgspec

from proxy.model import Sent


class Notes(msgspec.Struct):
    """Notes on one logical call. Layers write here only when something out of the ordinary happens."""

    attempts: int = 1
    """How often it was tried; 0 when it was answered without trying."""
    queued: float = 0.0
    """Seconds it waited for a slot."""
    hedged: bool = False
    """Whether a second attempt was started beside the first."""
    sent: Sent | None = None
    """Whether any attempt has reached the upstream so far; None where nobody has said so."""
    source: str = "upstream"
    """Who answered: ``upstream``, ``cache``, or ``flight`` (another call's)."""

    def held(self) -> None:
        """The call is about to wait for something before it is sent."""
        if self.sent is None:
            self.sent = Sent.NO


NOTES: Final[ContextVar[Notes | None]] = ContextVar("manifold_notes", default=None)


def noted() -> Notes | None:
    """The notes of the call that is passing, if anybody observes it."""
    return NOTES.get()
