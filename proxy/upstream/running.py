"""One upstream with its tower and its supervisor's task: it takes over a name, serves, and hands over."""

import anyio
import structlog

from proxy.config.model import UpstreamConfig
from proxy.credentials.wallet import Wallet
from proxy.model import Listing, Params, StatusEvent
from proxy.service.brake import Brake
from proxy.upstream.kinds import members_of, upstream_of
from proxy.upstream.stack import Shared, Tower
from proxy.upstream.standing import Hooks

log = structlog.get_logger(__name__)


class Running:
    """An upstream on its way through the registry.

    It is heard from ``speak`` until ``hush``: neither a successor that is still getting ready nor one that finishes its
    last calls says anything about the upstream of its name.

    Args:
        name: the upstream.
        wallet: its configuration, and what to show to it.
        hooks: who hears of it.
        known: its last-known listing.
        shared: what all towers have in common.
    """

    def __init__(self, name: str, wallet: Wallet, hooks: Hooks, known: Listing | None, shared: Shared) -> None:
        own = Hooks(self._status, self._listed, self._notified, self._prepare)
        self.upstream = upstream_of(name, wallet, own, known, self._moved)
        self.tower = Tower(wallet.config, members_of(self.upstream), shared, wallet.whose if wallet.personal else None)
        """What its calls go through."""
        self.wallet = wallet
        self.listed = anyio.Event()
        """Set when it has been connected and listed for the first time."""
        self.brake = Brake()
        """Says how long its errors wait."""
        self.started = False
        self._hooks = hooks
        self._silent = True
        self._told: Listing | None = None
        """The listing that was told of last: what is the very same is worth no work."""
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()

    @property
    def name(self) -> str:
        """The upstream's name."""
        return self.upstream.name

    @property
    def calls(self) -> int:
        """How many calls are under way, those that wait in the tower included."""
        return self.tower.observe.running

    async def run(self) -> None:
        """Run the supervisor until ``stop``. Raises nothing but cancellation."""
        try:
            with self._scope:
                await self.upstream.run()
        except Exception:
            # A fault of ours in one supervisor must not end the others.
            log.exception("upstream.supervisor.failed", upstream=self.name)
        finally:
            self._done.set()

    def retune(self, config: UpstreamConfig) -> None:
        """Go over to a configuration that needs no other link. Calls under way keep the limits they began with."""
        self.upstream.config = config
        self.tower.retune(config)
        if not config.lazy:
            self.upstream.start()

    def speak(self) -> None:
        """From now on it is heard."""
        self._silent = False

    def hush(self) -> None:
        """From now on it is not heard any more."""
        self._silent = True

    async def settle(self) -> None:
        """Wait until it is known how its start went, or its grace is over; not for one that starts when it is needed.

        One that failed may come up later; whoever reloads or registers is told now.
        """
        if not self.upstream.config.lazy:
            with anyio.move_on_after(self.upstream.config.first_list_grace):
                await self.upstream.settled()

    async def drain(self, seconds: float) -> None:
        """Wait until all calls have ended, at most some seconds."""
        with anyio.move_on_after(seconds):
            await self.tower.observe.quiet()

    async def stop(self) -> None:
        """End it: calls that are still under way fail, and no process or connection is left. Bounded by its link."""
        if self.calls:
            log.warning("upstream.drain.cut", upstream=self.name, calls=self.calls)
        await self.upstream.drain(0)
        self._scope.cancel()
        if self.started:
            with anyio.CancelScope(shield=True):
                await self._done.wait()

    def _moved(self, event: StatusEvent) -> None:
        self.tower.moved(event)

    def _status(self, event: StatusEvent) -> None:
        if not self._silent:
            self._hooks.status(event)

    def _listed(self, name: str, listing: Listing) -> None:
        self.listed.set()
        if not self._silent and listing is not self._told:
            self._told = listing
            self._hooks.listing(name, listing)

    async def _prepare(self, name: str, listing: Listing) -> None:
        if not self._silent:
            await self._hooks.prepare(name, listing)

    def _notified(self, name: str, method: str, params: Params | None) -> None:
        if method.endswith(("/updated", "/list_changed")):
            self.tower.outdated()
        if not self._silent:
            self._hooks.notification(name, method, params)
