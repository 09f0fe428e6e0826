"""A rolling window that counts good and bad outcomes. Pure: the time is a parameter."""


class Window:
    """Outcomes of the last ``seconds``, in buckets that are forgotten one by one.

    Mutable state: one pair of counts per bucket, their sums, and the number of the newest bucket. Adding is O(1);
    time that goes back counts as no time.
    """

    __slots__ = ("_bad", "_good", "_newest", "_place", "_until", "_width", "bad", "good")

    def __init__(self, seconds: float, buckets: int = 10) -> None:
        self._width = seconds / buckets
        self._good = [0] * buckets
        self._bad = [0] * buckets
        self._newest = 0
        self._place = 0
        self._until = self._width
        self.good = 0
        """Good outcomes in the window, as of the last call with a time."""
        self.bad = 0
        """Bad outcomes in the window, as of the last call with a time."""

    def add_good(self, now: float) -> None:
        """Count a good outcome."""
        if now >= self._until:
            self.roll(now)
        self._good[self._place] += 1
        self.good += 1

    def add_bad(self, now: float) -> None:
        """Count a bad outcome."""
        self.roll(now)
        self._bad[self._newest % len(self._bad)] += 1
        self.bad += 1

    def roll(self, now: float) -> None:
        """Forget what is too old."""
        bucket = int(now / self._width)
        if bucket > self._newest:
            self._roll(bucket)

    def rate(self) -> float:
        """The share of bad outcomes, 0.0 when there are none at all."""
        return self.bad / (self.good + self.bad) if self.bad else 0.0

    def total(self) -> int:
        """How many outcomes there are."""
        return self.good + self.bad

    def clear(self) -> None:
        """Forget everything."""
        buckets = len(self._good)
        self._good, self._bad = [0] * buckets, [0] * buckets
        self.good = self.bad = 0

    def resized(self, seconds: float, now: float) -> "Window":
        """A window of another length which begins with the counts of this one, all in its newest bucket."""
        self.roll(now)
        other = Window(seconds, len(self._good))
        other.roll(now)
        place = other._newest % len(other._good)
        other._good[place] = other.good = self.good
        other._bad[place] = other.bad = self.bad
        return other

    def _roll(self, bucket: int) -> None:
        buckets = len(self._good)
        for old in range(max(self._newest + 1, bucket - buckets + 1), bucket + 1):
            place = old % buckets
            self.good -= self._good[place]
            self.bad -= self._bad[place]
            self._good[place] = self._bad[place] = 0
        self._newest = bucket
        self._place = bucket % buckets
        self._until = (bucket + 1) * self._width
