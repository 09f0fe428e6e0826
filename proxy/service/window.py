"""A rolling window that counts good and bad outcomes. Pure: the time is a parameter."""


class Window:
    """Outcomes of the last ``seconds``, in buckets that are forgotten one by one.

    Mutable state: one pair of counts per bucket, and the number of the newest bucket. Adding is O(1), for that is what
    each call does; sums are made when somebody asks. Time that goes back counts as no time.
    """

    __slots__ = ("_bad", "_good", "_newest", "_place", "_until", "_width")

    def __init__(self, seconds: float, buckets: int = 10) -> None:
        self._width = seconds / buckets
        self._good = [0] * buckets
        self._bad = [0] * buckets
        self._newest = 0
        self._place = 0
        self._until = self._width

    @property
    def good(self) -> int:
        """Good outcomes in the window, as of the last call with a time."""
        return sum(self._good)

    @property
    def bad(self) -> int:
        """Bad outcomes in the window, as of the last call with a time."""
        return sum(self._bad)

    def add_good(self, now: float) -> None:
        """Count a good outcome."""
        if now >= self._until:
            self.roll(now)
        self._good[self._place] += 1

    def add_bad(self, now: float) -> None:
        """Count a bad outcome."""
        self.roll(now)
        self._bad[self._newest % len(self._bad)] += 1

    def roll(self, now: float) -> None:
        """Forget what is too old."""
        bucket = int(now / self._width)
        if bucket > self._newest:
            self._roll(bucket)

    def rate(self) -> float:
        """The share of bad outcomes, 0.0 when there are none at all."""
        bad = self.bad
        return bad / (self.good + bad) if bad else 0.0

    def total(self) -> int:
        """How many outcomes there are."""
        return self.good + self.bad

    def clear(self) -> None:
        """Forget everything."""
        buckets = len(self._good)
        self._good, self._bad = [0] * buckets, [0] * buckets

    def resized(self, seconds: float, now: float) -> "Window":
        """A window of another length which begins with the counts of this one, all in its newest bucket."""
        self.roll(now)
        other = Window(seconds, len(self._good))
        other.roll(now)
        place = other._newest % len(other._good)
        other._good[place] = self.good
        other._bad[place] = self.bad
        return other

    def _roll(self, bucket: int) -> None:
        buckets = len(self._good)
        for old in range(max(self._newest + 1, bucket - buckets + 1), bucket + 1):
            self._good[old % buckets] = self._bad[old % buckets] = 0
        self._newest = bucket
        self._place = bucket % buckets
        self._until = (bucket + 1) * self._width
