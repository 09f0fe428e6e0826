"""What a session does with what its upstream says outside any request of ours.

On HTTP everything that belongs to a call comes on the call's own stream, and the link delivers it. A pipe has one
stream for everything, so who is meant can only follow from who is there: if all calls in flight are one downstream's,
it is that one; otherwise nobody is guessed at, because a guess could show one person's data to another.
"""

from collections.abc import Callable
from typing import Final

import anyio

from proxy.errors import METHOD_NOT_FOUND, Rejected
from proxy.model import Backchannel, Call, Json, Params

_LOG: Final = "notifications/message"
_CLIENTS_OWN: Final = ("initialize", "server/discover")
_LISTEN: Final = "subscriptions/listen"
_AT_REST: Final = (_LISTEN, "ping", "server/discover")

_MOST_ASKERS: Final = 1024
"""Targets of calls that are remembered to lead to questions; more are not."""

Heard = Callable[[str, Params | None], None]
Askers = set[tuple[str, str]]
"""What was seen to ask something in the middle of a call: its method and target."""


class SessionIncoming:
    """The listener of one session's link.

    Args:
        name: the upstream.
        heard: takes every notification that belongs to no call.
    """

    def __init__(self, name: str, heard: Heard) -> None:
        self._name = name
        self._heard = heard
        self._calls: dict[int, Call] = {}
        self._asked: list[Call] = []
        self._quiet: anyio.Event | None = None
        self.askers: Askers = set()
        """Added to with each question that tells which it is."""

    def begin(self, call: Call) -> None:
        """The call is in flight, until ``end``."""
        self._calls[id(call)] = call

    def end(self, call: Call) -> None:
        """The call is over."""
        self._calls.pop(id(call), None)
        if self._quiet is not None and not self._calls:
            self._quiet.set()

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return len(self._calls)

    @property
    def busy(self) -> bool:
        """Whether the upstream has anything to do for us but listening and signs of life."""
        return any(call.method not in _AT_REST for call in self._calls.values())

    async def quiet(self) -> None:
        """Wait until no call is under way."""
        while self._calls:
            self._quiet = anyio.Event()
            await self._quiet.wait()

    def notification(self, method: str, params: Params | None) -> None:
        """Pass it on, in wire order."""
        self._heard(method, params)

    async def request(self, method: str, params: Params | None) -> Json:
        """Put a question to the one downstream that it can be for.

        Raises:
            Rejected: there is no such downstream, or its own refusal.
        """
        call = self._only_one(method)
        assert call.back is not None  # noqa: S101 - only such calls are considered
        self._asked.append(call)
        try:
            return await call.back.ask(method, params)
        finally:
            self._asked.remove(call)

    def awaits_another(self, call: Call) -> bool:
        """Whether somebody else than this call's downstream is being asked something, or this call or another may ask.

        The latter is known from earlier ones: then the question could not be told to be anybody's.
        """
        who = _who(call)
        others = [other for other in self._with_downstream() if _who(other) != who]
        if any(_who(asked) != who for asked in self._asked):
            return True
        return bool(others) and any((one.method, one.target) in self.askers for one in (call, *others))

    def owner(self, method: str) -> Backchannel | None:
        """Whose a notification is that names no request: the one downstream's that has calls in flight, or nobody's."""
        if method != _LOG:
            return None
        asking = self._with_downstream()
        return asking[-1].back if asking and len({_who(call) for call in asking}) == 1 else None

    def _with_downstream(self) -> list[Call]:
        return [call for call in self._calls.values() if call.back is not None and call.method != _LISTEN]

    def _only_one(self, method: str) -> Call:
        asking = self._with_downstream()
        if method in _CLIENTS_OWN:
            # A program that repeats its input takes this for the answer to our own request, which then says so.
            raise self._refusal(f"{method} came back: a program that repeats what it reads is no MCP server")
        if not asking:
            raise self._refusal(f"{method}: no client is waiting for this server, so there is nobody to ask")
        self._learn({(call.method, call.target) for call in asking})
        if len({_who(call) for call in asking}) > 1:
            raise self._refusal(
                f"{method}: {len(asking)} calls of several clients are in flight on this connection, and the question "
                "does not say which it belongs to. `session: client` gives each client a connection of its own."
            )
        return asking[-1]

    def _learn(self, candidates: Askers) -> None:
        if len(candidates) == 1 and len(self.askers) < _MOST_ASKERS:
            self.askers |= candidates

    def _refusal(self, message: str) -> Rejected:
        return Rejected(METHOD_NOT_FOUND, message, upstream=self._name)


def _who(call: Call) -> object:
    return call.caller.session or id(call)
