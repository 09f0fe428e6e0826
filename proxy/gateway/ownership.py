"""Whose session it is: a session id in another's hands is that of no session at all.

The SDK binds its sessions, those of legacy SSE too, to the user in the ASGI scope; what stands there is our owner. The
look at the header comes before everything that knows sessions by their id (batches, revisions, the express lane).
"""

from collections.abc import Callable
from typing import Final

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.connection import Connection
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.gateway.downstream import who_in
from proxy.model import owner_of

NOBODYS: Final = b"0" * 32
"""The id of no session: the SDK answers it as it answers every unknown one."""
USERS: Final = 1024
"""Owners whose users are kept."""

_SESSION: Final = b"mcp-session-id"


class Ownership:
    """Knows the owners of sessions, and makes ASGI apps in which only they have them."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._users: dict[str, AuthenticatedUser] = {}

    def opened(self, connection: Connection, owner: str) -> None:
        """A handshake session was opened by somebody."""
        session_id = connection.session_id
        if session_id is not None:
            self._owners[session_id] = owner
            connection.exit_stack.callback(self._owners.pop, session_id, None)

    def note(self, session_id: str, owner: str) -> None:
        """One was opened without the SDK."""
        self._owners[session_id] = owner

    def forget(self, session_id: str) -> None:
        """It has ended."""
        self._owners.pop(session_id, None)

    def fallen(self, stands: Callable[[str], bool]) -> list[str]:
        """The sessions of those who were shut out, given who was not, by the ids of principals.

        Not those of people who never had to show anything: what they began may end, and it is nobody's any more.
        """
        whose = ((session_id, owner.partition(" ")[2]) for session_id, owner in self._owners.items())
        return [session_id for session_id, principal in whose if principal and not stands(principal)]

    def over(self, app: ASGIApp) -> ASGIApp:
        """An app that sees a session id only from its owner."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                owner = owner_of(*who_in(scope))
                if owner:
                    scope = {**scope, "user": self._user(owner)}
                if self._owners and self._foreign(scope, owner):
                    others = [pair for pair in scope["headers"] if pair[0] != _SESSION]
                    scope = {**scope, "headers": [*others, (_SESSION, NOBODYS)]}
            await app(scope, receive, send)

        return serve

    def _foreign(self, scope: Scope, owner: str) -> bool:
        ids = (value.decode("latin-1") for name, value in scope["headers"] if name == _SESSION)
        return any(self._owners.get(one, owner) != owner for one in ids)

    def _user(self, owner: str) -> AuthenticatedUser:
        user = self._users.get(owner)
        if user is None:
            if len(self._users) >= USERS:
                self._users.clear()
            # Without the token itself: nothing behind this door has any use for it.
            user = self._users[owner] = AuthenticatedUser(AccessToken(token="", client_id=owner, scopes=[]))
        return user
