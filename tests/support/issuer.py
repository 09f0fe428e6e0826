"""An authorization server for tests of the doors: OAuth 2.1 with PKCE, registration and refresh; tokens are JWTs.

Whoever asks is let in as the user that ``user`` names, without a page. Its keys can be rotated at any time.
"""

import base64
import hashlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import anyio
import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from proxy.gateway.serving import HttpServer, address, bind

Json = dict[str, Any]


@dataclass
class Issuer:
    """The server. ``user``, ``lifetime`` (seconds), ``told`` and ``claims`` may be changed while it runs."""

    url: str
    user: str = "ann"
    lifetime: float = 3600
    told: float = 3600
    """For how long clients are told that their tokens are good, in seconds."""
    claims: Json = field(default_factory=dict)
    """What goes into every token besides."""
    asked: list[Json] = field(default_factory=list)
    """The forms that came to the token endpoint, and the queries that came to the authorization endpoint."""
    fetched: int = 0
    """How often the keys were fetched."""
    _keys: list[RSAKey] = field(default_factory=list)
    _clients: dict[str, Json] = field(default_factory=dict)
    _codes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _refresh: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rotate()

    def rotate(self, *, keep: int = 0) -> None:
        """Sign with a new key from now on; of the old ones the last ``keep`` stay published."""
        number = secrets.token_hex(4)
        key = RSAKey.generate_key(2048, parameters={"kid": number, "use": "sig", "alg": "RS256"})
        self._keys = [*(self._keys[-keep:] if keep else []), key]

    def token(self, **claims: Any) -> str:
        """A token; a claim that is None is left out."""
        now = time.time()
        every = {"iss": self.url, "sub": self.user, "iat": int(now), "exp": int(now + self.lifetime)}
        every |= {**self.claims, **claims}
        key = self._keys[-1]
        header = {"alg": "RS256", "kid": key.kid, "typ": "at+jwt"}
        return str(jwt.encode(header, {name: one for name, one in every.items() if one is not None}, key))

    # -- endpoints -----------------------------------------------------------------------------------------------------

    async def metadata(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "registration_endpoint": f"{self.url}/register",
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def jwks(self, _request: Request) -> Response:
        self.fetched += 1
        return JSONResponse({"keys": [key.as_dict(private=False) for key in self._keys]})

    async def register(self, request: Request) -> Response:
        client = {**await request.json(), "client_id": secrets.token_hex(8), "token_endpoint_auth_method": "none"}
        self._clients[client["client_id"]] = client
        return JSONResponse(client, status_code=201)

    async def authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        self.asked.append(query)
        client = self._clients.get(query.get("client_id", ""))
        if client is None or query["redirect_uri"] not in client["redirect_uris"]:
            return JSONResponse({"error": "invalid_client"}, status_code=400)
        code = secrets.token_urlsafe()
        self._codes[code] = query
        back = {"code": code, "state": query.get("state", ""), "iss": self.url}
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode(back)}", status_code=302)

    async def exchange(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        self.asked.append(form)
        if form.get("grant_type") == "refresh_token":
            found = self._refresh.pop(form.get("refresh_token", ""), None)
        else:
            found = self._codes.pop(form.get("code", ""), None)
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if found and base64.urlsafe_b64encode(digest).decode().rstrip("=") != found["code_challenge"]:
                found = None
        if found is None:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        return JSONResponse(self._granted(found), headers={"Cache-Control": "no-store"})

    def _granted(self, asked: Mapping[str, str]) -> Json:
        scope = {"scope": asked["scope"]} if asked.get("scope") else {}
        refresh = secrets.token_urlsafe()
        self._refresh[refresh] = asked
        return {
            "access_token": self.token(aud=asked.get("resource"), client_id=asked.get("client_id"), **scope),
            "token_type": "Bearer",
            "expires_in": int(self.told),
            "refresh_token": refresh,
            **scope,
        }

    @property
    def app(self) -> Starlette:
        """All of it."""
        return Starlette(
            routes=[
                Route("/.well-known/oauth-authorization-server", self.metadata),
                Route("/jwks", self.jwks),
                Route("/register", self.register, methods=["POST"]),
                Route("/authorize", self.authorize),
                Route("/token", self.exchange, methods=["POST"]),
            ]
        )


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """Run one until the block is left."""
    sock = bind("127.0.0.1", 0)
    found = Issuer(address(sock))
    server = HttpServer(uvicorn.Config(found.app, lifespan="off", log_config=None, access_log=False, ws="none"))
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: server.serve(sockets=[sock]))
            try:
                yield found
            finally:
                server.stop(now=True)
    finally:
        sock.close()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
