"""One attempt to reach an upstream, and everybody who waits for how it ends."""

import anyio

from proxy.errors import ConnectFailed, UpstreamError
from proxy.upstream.session import Session


class Attempt:
    """Settled once: by a session, or by the error that everyone who waits is given."""

    def __init__(self) -> None:
        self._settled = anyio.Event()
        self._session: Session | None = None
        self._error: UpstreamError | None = None

    @property
    def settled(self) -> bool:
        """Whether it is known how the attempt ended."""
        return self._settled.is_set()

    def succeed(self, session: Session) -> None:
        """Hand the session to all who wait."""
        self._session = session
        self._settled.set()

    def fail(self, error: UpstreamError) -> None:
        """Hand the error to all who wait; later words are ignored."""
        if not self.settled:
            self._error = error
            self._settled.set()

    async def session(self) -> Session:
        """Wait for the session.

        Raises:
            UpstreamError: the attempt failed. Nothing of the waiting call was sent.
        """
        if not self._settled.is_set():  # waiting for what is there already would cost a turn of the event loop
            await self._settled.wait()
        if self._session is not None:
            return self._session
        raise unavailable(self._error)


def unavailable(error: UpstreamError | None) -> UpstreamError:
    """The error for a call that found no session: a new one each time, because tracebacks grow on shared ones."""
    if error is None:
        return ConnectFailed("it is not connected")
    kind = type(error) if isinstance(error, ConnectFailed) or error.sent.value == "no" else ConnectFailed
    return kind(error.message, upstream=error.upstream, hint=error.hint)
