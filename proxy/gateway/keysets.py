"""FastMCP's verifier of signed tokens, which takes no key set of any size from an issuer, and does not wait for ever.

It reads whatever comes, and other tokens wait for the same key set meanwhile.
"""

from typing import Any

from fastmcp.server.auth.providers.jwt import JWTVerifier

from proxy.credentials.fetch import Fetcher, trust_in
from proxy.errors import ManifoldError

_OK = 200


class BoundedVerifier(JWTVerifier):
    """Fetches key sets as everything else is fetched that somebody else wrote: bounded in size and time."""

    async def _fetch_jwks(self) -> dict[str, Any]:
        url = str(self.jwks_uri)
        try:
            answer = await Fetcher("the issuer of tokens", await trust_in([url])).get(url)
        except ManifoldError as error:
            raise ValueError(error.message) from error
        found = answer.read(dict[str, Any]) if answer.status == _OK else None
        if found is None or not isinstance(found.get("keys"), list):
            raise ValueError(f"no key set came (HTTP {answer.status})")
        return found
