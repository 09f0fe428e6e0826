"""``requestState``: what a modern downstream carries between two rounds of one request, sealed.

The value comes back from the network, so it is attacker-controlled (spec 2026-07-28, multi round-trip requests): it is
encrypted and authenticated, it expires, and it is good only for the caller and the very request it was made for. An
upstream's own state travels inside ours.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState

from proxy.bridge.suspend import TTL, Claim
from proxy.errors import INVALID_PARAMS, Rejected
from proxy.model import Params

_TARGETS: Final = ("name", "uri", "arguments", "ref", "argument")
"""The members of params that make a request the same request; everything else may differ between rounds."""


class State(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed."""

    principal: str
    digest: str
    expires: float
    parked: str | None = None
    """The handle of a parked call."""
    upstream: Any = None
    """The upstream's own state; ``fresh`` marks one that never had any."""
    fresh: bool = False
    exchange: str = ""
    """``Call.exchange`` of the request."""


class Sealer:
    """Seals and opens states. Replicas that share ``keys`` open each other's; without keys, only this process does.

    Args:
        keys: secrets of at least 32 bytes; the first one seals, all of them open.
        now: seconds since the epoch, so that replicas agree.
    """

    def __init__(self, keys: Sequence[str] = (), now: Callable[[], float] = time.time) -> None:
        self._codec = AESGCMRequestStateCodec(list(keys) or [os.urandom(32)])
        self._now = now

    def seal(  # noqa: PLR0913 - each of them is a member of what is sealed
        self,
        claim: Claim,
        *,
        parked: str | None = None,
        upstream: Any = None,
        fresh: bool = False,
        exchange: str = "",
        ttl: float = TTL,
    ) -> str:
        """A token for the downstream, good for ``ttl`` seconds."""
        state = State(claim.principal, claim.digest, self._now() + ttl, parked, upstream, fresh, exchange)
        return self._codec.seal(msgspec.msgpack.encode(state))

    def open(self, token: object, claim: Claim) -> State:
        """What a token holds.

        Raises:
            Rejected: it is not ours, is too old, or belongs to another caller or request. The wire is not told which.
        """
        try:
            state = msgspec.msgpack.decode(self._codec.unseal(str(token)), type=State)
        except (InvalidRequestState, msgspec.MsgspecError, ValueError) as error:
            raise _refusal() from error
        if state.expires < self._now() or (state.principal, state.digest) != (claim.principal, claim.digest):
            raise _refusal()
        return state


def _refusal() -> Rejected:
    return Rejected(INVALID_PARAMS, "Invalid or expired requestState", {"reason": "invalid_request_state"})


def digest_of(method: str, params: Params) -> str:
    """A digest of what a request asks for, equal in all its rounds."""
    essence = [method, *(params.get(member) for member in _TARGETS)]
    return hashlib.sha256(msgspec.json.encode(essence, order="deterministic")).hexdigest()
