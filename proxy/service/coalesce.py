"""Shared flights: identical reads which are asked for at the same time are sent once. Opt-in."""

import asyncio
from collections.abc import Callable

from anyio import CancelScope
from anyio.abc import TaskGroup

from proxy.errors import METHOD_NOT_FOUND, Lost, Rejected
from proxy.model import Backchannel, Call, Json, Params, Reply
from proxy.service.base import Service
from proxy.service.expiry import EXPIRED, is_expiry
from proxy.service.keys import Isolate, Key, by_session, key_of
from proxy.service.notes import noted
from proxy.service.pulse import with_back
from proxy.service.wording import HARMLESS, subject


class Coalesce:
    """Lets calls with the same key share one request.

    The request runs in ``tasks``, so whoever leaves (cancelled, or out of time) leaves alone; when all have left, it
    is cancelled. Only calls for which ``reads`` says so take part, and only without progress of their own. What the
    request says on its backchannel goes to all; what it asks, it asks whoever came first and is still there.
    """

    def __init__(self, tasks: TaskGroup, *, reads: Callable[[Call], bool], isolate: Isolate = by_session) -> None:
        self._tasks = tasks
        self._reads = reads
        self._isolate = isolate
        self._flights: dict[Key, _Flight] = {}

    @property
    def flights(self) -> int:
        """How many requests are under way."""
        return len(self._flights)

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        async def run(call: Call) -> Reply:
            key = self._key(call)
            if key is None:
                return await service(call)
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight(call, lambda: self._flights.pop(key, None))
                self._tasks.start_soon(flight.fly, service, name=f"flight {subject(call)}")
            elif (notes := noted()) is not None:
                notes.attempts, notes.source = 0, "flight"
            return await flight.join(call.back)

        return run

    def _key(self, call: Call) -> Key | None:
        back = call.back
        if not self._reads(call) or (back is not None and back.progress_token is not None):
            return None
        key = key_of(call, self._isolate)
        return None if key is None else (*key, back is None)


class _Flight:
    """One request and all who wait for it. It is its own call's backchannel.

    Mutable state: who waits, in order of arrival; whether it is over (landed, or abandoned).
    """

    progress_token = None

    def __init__(self, call: Call, over: Callable[[], object]) -> None:
        self._call = call if call.back is None else with_back(call, self)
        self._waiting: dict[asyncio.Future[Reply], Backchannel | None] = {}
        self._scope = CancelScope()
        self._over = over
        self._is_over = False

    async def join(self, back: Backchannel | None) -> Reply:
        """Wait for the result."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[future] = back
        reason = None
        try:
            return await future
        except asyncio.CancelledError as error:
            reason = EXPIRED if is_expiry(error) else None
            raise
        finally:
            del self._waiting[future]
            if not (self._waiting or self._is_over):
                self._end()
                self._scope.cancel(reason)

    async def fly(self, service: Service) -> None:
        """Make the request and tell everybody."""
        outcome: Reply | Exception = Lost(
            f"{subject(self._call)} on {self._call.upstream} was cut off: Manifold is closing this connection.",
            upstream=self._call.upstream,
            hint=HARMLESS,
        )
        with self._scope:
            try:
                outcome = await service(self._call)
            except Exception as error:  # noqa: BLE001  whatever it is, it belongs to those who wait
                outcome = error
            finally:
                self._land(outcome)

    def _land(self, outcome: Reply | Exception) -> None:
        if not self._is_over:
            self._end()
        for future in self._waiting:
            if future.done():
                continue
            if isinstance(outcome, Reply):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

    def _end(self) -> None:
        self._is_over = True
        self._over()

    async def notify(self, method: str, params: Params | None) -> None:
        """Deliver a notification to all."""
        for back in tuple(self._waiting.values()):
            if back is not None:
                await back.notify(method, params)

    async def ask(self, method: str, params: Params | None) -> Json:
        """Put a question to the first who is still there."""
        for back in self._waiting.values():
            if back is not None:
                return await back.ask(method, params)
        raise Rejected(METHOD_NOT_FOUND, "Nobody is left to ask.")
