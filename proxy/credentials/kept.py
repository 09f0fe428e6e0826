"""The tokens of a login: kept in the vault, where other processes, logins and logouts change them, too."""

import time
from contextlib import ExitStack
from typing import Final

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.abc import TaskGroup

from proxy.config.outbound import AuthConfig
from proxy.credentials.fetch import Fetcher, trust_in
from proxy.credentials.grant import Entry, Grant
from proxy.credentials.source import RECHECK, Renewing
from proxy.credentials.tokens import Denied, refreshed
from proxy.credentials.vault import Sealed, Slot, Vault
from proxy.service.clock import SYSTEM, Clock

log = structlog.get_logger(__name__)

GLANCE: Final = 1.0
"""Seconds between two looks at whether the kept login is still the same."""


def urls_of(auth: AuthConfig, url: str) -> list[str]:
    """The URLs that the operator wrote: the upstream's, and where its tokens come from."""
    return [one for one in (url, auth.issuer, auth.token_url) if one]


class Login(Renewing):
    """The token of somebody's login.

    Args:
        slot: which login.
        auth: what the configuration says of it.
        vault: where it is kept.
        tasks: where renewals run.
        clock: monotonic seconds.
    """

    def __init__(self, slot: Slot, auth: AuthConfig, vault: Vault, tasks: TaskGroup, clock: Clock = SYSTEM) -> None:
        super().__init__(slot.upstream, tasks, clock)
        self.hint = f"Run `{command(slot)}`."
        self._slot = slot
        self._auth = auth
        self._vault = vault
        self._stamp: object = ()
        """Of the login as it was read last; no stamp is like this one."""
        self._looked = clock.now() - GLANCE
        self._reading = anyio.Lock()

    async def look(self, *, closely: bool = False) -> None:
        """Read the kept login if it has changed."""
        if not closely and self.grant is not None and self.clock.now() < self._looked + GLANCE:
            return
        async with self._reading:
            self._looked = self.clock.now()
            stamp = self._vault.stamp(self._slot)
            if stamp != self._stamp:
                entry = await anyio.to_thread.run_sync(self._vault.load, self._slot)
                ended = entry is not None and entry.refused
                self.why = f"its login has ended: {ended}" if ended else "nobody is logged in"
                self.have(self._fit(entry))
                self._stamp = stamp

    def can_renew(self, grant: Grant | None) -> bool:
        """Whether there is a refresh token."""
        return grant is not None and grant.refresh_token is not None

    async def renewed(self) -> None:
        """Wait until the kept login changes. A file tells nobody in a way that works everywhere, so it is asked."""
        before, until = self._vault.stamp(self._slot), self.clock.now() + RECHECK
        while self._vault.stamp(self._slot) == before and self.clock.now() < until:
            await self.clock.sleep(GLANCE)

    async def renew(self, grant: Grant | None) -> Grant:
        """Renew it behind the vault's lock; what another process has got meanwhile is as good. Raises UpstreamError."""
        with ExitStack() as stack:
            await anyio.to_thread.run_sync(stack.enter_context, self._vault.locked(self._slot))
            entry = await anyio.to_thread.run_sync(self._vault.load, self._slot)
            kept = self._fit(entry)
            if entry is None or kept is None:
                raise self.needed("nobody is logged in any more")
            if grant is not None and kept.access_token != grant.access_token and kept.is_usable(time.time()):
                self._stamp = self._vault.stamp(self._slot)
                return kept
            if kept.refresh_token is None:
                raise self.needed("its login has ended")
            return await self._renew(entry, kept)

    async def _renew(self, entry: Entry, kept: Grant) -> Grant:
        fetcher = Fetcher(self.upstream, await trust_in(urls_of(self._auth, self._slot.url)))
        try:
            fresh = await refreshed(fetcher, kept)
        except Denied as error:
            others = {issuer: one for issuer, one in entry.clients.items() if one != kept.client}
            clients = others if error.error == "invalid_client" else entry.clients
            self.why = f"its login has ended: {error.message}"
            gone = msgspec.structs.replace(entry, grant=None, refused=error.message, clients=clients)
            await self._save(gone)
            self.have(None)
            raise
        await self._save(msgspec.structs.replace(entry, grant=fresh, refused=""))
        return fresh

    async def _save(self, entry: Entry) -> None:
        try:
            await anyio.to_thread.run_sync(self._vault.save, self._slot, entry)
        except Sealed as error:
            # This process goes on with what it has; the next one will have to log in.
            log.error("credentials.not_saved", upstream=self.upstream, reason=error.message)  # noqa: TRY400 - it says why
        self._stamp = self._vault.stamp(self._slot)

    def _fit(self, entry: Entry | None) -> Grant | None:
        """The kept grant, unless the configuration names another authorization server by now."""
        grant = entry.grant if entry is not None else None
        asked = self._auth.issuer
        if grant is not None and asked is not None and grant.server.issuer.rstrip("/") != asked.rstrip("/"):
            return None
        return grant


def command(slot: Slot, verb: str = "login") -> str:
    """The command that logs in or out where a slot's login is missing."""
    kind, _, who = slot.whose.partition(" ")
    quoted = f"'{slot.upstream}'" if not slot.upstream.replace("-", "").replace("_", "").isalnum() else slot.upstream
    return f"mcp-manifold {verb} {quoted}" + (f" --{kind} {who}" if who else "")
