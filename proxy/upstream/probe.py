"""One attempt to reach an upstream, apart from all supervisors, to know whether it works and if not, why."""

from dataclasses import dataclass, replace

import anyio
import structlog

from proxy.config.model import UpstreamConfig
from proxy.credentials.vault import Vault
from proxy.credentials.wallet import Wallet
from proxy.errors import ConnectFailed, UpstreamError
from proxy.model import Listing
from proxy.service.clock import SYSTEM, Clock
from proxy.upstream.connect import Way, connected, start_limit
from proxy.upstream.groups import collapsed
from proxy.upstream.negotiate import Offer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Probe:
    """How an attempt ended."""

    seconds: float
    listing: Listing | None = None
    """What the upstream offers; None if it could not be reached."""
    error: UpstreamError | None = None


async def probe(name: str, config: UpstreamConfig, *, vault: Vault | None = None, clock: Clock = SYSTEM) -> Probe:
    """Connect, negotiate, list everything, and close again. Raises nothing but cancellation.

    Logins are those of a vault. Of several addresses the first one that works is enough. Bounded by the upstream's own
    ``start_timeout`` for negotiation, and the same again for its lists, at each address.
    """
    began = clock.now()
    probes: list[Probe] = []
    async with anyio.create_task_group() as tasks:
        held = Wallet(name, config, vault, tasks, clock).held()
        for url in config.endpoints or (None,):
            probes.append(await _probe(name, config, Way(url, held), clock))
            if probes[-1].listing is not None:
                break
    chosen = probes[-1] if probes[-1].listing is not None else probes[0]
    return replace(chosen, seconds=clock.now() - began)


async def _probe(name: str, config: UpstreamConfig, way: Way, clock: Clock) -> Probe:
    began = clock.now()
    try:
        with collapsed():
            async with connected(name, config, lambda _method, _params: None, Offer(config.era), way=way) as session:
                with start_limit(config):
                    await session.open()
                    listing = await session.list_all()
                return Probe(clock.now() - began, listing)
    except UpstreamError as error:
        error.upstream = error.upstream or name
        return Probe(clock.now() - began, error=error)
    except Exception as error:
        if isinstance(error, anyio.get_cancelled_exc_class()):
            raise
        log.exception("upstream.fault", upstream=name)
        fault = ConnectFailed(f"internal fault: {type(error).__name__}", upstream=name)
        return Probe(clock.now() - began, error=fault)
