"""The tokens of Manifold as a client of its own (RFC 6749, section 4.4): nobody has to log in. Kept in memory only."""

import msgspec
from anyio.abc import TaskGroup

from proxy.config.outbound import AuthConfig
from proxy.credentials.discover import Found, canonical, discover
from proxy.credentials.fetch import Fetcher, trust_in
from proxy.credentials.grant import Grant, Server
from proxy.credentials.kept import urls_of
from proxy.credentials.source import RECHECK, Renewing
from proxy.credentials.tokens import ask, configured, granted
from proxy.service.clock import SYSTEM, Clock


class OwnClient(Renewing):
    """The token of a client that proves itself with its secret.

    Args:
        upstream: its name.
        url: where it is.
        auth: what the configuration says of the client.
        tasks: where renewals run.
        clock: monotonic seconds.
    """

    hint = "Check client_id, client_secret and scopes in `auth` of this upstream."

    def __init__(self, upstream: str, url: str, auth: AuthConfig, tasks: TaskGroup, clock: Clock = SYSTEM) -> None:
        super().__init__(upstream, tasks, clock)
        self._url = url
        self._auth = auth
        self._found: Found | None = None

    async def look(self, *, closely: bool = False) -> None:
        """Nobody else gets tokens for this process."""

    def can_renew(self, _grant: Grant | None) -> bool:
        """Always."""
        return True

    async def renewed(self) -> None:
        """Wait for a while."""
        await self.clock.sleep(RECHECK)

    async def renew(self, _grant: Grant | None) -> Grant:
        """Ask for a token. Raises UpstreamError."""
        fetcher = Fetcher(self.upstream, await trust_in(urls_of(self._auth, self._url)))
        if self._found is None:
            self._found = await self._look_up(fetcher)
        client = configured(self._auth, self._found.server)
        assert client is not None  # noqa: S101 - the configuration demands one
        fields = {"grant_type": "client_credentials", "resource": self._found.resource}
        if self._found.scopes:
            fields["scope"] = self._found.scopes
        tokens = await ask(fetcher, self._found.server, client, fields)
        grant = granted(tokens, self._found.server, client, resource=self._found.resource)
        return msgspec.structs.replace(grant, refresh_token=None)

    async def _look_up(self, fetcher: Fetcher) -> Found:
        if self._auth.token_url is None:
            return await discover(fetcher, self._auth, self._url)
        server = Server(issuer=self._auth.issuer or self._auth.token_url, token_endpoint=self._auth.token_url)
        return Found(server, self._auth.resource or canonical(self._url), " ".join(self._auth.scopes))
