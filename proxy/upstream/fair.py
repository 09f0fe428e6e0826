"""What the upstreams of one event loop have in common: who wants it, and the accounts of what is rationed."""

from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from anyio.lowlevel import RunVar

from proxy.upstream.demand import Demand
from proxy.upstream.share import LARGE_PART, Share
from proxy.upstream.slices import BRIEF


class Fair:
    """The demand for one event loop, and the accounts that go by it."""

    def __init__(self) -> None:
        self.demand = Demand()
        """Fed by the calls of all upstreams."""
        self._large: WeakValueDictionary[str, Share] = WeakValueDictionary()

    def unasked(self, upstream: str) -> Share:
        """An account for what an upstream sends without being asked, or before an answer."""
        return Share(others=partial(self.demand.of_others, whose(upstream)))

    def large(self, upstream: str) -> Share:
        """THE account of an upstream's large frames: reading them on any link, and writing what comes of them."""
        who = whose(upstream)
        share = self._large.get(who)
        if share is None:
            others = partial(self.demand.of_others, who)
            share = self._large[who] = Share(part=LARGE_PART, others=others, brief=BRIEF)
        return share


_HERE: Final[RunVar[Fair]] = RunVar("manifold.fair")


def here() -> Fair:
    """That of the running event loop: however many Manifolds there are, it is this that they share."""
    try:
        return _HERE.get()
    except LookupError:
        fair = Fair()
        _HERE.set(fair)
        return fair


def whose(upstream: str) -> str:
    """The upstream that a link belongs to; those of one group are numbered."""
    return upstream.partition("#")[0]
