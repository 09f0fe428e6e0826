"""The sessions of one upstream besides its first: one for each era, circle of sharers and set of client capabilities.

An upstream must be told exactly what a downstream can do, and on the handshake wire it is told once, at the start of a
session. So downstreams with different capabilities cannot share one; those with the same can, unless the configuration
says otherwise (``session: agent`` or ``client``).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from proxy.config.model import EraChoice, Scope, Transport, UpstreamConfig
from proxy.credentials.wallet import EVERYBODY, Wallet
from proxy.errors import ConnectFailed, ProtocolFault, QueueFull, Rejected, UpstreamError
from proxy.model import Caller, Era, Params
from proxy.service.clock import Clock
from proxy.upstream.attempt import Attempt
from proxy.upstream.connect import Way, connected, start_limit
from proxy.upstream.groups import collapsed
from proxy.upstream.incoming import Askers, Heard
from proxy.upstream.negotiate import Offer
from proxy.upstream.session import Session

log = structlog.get_logger(__name__)

TTL: Final = 300.0
"""Seconds after its last call in which an extra session is closed."""
MAX_SESSIONS: Final = 64
"""Extra sessions of one upstream; of more, the one that was idle longest is closed."""

_RELAYED: Final = ("roots", "sampling", "elicitation")
"""Client capabilities which Manifold can carry between the eras and therefore passes on."""


_MODERN: Final = Era.MODERN
_SHARED: Final = Scope.SHARED
# Looked up once: each call asks for them, and a member of an enum is slow to find.


class SessionKey(msgspec.Struct, frozen=True):
    """What a session is for."""

    era: Era
    circle: str | None = None
    """Who shares it: None everybody, otherwise an agent or one downstream."""
    capabilities: str = "{}"
    """The client capabilities, as canonical JSON."""
    whose: str = EVERYBODY
    """Whose credential it is opened with: another one's requests never go through it."""
    spare: int = 0
    """Above 0: one more of the same, because on the others somebody is being asked something, or may be."""


def key_for(caller: Caller, era: Era, scope: Scope, whose: str = EVERYBODY) -> SessionKey:
    """The key of the session that a caller needs, whose requests are sent with somebody's credential."""
    if era is _MODERN:
        return SessionKey(era, whose=whose)  # capabilities ride in each request, and there is no state to share
    if scope is _SHARED:
        return SessionKey(era, None, caller.told, whose)
    circle = None
    if scope is Scope.AGENT:
        circle = f"agent {caller.agent or ''}"
    elif scope is Scope.CLIENT and (caller.session is not None or caller.owner):
        # Where a downstream has no session, it is known by what it has proved.
        circle = f"client {caller.session}" if caller.session is not None else f"owner {caller.owner}"
    return SessionKey(era, circle, caller.told, whose)


def may_change_era(config: UpstreamConfig, era: Era, told: str) -> bool:
    """Whether an upstream of one era may have a session of the other, for who was told of these capabilities."""
    # A pipe needs a second process for the other era: only for who can be asked, where the eras really differ.
    # What was negotiated as handshake has refused the modern era already.
    worth_it = config.type is not Transport.STDIO or told != "{}"
    return era is Era.MODERN and worth_it and config.era is EraChoice.AUTO


def relayed(capabilities: Params) -> dict[str, Any]:
    """Those of a downstream's capabilities that Manifold can really serve to an upstream."""
    return {name: capabilities[name] for name in _RELAYED if isinstance(capabilities.get(name), Mapping)}


def canonical(capabilities: Params) -> str:
    """Capabilities as one text that is equal for equal ones."""
    return json.dumps(relayed(capabilities), sort_keys=True)


@dataclass(eq=False, slots=True)
class _Extra:
    key: SessionKey
    attempt: Attempt = field(default_factory=Attempt)
    session: Session | None = None
    over: anyio.Event = field(default_factory=anyio.Event)
    used: float = 0.0


class SessionPool:
    """Opens extra sessions when they are needed, each owned by a task of its own.

    Args:
        name: the upstream.
        config: how to reach it.
        heard: takes notifications that belong to no call.
        clock: monotonic seconds.
        wallet: what is shown to it.
    """

    def __init__(
        self, name: str, config: UpstreamConfig, heard: Heard, clock: Clock, wallet: Wallet | None = None
    ) -> None:
        self._name = name
        self._config = config
        self._heard = heard
        self._clock = clock
        self._wallet = wallet
        self._extras: dict[SessionKey, _Extra] = {}
        self._tasks: TaskGroup | None = None
        self.askers: Askers = set()
        """What was seen to ask on a pipe: whoever may be asked by it gets one without anybody else's calls."""
        self.refused: set[Era] = set()
        """Eras that the upstream turned out not to speak."""

    def retune(self, config: UpstreamConfig) -> None:
        """Open sessions by another configuration, which needs no other link, from now on."""
        self._config = config

    def __iter__(self) -> Iterator[Session]:
        return (extra.session for extra in tuple(self._extras.values()) if extra.session is not None)

    def __len__(self) -> int:
        return len(self._extras)

    def told(self, capabilities: str) -> list[Session]:
        """The live sessions that were told of exactly these client capabilities."""
        found = (extra for extra in tuple(self._extras.values()) if extra.key.capabilities == capabilities)
        return [extra.session for extra in found if extra.session is not None]

    def open(self, tasks: TaskGroup) -> Callable[[], None]:
        """Sessions may be opened in this task group from now on; the returned function gives them all up.

        Those with calls under way live on in the group until these have their answers.
        """
        self._tasks = tasks

        def close() -> None:
            self._tasks = None
            for extra in self._extras.values():
                extra.attempt.fail(ConnectFailed("its connection was closed", upstream=self._name))
                extra.over.set()
            self._extras.clear()

        return close

    async def session(self, key: SessionKey) -> Session:
        """The session for a key; opened if it is not there.

        Raises:
            UpstreamError: it cannot be opened.
        """
        extra = self._extras.get(key)
        if extra is not None and extra.session is not None and extra.session.link.closed is not None:
            self._drop(extra)
            extra = None
        if extra is None:
            extra = self._start(key)
        extra.used = self._clock.now()
        return await extra.attempt.session()

    def expire(self, session: Session) -> bool:
        """Give up a session, if it is one of these."""
        for extra in tuple(self._extras.values()):
            if extra.session is session:
                self._drop(extra)
                return True
        return False

    def _start(self, key: SessionKey) -> _Extra:
        if self._tasks is None:
            raise ConnectFailed("it is not connected", upstream=self._name)
        if len(self._extras) >= MAX_SESSIONS:
            self._make_room()
        extra = self._extras[key] = _Extra(key, used=self._clock.now())
        self._tasks.start_soon(self._own, extra)
        return extra

    def _make_room(self) -> None:
        idle = [extra for extra in self._extras.values() if extra.session is not None and not extra.session.in_flight]
        if not idle:
            raise QueueFull(f"all of its {MAX_SESSIONS} extra sessions are busy", upstream=self._name)
        self._drop(min(idle, key=lambda extra: extra.used))

    def _drop(self, extra: _Extra) -> None:
        if self._extras.get(extra.key) is extra:
            del self._extras[extra.key]
        extra.over.set()

    async def _own(self, extra: _Extra) -> None:
        choice = EraChoice(extra.key.era.value)
        offer = Offer(choice, told=extra.key.capabilities)
        way = Way(held=self._wallet.held(extra.key.whose)) if self._wallet is not None else Way()
        try:
            with collapsed():
                async with connected(self._name, self._config, self._heard, offer, way=way) as session:
                    with start_limit(self._config):
                        await session.open()
                    extra.session = session
                    extra.attempt.succeed(session)
                    log.debug("upstream.session.opened", upstream=self._name, capabilities=extra.key.capabilities)
                    await self._until_over(extra, session)
                    await session.finish()
        except UpstreamError as error:
            error.upstream = error.upstream or self._name
            if extra.session is None and isinstance(error, Rejected | ProtocolFault):
                self.refused.add(extra.key.era)
            extra.attempt.fail(error)
        except Exception as error:
            # A fault of ours: report it. The other sessions and the upstream itself have nothing to do with it.
            log.exception("upstream.session.fault", upstream=self._name)
            text = f"internal fault: {type(error).__name__}"
            extra.attempt.fail(ConnectFailed(text, upstream=self._name))
        finally:
            self._drop(extra)
            extra.attempt.fail(ConnectFailed("its connection was closed", upstream=self._name))

    async def _until_over(self, extra: _Extra, session: Session) -> None:
        async def watch() -> None:
            await session.link.wait_closed()
            extra.over.set()

        async def age() -> None:
            while session.in_flight or (left := extra.used + TTL - self._clock.now()) > 0:
                await self._clock.sleep(TTL / 10 if session.in_flight else left)
            self._drop(extra)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            tasks.start_soon(age)
            await extra.over.wait()
            tasks.cancel_scope.cancel()
