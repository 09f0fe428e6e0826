"""The ceiling: a result that is too large goes no further."""

from proxy.errors import ProtocolFault
from proxy.model import Call, Reply
from proxy.service.base import Service
from proxy.service.wording import subject


class Ceiling:
    """Refuses large results. The call has run by then, and the error says so.

    Args:
        limit: bytes that a result may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def retune(self, limit: int) -> None:
        """Use another limit from now on."""
        self._limit = limit

    def __call__(self, service: Service) -> Service:
        """Wrap a service. Raises ProtocolFault."""

        async def run(call: Call) -> Reply:
            reply = await service(call)
            if (size := reply.size) > self._limit:
                what = f"its result of {size} bytes is over the limit of {self._limit}"
                raise ProtocolFault(
                    f"{subject(call)} on {call.upstream}: {what}.",
                    upstream=call.upstream,
                    hint="Ask for less at once; the operator may raise max_result.",
                )
            return reply

        return run
