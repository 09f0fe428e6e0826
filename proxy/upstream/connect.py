"""From a configuration to a session: open the link that it asks for, and negotiate on it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
import structlog

from proxy.config.model import Transport, UpstreamConfig
from proxy.credentials.wallet import NOTHING, Held
from proxy.errors import AuthRequired, ConnectFailed, ProtocolFault, SessionGone, UpstreamError
from proxy.service.courtesy import give_way
from proxy.upstream.http import open_http
from proxy.upstream.incoming import Heard, SessionIncoming
from proxy.upstream.link import Incoming, Link
from proxy.upstream.negotiate import Negotiated, Offer, negotiate
from proxy.upstream.session import Session
from proxy.upstream.sse import open_sse
from proxy.upstream.stdio import open_stdio

log = structlog.get_logger(__name__)

_OLD_SERVER: Final = (ProtocolFault, SessionGone)
"""How a server of 2024-11-05 refuses a POST to the address of its event stream (spec, backwards compatibility)."""


@dataclass(frozen=True, slots=True)
class Way:
    """Which way to an upstream, where there are several."""

    url: str | None = None
    """Its address; None is the first."""
    held: Held = NOTHING
    """What is shown to it."""


class Connect(Protocol):
    """Opens a session with an upstream and closes it again: ``connected``."""

    def __call__(
        self, name: str, config: UpstreamConfig, heard: Heard, offer: Offer, *, way: Way = ...
    ) -> AbstractAsyncContextManager[Session]:
        """Open it when the block is entered; raises UpstreamError."""
        ...


@asynccontextmanager
async def connected(
    name: str, config: UpstreamConfig, heard: Heard, offer: Offer, *, way: Way = Way()
) -> AsyncIterator[Session]:
    """Open a link, negotiate, and give the session; the link is closed when the block is left.

    Raises:
        UpstreamError: why there is no session.
    """
    incoming = SessionIncoming(name, heard)
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(_open(name, config, incoming, way))
        try:
            give_way()  # starting a process is a long turn, and so is what comes of its answer
            negotiated = await _bounded(link, config, offer)
            give_way()
        except _OLD_SERVER as first:
            if config.type is not Transport.HTTP:
                raise
            await stack.aclose()
            link, negotiated = await _fall_back(stack, (name, config, incoming, way), offer, first)
        link.agree(negotiated.version)
        yield Session(name, link, negotiated, incoming)


def _open(name: str, config: UpstreamConfig, incoming: Incoming, way: Way) -> AbstractAsyncContextManager[Link]:
    if config.type is Transport.STDIO:
        return open_stdio(name, config, incoming)
    address = way.url or config.endpoints[0]
    if config.type is Transport.SSE:
        return open_sse(name, address, config, incoming, way.held)
    return open_http(name, address, config, incoming, way.held)


async def _fall_back(
    stack: AsyncExitStack,
    where: tuple[str, UpstreamConfig, Incoming, Way],
    offer: Offer,
    first: UpstreamError,
) -> tuple[Link, Negotiated]:
    """Try HTTP+SSE of 2024-11-05; when that fails too, the first refusal is the one to tell."""
    name, config, incoming, way = where
    address = way.url or config.endpoints[0]
    try:
        link = await stack.enter_async_context(open_sse(name, address, config, incoming, way.held))
        negotiated = await _bounded(link, config, offer)
    except AuthRequired:
        raise
    except UpstreamError:
        raise first from None
    log.info("upstream.fallback", upstream=name, transport="sse", refused=first.message)
    return link, negotiated


async def _bounded(link: Link, config: UpstreamConfig, offer: Offer) -> Negotiated:
    with start_limit(config):
        return await negotiate(link, offer)


@contextmanager
def start_limit(config: UpstreamConfig) -> Iterator[None]:
    """Bound a step of the start by the upstream's own ``start_timeout``.

    Raises:
        ConnectFailed: it took longer.
    """
    try:
        with anyio.fail_after(config.start_timeout):
            yield
    except TimeoutError:
        raise ConnectFailed(
            f"did not answer within {config.start_timeout:g} s of its start",
            hint="Is it an MCP server? Raise start_timeout if it is only slow.",
        ) from None
