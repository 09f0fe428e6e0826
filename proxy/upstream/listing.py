"""Listing what an upstream offers: all pages of all lists, taken in an entry at a time.

A list of thousands of entries takes tens of milliseconds to decode, and as long to throw away. So it is decoded entry
by entry, others have the event loop in between, and an entry that is as it was is the object that is known already.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import anyio
import msgspec
import structlog

from proxy.errors import METHOD_NOT_FOUND, ProtocolFault, Rejected
from proxy.model import Call, Json, Listing, Params, Reply
from proxy.service.courtesy import give_way
from proxy.service.steps import Steps
from proxy.upstream.negotiate import Negotiated
from proxy.upstream.slices import in_turns
from proxy.wire.headers import annotation_fault

log = structlog.get_logger(__name__)

MAX_PAGES: Final = 1000
"""Pages after which a list is taken to have no end."""
_AT_ONCE: Final = 20
"""Pages that are fetched as fast as they come."""
_PACE: Final = 0.002
"""Seconds between two pages after that: nobody waits for so many, and the loop is for the callers of others."""


class _List(NamedTuple):
    method: str
    key: str
    """Where the entries are in its result."""
    field: str
    """Where they are in a listing."""
    capability: str
    """What promises the list."""
    name: str
    """What tells the entries apart."""


_LISTS: Final = (
    _List("tools/list", "tools", "tools", "tools", "name"),
    _List("resources/list", "resources", "resources", "resources", "uri"),
    _List("resources/templates/list", "resourceTemplates", "templates", "resources", "uriTemplate"),
    _List("prompts/list", "prompts", "prompts", "prompts", "name"),
)


class Lister:
    """Lists one upstream once.

    Args:
        name: the upstream.
        request: sends a call.
        negotiated: what it said of itself.
        headers: whether tools say which of their arguments become HTTP headers.
        known: what it offered before.
    """

    def __init__(
        self,
        name: str,
        request: Callable[[Call], Awaitable[Reply]],
        negotiated: Negotiated,
        *,
        headers: bool,
        known: Listing | None = None,
    ) -> None:
        self._name = name
        self._request = request
        self._negotiated = negotiated
        self._headers = headers
        self._known = known
        self.pages = 0
        """How many pages it took so far."""
        self._found: dict[str, tuple[Params, ...]] = {}
        self._hints: list[tuple[int | None, bool]] = []

    async def listing(self) -> Listing:
        """Collect everything, all lists at once.

        A list that the upstream promises but refuses to give counts as empty and is reported in the log; it must not
        cost the other lists.

        Returns:
            The listing; the known one itself if nothing differs.

        Raises:
            UpstreamError: the link failed meanwhile.
        """
        async with anyio.create_task_group() as tasks:
            for one in _LISTS:
                if self._negotiated.capabilities.get(one.capability) is not None:
                    tasks.start_soon(self._collect, one)
        ttls = [ttl for ttl, _ in self._hints if ttl is not None]
        listing = Listing(
            **self._found,
            capabilities=self._negotiated.capabilities,
            server_info=self._negotiated.server_info,
            instructions=self._negotiated.instructions,
            version=self._negotiated.version,
            ttl_ms=min(ttls) if ttls else None,
            private=any(private for _, private in self._hints),
        )
        return self._known if self._known is not None and _same(self._known, listing) else listing

    async def _collect(self, one: _List) -> None:
        entries: list[Params] = []
        known = () if self._known is None else getattr(self._known, one.field)
        before = await in_turns(_by_name(known, one.name))
        try:
            async for page, reply in self._pages(one.method):
                await in_turns(_taken(reply, page, one, before, entries))
                self._hints.append((_ttl(page), page.get("cacheScope") == "private"))
        except Rejected as error:
            level = log.debug if error.jsonrpc == METHOD_NOT_FOUND else log.warning
            level("upstream.list.refused", upstream=self._name, method=one.method, code=error.jsonrpc)
        if one.field == "tools" and self._headers:
            entries = await in_turns(self._callable(entries))
        self._found[one.field] = tuple(entries)

    def _callable(self, tools: Iterable[Params]) -> Steps[list[Params]]:
        """The tools that may be called over this link (spec 2026-07-28, custom headers: others MUST be left out)."""
        found: list[Params] = []
        for tool in tools:
            fault = annotation_fault(tool.get("inputSchema")) if isinstance(tool, Mapping) else None
            if fault is None:
                found.append(tool)
            else:
                log.warning("upstream.tool.refused", upstream=self._name, tool=tool.get("name"), reason=fault)
            yield
        return found

    async def _pages(self, method: str) -> AsyncIterator[tuple[dict[str, Any], Reply]]:
        """Yield the pages of a list, without their lists; ``""`` is a cursor like any other (spec, pagination)."""
        cursor: Json = None
        seen: set[str] = set()
        for number in range(MAX_PAGES):
            if number >= _AT_ONCE:
                await anyio.sleep(_PACE)
            params = {} if cursor is None else {"cursor": cursor}
            reply = await self._request(Call(self._name, method, params))
            self.pages += 1
            give_way()
            page = _head(reply)
            if page is None:
                raise ProtocolFault(f"answered {method} with no object", upstream=self._name)
            yield page, reply
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str):
                return
            if cursor in seen:
                log.warning("upstream.list.cycle", upstream=self._name, method=method)
                return
            seen.add(cursor)
        log.warning("upstream.list.endless", upstream=self._name, method=method, pages=MAX_PAGES)


def _head(reply: Reply) -> dict[str, Any] | None:
    """The members of a page, lists and objects undecoded; None if it is no object."""
    try:
        members = msgspec.json.decode(reply.raw, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return None
    return {name: raw if _opens(raw) in (b"[", b"{") else msgspec.json.decode(raw) for name, raw in members.items()}


def _opens(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


def _taken(
    reply: Reply, page: Mapping[str, Any], one: _List, before: Mapping[str, Params], entries: list[Params]
) -> Steps[None]:
    """Take the entries of a page in."""
    raws = page.get(one.key)
    if not isinstance(raws, msgspec.Raw) or _opens(raws) != b"[":
        entries.extend(reply.result.get(one.key) or ())  # what is no list has no entries that anybody could use
        return
    for raw in msgspec.json.decode(raws, type=list[msgspec.Raw]):
        entry = msgspec.json.decode(raw)
        name = entry.get(one.name) if isinstance(entry, dict) else None
        known = before.get(name) if isinstance(name, str) else None
        entries.append(known if known is not None and _same(known, entry) else entry)
        yield


def _by_name(entries: Iterable[Params], name: str) -> Steps[dict[str, Params]]:
    found: dict[str, Params] = {}
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get(name), str):
            found[entry[name]] = entry
        yield
    return found


def _same(one: Listing | Params, other: Listing | Params) -> bool:
    try:
        return one == other
    except RecursionError:  # nested more deeply than can be compared; a catalog leaves such entries out
        return False


def _ttl(page: Params) -> int | None:
    value = page.get("ttlMs")
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
