"""The express lane of the door on standard input and output: hot requests of both eras, on bytes (``stream_lane.py``).

No line is touched until the SDK has opened the connection: in the handshake era when the client has said that it is
ready, in the modern one with its first request.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from proxy.gateway.admission import enveloped
from proxy.gateway.answerer import HOT, Answerer
from proxy.gateway.downstream import Who
from proxy.gateway.outlet import Outlet, Pipe
from proxy.gateway.remember import Remember
from proxy.gateway.stream_lane import StreamLane
from proxy.model import META_VERSION, MODERN_VERSIONS, Caller, Era
from proxy.runtime import Runtime
from proxy.wire import envelope
from proxy.wire.asked import Asked


class StdioLane(StreamLane):
    """Serves the hot requests of the one downstream.

    Args:
        runtime: the upstreams.
        answerer: knows the answers.
        agent: as which agent the downstream is served.
    """

    def __init__(self, runtime: Runtime, answerer: Answerer, agent: str | None) -> None:
        super().__init__(runtime, answerer, Pipe())
        self._who = Who(agent)
        self._modern = False
        self._known: Callable[[object], bool] = lambda _number: False

    # -- what the SDK's side finds out ---------------------------------------------------------------------------------

    def remembered_by(self, remember: Remember) -> None:
        """Somebody remembers what lists say, and which requests were answered before they came here."""
        self._known = remember.was_answered
        self._answerer.on_listed = remember.listed

    def began(self, caller: Caller) -> None:
        """The downstream has said what it can do: the upstreams are started for it."""
        self._runtime.start(caller)
        self._modern = caller.era is Era.MODERN

    @asynccontextmanager
    async def over(self, outlet: Outlet) -> AsyncIterator[None]:
        """Serve as long as the block runs; what is under way at its end is answered with an error."""
        self.outlet = outlet
        try:
            yield
        finally:
            await self.end()

    # -- lines ---------------------------------------------------------------------------------------------------------

    def take(self, line: bytes) -> bool:
        """Serve a line, or say that it was not touched. Nobody has to look at how deeply it is nested any more."""
        begin = self.look(line if isinstance(line, bytes) else bytes(line), self._who)
        if begin is not None:
            begin()
        return begin is not None

    def take_answer(self, message: envelope.Message) -> bool:
        """Take the answer to a question of this lane, or say that it is to none."""
        begin = self.answered(message)
        if begin is not None:
            begin()
        return begin is not None

    @property
    def _ready(self) -> bool:
        return self._modern or super()._ready

    def _was_answered(self, number: object) -> bool:
        return self._known(number)

    def _caller(self, asked: Asked, who: Who) -> Caller | None:
        if not self._modern:
            return super()._caller(asked, who)
        meta = asked.params.get("_meta")
        version = meta.get(META_VERSION) if isinstance(meta, dict) else None
        fit = asked.method in HOT and version in MODERN_VERSIONS
        return enveloped(meta, who) if fit and isinstance(meta, dict) else None
