"""Whose credential a call is sent with, and what that is: all that is shown to one upstream."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup
from yarl import URL

from proxy.config.model import UpstreamConfig
from proxy.config.outbound import AuthConfig, AuthKind, Credential, Per
from proxy.credentials.grant import Grant
from proxy.credentials.kept import Login
from proxy.credentials.own import OwnClient
from proxy.credentials.source import Fixed, LoginRequired, Renewing, Source
from proxy.credentials.vault import Slot, Vault
from proxy.model import Caller
from proxy.service.clock import SYSTEM, Clock

EVERYBODY: Final = ""
"""Whose credential it is where nobody has one of their own: the operator's."""
_NO_CREDENTIAL: Final = Credential()


@dataclass(frozen=True, slots=True)
class Held:
    """What is shown to an upstream: headers that stay the same, and a source of the one that does not."""

    headers: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None


NOTHING: Final = Held()


class Wallet:
    """The credentials of one upstream. Sources are made when they are needed and shared by all its sessions.

    Args:
        name: the upstream.
        config: how it is reached.
        vault: where logins are kept; None if nowhere.
        tasks: where tokens are renewed.
        clock: monotonic seconds.
    """

    def __init__(
        self, name: str, config: UpstreamConfig, vault: Vault | None, tasks: TaskGroup, clock: Clock = SYSTEM
    ) -> None:
        self._name = name
        self.config = config
        self._vault = vault
        self._tasks = tasks
        self._clock = clock
        self._held: dict[str, Held] = {}
        per = config.auth.per if config.auth is not None else Per.SHARED
        self._per = per
        named = config.credentials
        self.personal = per is not Per.SHARED or bool(named.agents or named.principals)
        """Whether different callers may show different credentials: then they share no session and no result."""

    def whose(self, caller: Caller) -> str:
        """Whose credential a caller's requests are sent with."""
        if not self.personal:
            return EVERYBODY
        principal, named = caller.principal.id, self.config.credentials
        if principal and (principal in named.principals or self._per is Per.PRINCIPAL):
            return f"principal {principal}"
        agents = caller.agent.split("+") if caller.agent else []
        own = next((agent for agent in agents if agent in named.agents), None)
        if own is None and self._per is Per.AGENT and agents:
            own = agents[0]
        return EVERYBODY if own is None else f"agent {own}"

    def held(self, whose: str = EVERYBODY) -> Held:
        """What is shown for an owner."""
        found = self._held.get(whose)
        if found is None:
            found = self._held[whose] = self._make(whose)
        return found

    @property
    def grant(self) -> Grant | None:
        """The operator's token, if it is one that ends and is renewed, and there is one."""
        source = self.held().source
        return source.grant if isinstance(source, Renewing) else None

    def _make(self, whose: str) -> Held:
        own = credential_of(self.config, whose)
        headers = {name: secret.get_secret_value() for name, secret in own.headers.items()}
        proves_itself = any(name.lower() == "authorization" for name in headers)
        auth = own.auth or (None if proves_itself else self.config.auth)
        return Held(headers, None if auth is None else self._source(auth, whose if self._is_own(own) else EVERYBODY))

    def _is_own(self, own: Credential) -> bool:
        return own.auth is not None or self._per is not Per.SHARED

    def _source(self, auth: AuthConfig, whose: str) -> Source:
        if auth.type is AuthKind.BEARER:
            return Fixed(auth.token.get_secret_value() if auth.token is not None else "")
        if auth.type is AuthKind.CLIENT_CREDENTIALS:
            return OwnClient(self._name, address_of(self.config), auth, self._tasks, self._clock)
        if self._vault is None:
            return _Homeless(self._name)
        return Login(slot_of(self._name, self.config, whose), auth, self._vault, self._tasks, self._clock)


def credential_of(config: UpstreamConfig, whose: str) -> Credential:
    """What the configuration has for an owner; nothing for most."""
    kind, _, who = whose.partition(" ")
    named = config.credentials.principals if kind == "principal" else config.credentials.agents
    return named.get(who, _NO_CREDENTIAL) if who else _NO_CREDENTIAL


def auth_of(config: UpstreamConfig, whose: str) -> AuthConfig | None:
    """How an owner proves itself to an upstream."""
    return credential_of(config, whose).auth or config.auth


def address_of(config: UpstreamConfig) -> str:
    """The URL that an upstream is known by; without a user in it."""
    return str(URL(config.endpoints[0], encoded=True).with_user(None))


def slot_of(name: str, config: UpstreamConfig, whose: str = EVERYBODY) -> Slot:
    """Where an owner's login is kept: another URL is another server, and gets no token of the first."""
    return Slot(name, address_of(config), whose)


class _Homeless:
    """Stands for a login where none can be kept."""

    hint = "Give Manifold a state directory, and log in."
    current: str | None = None

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream

    async def header(self) -> str:
        raise LoginRequired("there is no place where logins are kept", upstream=self._upstream, hint=self.hint)

    async def refused(self, _header: str) -> bool:
        return False

    def accepted(self, _header: str) -> None:
        return

    async def renewed(self) -> None:
        await anyio.sleep_forever()
