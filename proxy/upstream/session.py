"""A session: a link after negotiation. It knows its era, and dresses each request for it."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Final

import anyio
import msgspec
import structlog

from proxy.errors import METHOD_NOT_FOUND, ProtocolFault, Rejected
from proxy.model import CONNECTION_META, META_LOG_LEVEL, Call, Era, Json, Listing, Params, Reply
from proxy.upstream.incoming import Askers, SessionIncoming
from proxy.upstream.link import Link
from proxy.upstream.negotiate import Negotiated, envelope, modern_headers
from proxy.wire.headers import NAME, annotation_fault, name_value

log = structlog.get_logger(__name__)

MAX_PAGES: Final = 1000
"""Pages after which a list is taken to have no end."""
_AT_ONCE: Final = 20
"""Pages that are fetched as fast as they come."""
_PACE: Final = 0.002
"""Seconds between two pages after that: nobody waits for so many, and the loop is for the callers of others."""

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Log levels, the most verbose first (spec, logging)."""

_LISTS: Final = (
    # method, key of the result, capability that promises it
    ("tools/list", "tools", "tools"),
    ("resources/list", "resources", "resources"),
    ("resources/templates/list", "resourceTemplates", "resources"),
    ("prompts/list", "prompts", "prompts"),
)


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
            if self.era is Era.MODERN:
                params, headers = self._modern(call)
                reply = await self.link.request(call.method, params, back=call.back, headers=headers)
                reply.era = Era.MODERN
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
        """Wait until the calls under way have their answers, or can get none any more. Nobody may begin another one."""
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
        asks = self.era is Era.HANDSHAKE and call.back is not None and call.caller.told != "{}"
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

    async def list_all(self) -> Listing:
        """Collect everything the upstream offers, all pages of all lists at once.

        A list that the upstream promises but refuses to give counts as empty and is reported in the log; it must not
        cost the other lists.

        Raises:
            UpstreamError: the link failed meanwhile.
        """
        found: dict[str, list[Params]] = {}
        hints: list[tuple[int | None, bool]] = []

        async def collect(method: str, key: str) -> None:
            entries = found[key] = []
            try:
                async for page in self._pages(method):
                    entries.extend(page.get(key) or ())
                    hints.append((_ttl(page), page.get("cacheScope") == "private"))
            except Rejected as error:
                level = log.debug if error.jsonrpc == METHOD_NOT_FOUND else log.warning
                level("upstream.list.refused", upstream=self.name, method=method, code=error.jsonrpc)

        async with anyio.create_task_group() as tasks:
            for method, key, capability in _LISTS:
                if self.negotiated.capabilities.get(capability) is not None:
                    tasks.start_soon(collect, method, key)
        return self._listing(found, hints)

    def _listing(self, found: dict[str, list[Params]], hints: list[tuple[int | None, bool]]) -> Listing:
        ttls = [ttl for ttl, _ in hints if ttl is not None]
        return Listing(
            tools=tuple(self._callable(found.get("tools", ()))),
            resources=tuple(found.get("resources", ())),
            templates=tuple(found.get("resourceTemplates", ())),
            prompts=tuple(found.get("prompts", ())),
            capabilities=self.negotiated.capabilities,
            server_info=self.negotiated.server_info,
            instructions=self.negotiated.instructions,
            version=self.version,
            ttl_ms=min(ttls) if ttls else None,
            private=any(private for _, private in hints),
        )

    def _callable(self, tools: Iterable[Params]) -> Iterator[Params]:
        """The tools that may be called over this link (spec 2026-07-28, custom headers: others MUST be left out)."""
        for tool in tools:
            headers = self.era is Era.MODERN and self.link.attributes and isinstance(tool, Mapping)
            fault = annotation_fault(tool.get("inputSchema")) if headers else None
            if fault is None:
                yield tool
            else:
                log.warning("upstream.tool.refused", upstream=self.name, tool=tool.get("name"), reason=fault)

    async def _pages(self, method: str) -> AsyncIterator[Params]:
        """Yield the pages of a list; ``""`` is a cursor like any other (spec, pagination)."""
        cursor: Json = None
        seen: set[str] = set()
        for number in range(MAX_PAGES):
            if number >= _AT_ONCE:
                await anyio.sleep(_PACE)
            params = {} if cursor is None else {"cursor": cursor}
            page = (await self.request(Call(self.name, method, params))).result
            if not isinstance(page, Mapping):
                raise ProtocolFault(f"answered {method} with no object", upstream=self.name)
            yield page
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str):
                return
            if cursor in seen:
                log.warning("upstream.list.cycle", upstream=self.name, method=method)
                return
            seen.add(cursor)
        log.warning("upstream.list.endless", upstream=self.name, method=method, pages=MAX_PAGES)


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


def _ttl(page: Params) -> int | None:
    value = page.get("ttlMs")
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
