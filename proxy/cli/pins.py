"""What the commands about pins share: where pins are, and what upstreams offer."""

import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from proxy.catalog.pinfile import Owner, PinStore
from proxy.catalog.store import ListingStore
from proxy.catalog.store import Loaded as Offer
from proxy.cli.options import load_config, state_dir
from proxy.config.model import Config
from proxy.decisions import Decisions
from proxy.errors import ConnectFailed, UnknownServer
from proxy.front.memory import forget
from proxy.runtime import Runtime
from proxy.telemetry import logging
from proxy.trust import DIRECTORY, owners_of

DIGITS: Final = 12
"""How much of a hash people are shown; ``approve NAME@HASH`` wants at least as much."""


class Pinned:
    """The pins of a configuration.

    Args:
        files: the files of the configuration, or None to look for it.

    Raises:
        ConfigError: it cannot be used.
    """

    def __init__(self, files: list[Path] | None) -> None:
        logging.configure(level="error")
        self.config: Config = load_config(files).config
        self.owners: Mapping[str, Owner] = owners_of(self.config, all_modes=True)
        state = state_dir(self.config)
        self._store = PinStore(state / DIRECTORY)
        self._listings = ListingStore(state / "listings")

    def chosen(self, upstream: str | None) -> list[str]:
        """The upstream of a name, or all.

        Raises:
            UnknownServer: there is none of that name.
        """
        if upstream is not None and upstream not in self.owners:
            raise UnknownServer(
                f"There is no upstream {upstream!r}.", name=upstream, suggestions=sorted(self.owners)[:8]
            )
        return list(self.owners) if upstream is None else [upstream]

    def decisions(self, upstream: str) -> Decisions:
        """Decisions about an upstream."""
        return Decisions(self._store, self.owners[upstream])

    def last(self, upstream: str) -> Offer:
        """What an upstream offered when it was seen last."""
        return self._listings.load(upstream, self.owners[upstream].identity)

    def fresh(self, upstreams: Collection[str]) -> dict[str, Offer]:
        """What upstreams offer now; they are started for that, and stopped again."""
        only = {name: self.config.upstreams[name] for name in upstreams}
        config = self.config.model_copy(update={"upstreams": only, "agents": {}})
        return anyio.run(partial(_fresh, config), backend_options={"use_uvloop": sys.platform != "win32"})

    @staticmethod
    def decided() -> None:
        """Something was decided: what was answered before may not be answered again."""
        forget()


async def _fresh(config: Config) -> dict[str, Offer]:
    async with Runtime(config) as runtime:
        runtime.start()
        async with anyio.create_task_group() as tasks:
            for upstream in runtime.registry:
                upstream.start()
                tasks.start_soon(upstream.settled)
        listings = runtime.holder.current.listings
        return {
            one.name: Offer(listings[one.name])
            if one.name in listings
            else Offer(reason=(one.error or ConnectFailed("it offers nothing")).text())
            for one in runtime.registry
        }
