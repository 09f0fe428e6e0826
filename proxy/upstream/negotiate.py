"""Find out which era an upstream speaks, and open the conversation in it.

Modern first: ``server/discover`` is answered by 2026-07-28 servers and refused by everything older, after which
``initialize`` follows (spec 2026-07-28, versioning: detecting the era of a server). A pipe whose server has not even
started yet cannot refuse, so after a while ``initialize`` is sent as well and the first good answer wins.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import msgspec

from proxy import __version__
from proxy.config.model import EraChoice
from proxy.errors import (
    INVALID_PARAMS,
    UNSUPPORTED_VERSION,
    AuthRequired,
    ConnectFailed,
    Lost,
    ProtocolFault,
    Rejected,
    Unavailable,
    UpstreamError,
)
from proxy.model import (
    HANDSHAKE_VERSIONS,
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_VERSION,
    MODERN_VERSIONS,
    Era,
    Params,
    Reply,
)
from proxy.upstream.link import Link
from proxy.wire.headers import METHOD, VERSION

PROBE_PATIENCE: Final = 3.0
"""Seconds a pipe may stay silent on ``server/discover`` before ``initialize`` is tried beside it."""

CLIENT_INFO: Final[Params] = {"name": "mcp-manifold", "version": __version__}


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What an upstream said of itself."""

    era: Era
    version: str
    capabilities: Params = field(default_factory=dict)
    server_info: Params = field(default_factory=dict)
    instructions: str | None = None
    both_eras: bool = False
    """Whether it is known to serve the other era as well."""


class NotModern(Exception):
    """The upstream does not speak 2026-07-28; ``initialize`` may still succeed."""


def envelope(capabilities: Params, client_info: Params | None = None, version: str = MODERN_VERSIONS[-1]) -> Params:
    """The ``_meta`` keys that every modern request carries (spec 2026-07-28, basic: per-request protocol fields)."""
    return {
        META_VERSION: version,
        META_CLIENT_CAPABILITIES: capabilities,
        META_CLIENT_INFO: client_info or CLIENT_INFO,
    }


def modern_headers(method: str, version: str = MODERN_VERSIONS[-1]) -> dict[str, str]:
    """The HTTP headers that every modern request carries (spec 2026-07-28, transports)."""
    return {VERSION: version, METHOD: method}


async def discover(link: Link) -> Negotiated:
    """Probe for the modern era.

    Raises:
        NotModern: the upstream answered, but not as a modern server.
        UpstreamError: it could not be reached, or wants credentials.
    """
    try:
        try:
            reply = await _ask(link, MODERN_VERSIONS[-1])
        except Rejected as error:
            offered = _offered(error)
            if offered is None:
                raise
            reply = await _ask(link, offered)
    except (Unavailable, Lost):
        raise
    except UpstreamError as error:
        # Whatever else an old server says to a method that it does not know, down to HTTP 500.
        raise NotModern(error.message) from error
    return _discovered(reply.result)


async def _ask(link: Link, version: str) -> Reply:
    params = {"_meta": envelope({}, version=version)}
    return await link.request("server/discover", params, headers=modern_headers("server/discover", version))


def _offered(error: Rejected) -> str | None:
    """The version to try instead of one that was refused, which the refusal names (spec 2026-07-28, versioning)."""
    supported = error.data.get("supported") if isinstance(error.data, Mapping) else None
    if error.jsonrpc != UNSUPPORTED_VERSION or not isinstance(supported, list):
        return None
    return next((version for version in reversed(MODERN_VERSIONS) if version in supported), None)


def _discovered(result: Any) -> Negotiated:
    supported = result.get("supportedVersions") if isinstance(result, Mapping) else None
    if not isinstance(supported, list):
        raise NotModern("server/discover answered without supportedVersions")
    modern = [version for version in MODERN_VERSIONS if version in supported]
    if not modern:
        # Some servers know the method but list handshake revisions only: they mean what they say.
        raise NotModern(f"server/discover lists {', '.join(map(str, supported))} only")
    meta = result.get("_meta")
    info = meta.get("io.modelcontextprotocol/serverInfo") if isinstance(meta, Mapping) else None
    return Negotiated(
        era=Era.MODERN,
        version=modern[-1],
        capabilities=_mapping(result.get("capabilities")),
        server_info=_mapping(info or result.get("serverInfo")),
        instructions=_text(result.get("instructions")),
        both_eras=any(version in HANDSHAKE_VERSIONS for version in supported),
    )


async def initialize(link: Link, capabilities: Params, *, client_info: Params | None = None) -> Negotiated:
    """Open the handshake era with ``initialize``; ``Session.open`` ends the handshake.

    Raises:
        Rejected: the upstream refuses (among others: it is modern-only, -32022).
        ProtocolFault: its answer is no initialize result, or names a revision nobody knows.
    """
    params = {
        "protocolVersion": HANDSHAKE_VERSIONS[-1],
        "capabilities": capabilities,
        "clientInfo": client_info or CLIENT_INFO,
    }
    result = (await link.request("initialize", params)).result
    version = result.get("protocolVersion") if isinstance(result, Mapping) else None
    if version not in HANDSHAKE_VERSIONS:
        raise ProtocolFault(
            f"answered initialize with protocol version {version!r}",
            hint=f"Manifold speaks {', '.join((*HANDSHAKE_VERSIONS, *MODERN_VERSIONS))}.",
        )
    return Negotiated(
        era=Era.HANDSHAKE,
        version=version,
        capabilities=_mapping(result.get("capabilities")),
        server_info=_mapping(result.get("serverInfo")),
        instructions=_text(result.get("instructions")),
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """What we bring to a negotiation."""

    choice: EraChoice = EraChoice.AUTO
    remembered: Era | None = None
    prefers: Era | None = None
    """The era of the only downstream there is, if there is only one: then nothing needs a bridge."""
    told: str = "{}"
    """The client capabilities for a handshake, as canonical JSON."""
    client_info: Params | None = None
    patience: float = PROBE_PATIENCE

    @property
    def capabilities(self) -> Params:
        """The client capabilities for a handshake."""
        told: Params = msgspec.json.decode(self.told)
        return told


async def negotiate(link: Link, offer: Offer) -> Negotiated:
    """Agree on an era with a fresh link.

    ``remembered`` is the era of the last success: it is tried first, and the other one after it, because an upstream
    may have been upgraded since.

    Raises:
        UpstreamError: no era could be agreed on; the message says what the upstream answered.
    """
    if offer.choice is EraChoice.HANDSHAKE:
        return await initialize(link, offer.capabilities, client_info=offer.client_info)
    if offer.choice is EraChoice.MODERN:
        return await _modern_only(link)
    if (offer.remembered or offer.prefers) is Era.HANDSHAKE:
        return await _handshake_first(link, offer)
    if link.attributes:
        return await _modern_first(link, offer)
    return await _race(link, offer)


async def _modern_only(link: Link) -> Negotiated:
    try:
        return await discover(link)
    except NotModern as error:
        raise ProtocolFault(
            f"does not speak {MODERN_VERSIONS[-1]}: {error}", hint="Remove `era: modern` to let Manifold choose."
        ) from error


async def _handshake_first(link: Link, offer: Offer) -> Negotiated:
    try:
        return await initialize(link, offer.capabilities, client_info=offer.client_info)
    except (Rejected, ProtocolFault) as refused:
        try:
            return await discover(link)
        except NotModern:
            raise refused from None


async def _modern_first(link: Link, offer: Offer) -> Negotiated:
    try:
        return await discover(link)
    except NotModern as probe:
        return await _after_probe(link, offer, probe)


async def _after_probe(link: Link, offer: Offer, probe: NotModern) -> Negotiated:
    try:
        return await initialize(link, offer.capabilities, client_info=offer.client_info)
    except Rejected as error:
        if error.jsonrpc in (UNSUPPORTED_VERSION, INVALID_PARAMS):
            error.hint = error.hint or f"It had refused server/discover with: {probe}."
        raise


async def _race(link: Link, offer: Offer) -> Negotiated:
    """Probe a pipe; when it stays silent for ``patience``, initialize beside the probe and take the first success."""
    outcome: list[Negotiated] = []
    errors: list[Exception] = []
    probed = anyio.Event()

    async def first(attempt: Awaitable[Negotiated], scope: anyio.CancelScope) -> None:
        try:
            outcome.append(await attempt)
            scope.cancel()
        except (NotModern, UpstreamError) as error:
            errors.append(error)

    async def probe(scope: anyio.CancelScope) -> None:
        await first(discover(link), scope)
        probed.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(probe, tasks.cancel_scope)
        with anyio.move_on_after(offer.patience):
            await probed.wait()
        if not outcome and not _fatal(errors):
            await first(initialize(link, offer.capabilities, client_info=offer.client_info), tasks.cancel_scope)
    if outcome:
        return outcome[0]
    raise _worst(errors)


def _fatal(errors: list[Exception]) -> bool:
    return any(not isinstance(error, NotModern) for error in errors)


def _worst(errors: list[Exception]) -> Exception:
    for error in reversed(errors):
        if isinstance(error, UpstreamError):
            return error
    return ConnectFailed(str(errors[-1]) if errors else "negotiation ended without an answer")


def _mapping(value: Any) -> Params:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


__all__ = ["AuthRequired", "Negotiated", "NotModern", "Offer", "discover", "envelope", "initialize", "negotiate"]
