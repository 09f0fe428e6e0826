"""The handshake sessions that the express lane serves, and how they rest.

A session that the lane has opened (``welcome.py``) *rests*: there is no SDK session behind it, with its tasks and
streams, as long as nothing needs one. What it is then is in ``Open`` alone (``opened.py``). When something comes that
the lane does not serve, it is woken (``waking.py``), under the same id and unseen by its client, and rests no more.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import uuid4

import structlog
from mcp.server.connection import Connection
from mcp.server.streamable_http import EventStore

from proxy.gateway import seams
from proxy.gateway.opened import Open
from proxy.gateway.resume import SINCE, History
from proxy.gateway.room import Idle
from proxy.model import Caller, owner_of
from proxy.service import expiry
from proxy.service.clock import SYSTEM

_PUSH: Final = 0.02
"""Seconds between two looks at the deadline of a session."""

log = structlog.get_logger(__name__)


class Sessions:
    """All of them.

    Args:
        idle: seconds without a request after which a resting session ends.
    """

    def __init__(self, idle: float) -> None:
        self.seconds = idle
        self._often = min(1.0, idle / 10)
        self._all: dict[bytes, Open] = {}
        self._resting: dict[str, Open] = {}
        self._rising: dict[str, Connection] = {}
        self._expiry = expiry.Lane(SYSTEM, idle)
        self._on_due = self._due
        self.transports: Callable[[], Mapping[str, Any]] = dict
        """Those of the sessions that the SDK has, by session id."""
        self.events: EventStore | None = None
        """Where events are kept for clients that come back, if they are."""
        self.on_opened: Callable[[Open, Caller], None] = lambda _session, _caller: None
        """Called when one begins to rest."""
        self.on_closed: Callable[[str], None] = lambda _session_id: None
        """Called when one has ended that rested."""

    def __len__(self) -> int:
        """How many sessions there are; those that the lane does not serve are among them."""
        return len(self.transports()) + len(self._resting)

    def find(self, session_id: bytes, owner: str) -> Open | None:
        """The session of this id, as it is in a header, if it is this owner's and may be served."""
        session = self._all.get(session_id)
        if session is None or session.owner != owner:
            return None
        if session.connection is None:
            return session
        there = session.connection.initialize_accepted and session.session_id in self.transports()
        return session if there else None

    # -- resting -------------------------------------------------------------------------------------------------------

    def open(self, caller: Caller, hello: bytes) -> Open:
        """Open a session that rests."""
        session = Open(uuid4().hex, owner_of(caller.agent, caller.principal), self._on_due)
        session.become(caller)
        session.hello = hello
        self._all[session.session_id.encode()] = self._resting[session.session_id] = session
        self.touch(session)
        self.on_opened(session, caller)
        return session

    def touch(self, session: Open) -> None:
        """It was used: its time begins anew."""
        now = session.used = SYSTEM.now()
        if 0 <= now - session.pushed < _PUSH:
            return
        session.pushed = now
        if session.connection is None:
            if now + self.seconds - session.at > self._often and self.rests(session):
                self._expiry.start(session)
        elif (transport := self.transports().get(session.session_id)) is not None:
            seams.keep_awake(transport, now, least=1.0)

    def end(self, session: Open) -> None:
        """End a resting session; what runs in it goes on, and is answered."""
        self._rising.pop(session.session_id, None)
        if self._resting.pop(session.session_id, None) is None:
            return
        self.unlist(session.session_id)
        del self._all[session.session_id.encode()]
        self._expiry.stop(session)
        if session.news is not None:
            session.news.end()
        self.on_closed(session.session_id)

    def end_id(self, session_id: str) -> bool:
        """End the resting session of this id; False if there is none."""
        session = self._resting.get(session_id)
        if session is not None:
            self.end(session)
        return session is not None

    def rests(self, session: Open) -> bool:
        """Whether it is there and rests."""
        return self._resting.get(session.session_id) is session

    def list_as(self, session: Open, unlist: Callable[[], None]) -> None:
        """It is told of list changes, until it is taken off again."""
        if session.unlist is not None:
            session.unlist()
        session.unlist = unlist

    def unlist(self, session_id: str) -> None:
        """Tell it no more; somebody else does, or nobody."""
        session = self._all.get(session_id.encode())
        if session is not None and session.unlist is not None:
            session.unlist()
            session.unlist = None

    def leaving(self) -> int:
        """How many are on their way out."""
        return seams.leaving(self.transports().values())

    def idle(self) -> list[Idle]:
        """Whatever of all sessions may end now."""
        transports = self.transports()
        for session in self._all.values():
            if session.connection is not None and (transport := transports.get(session.session_id)) is not None:
                seams.keep_awake(transport, session.used)
        resting = [Resting(self, session) for session in self._resting.values() if not session.busy]
        return [*resting, *seams.idle_scopes(transports.values())]

    def _due(self, session: Open) -> None:
        if session.busy:
            self._expiry.start(session)
        else:
            log.debug("downstream.session.idle", session=session.session_id[:8])
            self.end(session)

    # -- rising --------------------------------------------------------------------------------------------------------

    def opened(self, connection: Connection, owner: str) -> None:
        """The SDK has opened a session; the lane serves it until it closes."""
        session_id = connection.session_id
        if session_id is None:
            return
        if session_id in self._resting:
            self._rising[session_id] = connection
        else:
            session = self._all[session_id.encode()] = Open(session_id, owner, self._on_due)
            session.connection = connection
        connection.exit_stack.callback(self._gone, session_id)

    def risen(self, session: Open) -> bool:
        """Whether the SDK has opened a session under the id of a resting one; then that rests no more."""
        connection = self._rising.pop(session.session_id, None)
        if connection is None or self._resting.pop(session.session_id, None) is None:
            return False
        self._expiry.stop(session)
        session.rise(connection)
        return True

    def _gone(self, session_id: str) -> None:
        if session_id not in self._resting:  # otherwise it is one that could not be woken
            self.unlist(session_id)
            self._all.pop(session_id.encode(), None)

    # -- events --------------------------------------------------------------------------------------------------------

    def store_of(self, session: Open) -> EventStore | None:
        """Where the events of a session are kept: the same before and after it has been woken."""
        if session.store is None:
            transport = None if session.connection is None else self.transports().get(session.session_id)
            session.store = (
                seams.scoped_events(self.events, session.session_id)
                if transport is None
                else seams.events_of(transport)
            )
        return session.store

    def history(self, session: Open, request: object) -> History | None:
        """Where the events of a stream of its are kept; None if they are not, because nobody could ask for them."""
        store = self.store_of(session) if session.version >= SINCE else None
        if store is None:
            return None
        return History(store, lambda: self.transports().get(session.session_id), request)


class Resting:
    """A resting session as one that can make room."""

    __slots__ = ("_session", "_sessions", "deadline")

    def __init__(self, sessions: Sessions, session: Open) -> None:
        self._sessions = sessions
        self._session = session
        self.deadline = session.used + sessions.seconds

    def cancel(self) -> None:
        """End it."""
        self._sessions.end(self._session)
