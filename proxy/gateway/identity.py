"""Who a downstream is: from the ``Authorization`` header of a request to a principal, or to a refusal.

No framework in here, and no await where a credential is known already, so that every lane asks the same. Handles of one
principal (sessions, states, tasks, streams) are worth nothing to another; ``Caller.owner`` is what they are bound to.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from proxy.config.model import Config
from proxy.gateway.issuers import Issuers
from proxy.gateway.tokens import PREFIX, TokenFile
from proxy.model import ANONYMOUS, Principal

log = structlog.get_logger(__name__)

LARGEST: Final = 16 * 1024
"""Bytes of a credential at most."""
KNOWN: Final = 4096
"""Verified tokens that are remembered."""
LOOK: Final = 0.1
"""Seconds between two looks for a first API token, as long as nobody has to present anything."""
REMEMBERED: Final = 60.0
"""Seconds for which a verified token is not verified again: its issuer's keys may be others then."""

_BEARER: Final = b"bearer "
_API: Final = PREFIX.encode()


@dataclass(frozen=True, slots=True)
class Access:
    """A credential that was found good."""

    principal: Principal
    expires: float = math.inf
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served (RFC 6750, 3.1)."""

    status: int
    error: str = ""
    """Empty when no credential was given at all."""
    text: str = ""
    scope: str = ""
    """The scopes that would do."""


NOBODY: Final = Access(ANONYMOUS)
MISSING: Final = Refusal(401, text="this Manifold asks for a credential")
INVALID: Final = Refusal(401, "invalid_token", "the credential is unknown, revoked or expired")
MALFORMED: Final = Refusal(400, "invalid_request", "one Authorization header with one bearer token is taken")
HOMELESS: Final = Refusal(403, "access_denied", "the credential is bound to an agent that does not exist here")


class Identity:
    """Knows every credential.

    Args:
        config: which credentials there are.
        state: the state directory, where API tokens are; None has none.
        now: seconds since the epoch.
    """

    def __init__(self, config: Config, state: Path | None = None, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._tokens = None if state is None else TokenFile(state, now)
        self._asked = False
        self._looked = -math.inf
        self._accesses: dict[str, Access] = {}
        self.changes = 0
        """Counts the times when credentials came or went."""
        self._verified: OrderedDict[bytes, tuple[Access, float]] = OrderedDict()
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Go over to another configuration."""
        self._config = config
        self._asked = self._asked or has_credentials(config)
        self._secrets = _secrets(config)
        self._ids = {one.principal.id for one in self._secrets.values()}
        self.changes += 1
        self.issuers = Issuers(config, self._now)
        self._verified.clear()

    @property
    def asks(self) -> bool:
        """Whether a credential is needed. Once it was, it stays so: the last one that goes opens no door."""
        if not self._asked and not 0 <= self._now() - self._looked < LOOK:
            self._looked = self._now()
            self._asked = self._tokens is not None and self._tokens.exists
        return self._asked

    def recall(self, header: bytes | None) -> Access | Refusal | None:
        """What an ``Authorization`` header says, without waiting; None if that takes ``verify``."""
        if not self.asks and (header is None or not self._made(header)):
            return NOBODY
        if header is None:
            return MISSING
        token = _bearer(header)
        if token is None:
            return MISSING if header[: len(_BEARER)].lower() != _BEARER else INVALID
        found = self._api(token) if token.startswith(_API) else self._held(token)
        if found is None:
            return None if self.issuers.may_know(token) else INVALID
        return self._housed(found)

    async def verify(self, header: bytes) -> Access | Refusal:
        """The same for what has to be verified: signed tokens, whose keys may have to be fetched."""
        token = _bearer(header)
        if token is None:
            return INVALID
        issuers = self.issuers
        found = await issuers.verify(token)
        if found is None or issuers is not self.issuers:
            return INVALID if issuers is self.issuers else await self.verify(header)
        if isinstance(found, tuple):
            return Refusal(403, "insufficient_scope", "the token lacks a scope", " ".join(found))
        access = Access(found.principal, found.expires)
        if not self._now() < access.expires:
            return INVALID
        self._remember(hashlib.sha256(token).digest(), access)
        return self._housed(access)

    def stands(self, principal: str) -> bool:
        """Whether somebody who was let in, by the principal's id, was not shut out since."""
        kind, _, key = principal.partition(":")
        if kind == "token":
            return self._tokens is not None and self._tokens.stands(key)
        if kind == "jwt":
            return self.issuers.stands(key)
        return principal in self._ids if kind else not self.asks

    def expired(self, access: Access) -> bool:
        """Whether the time of a credential is over."""
        return self._now() >= access.expires

    def refresh(self) -> bool:
        """Look whether API tokens came or went."""
        news = self._tokens is not None and self._tokens.refresh()
        if news:
            self._accesses.clear()
            self.changes += 1
        return news

    def _made(self, header: bytes) -> bool:
        """Whether somebody presents an API token that was made since the last look: it must count at once."""
        token = _bearer(header)
        if token is None or not token.startswith(_API):
            return False
        self._looked = -math.inf
        return self.asks

    def _api(self, token: bytes) -> Access | None:
        if self._tokens is None:
            return None
        self.refresh()
        record = self._tokens.find(token)
        if record is None:
            return None
        if record.id not in self._accesses:
            expires = math.inf if record.expires is None else record.expires
            self._accesses[record.id] = Access(record.principal(), expires)
        return self._accesses[record.id]

    def _held(self, token: bytes) -> Access | None:
        # Looked up by its digest: how long that takes says nothing about any token.
        digest = hashlib.sha256(token).digest()
        secret = self._secrets.get(digest)
        if secret is not None:
            return secret
        known = self._verified.get(digest)
        return known[0] if known is not None and self._now() < min(known[1], known[0].expires) else None

    def _housed(self, access: Access) -> Access | Refusal:
        agents = self._config.agents
        return access if all(name in agents for name in access.principal.agents) else HOMELESS

    def _remember(self, digest: bytes, access: Access) -> None:
        self._verified[digest] = (access, self._now() + REMEMBERED)
        self._verified.move_to_end(digest)
        if len(self._verified) > KNOWN:
            self._verified.popitem(last=False)


def has_credentials(config: Config) -> bool:
    """Whether a configuration has any credential for those who come in."""
    return bool(config.auth.tokens or config.auth.jwt or any(agent.tokens for agent in config.agents.values()))


def _bearer(header: bytes) -> bytes | None:
    """The token of a header, if it has one (RFC 6750, 2.1)."""
    if header[: len(_BEARER)].lower() != _BEARER or len(header) > LARGEST:
        return None
    token = header[len(_BEARER) :].strip(b" ")
    return token if token and b" " not in token else None


def _secrets(config: Config) -> Mapping[bytes, Access]:
    found: dict[bytes, Access] = {}
    for secret in config.auth.tokens:
        digest = hashlib.sha256(secret.get_secret_value().encode()).digest()
        found[digest] = _secret(digest, None)
    for name, agent in config.agents.items():
        for secret in agent.tokens:
            digest = hashlib.sha256(secret.get_secret_value().encode()).digest()
            found[digest] = _secret(digest, name)
    return found


def _secret(digest: bytes, agent: str | None) -> Access:
    # A digest of the digest: its start is shown in logs, and must not help to guess the token.
    number = hashlib.sha256(digest + b"principal").hexdigest()[:10]
    name = f"a token of agent {agent}" if agent is not None else "a token of the store"
    return Access(Principal(f"secret:{number}", () if agent is None else (agent,), frozenset(), name))
