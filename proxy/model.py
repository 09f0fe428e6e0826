"""The values that travel through Manifold. Frozen; no I/O; nothing of ours is imported here.

The relay works on the wire: params and results are JSON which nobody re-models (docs/decisions/0001).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

Json = Any
"""A JSON value as ``msgspec`` or ``json`` decode it."""

Params = Mapping[str, Any]
"""The ``params`` member of a JSON-RPC message."""

HANDSHAKE_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Protocol revisions that open with ``initialize``, oldest first."""

MODERN_VERSIONS: Final = ("2026-07-28",)
"""Protocol revisions that carry a per-request envelope, oldest first."""

META_PREFIX: Final = "io.modelcontextprotocol/"
META_VERSION: Final = META_PREFIX + "protocolVersion"
META_CLIENT_INFO: Final = META_PREFIX + "clientInfo"
META_CLIENT_CAPABILITIES: Final = META_PREFIX + "clientCapabilities"
META_SERVER_INFO: Final = META_PREFIX + "serverInfo"
META_LOG_LEVEL: Final = META_PREFIX + "logLevel"
META_SUBSCRIPTION_ID: Final = META_PREFIX + "subscriptionId"

TASKS_EXTENSION: Final = META_PREFIX + "tasks"

CONNECTION_META: Final = frozenset({META_VERSION, META_CLIENT_INFO, META_CLIENT_CAPABILITIES, META_LOG_LEVEL})
"""``_meta`` keys which belong to one connection and are never forwarded (spec 2026-07-28, basic: request envelope)."""


class Era(StrEnum):
    """How a connection speaks: by handshake (2024-11-05 to 2025-11-25) or by envelope (2026-07-28)."""

    HANDSHAKE = "handshake"
    MODERN = "modern"

    @classmethod
    def of(cls, version: str) -> "Era":
        """The era of a protocol revision; an unknown revision counts as handshake."""
        return cls.MODERN if version in MODERN_VERSIONS else cls.HANDSHAKE


class Kind(StrEnum):
    """What a listing entry is."""

    TOOL = "tool"
    PROMPT = "prompt"
    RESOURCE = "resource"
    TEMPLATE = "template"


class Sent(StrEnum):
    """Whether a request that failed had reached the upstream: what may be retried follows from it."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


class UpstreamState(StrEnum):
    """The states of an upstream's lifecycle (proxy/upstream/lifecycle.py holds the transitions)."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    DEGRADED = "degraded"
    BACKING_OFF = "backing_off"
    ERROR = "error"
    AUTH_REQUIRED = "auth_required"
    DRAINING = "draining"
    STOPPED = "stopped"


class Backchannel(Protocol):
    """Where everything goes that belongs to one call: its progress, its log lines, its questions to the downstream."""

    @property
    def progress_token(self) -> str | int | None:
        """The downstream's own progress token, or None when it asked for no progress."""
        ...

    async def notify(self, method: str, params: Params | None) -> None:
        """Deliver a notification on the call's own stream; dropped when that stream is gone."""
        ...

    async def ask(self, method: str, params: Params | None) -> Json:
        """Put a server-to-client request to the downstream and return its raw result.

        Raises:
            Rejected: the downstream answered with an error, or it cannot be asked.
        """
        ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a downstream has proved to be. The one without an id has proved nothing."""

    id: str = ""
    """Stable and unique, as ``token:3f9a`` or ``jwt:https://issuer#subject``: what handles are bound to."""
    agents: tuple[str, ...] = ()
    """The agents that its credential is bound to, all of which apply; none: the credential restricts nothing."""
    scopes: frozenset[str] = frozenset()
    name: str = ""
    """For people: logs and the audit log."""


ANONYMOUS: Final = Principal()
"""Everybody, as long as no credential is configured."""


class Caller(msgspec.Struct, frozen=True):
    """Who is asking: one downstream, as far as an upstream may know it."""

    era: Era = Era.HANDSHAKE
    version: str = HANDSHAKE_VERSIONS[-1]
    capabilities: Params = msgspec.field(default_factory=dict)
    client_info: Params | None = None
    agent: str | None = None
    """The agent that it is; where several apply, their names joined by ``+``, and it sees what all of them see."""
    principal: Principal = ANONYMOUS
    session: str | None = None
    log_level: str | None = None
    told: str = "{}"
    """What an upstream is told of the capabilities at a handshake, as canonical JSON (``upstream.pool.relayed``)."""

    @property
    def owner(self) -> str:
        """What its handles are bound to: who it has proved to be, and as which agent; empty for anybody at all."""
        return owner_of(self.agent, self.principal)


def owner_of(agent: str | None, principal: Principal) -> str:
    """One text for a principal as an agent, different from that of any other."""
    return f"{agent or ''} {principal.id}" if agent or principal.id else ""


class Call(msgspec.Struct, frozen=True):
    """One request on its way to an upstream: params are the upstream's own (names and URIs already mapped back).

    A struct, as all that is made anew for each call: a frozen dataclass takes ten times as long to make.
    """

    upstream: str
    method: str
    params: Params | None = None
    target: str = ""
    caller: Caller = msgspec.field(default_factory=Caller)
    back: Backchannel | None = None
    safe: bool = False
    """Whether running it twice does no harm: not a tool call, or a tool which says read-only or idempotent."""
    headers: Mapping[str, str] | None = None
    """Extra HTTP headers for the upstream (``Mcp-Param-*``); ignored by other transports."""
    fixed: frozenset[str] = frozenset()
    """Arguments of a tool whose values the configuration gives; they may be secret, and are written nowhere."""
    public: str = ""
    """Its public name or exported URI."""
    number: str | int | float | None = None
    """The id of the downstream's request, where it has one."""
    exchange: str = ""
    """The same in all rounds of one request that is asked back; different from that of any other request."""


URI_TRACES: Final = (b'"uri"', b'"resourceUri"', b'"ui/resourceUri"')
"""What stands in a result that may hold a URI."""
URI_END: Final = b'ri"'
"""How each of them ends: one look tells that none of them is there, as nearly always."""


class Body(msgspec.Struct, frozen=True):
    """A large result as it came in (``wire.large``), and what was noted of it on the way."""

    parts: list[bytes]
    size: int
    """Bytes."""
    depth: int
    """Levels of nesting; no less than there are."""
    traces: frozenset[bytes]
    """Which of ``URI_TRACES`` stand in it."""
    head: dict[str, Any] | None = None
    """Its members, large values emptied; None where that is not known."""
    spans: Mapping[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """Where the values of its members stand."""

    def between(self, start: int, end: int) -> list[bytes]:
        """A part of it."""
        found, at = [], 0
        for part in self.parts:
            if start < at + len(part) and at < end:
                found.append(part[max(0, start - at) : end - at])
            at += len(part)
        return found


class Reply(msgspec.Struct, eq=False):
    """A result from an upstream: its bytes, decoded when somebody looks."""

    small: bytes
    """Its bytes, if it is not large; plain, since each call looks at them again and again."""
    _result: Json = None
    era: Era = Era.HANDSHAKE
    """The era of the upstream that answered."""
    body: Body | None = None
    """The result, if it is large; then there is no ``raw`` before somebody asks for it, and ``small`` is empty."""
    _joined: bytes | None = None

    @classmethod
    def of(cls, result: Json) -> "Reply":
        """A reply made from a decoded value."""
        return cls(msgspec.json.encode(result), result)

    @property
    def raw(self) -> bytes:
        """Its bytes in one piece: for a large one a copy, which takes its time."""
        if self.body is None:
            return self.small
        if self._joined is None:
            self._joined = b"".join(self.body.parts)
        return self._joined

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.small) if self.body is None else self.body.size

    @property
    def head(self) -> dict[str, Any] | None:
        """The members of a large result, large values emptied; None where that is not known."""
        return None if self.body is None else self.body.head

    @property
    def result(self) -> Json:
        """The decoded result. Shared between all who ask: copy before changing it."""
        if self._result is None:
            self._result = msgspec.json.decode(self.raw)
        return self._result


@dataclass(frozen=True, slots=True)
class Route:
    """Ties a public name (or exported URI) to an upstream and the name that upstream uses."""

    kind: Kind
    public: str
    upstream: str
    name: str


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """An upstream changed its state. ``at`` is seconds since the epoch, for people to read."""

    upstream: str
    old: UpstreamState
    new: UpstreamState
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything one upstream offers, as it sent it: raw entries in its own order, all pages."""

    tools: tuple[Params, ...] = ()
    resources: tuple[Params, ...] = ()
    templates: tuple[Params, ...] = ()
    prompts: tuple[Params, ...] = ()
    capabilities: Params = field(default_factory=dict)
    server_info: Params = field(default_factory=dict)
    instructions: str | None = None
    version: str = ""
    """The protocol revision which the upstream was listed in."""
    ttl_ms: int | None = None
    """The shortest ``ttlMs`` among the upstream's lists; None when it gave none (handshake era)."""
    private: bool = False
    """Whether any of the upstream's lists was marked ``cacheScope: private``."""
