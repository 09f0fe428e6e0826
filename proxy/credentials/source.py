"""A credential source: whoever sends a request asks it for the current Authorization header, each time.

Theory of operation. A token is renewed in one flight that everybody shares: in this process by ``Renewing``, between
processes by the vault's lock, behind which the kept login is read again before it is renewed. It is renewed ahead of
its end in the background, at its end by whoever needs it, and when an upstream refuses it (HTTP 401: not executed).
The flight is a task of its own and cannot be cancelled: with rotation, half a renewal would cost the login. What fails
is not tried again at once. Only the authorization server's own word ends a login; silence and faults do not.
"""

import random
import time
from abc import ABC, abstractmethod
from typing import Final, Protocol

import anyio
import structlog
from anyio.abc import TaskGroup

from proxy.credentials.grant import Grant
from proxy.credentials.tokens import Denied
from proxy.errors import AuthRequired, ConnectFailed, TokenUnavailable, UpstreamError
from proxy.masking import learn
from proxy.service.backoff import BackoffPolicy, full_jitter
from proxy.service.clock import SYSTEM, Clock

log = structlog.get_logger(__name__)

BACKOFF: Final = BackoffPolicy(base=1.0, cap=60.0)
RECHECK: Final = 300.0
"""Seconds after which another attempt is made where somebody would have to log in: it may have been put right there."""
YOUNG: Final = 5.0
"""Seconds in which a token that was refused and never worked is not replaced: another one would be refused, too."""


class Source(Protocol):
    """Where the Authorization header of one upstream and one owner comes from."""

    hint: str
    """What to do when it has none, or when the upstream does not take it."""

    async def header(self) -> str:
        """The header's value for a request that is sent now.

        Raises:
            AuthRequired: somebody has to log in.
            Unavailable: it cannot be had now.
        """
        ...

    @property
    def current(self) -> str | None:
        """The last one given, without any effort; None if there is none."""
        ...

    async def refused(self, header: str) -> bool:
        """The upstream does not take a header (HTTP 401). Returns whether it is worth another try. Raises as above."""
        ...

    def accepted(self, header: str) -> None:
        """The upstream takes a header."""
        ...

    async def renewed(self) -> None:
        """Wait until there may be another one, after somebody had to log in."""
        ...


class LoginRequired(AuthRequired):
    """Nobody is logged in, or not any more."""


class Fixed:
    """A token from the configuration."""

    hint = "Renew the token of this upstream in the configuration."

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    async def header(self) -> str:
        """The same each time."""
        return self._header

    @property
    def current(self) -> str | None:
        """The same."""
        return self._header

    async def refused(self, _header: str) -> bool:
        """There is no other."""
        return False

    def accepted(self, _header: str) -> None:
        """As expected."""

    async def renewed(self) -> None:
        """Never: another token is another configuration."""
        await anyio.sleep_forever()


class _Flight:
    """One renewal and how it ended."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.error: UpstreamError | None = None


class Renewing(ABC):
    """A token that ends and is renewed.

    Args:
        upstream: in whose name; errors say it.
        tasks: where renewals run.
        clock: monotonic seconds, for pauses. Tokens end by the wall clock.
    """

    hint = ""

    def __init__(self, upstream: str, tasks: TaskGroup, clock: Clock = SYSTEM) -> None:
        self.upstream = upstream
        self.clock = clock
        self.grant: Grant | None = None
        self.proven = False
        """Whether the upstream has ever taken the current token."""
        self.why = "nobody is logged in"
        """Why there is no token, where there is none."""
        self._tasks = tasks
        self._flight: _Flight | None = None
        self._failure: UpstreamError | None = None
        self._failures = 0
        self._resting_until = clock.now()

    async def header(self) -> str:
        """The header's value for a request that is sent now; see ``Source``."""
        await self.look()
        grant, now = self.grant, time.time()
        if grant is not None and grant.is_usable(now):
            if grant.is_due(now) and self.can_renew(grant) and self._rested():
                self._begin()
            return grant.header
        return await self._renewal()

    @property
    def current(self) -> str | None:
        """The header of the token at hand, whatever has become of it."""
        return self.grant.header if self.grant is not None else None

    async def refused(self, header: str) -> bool:
        """An upstream does not take a header; see ``Source``."""
        await self.look(closely=True)
        grant = self.grant
        if grant is not None and grant.header != header:
            return True  # another one has come since
        if grant is not None and not self.proven and time.time() - grant.obtained_at < YOUNG:
            return False
        await self._renewal()
        return True

    def accepted(self, header: str) -> None:
        """An upstream takes a header."""
        if not self.proven and self.grant is not None and self.grant.header == header:
            self.proven = True

    def have(self, grant: Grant | None) -> None:
        """From now on this is the token."""
        if grant is None or self.grant is None or grant.access_token != self.grant.access_token:
            self.proven = False
        self.grant = grant
        if grant is not None:
            learn(one for one in (grant.access_token, grant.refresh_token, grant.client.client_secret) if one)
        self._failure, self._failures, self._resting_until = None, 0, self.clock.now()

    @abstractmethod
    async def look(self, *, closely: bool = False) -> None:
        """See whether somebody else has got another token meanwhile; ``closely``: even if it was just looked for."""

    @abstractmethod
    def can_renew(self, grant: Grant | None) -> bool:
        """Whether there is something to renew it with."""

    @abstractmethod
    async def renew(self, grant: Grant | None) -> Grant:
        """Get another token. Runs once at a time and to its end. Raises UpstreamError."""

    @abstractmethod
    async def renewed(self) -> None:
        """Wait until there may be another one, after somebody had to log in."""

    def needed(self, why: str) -> LoginRequired:
        """The error for whoever wants a token where somebody has to log in first."""
        return LoginRequired(why, upstream=self.upstream, hint=self.hint)

    def _rested(self) -> bool:
        return self.clock.now() >= self._resting_until

    async def _renewal(self) -> str:
        """Have the token renewed, or join the flight that does it."""
        if self._flight is None and not self.can_renew(self.grant):
            raise self.needed(self.why if self.grant is None else "its login has ended")
        if self._flight is None and not self._rested() and self._failure is not None:
            raise again(self._failure)
        flight = self._flight or self._begin()
        await flight.over.wait()
        if flight.error is not None:
            raise again(flight.error)
        return self.current or ""

    def _begin(self) -> _Flight:
        if self._flight is None:
            self._flight = _Flight()
            self._tasks.start_soon(self._fly, self._flight, name=f"renew the token of {self.upstream}")
        return self._flight

    async def _fly(self, flight: _Flight) -> None:
        with anyio.CancelScope(shield=True):
            try:
                self.have(await self.renew(self.grant))
                log.info("credentials.renewed", upstream=self.upstream)
            except UpstreamError as error:
                flight.error = self._failed(error)
            except Exception as error:
                # A fault of ours must not end the other upstreams, which share the task group.
                log.exception("credentials.fault", upstream=self.upstream)
                flight.error = self._failed(ConnectFailed(f"internal fault: {type(error).__name__}"))
            finally:
                self._flight = None
                flight.over.set()

    def _failed(self, error: UpstreamError) -> UpstreamError:
        if isinstance(error, Denied):
            error = self.needed(error.message)
        elif not isinstance(error, AuthRequired):
            error = TokenUnavailable(error.message, hint=error.hint)  # whatever it was: the call itself was not sent
        error.upstream = self.upstream
        self._failures += 1
        jitter = full_jitter(self._failures, BACKOFF, lambda: 0.5 + random.random() / 2)  # noqa: S311 - no secret
        self._failure, self._resting_until = error, self.clock.now() + jitter
        log.warning("credentials.not_renewed", upstream=self.upstream, reason=error.message, pause=round(jitter, 1))
        return error


def again(error: UpstreamError) -> UpstreamError:
    """The same error for one more who waits: tracebacks grow on shared ones."""
    return type(error)(error.message, upstream=error.upstream, hint=error.hint)
