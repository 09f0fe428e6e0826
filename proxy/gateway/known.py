"""What the head of a request says to the express lane: read once, however often a connection brings the same head."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from proxy.gateway.admission import VERSION, modern_caller
from proxy.gateway.downstream import Who
from proxy.gateway.intake import SESSION
from proxy.model import HANDSHAKE_VERSIONS, Caller, Params, Principal, owner_of

LARGEST: Final = 2048
"""Bytes of what a modern request says of its sender that are remembered."""

_VERSIONS: Final = frozenset(version.encode() for version in HANDSHAKE_VERSIONS)
_MODERN: Final = b"2026"
_LENGTH: Final = b"content-length"
_AUTHORIZATION: Final = b"authorization"


class _Last(NamedTuple):
    said: bytes
    who: Who
    caller: Caller


class Known:
    """The head of a request, for the lane. Only to be read; ``who`` and ``caller`` remember their last answer.

    Args:
        headers: by name.
        agent: the one that the path names.
        legacy: the session of legacy SSE that the address names.
    """

    __slots__ = ("_last", "_who", "agent", "authorization", "headers", "legacy", "modern", "opens", "owner", "session")

    def __init__(self, headers: Mapping[bytes, bytes], agent: str | None = None, legacy: bytes | None = None) -> None:
        version = headers.get(VERSION)
        self.headers = {name: value for name, value in headers.items() if name != _LENGTH}
        """By name, without the length of the body: that is another one each time."""
        self.agent = agent
        self.legacy = legacy
        self.authorization = headers.get(_AUTHORIZATION)
        self.modern = version is not None and version.startswith(_MODERN)
        handshake = version is None or version in _VERSIONS
        self.session = headers.get(SESSION) if handshake else None
        """The session that it is for, if it is of the handshake era, as far as headers say."""
        self.opens = handshake and SESSION not in headers
        """Whether it may open one."""
        self.owner = ""
        """What the handles of its sender are bound to; set by ``who``."""
        self._who: Who | None = None
        self._last: _Last | None = None

    def who(self, agents: str | None, principal: Principal) -> Who:
        """Whom the request is from: the same value as before, as long as that is the same."""
        who = self._who
        if who is None or who.principal is not principal or who.agent != agents:
            who = self._who = Who(agents, principal)
            self.owner = owner_of(agents, principal)
        return who

    def caller(self, method: str, params: Params, who: Who) -> Caller | None:
        """Who asks by the envelope of a modern request, if that is plainly in order (``admission``).

        Clients say the same of themselves each time, and then it means the same again.
        """
        said = msgspec.json.encode((method, params.get("name"), params.get("uri"), params.get("_meta")))
        last = self._last
        if last is not None and last.said == said and last.who is who:
            return last.caller
        caller = modern_caller(self.headers, method, params, who)
        if caller is not None and len(said) <= LARGEST:
            self._last = _Last(said, who, caller)
        return caller
