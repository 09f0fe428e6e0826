"""Which session of an upstream a call goes through: the first, or one of its own."""

from typing import Final

import anyio
import structlog
from msgspec.structs import replace

from proxy.config.model import Scope
from proxy.errors import ConnectFailed, Lost, UpstreamError
from proxy.model import Call
from proxy.upstream.pool import SessionKey, SessionPool, key_for, may_change_era
from proxy.upstream.session import Session
from proxy.upstream.standing import Standing

_SHARED: Final = Scope.SHARED
"""Looked up once: each call asks for it, and a member of an enum is slow to find."""

log = structlog.get_logger(__name__)


class Choice:
    """Finds sessions for calls; wakes the supervisor where there is none.

    Args:
        standing: of the upstream; has its first session.
        pool: the others.
    """

    def __init__(self, standing: Standing, pool: SessionPool) -> None:
        self._standing = standing
        self._pool = pool

    def at_hand(self, call: Call) -> Session | None:
        """The first session, if it is there and right for a call."""
        standing = self._standing
        first, caller = standing.session, call.caller
        if first is None or first.link.closed is not None:
            return None
        own, era = standing.first_key, first.era
        # Nearly always it fits plainly, and no key has to be made for that.
        plain = era is caller.era and standing.scope is _SHARED and caller.told == own.capabilities
        if not (plain and standing.whose(caller) == own.whose) and self._key(call, first) != own:
            return None
        return None if first.taken(call, self._pool.askers) else first

    async def session(self, call: Call) -> Session:
        """The session for a call: the first, or one of its own era, circle and capabilities. Raises UpstreamError."""
        first = await self.first()
        key = self._key(call, first)
        while (session := await self._at(key, first)).taken(call, self._pool.askers):
            key = replace(key, spare=key.spare + 1)
        return session

    async def first(self) -> Session:
        """The first session; waits while the upstream is being connected. Raises UpstreamError."""
        standing = self._standing
        if (session := standing.session) is not None:
            if (reason := session.link.closed) is None:
                return session
            standing.expire(reason)
        standing.refuse()
        standing.want()
        seconds = standing.config.timeout
        with anyio.move_on_after(seconds):
            return await standing.attempt.session()
        hint = "Try again shortly; its tools stay listed meanwhile."
        raise ConnectFailed(f"is still starting after {seconds:g} s", upstream=standing.name, hint=hint)

    def give_up(self, session: Session, error: UpstreamError) -> None:
        """A call on a session ended in this error: no other one is sent through it, if that is what it says."""
        over = session.link.closed is not None or not isinstance(error, Lost)  # a broken stream says nothing about it
        if over and not self._pool.expire(session) and session is self._standing.session:
            self._standing.expire(error.message)

    async def _at(self, key: SessionKey, first: Session) -> Session:
        own = self._standing.first_key
        if key == own:
            return first
        try:
            return await self._pool.session(key)
        except UpstreamError as error:
            if key.era is first.era or key.era not in self._pool.refused:
                raise
            # It serves one era only: from now on the bridge joins the other one to it.
            log.info("upstream.one_era", upstream=self._standing.name, era=first.era.value, refused=error.message)
            if key.whose == own.whose:
                return first
            return await self._pool.session(replace(own, whose=key.whose))

    def _key(self, call: Call, first: Session) -> SessionKey:
        caller, standing, era = call.caller, self._standing, first.era
        if caller.era is not era and caller.era not in self._pool.refused:
            era = caller.era if may_change_era(standing.config, era, caller.told) else era
        return key_for(caller, era, standing.scope, standing.whose(caller))
