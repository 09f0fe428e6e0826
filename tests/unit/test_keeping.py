"""Last-known listings are kept in the order in which they came, the last one even when everything ends."""

import threading
from pathlib import Path

import anyio
import anyio.to_thread

from proxy.catalog.store import Loaded
from proxy.config.upstream import UpstreamConfig
from proxy.keeping import Keeping
from proxy.model import Listing
from proxy.runtime import background

CONFIG = UpstreamConfig(command="server")
PATIENCE = 10.0


class SlowKeeper:
    """Saves when it is let."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.let = threading.Event()
        self.saved: list[Listing] = []

    def load(self, upstream: str, identity: str) -> Loaded:
        del upstream, identity
        return Loaded()

    def save(self, upstream: str, identity: str, listing: Listing, *, at: float) -> str:
        del upstream, identity, at
        self.began.set()
        assert self.let.wait(PATIENCE)
        self.saved.append(listing)
        return ""


async def test_what_came_just_before_the_end_is_kept(tmp_path: Path) -> None:
    first, last = Listing(instructions="first"), Listing(instructions="last")
    async with background() as tasks:
        keeping = Keeping(tmp_path)
        tasks.start_soon(keeping.run)
        await anyio.wait_all_tasks_blocked()
        keeping.save("a", CONFIG, first)
        keeping.save("a", CONFIG, last)
    assert await Keeping(tmp_path).load({"a": CONFIG}) == {"a": last}


async def test_a_newer_listing_is_never_overtaken_by_an_older_one_that_takes_long() -> None:
    keeper = SlowKeeper()
    listings = [Listing(instructions=str(number)) for number in range(3)]
    with anyio.fail_after(PATIENCE):
        async with background() as tasks:
            keeping = Keeping(keeper)
            tasks.start_soon(keeping.run)
            keeping.save("a", CONFIG, listings[0])
            await anyio.to_thread.run_sync(keeper.began.wait)
            keeping.save("a", CONFIG, listings[1])
            keeping.save("a", CONFIG, listings[2])
            keeper.let.set()
    assert keeper.saved[0] == listings[0]
    assert keeper.saved[-1] == listings[2]
    assert listings[1] not in keeper.saved
