"""Signs of life of a call: its progress, and the questions it puts to the downstream.

Layers that must know about them share one ``Pulse`` per call, which stands before the call's own backchannel.
"""

from proxy.model import Backchannel, Call, Json, Params
from proxy.service.expiry import Limit

PROGRESS = "notifications/progress"


class Pulse:
    """A backchannel that lets time limits feel what passes. Progress restarts them; a question stops the time.

    Whoever is asked may be a person who thinks about the answer, which is no fault of the upstream.
    """

    __slots__ = ("_back", "asked", "limits")

    def __init__(self, back: Backchannel) -> None:
        self._back = back
        self.asked = False
        """Whether the upstream has asked anything yet: such a call is neither repeated nor remembered."""
        self.limits: list[Limit] = []

    @property
    def progress_token(self) -> str | int | None:
        """The downstream's own progress token."""
        return self._back.progress_token

    async def notify(self, method: str, params: Params | None) -> None:
        """Pass a notification on."""
        if method == PROGRESS:
            for limit in self.limits:
                limit.touch()
        await self._back.notify(method, params)

    async def ask(self, method: str, params: Params | None) -> Json:
        """Pass a question on. Raises Rejected when the downstream says no."""
        self.asked = True
        held = tuple(self.limits)
        for limit in held:
            limit.hold()
        try:
            return await self._back.ask(method, params)
        finally:
            for limit in held:
                limit.resume()


def watched(call: Call) -> tuple[Call, Pulse | None]:
    """The call with a pulse, which is added if no layer further out has done so; None if it has no backchannel."""
    back = call.back
    if back is None:
        return call, None
    if isinstance(back, Pulse):
        return call, back
    pulse = Pulse(back)
    return with_back(call, pulse), pulse


def with_back(call: Call, back: Backchannel | None) -> Call:
    """The same call with another backchannel. Half the cost of ``dataclasses.replace``."""
    return Call(call.upstream, call.method, call.params, call.target, call.caller, back, call.safe, call.headers)
