"""What a client without a good credential is told: how to log in (RFC 9728, RFC 6750).

Each door is a protected resource of its own, because clients compare the resource with the URL that they were given.
The documents are the same for agents that there are and agents that there are not.
"""

import re
from typing import Any, Final

import msgspec
from starlette.types import Scope

from proxy.config.model import Config
from proxy.gateway.identity import Refusal

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"

_DOOR: Final = re.compile(r"\A/agents/[A-Za-z0-9_-]{1,64}(?=/)")
_UNAUTHORIZED: Final = 401


class Metadata:
    """Writes the documents and the challenges.

    Args:
        config: what it says under ``auth.oauth``.
        doors: the paths of the MCP doors; the first is the one that a document without a path is about.
    """

    def __init__(self, config: Config, doors: tuple[str, ...]) -> None:
        self._doors = doors
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Go over to another configuration."""
        self._realm = config.server.name.replace("\\", "").replace('"', "").encode("ascii", "replace").decode()
        self._oauth = config.auth.oauth
        issuers = [one.issuer for one in config.auth.jwt]
        required = [scope for one in config.auth.jwt for scope in one.required_scopes]
        self._servers = list(self._oauth.authorization_servers or issuers) if self._oauth is not None else []
        self._scopes = list(dict.fromkeys((self._oauth.scopes if self._oauth is not None else ()) or required))

    def document(self, scope: Scope) -> bytes | None:
        """The document that a request asks for; None if it asks for something else, or nothing was configured."""
        path = scope["path"]
        if self._oauth is None or not path.startswith(WELL_KNOWN) or scope["method"] not in ("GET", "HEAD"):
            return None
        door = path[len(WELL_KNOWN) :] or self._doors[0]
        if not self._is_door(door):
            return None
        document: dict[str, Any] = {
            "resource": self._oauth.url.rstrip("/") + door,
            "authorization_servers": self._servers,
            "bearer_methods_supported": ["header"],
            "resource_name": self._realm,
        }
        if self._scopes:
            document["scopes_supported"] = self._scopes
        return msgspec.json.encode(document)

    def challenge(self, scope: Scope, refusal: Refusal) -> bytes:
        """The value of ``WWW-Authenticate``."""
        parts = [f'realm="{self._realm}"']
        if refusal.error:
            parts += [f'error="{refusal.error}"', f'error_description="{refusal.text}"']
        if wanted := refusal.scope or (" ".join(self._scopes) if refusal.status == _UNAUTHORIZED else ""):
            parts.append(f'scope="{wanted}"')
        if self._oauth is not None:
            door = scope["path"] if self._is_door(scope["path"]) else self._doors[0]
            parts.append(f'resource_metadata="{self._oauth.url.rstrip("/")}{WELL_KNOWN}{door}"')
        return f"Bearer {', '.join(parts)}".encode()

    def _is_door(self, path: str) -> bool:
        return _DOOR.sub("", path, count=1) in self._doors
