"""A session: a link after negotiation. It knows its era, and dresses each request for it."""

from collections.abc import Mapping
from typing import Any, Final

import anyio
import msgspec
import structlog

from proxy.errors import Rejected
from proxy.model import CONNECTION_META, META_LOG_LEVEL, Call, Era, Listing, Params, Reply
from proxy.upstream.incoming import Askers, SessionIncoming
from proxy.upstream.link import Link
from proxy.upstream.listing import Lister
from proxy.upstream.negotiate import Negotiated, envelope, modern_headers
from proxy.wire.headers import NAME, name_value

log = structlog.get_logger(__name__)

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Log levels, the most verbose first (spec, logging)."""

_MODERN: Final = Era.MODERN
"""Looked up once: each call asks for it, and a member of an enum is slow to find."""


class Session:
    """One conversation with an upstream. Shared by everybody who may share it; state is only what was negotiated."""

    def __init__(self, name: str, link: Link, negotiated: Negotiated, incoming: SessionIncoming) -> None:
        self.name = name
        self.link = link
        self.negotiated = negotiated
        self.era: Era = negotiated.era
        """The era this session speaks."""
        self.version: str = negotiated.version
        """The protocol revision this session speaks."""
        self.pages = 0
        """How many pages the last listing took."""
        self._incoming = incoming
        self._level: str | None = None

    async def open(self) -> None:
        """Say that the handshake is over, and hear what an HTTP server says on its own (spec, lifecycle).

        Raises:
            UpstreamError: the link is gone.
        """
        if self.era is Era.HANDSHAKE:
            await self.link.notify("notifications/initialized", None)
            self.link.listen()

    async def request(self, call: Call) -> Reply:
        """Send a call and return the upstream's raw answer.

        Raises:
            UpstreamError: as ``Link.request`` does.
        """
        self._incoming.begin(call)
        try:
            if self.era is _MODERN:
                params, headers = self._modern(call)
                reply = await self.link.request(call.method, params, back=call.back, headers=headers)
                reply.era = _MODERN
                return reply
            if call.caller.log_level is not None:
                await self._tell_level(call)
            return await self.link.request(call.method, plain(call.params), back=call.back, headers=call.headers)
        except Rejected as error:
            error.era = self.era
            raise
        finally:
            self._incoming.end(call)

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return self._incoming.in_flight

    @property
    def busy(self) -> bool:
        """Whether the upstream has anything to do for us but listening and signs of life."""
        return self._incoming.busy

    async def finish(self) -> None:
        """Wait until the calls under way have their answers, or can get none any more. Nobody may begin another one.

        Where each call has a stream of its own (HTTP), that stream says what becomes of it, also when the server takes
        nothing more in this session: another process may have taken over, while the one before ends what it began.
        """
        if self.link.attributes:
            await self._incoming.quiet()
        if self.link.closed is not None or not self.in_flight:
            return
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                await self.link.wait_closed()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            await self._incoming.quiet()
            tasks.cancel_scope.cancel()

    def taken(self, call: Call, askers: Askers) -> bool:
        """Whether a question on the way would be confused with one that this call may lead to.

        Nothing tells them apart on a pipe. A person may take minutes to answer, and nobody else should wait for that.
        ``askers`` is what was seen to ask on all sessions of the upstream; this one goes by it and adds to it.
        """
        asks = call.caller.told != "{}" and call.back is not None and self.era is Era.HANDSHAKE
        if not asks or self.link.attributes:
            return False
        self._incoming.askers = askers
        return self._incoming.awaits_another(call)

    def _log_level(self, call: Call) -> str | None:
        """The level for a modern request. A handshake downstream hears everything until it says otherwise."""
        if call.caller.log_level is not None or call.caller.era is Era.MODERN or call.back is None:
            return call.caller.log_level
        return LEVELS[0] if "logging" in self.negotiated.capabilities else None

    async def _tell_level(self, call: Call) -> None:
        """Have a handshake upstream log at the most verbose level in use; each downstream's own filter is ours."""
        wanted = call.caller.log_level
        if wanted is None or wanted not in LEVELS or "logging" not in self.negotiated.capabilities:
            return
        if self._level is None or LEVELS.index(wanted) < LEVELS.index(self._level):
            self._level = wanted
            try:
                await self.link.request("logging/setLevel", {"level": wanted})
            except Rejected as error:
                log.info("upstream.log_level.refused", upstream=self.name, code=error.jsonrpc)

    def _modern(self, call: Call) -> tuple[Params, Mapping[str, str]]:
        params = dict(call.params or {})
        caller = call.caller
        told = caller.capabilities if caller.era is Era.MODERN else msgspec.json.decode(caller.told)
        meta = {**_own_meta(params.get("_meta")), **envelope(told, version=self.version)}
        if (level := self._log_level(call)) is not None:
            meta[META_LOG_LEVEL] = level
        params["_meta"] = meta
        headers = modern_headers(call.method, self.version)
        if (name := name_value(call.method, params)) is not None:
            headers[NAME] = name
        if call.headers:
            headers.update(call.headers)
        return params, headers

    async def notify(self, method: str, params: Params | None = None) -> None:
        """Send a notification of the handshake era; the modern era has none for servers but cancellation."""
        if self.era is Era.HANDSHAKE:
            await self.link.notify(method, params)

    async def check(self) -> None:
        """Ask for a sign of life on the session as it is: ``ping``, or ``server/discover`` in the modern era.

        Raises:
            UpstreamError: there was none. A refusal is a sign of life.
        """
        method = "ping" if self.era is Era.HANDSHAKE else "server/discover"
        try:
            await self.request(Call(self.name, method))
        except Rejected as error:
            log.debug("upstream.health.refused", upstream=self.name, method=method, code=error.jsonrpc)

    async def list_all(self, known: Listing | None = None) -> Listing:
        """Collect everything the upstream offers (``Lister.listing``). Raises UpstreamError.

        Args:
            known: what it offered before; what is as before is the same objects.
        """
        headers = self.era is _MODERN and self.link.attributes
        lister = Lister(self.name, self.request, self.negotiated, headers=headers, known=known)
        try:
            return await lister.listing()
        finally:
            self.pages = lister.pages


def plain(params: Params | None) -> Params | None:
    """Params fit for the handshake wire: without the ``_meta`` keys that belong to a modern connection."""
    meta = None if params is None else params.get("_meta")
    if params is None or meta is None or not isinstance(meta, Mapping) or CONNECTION_META.isdisjoint(meta):
        return params
    rest = _own_meta(meta)
    out = {key: value for key, value in params.items() if key != "_meta"}
    return {**out, "_meta": rest} if rest else out


def _own_meta(meta: Any) -> dict[str, Any]:
    if not isinstance(meta, Mapping):
        return {}
    return {key: value for key, value in meta.items() if key not in CONNECTION_META}
