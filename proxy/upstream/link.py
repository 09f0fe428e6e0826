"""A link: one live connection to an upstream that carries JSON-RPC, whatever the transport.

A link knows ids, correlation, cancellation and which stream a message came on. It knows nothing of eras,
capabilities or catalogs: ``session.py`` does.

Ownership: a link is an async context manager which is entered and left by one task (the upstream's
supervisor), in whose task group its readers run. Everybody else only awaits ``request`` and ``notify``.
"""

from collections.abc import Mapping
from typing import Protocol

from proxy.model import Backchannel, Json, Params, Reply


class Incoming(Protocol):
    """Who hears what an upstream says outside any request of ours (a stdio pipe, the HTTP GET stream)."""

    def notification(self, method: str, params: Params | None) -> None:
        """Take note of a notification. Called in wire order from the reader, so it must neither block nor raise."""
        ...

    def owner(self, method: str) -> Backchannel | None:
        """The back channel of the call that a notification is about, where only that follows from who is there."""
        ...

    async def request(self, method: str, params: Params | None) -> Json:
        """Answer a server-to-client request; runs in a task of its own.

        Raises:
            Rejected: to answer with a JSON-RPC error.
        """
        ...


class Link(Protocol):
    """One live connection. Implementations: ``stdio.StdioLink``, ``http.HttpLink``, ``sse.SseLink``."""

    async def request(
        self,
        method: str,
        params: Params | None,
        *,
        back: Backchannel | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request and wait for its answer.

        Notifications and requests which belong to it go to ``back`` (by the HTTP response stream they came on; on a
        pipe, progress by its token). When ``back.progress_token`` is set, the link puts a token of its own into
        ``_meta`` and maps it back. Cancelling the waiting task tells the upstream: ``notifications/cancelled``
        (never for ``initialize``), and on HTTP also by closing the response stream.

        Raises:
            Rejected: the upstream answered with a JSON-RPC error.
            Lost: the link died after the request may have been written.
            ConnectFailed: nothing was written.
            SessionGone: the upstream no longer knows our session; the request was not executed.
            AuthRequired: HTTP 401 or 403.
            ProtocolFault: the answer breaks the protocol.
        """
        ...

    async def notify(self, method: str, params: Params | None, *, headers: Mapping[str, str] | None = None) -> None:
        """Send a notification. Raises Lost or ConnectFailed when the link is dead."""
        ...

    def agree(self, version: str) -> None:
        """The protocol revision that was negotiated; HTTP links name it in every request from now on."""
        ...

    def listen(self) -> None:
        """Open the stream on which a handshake-era HTTP server speaks on its own; nothing to do on other links."""
        ...

    @property
    def closed(self) -> str | None:
        """Why the link is dead, or None while it lives. Cheap, and true at once when a child has died."""
        ...

    async def wait_closed(self) -> str:
        """Wait until the link is dead and say why."""
        ...

    @property
    def attributes(self) -> bool:
        """Whether server-to-client traffic is tied to a request by its stream (HTTP), or not (a pipe)."""
        ...
