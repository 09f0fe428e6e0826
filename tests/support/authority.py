"""An authorization server and an MCP server that demands its tokens, both over real HTTP. A test turns the knobs."""

import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import anyio

from tests.support.link_http import Request, Response, Site, serve

Json = dict[str, Any]


@dataclass
class Token:
    """An access token that is good."""

    who: str
    key: int
    resource: str


@dataclass
class Authority:
    """The authorization server. Whoever comes to its page is ``person`` and agrees at once."""

    person: str = "ada"
    expires_in: float | None = 3600
    rotates: bool = True
    """Whether a refresh token is good only once."""
    fails_with: int | None = None
    """The HTTP status of all token requests."""
    drops: bool = False
    """Whether token requests find the connection broken off."""
    held: anyio.Event | None = None
    """Token requests wait for it."""
    metadata_at: str = "/.well-known/oauth-authorization-server"
    hides: tuple[str, ...] = ()
    """What the metadata leaves out."""
    says: Json = field(default_factory=dict)
    """What the metadata says instead."""
    sends_back: Json = field(default_factory=dict)
    """What the page sends back instead."""
    confirmed: bool = True
    """Whether the person has confirmed a device login."""
    key: int = 1
    """Its signing key; tokens of another one are good no more."""
    tokens: dict[str, Token] = field(default_factory=dict)
    refreshable: dict[str, Token] = field(default_factory=dict)
    asked: list[Json] = field(default_factory=list)
    """The forms that came to the token endpoint."""
    revoked: list[str] = field(default_factory=list)
    clients: dict[str, Json] = field(default_factory=dict)
    site: Site = field(default_factory=Site)
    _codes: dict[str, Json] = field(default_factory=dict)
    _news: anyio.Event = field(default_factory=anyio.Event)

    @property
    def issuer(self) -> str:
        return self.site.url.removesuffix("/mcp")

    def of(self, grant: str) -> list[Json]:
        """The token requests with this grant."""
        return [form for form in self.asked if form["grant_type"] == grant]

    @property
    def refreshes(self) -> int:
        return len(self.of("refresh_token"))

    async def asked_for(self, grant: str, times: int = 1) -> None:
        """Wait until the token endpoint was asked for a grant so many times."""
        with anyio.fail_after(10):
            while len(self.of(grant)) < times:
                self._news = anyio.Event()
                await self._news.wait()

    def rotate_key(self) -> None:
        """From now on tokens signed before are refused."""
        self.key += 1

    def revoke_all(self) -> None:
        """As if the person had taken everything back."""
        self.tokens.clear()
        self.refreshable.clear()

    def takes(self, header: str, resource: str) -> Token | None:
        """The token in an Authorization header, if it is good for a resource."""
        token = self.tokens.get(header.removeprefix("Bearer "))
        return token if token is not None and token.key == self.key and token.resource == resource else None

    async def __call__(self, request: Request, response: Response) -> None:
        path = urlsplit(request.path).path
        if path == self.metadata_at:
            response.json(self._metadata())
        elif path == "/authorize":
            self._authorize(request, response)
        elif path == "/register":
            client = f"client-{len(self.clients) + 1}"
            self.clients[client] = json.loads(request.body)
            response.json({**self.clients[client], "client_id": client}, 201)
        elif path == "/token":
            await self._token(request, response)
        elif path == "/device":
            response.json(
                {
                    "device_code": self._code({"client_id": _form(request)["client_id"]}, _form(request)),
                    "user_code": "WXYZ-1234",
                    "verification_uri": f"{self.issuer}/confirm",
                    "interval": 0.01,
                }
            )
        elif path == "/revoke":
            self.revoked.append(_form(request)["token"])
            response.json({})
        else:
            response.whole(404)

    def _metadata(self) -> Json:
        ends = {"authorization": "authorize", "token": "token", "registration": "register", "revocation": "revoke"}
        found: Json = {
            "issuer": self.issuer,
            **{f"{name}_endpoint": f"{self.issuer}/{end}" for name, end in ends.items()},
            "device_authorization_endpoint": f"{self.issuer}/device",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            **self.says,
        }
        return {name: value for name, value in found.items() if name not in self.hides}

    def _authorize(self, request: Request, response: Response) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
        assert asked["code_challenge_method"] == "S256"
        back = {"code": self._code(asked, asked), "state": asked["state"], "iss": self.issuer, **self.sends_back}
        kept = {name: value for name, value in back.items() if value is not None}
        response.whole(302, Location=f"{asked['redirect_uri']}?{urlencode(kept)}")

    def _code(self, asked: Json, form: Json) -> str:
        code = secrets.token_urlsafe(8)
        self._codes[code] = {**asked, "resource": form.get("resource", "")}
        return code

    async def _token(self, request: Request, response: Response) -> None:
        form = _form(request)
        self.asked.append(form)
        self._news.set()
        if self.held is not None:
            await self.held.wait()
        if self.drops:
            await response.drop()
        elif self.fails_with is not None:
            response.whole(self.fails_with, b"<html>bad gateway</html>", "text/html")
        else:
            error, token = self._granted(request, form)
            response.json({"error": error}, 400) if token is None else response.json(self._issue(token, form))

    def _granted(self, request: Request, form: Json) -> tuple[str, Token | None]:
        grant = form["grant_type"]
        if grant == "client_credentials":
            scheme, _, pair = request.headers.get("authorization", "").partition(" ")
            client = unquote(base64.b64decode(pair).decode()) if scheme == "Basic" else ""
            return "invalid_client", Token("machine", 0, form["resource"]) if client == "robot:se/cret" else None
        if grant == "refresh_token":
            used = form["refresh_token"]
            return "invalid_grant", self.refreshable.pop(used, None) if self.rotates else self.refreshable.get(used)
        if not self.confirmed and "device_code" in form:
            return "authorization_pending", None
        asked = self._codes.pop(form.get("code") or form.get("device_code", ""), None)
        if asked is None or not _proves(form, asked):
            return "invalid_grant", None
        return "", Token(self.person, 0, form.get("resource", ""))

    def _issue(self, token: Token, form: Json) -> Json:
        access, refresh = f"access-{secrets.token_hex(8)}", f"refresh-{secrets.token_hex(8)}"
        self.tokens[access] = Token(token.who, self.key, token.resource)
        issued: Json = {"access_token": access, "token_type": "bearer", "scope": form.get("scope")}
        if self.expires_in is not None:
            issued["expires_in"] = self.expires_in
        if form["grant_type"] != "client_credentials":
            if not self.rotates and form["grant_type"] == "refresh_token":
                refresh = form["refresh_token"]
            self.refreshable[refresh] = token
            issued["refresh_token"] = refresh
        return issued


def _form(request: Request) -> Json:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


def _proves(form: Json, asked: Json) -> bool:
    if "code_challenge" not in asked:
        return True
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    same: bool = base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
    return same and bool(
        form["redirect_uri"] == asked["redirect_uri"]
        and form.get("client_id", asked["client_id"]) == asked["client_id"]
    )


@dataclass
class Guarded:
    """An MCP server that demands tokens. Its tool ``whoami`` tells who calls, ``headers`` what came."""

    authority: Authority
    site: Site = field(default_factory=Site)
    served: int = 0
    """How many tool calls were executed."""
    names: tuple[str, ...] = ()
    """The authorization servers that it names; its own one by default."""
    resource: str = ""
    """What it calls itself; its URL by default."""
    private: bool = False

    @property
    def url(self) -> str:
        return self.site.url

    def config(self, **more: Any) -> Json:
        """The configuration of this server as an upstream."""
        return {"url": self.url, "auth": "oauth", "era": "handshake", **more}

    async def __call__(self, request: Request, response: Response) -> None:
        base = self.url.removesuffix("/mcp")
        path = urlsplit(request.path).path
        if path == "/.well-known/oauth-protected-resource/mcp":
            servers = list(self.names) or [self.authority.issuer]
            response.json(
                {"resource": self.resource or self.url, "authorization_servers": servers, "scopes_supported": ["tools"]}
            )
            return
        token = self.authority.takes(request.headers.get("authorization", ""), self.url)
        if path != "/mcp":
            response.whole(404)
        elif token is None:
            where = f"{base}/.well-known/oauth-protected-resource/mcp"
            response.whole(401, WWW_Authenticate=f'Bearer error="invalid_token", resource_metadata="{where}"')
        elif request.method != "POST":
            response.whole(200 if request.method == "DELETE" else 405)
        else:
            self._answer(request, response, token)

    def _answer(self, request: Request, response: Response, token: Token) -> None:
        match request.rpc:
            case "initialize":
                about = {"name": "guarded", "version": "1"}
                version = request.message["params"]["protocolVersion"]
                response.result({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about})
            case "tools/list":
                shape = {"inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}
                tools = [{"name": name, **shape} for name in ("whoami", "headers")]
                room = {"type": "string", "x-mcp-header": "Room"}
                own = {"name": f"only_{token.who}", "inputSchema": {"type": "object", "properties": {"room": room}}}
                private = {"cacheScope": "private"} if self.private else {}
                response.result({"tools": [*tools, *([own] if self.private else [])], **private})
            case "tools/call":
                self.served += 1
                told = dict(request.headers) if request.message["params"]["name"] == "headers" else {"who": token.who}
                response.result({"content": [], "structuredContent": told})
            case "ping":
                response.result({})
            case _:
                response.whole(202)


@asynccontextmanager
async def guarded(**knobs: Any) -> AsyncIterator[Guarded]:
    """An MCP server and its authorization server, each on a port of its own."""
    authority = Authority(**knobs)
    upstream = Guarded(authority)
    async with serve(authority) as site:
        authority.site = site
        async with serve(upstream) as other:
            upstream.site = other
            yield upstream


async def visit(page: str) -> str:
    """What a browser does with a login page: the URL that it is sent back to."""
    parts = urlsplit(page)
    stream = await anyio.connect_tcp(parts.hostname or "", parts.port or 80)
    async with stream:
        await stream.send(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = (await stream.receive()).decode()
    return next(line for line in head.split("\r\n") if line.startswith("Location: ")).removeprefix("Location: ")
