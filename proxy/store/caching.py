"""How well a cache does."""

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Counts look-ups of one cache."""

    hits: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """One cache at a moment."""

    size: int
    """How many entries it has."""
    hits: int
    misses: int

    @property
    def hit_rate(self) -> float:
        """The part of look-ups that it answered, from 0 to 1; 0 if there were none."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0
