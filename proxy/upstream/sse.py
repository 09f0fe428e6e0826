"""HTTP+SSE, the transport of 2024-11-05: one GET stream down, POSTs up to the address which its first event names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import urljoin

import anyio
from anyio.abc import TaskGroup
from yarl import URL

from proxy.config.model import UpstreamConfig
from proxy.credentials.wallet import NOTHING, Held
from proxy.errors import ConnectFailed, ProtocolFault, SessionGone, UpstreamError
from proxy.service.courtesy import give_way
from proxy.upstream.client import EVENTS, HttpClient
from proxy.upstream.duplex import DuplexLink
from proxy.upstream.events import Events
from proxy.upstream.http_connection import Broken
from proxy.upstream.http_errors import shown_url
from proxy.upstream.http_response import Response
from proxy.upstream.link import Incoming
from proxy.upstream.scope import tasks_of_link
from proxy.upstream.slices import Turn
from proxy.wire.lines import Oversized
from proxy.wire.sse import Event


@asynccontextmanager
async def open_sse(
    name: str, url: str, config: UpstreamConfig, incoming: Incoming, held: Held = NOTHING
) -> AsyncIterator["SseLink"]:
    """Connect to an event stream and wait for its first event, at most ``start_timeout``.

    Raises:
        UpstreamError: it cannot be reached, refuses, or does not speak this transport.
    """
    async with HttpClient(name, url, config, held) as client, tasks_of_link() as tasks:
        link = SseLink(client, incoming, tasks)
        try:
            with anyio.move_on_after(config.start_timeout) as scope:
                await link.connect()
            if scope.cancelled_caught:
                raise ConnectFailed(
                    f"{client.where} sent no endpoint event within {config.start_timeout:g} s",
                    upstream=name,
                    hint="Is it an MCP server of the HTTP+SSE transport? Newer ones have type http.",
                )
            yield link
        finally:
            link.leave()


class SseLink(DuplexLink):
    """A link over HTTP+SSE. ``open_sse`` makes one."""

    def __init__(self, client: HttpClient, incoming: Incoming, tasks: TaskGroup) -> None:
        super().__init__(client.upstream, incoming, tasks, client.max_message)
        self._client = client
        self._endpoint: URL | None = None
        self._fault: UpstreamError | None = None
        self._connected = anyio.Event()

    async def connect(self) -> None:
        """Open the stream and wait until it names the address to send to.

        Raises:
            UpstreamError: it does not.
        """
        response = await self._client.get()
        if response.status != HTTPStatus.OK:
            raise await self._client.refusal(response)
        if (kind := response.kind) != EVENTS:
            response.close()
            text = f"{self._client.where} answered a GET with {kind or 'no type'}, not an event stream"
            raise ProtocolFault(text, upstream=self.upstream, hint="Check the URL and the type of this upstream.")
        self._tasks.start_soon(self._read, response)
        await self._connected.wait()
        if self._fault is not None:
            raise self._fault
        self._check_open()

    def leave(self) -> None:
        """Nobody uses the link any more: end what is under way."""
        self._end("Manifold closed it")

    async def _ready(self) -> None:
        self._check_open()

    async def _write(self, frame: bytes) -> None:
        response = await self._client.post(frame, url=self._endpoint)
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            await self._client.drain(response)
            return
        error = await self._client.refusal(response, in_session=True)
        if isinstance(error, SessionGone):
            self._end(error.message)
        raise error

    async def _read(self, response: Response) -> None:
        events = Events(response, self._max_message, self._large)
        turn = Turn()
        try:
            while (event := await events.next()) is not None:
                self._take(event)
                self._charge(events.since)
                if turn.over:
                    give_way()
                    await anyio.sleep(self.rest())
            self._end("the server closed the event stream")
        except UpstreamError as error:
            self._fault = error
            self._end(error.message)
        except Broken as error:
            self._end(f"the event stream broke: {error.reason}")
        finally:
            response.close()

    def _take(self, event: Event | Oversized) -> None:
        if isinstance(event, Oversized):
            self._receive_oversized(event)
        elif event.event == "endpoint":
            self._endpoint = self._checked(bytes(event.data).decode(errors="replace").strip())
            self._connected.set()
        elif event.event == "message" and event.data:
            self._receive(event.data)

    def _checked(self, text: str) -> URL:
        """The address to send to. It must be of the same origin: our credentials go there (spec 2024-11-05)."""
        base = self._client.url
        try:
            endpoint = URL(urljoin(str(base), text), encoded=True)
            same = endpoint.origin() == base.origin()
        except ValueError:
            same = False
        if not same:
            shown = shown_url(text)
            raise ProtocolFault(
                f"the server names {shown} to send to, another origin than its own", upstream=self.upstream
            )
        return endpoint

    def _end(self, reason: str) -> None:
        self._die(reason)
        self._connected.set()
