"""Signs of life of a call: its progress, and the questions it puts to the downstream.

Layers that must know about them share one ``Pulse`` per call, which stands before the call's own backchannel.
"""

import math

import msgspec
from msgspec.structs import replace

from proxy.model import Backchannel, Call, Json, Params
from proxy.service.expiry import Limit

PROGRESS = "notifications/progress"


class Pulse(msgspec.Struct, eq=False):
    """A backchannel that lets time limits feel what passes. Progress restarts them; a question stops the time.

    Whoever is asked may be a person who thinks about the answer, which is no fault of the upstream. A call that is
    repeated begins its progress anew, but to the downstream it is one call, whose progress must increase (spec,
    progress): what the first attempt has reported already is not reported again.
    """

    back: Backchannel
    """The call's own."""
    asked: bool = False
    """Whether the upstream has asked anything yet: such a call is neither repeated nor remembered."""
    limits: list[Limit] = []
    _told: float = -math.inf
    _repeated: bool = False

    @property
    def progress_token(self) -> str | int | None:
        """The downstream's own progress token."""
        return self.back.progress_token

    async def notify(self, method: str, params: Params | None) -> None:
        """Pass a notification on."""
        if method == PROGRESS:
            for limit in self.limits:
                limit.touch()
            if not self._advances(params):
                return
        await self.back.notify(method, params)

    def again(self) -> None:
        """The call is being repeated."""
        self._repeated = True

    def _advances(self, params: Params | None) -> bool:
        """Whether progress may be reported: of a first attempt always, of a later one only beyond what was reported."""
        value = (params or {}).get("progress")
        if not isinstance(value, int | float):
            return not self._repeated
        if self._repeated and value <= self._told:
            return False
        self._told = max(self._told, value)
        return True

    async def ask(self, method: str, params: Params | None) -> Json:
        """Pass a question on. Raises Rejected when the downstream says no."""
        self.asked = True
        held = tuple(self.limits)
        for limit in held:
            limit.hold()
        try:
            return await self.back.ask(method, params)
        finally:
            for limit in held:
                limit.resume()


def watched(call: Call) -> tuple[Call, Pulse | None]:
    """The call with a pulse, which is added if no layer further out has done so; None if it has no backchannel."""
    back = call.back
    if back is None or isinstance(back, Pulse):
        return call, back
    pulse = Pulse(back)
    return replace(call, back=pulse), pulse


def with_back(call: Call, back: Backchannel | None) -> Call:
    """The same call with another backchannel."""
    return replace(call, back=back)
