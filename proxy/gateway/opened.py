"""One handshake session that the express lane serves, and what there is of it while it rests (``sessions.py``)."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcp.server.connection import Connection
from mcp.server.streamable_http import EventStore

from proxy.gateway.downstream import Who, adopt, caller_on, known_as
from proxy.gateway.events import Counts
from proxy.gateway.intake import SESSION
from proxy.gateway.lane import Bears, Header
from proxy.gateway.onlane import Questions
from proxy.model import Caller

if TYPE_CHECKING:
    from proxy.gateway.news import News


class Open:
    """A handshake session that the lane may serve. Mutable state; what is dear is made when it is needed."""

    __slots__ = (
        "_bears",
        "_caller",
        "_lock",
        "at",
        "connection",
        "given_up",
        "hello",
        "initialized",
        "news",
        "on_due",
        "owner",
        "pushed",
        "questions",
        "running",
        "seen",
        "session_id",
        "store",
        "unlist",
        "used",
    )

    def __init__(self, session_id: str, owner: str, on_due: "Callable[[Open], None]") -> None:
        self.session_id = session_id
        self.owner = owner
        self.on_due = on_due
        self.at = 0.0
        """When its time is over if it rests; set by the lane of alarms."""
        self.used = 0.0
        """When it was last used, by the clock of the loop."""
        self.pushed = 0.0
        """When its deadline was last looked at."""
        self.connection: Connection | None = None
        """The SDK's, unless it rests."""
        self.hello = b""
        """The params of its ``initialize``, as long as it rests."""
        self.initialized = False
        """Whether its client has said so, while it rested."""
        self.news: News | None = None
        """The stream that its client listens to, if it rests."""
        self.seen: Counts | None = None
        """How often lists had changed when its client could last hear of it, or was ready; None before that."""
        self.unlist: Callable[[], None] | None = None
        """Takes it off those who are told of list changes by the lane."""
        self.store: EventStore | None = None
        """Where its events are kept, once that is asked."""
        self.running: dict[object, asyncio.Task[Any]] = {}
        self.given_up: dict[object, None] = {}
        self.questions: Questions = {}
        self._caller: Caller | None = None
        self._bears: Bears | None = None
        self._lock: asyncio.Lock | None = None

    @property
    def resting(self) -> bool:
        """Whether there is no SDK session behind it."""
        return self.connection is None

    @property
    def busy(self) -> bool:
        """Whether something goes on in it while it rests, so that it must not end by itself."""
        return bool(self.running) or self.news is not None or (self._lock is not None and self._lock.locked())

    @property
    def lock(self) -> asyncio.Lock:
        """Held by whoever wakes or ends it."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    @property
    def bears(self) -> Bears:
        """What every response bears."""
        if self._bears is None:
            self._bears = Bears.of((SESSION, self.session_id.encode()))
        return self._bears

    @property
    def headers(self) -> tuple[Header, ...]:
        """The same as headers."""
        return self.bears.headers

    @property
    def version(self) -> str:
        """The revision that was negotiated."""
        return self._known().version if self.connection is None else self.connection.protocol_version

    def caller(self, who: Who) -> Caller:
        """Its client: the same one as ever, perhaps with another credential."""
        if self.connection is not None:
            return caller_on(self.connection, who)
        known = self._known()
        if known.principal is not who.principal:
            known = self._caller = known_as(known, who.principal)
        return known

    def become(self, caller: Caller) -> None:
        """Be this client's from now on, who is the same and wants something else."""
        if self.connection is None:
            self._caller = caller
        else:
            adopt(self.connection, caller)

    def rise(self, connection: Connection) -> None:
        """Rest no more."""
        adopt(connection, self._known())
        self.connection = connection
        self._caller, self.hello = None, b""

    def ring(self) -> None:
        """Its time is over."""
        self.on_due(self)

    def _known(self) -> Caller:
        assert self._caller is not None  # noqa: S101 - known as long as it rests
        return self._caller
