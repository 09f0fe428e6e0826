"""Whom we trust with what: pins are loaded, made at first sight, followed when somebody decides, and reported on.

``Trust`` holds what was decided about every upstream. Whoever makes a catalog shows it the listings and gets the policy
back with its seals, and there is no other way to a policy that serves anything of an upstream with ``pin: hold``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import structlog

from proxy.catalog.chain import chained
from proxy.catalog.pinfile import Owner, PinKeeper, PinStore
from proxy.catalog.pinning import PENDING, Definitions, Finding, Part, Pins, State, compare, definitions, seal
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.showing import on_one_line
from proxy.config.diff import running
from proxy.config.model import Config, PinMode
from proxy.config.watch import Watch
from proxy.doubts import Doubts
from proxy.errors import NotReviewed, UnknownServer
from proxy.model import Listing
from proxy.upstream.identity import identity_of

log = structlog.get_logger(__name__)

DIRECTORY: Final = "pins"
"""The folder in the state directory."""

_AGAIN: Final = 10.0
"""Seconds until pins that could not be read are read again: whatever keeps them may have been away."""
_PATIENCE: Final = 5.0
"""Seconds that keeping the first pins of one upstream may take."""
_REPORTED: Final = 20
"""How many findings are logged one by one."""
_DIGITS: Final = 12
"""How much of a hash is told, as by the commands."""
_LENGTH: Final = 200
"""How much of a name goes into the log, in characters."""


def owners_of(config: Config, *, all_modes: bool = False) -> dict[str, Owner]:
    """Whose pins count in a configuration: the upstreams that are switched on and pinned.

    Args:
        config: the configuration.
        all_modes: the others too.
    """
    return {
        name: Owner(name, identity_of(upstream))
        for name, upstream in running(config).items()
        if all_modes or config.pin_of(name) is not PinMode.OFF
    }


class Trust:
    """The pins of a running Manifold. ``run`` in a task group.

    Args:
        state: the state directory, where pins are kept; None keeps them for as long as this lives.
        changed: called when somebody has decided something.
    """

    def __init__(self, state: Path | None, changed: Callable[[], None] = lambda: None) -> None:
        self.doubts = Doubts()
        self.keeper: PinKeeper | None = None if state is None else PinStore(state / DIRECTORY)
        """Where pins are kept; it may be replaced before anything is loaded."""
        self._changed = changed
        self.decided: Callable[[str, str, list[str]], None] = lambda _act, _upstream, _definitions: None
        """Called when a program has decided something: the act, the upstream, and what was decided about."""
        self._owners: dict[str, Owner] = {}
        self._pins: dict[str, Pins | None] = {}
        self._seen: dict[str, tuple[Listing, Definitions]] = {}
        self._told: dict[str, object] = {}
        self._first: list[str] = []
        self._news = anyio.Event()
        self._watch = Watch((), self._stir)
        self._wanted = anyio.Event()

    async def load(self, config: Config, renamed: Mapping[str, str] | None = None) -> None:
        """Get ready for a configuration: know what was decided about every upstream of it that is pinned.

        Args:
            config: the configuration.
            renamed: old name of an upstream -> its new name; what was decided goes with it.
        """
        before = {new: self._pins.get(old) for old, new in (renamed or {}).items()}
        owners = owners_of(config)
        fresh = [owner for name, owner in owners.items() if self._owners.get(name) != owner]
        for name, pins in (await self._load(fresh)).items():
            if pins is None and before.get(name) is not None:
                self._first.append(name)  # under its new name, nothing of it is kept yet
                self._stir()
            self._pins[name] = pins or before.get(name) or self._pins.get(name)
        self._owners = owners
        if isinstance(self.keeper, PinStore):
            self._watch.follow(map(self.keeper.path, owners.values()))
            if owners:
                self._wanted.set()

    def policy(self, config: Config, listings: Mapping[str, Listing]) -> CatalogPolicy:
        """The policy under which a catalog may be made of listings.

        What is seen for the first time is pinned, and what differs from its pins is reported.
        """
        self.doubts.see(listings)
        self._seen = {name: self._definitions(name, one) for name, one in listings.items() if name in self._owners}
        for name in self._seen:
            self._compare(name, config.pin_of(name))
        return self.foreseen(config, listings)

    def foreseen(self, config: Config, listings: Mapping[str, Listing]) -> CatalogPolicy:
        """The policy that ``policy`` would give, if nothing is seen for the first time; nothing follows from asking."""
        policy = CatalogPolicy.of(config, chained=chained(listings))
        return replace(policy, seals={name: seal(config.pin_of(name), self._pins.get(name)) for name in policy.order})

    def _definitions(self, upstream: str, listing: Listing) -> tuple[Listing, Definitions]:
        known = self._seen.get(upstream)
        return known if known is not None and known[0] is listing else (listing, definitions(listing))

    def _compare(self, upstream: str, mode: PinMode) -> None:
        pins = self._pins.get(upstream)
        if pins is None:
            self._pin(upstream, self._seen[upstream][1])
        else:
            self._report(upstream, pins, mode)

    def _pin(self, upstream: str, offered: Definitions) -> None:
        self._pins[upstream] = Pins(dict(offered))
        log.info("pinning.pinned", upstream=upstream, definitions=len(offered), reason="seen for the first time")
        self._first.append(upstream)
        self._stir()

    # -- reports -----------------------------------------------------------------------------------------------------

    def _report(self, upstream: str, pins: Pins, mode: PinMode) -> None:
        pending = [one for one in self.findings(upstream) if one.state in PENDING]
        told = (pins.fault, mode, [(one.part, one.offered and one.offered.hash) for one in pending])
        if self._told.get(upstream) == told:
            return
        self._told[upstream] = told
        if pins.fault:
            hint = f"Look at it; `mcp-manifold pin {upstream}` agrees anew to everything on offer."
            log.error("pinning.unusable", upstream=upstream, policy=mode.value, reason=pins.fault, hint=hint)
            return
        event = "pinning.held" if mode is PinMode.HOLD else "pinning.differs"
        for one in pending[:_REPORTED]:
            name = on_one_line(one.part.name[:_LENGTH])
            log.warning(event, upstream=upstream, kind=one.part.kind, name=name, state=one.state.value)
        if pending:
            hint = f"mcp-manifold review {upstream}"
            log.warning("pinning.waiting", upstream=upstream, policy=mode.value, count=len(pending), hint=hint)

    def findings(self, upstream: str) -> tuple[Finding, ...]:
        """How an upstream's definitions compare with what was agreed to; empty if it is not pinned or not listed."""
        pins, seen = self._pins.get(upstream), self._seen.get(upstream)
        return () if pins is None or seen is None else compare(pins, seen[1])

    def fault(self, upstream: str) -> str:
        """Why nobody knows what was agreed to; empty if that is known."""
        pins = self._pins.get(upstream) if upstream in self._owners else None
        return "" if pins is None else pins.fault

    def waiting(self, upstream: str) -> int:
        """How many definitions of an upstream wait for a decision."""
        return sum(one.state in PENDING for one in self.findings(upstream))

    def rejected(self, upstream: str) -> int:
        """How many definitions that an upstream offers were rejected."""
        return sum(one.state is State.REJECTED for one in self.findings(upstream))

    # -- deciding, in a program ----------------------------------------------------------------------------------------

    async def approve(self, upstream: str, findings: Iterable[Finding]) -> None:
        """Agree to definitions just as findings have them.

        Raises:
            UnknownServer: there is no such upstream, or it is not pinned.
            NotReviewed: what was decided before is not known.
            ConfigError: the decision cannot be kept.
        """
        agreed = {one.part: one.offered for one in findings if one.offered is not None}
        await self._decide(upstream, lambda pins: pins.approving(agreed))
        self.decided("pin.approved", upstream, _told({part: one.hash for part, one in agreed.items()}))

    async def reject(self, upstream: str, findings: Iterable[Finding]) -> None:
        """Refuse definitions just as findings have them. Raises as ``approve``."""
        refused = {one.part: one.offered.hash for one in findings if one.offered is not None}
        await self._decide(upstream, lambda pins: pins.rejecting(refused))
        self.decided("pin.rejected", upstream, _told(refused))

    async def _decide(self, upstream: str, step: Callable[[Pins], Pins]) -> None:
        owner, known, keeper = self._owners.get(upstream), self._pins.get(upstream), self.keeper
        if owner is None:
            raise UnknownServer(f"{upstream} is no upstream with pinned definitions.", name=upstream)

        def decided() -> Pins:
            if keeper is None:
                return step(_usable(known))
            with keeper.deciding():
                pins = step(_usable(keeper.load(owner) or known))
                keeper.save(owner, pins)
            return pins

        self._pins[upstream] = await anyio.to_thread.run_sync(decided)
        self._changed()

    # -- keeping and following -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep what is pinned at first sight, and follow decisions, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.doubts.run)
            tasks.start_soon(self._watch_files)
            try:
                await self._follow()
            finally:
                await self._keep()

    async def _follow(self) -> None:
        while True:
            unknown = any(pins is not None and pins.fault for pins in self._pins.values())
            with anyio.move_on_after(_AGAIN if unknown else None):
                await self._news.wait()
            self._news = anyio.Event()
            try:
                await self._keep()
                await self._reload()
            except Exception:  # what was decided before goes on to count
                log.exception("pinning.failed")

    async def _watch_files(self) -> None:
        await self._wanted.wait()
        await self._watch.run()

    def _stir(self) -> None:
        self._news.set()

    async def _keep(self) -> None:
        while self._first and self.keeper is not None:
            upstream = self._first.pop()
            owner, pins = self._owners.get(upstream), self._pins.get(upstream)
            if owner is None or pins is None:
                continue
            reason = f"it took longer than {_PATIENCE:g} s"
            with anyio.move_on_after(_PATIENCE, shield=True):  # what was seen must not be new again at the next start
                reason = await anyio.to_thread.run_sync(self.keeper.first, owner, pins)
            if reason:
                hint = "Until it can be, every start trusts anew."
                log.error("pinning.not_saved", upstream=upstream, reason=reason, hint=hint)

    async def _reload(self) -> None:
        found = await self._load(self._owners.values())
        news = {name: one for name, one in found.items() if one is not None and one != self._pins.get(name)}
        if news:
            self._pins.update((name, one) for name, one in news.items() if name in self._owners)
            log.info("pinning.decided", upstreams=sorted(news))
            self._changed()

    async def _load(self, owners: Iterable[Owner]) -> dict[str, Pins | None]:
        keeper, wanted = self.keeper, list(owners)
        if keeper is None or not wanted:
            return {owner.upstream: None for owner in wanted}
        return await anyio.to_thread.run_sync(lambda: {owner.upstream: keeper.load(owner) for owner in wanted})


def _told(decided: Mapping[Part, str]) -> list[str]:
    """Definitions and the beginning of their hashes, as the commands say it."""
    return [f"{on_one_line(str(part))}  @{digest[:_DIGITS]}" for part, digest in decided.items()]


def _usable(pins: Pins | None) -> Pins:
    if pins is not None and pins.fault:
        raise NotReviewed(f"What was decided is not known: {pins.fault}")
    return pins or Pins()
