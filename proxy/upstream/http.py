"""Streamable HTTP (2025-03-26 and later): each request is a POST, its answer JSON or a stream of events."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import count
from typing import Any, Final

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup

from proxy.config.model import UpstreamConfig
from proxy.credentials.wallet import NOTHING, Held
from proxy.errors import ConnectFailed, Lost, ProtocolFault, SessionGone, UpstreamError
from proxy.model import Backchannel, Era, Params, Reply
from proxy.upstream.answering import Answering
from proxy.upstream.client import EVENTS, HttpClient
from proxy.upstream.http_response import Response
from proxy.upstream.http_stream import Take, answer_in_stream, keep_listening
from proxy.upstream.inbox import Inbox
from proxy.upstream.link import Incoming
from proxy.upstream.pending import CANCELLED, TELL_TIMEOUT, cancellation, reply_of, with_own_token
from proxy.upstream.scope import tasks_of_link
from proxy.upstream.writing import written
from proxy.wire import envelope, large
from proxy.wire.envelope import Message
from proxy.wire.headers import METHOD, SESSION

_OPENING: Final = "initialize"
_LEAVE_TIMEOUT: Final = 1.0
"""Seconds for cancelled calls to end, should one of their back channels hang."""

_ANSWER_AGAIN: Final = (0.1, 1.0, 3.0)
"""Seconds between the attempts to send an answer of ours to a question."""

_NUMBERS: Final = count(secrets.randbelow(2**30))
"""The ids of all requests over HTTP, of whatever session. Servers that keep events by request id alone, for all their
sessions together, replay what has the same id in another session: the answer, or a question, of somebody else."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_http(
    name: str, url: str, config: UpstreamConfig, incoming: Incoming, held: Held = NOTHING
) -> AsyncIterator["HttpLink"]:
    """Be ready to send requests to a URL. Nothing is sent before the first request.

    When the block is left, calls under way are lost and the session, if there is one, is ended.
    """
    async with HttpClient(name, url, config, held) as client, tasks_of_link() as tasks:
        link = HttpLink(client, incoming, tasks)
        try:
            yield link
        finally:
            await link.leave()


class HttpLink:
    """A link over streamable HTTP. ``open_http`` makes one.

    Mutable state: what the client knows of the session, the calls under way, and the reason of death.
    """

    def __init__(self, client: HttpClient, incoming: Incoming, tasks: TaskGroup) -> None:
        self.upstream = client.upstream
        self.log = log.bind(upstream=client.upstream)
        self._client = client
        self._tasks = tasks
        # A cancel scope for each call would cost as much as all the rest here, to be of use once in a link's life.
        self._under_way: dict[int, asyncio.Task[Any]] = {}
        self._cut: set[int] = set()
        answering = Answering(client.upstream, tasks, self._send_answer, client.share)
        self._inbox = Inbox(incoming, tasks, answering, client.upstream, client.max_message)
        self._handshake = True
        self._reason: str | None = None
        self._dead = anyio.Event()

    @property
    def session_id(self) -> str | None:
        """The session which the upstream gave us with its answer to ``initialize``."""
        return self._client.session_id

    @property
    def closed(self) -> str | None:
        """Why the link is dead, or None while it lives. An upstream that cannot be reached now is no reason."""
        return self._reason

    async def wait_closed(self) -> str:
        """Wait until the link is dead and say why."""
        await self._dead.wait()
        return self._reason or ""

    @property
    def attributes(self) -> bool:
        """True: what belongs to a request comes on its response stream."""
        return True

    def agree(self, version: str) -> None:
        """Name this protocol revision in every request from now on."""
        self._client.version = version
        self._handshake = Era.of(version) is Era.HANDSHAKE

    def listen(self) -> None:
        """Open the GET stream, on which the upstream speaks on its own, and keep it open. Call it once."""
        self._tasks.start_soon(keep_listening, self._client, self._inbox.take, self.die)

    async def request(
        self,
        method: str,
        params: Params | None,
        *,
        back: Backchannel | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request and wait for its answer; see ``Link.request``."""
        self._check_open()
        number = next(_NUMBERS)
        if back is not None and back.progress_token is not None:
            self._inbox.backs[number] = back
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio is the only backend that HTTP upstreams run on
        self._under_way[number] = task
        others = task.cancelling()
        try:
            body = written(envelope.request, number, method, with_own_token(params, back, number))
            response = await self._client.post(body, headers)
            return reply_of(await self._answer(response, number, method, back), self.upstream)
        except asyncio.CancelledError:
            if number in self._cut and task.uncancel() <= others:
                text = f"the connection was lost during the call: {self._reason}"
                raise Lost(text, upstream=self.upstream) from None
            if self._reason is None and self._cancels_by_notification(method, headers):
                self._tasks.start_soon(self._tell_cancelled, number)
            raise
        finally:
            del self._under_way[number]
            self._inbox.backs.pop(number, None)

    async def notify(self, method: str, params: Params | None, *, headers: Mapping[str, str] | None = None) -> None:
        """Send a notification; see ``Link.notify``."""
        self._check_open()
        await self._send(written(envelope.notification, method, params), headers)

    def die(self, reason: str) -> None:
        """The link takes no more requests. Those that were sent may still be answered. The first reason holds."""
        if self._reason is None:
            self._reason = reason
            self._dead.set()

    async def leave(self) -> None:
        """Nobody uses the link any more: end the calls under way, then the session if it still exists."""
        alive = self._reason is None
        self.die("Manifold closed it")
        with anyio.CancelScope(shield=True):
            self._cut.update(self._under_way)
            for task in list(self._under_way.values()):
                task.cancel()
            with anyio.move_on_after(_LEAVE_TIMEOUT):
                while self._under_way:  # each leaves as soon as it runs
                    await anyio.lowlevel.checkpoint()
            if alive:
                await self._client.end_session()

    def _check_open(self) -> None:
        if self._reason is not None:
            raise ConnectFailed(f"the connection is gone: {self._reason}", upstream=self.upstream)

    def _cancels_by_notification(self, method: str, headers: Mapping[str, str] | None) -> bool:
        """In the modern era closing the response is enough. A probe is known by its headers: nothing is agreed yet."""
        modern = not self._handshake or (headers is not None and METHOD in headers)
        return method != _OPENING and not modern

    async def _answer(self, response: Response, number: int, method: str, back: Backchannel | None) -> Message:
        """Read the answer to request ``number`` from the response to its POST."""
        try:
            await self._check_status(response)
            if method == _OPENING:
                self._client.session_id = self._session_of(response)

            async def take(item: Any) -> Message | None:
                return await self._inbox.take(item, number, back)

            if response.kind == EVENTS:
                resumable = self._handshake
                answer, response = await answer_in_stream(self._client, response, take, resumable=resumable)
            else:
                answer = await self._answer_in_json(response, take)
        except BaseException:
            response.close()
            raise
        self._finish(response)
        return answer

    def _session_of(self, response: Response) -> str | None:
        session = response.headers.get(SESSION)
        if session is None or (session.isascii() and session.isprintable()):
            return session
        raise ProtocolFault("the session id has characters that no header can carry", upstream=self.upstream)

    async def _answer_in_json(self, response: Response, take: Take) -> Message:
        kind = response.kind
        if not (kind.startswith("application/") and "json" in kind):
            raise ProtocolFault(
                f"the answer has the type {kind or 'none'}, neither JSON nor an event stream", upstream=self.upstream
            )
        items = large.read(await self._client.frame(response))
        for item in items:
            if (answer := await take(item)) is not None:
                return answer
        wrong = next((f": it is no JSON-RPC ({one})" for one in items if isinstance(one, envelope.Malformed)), "")
        raise ProtocolFault(f"the response does not have the answer{wrong}", upstream=self.upstream)

    async def _send_answer(self, frame: bytes) -> None:
        """Send our answer to a question, again where it may not have arrived: a person has given it, and a call waits.

        One that comes twice is like one that comes once: nobody asks any more.
        """
        for wait in _ANSWER_AGAIN:
            try:
                return await self._send(frame)
            except (ConnectFailed, Lost) as error:
                self.log.debug("link.answer.repeated", reason=error.message)
            await anyio.sleep(wait)
        return await self._send(frame)

    async def _send(self, frame: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send what needs no answer: a notification, or our own answer to a question."""
        response = await self._client.post(frame, headers)
        await self._check_status(response, needs_answer=False)
        self._finish(response)

    async def _check_status(self, response: Response, *, needs_answer: bool = True) -> None:
        """Raise what the status of a response means, unless it means that all is well."""
        if response.status == HTTPStatus.OK:
            return
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            error = await self._client.refusal(response)
            if isinstance(error, SessionGone):
                self.die(error.message)
            raise error
        if needs_answer:
            raise ProtocolFault(f"HTTP {response.status} is no answer to a request", upstream=self.upstream)

    def _finish(self, response: Response) -> None:
        """Give the connection back. After an event stream its end mark is usually still on the way: nobody waits."""
        if response.ended:
            response.release()
        elif self._reason is None:
            self._tasks.start_soon(self._client.drain, response)
        else:
            response.close()

    async def _tell_cancelled(self, number: int) -> None:
        with anyio.move_on_after(TELL_TIMEOUT):
            try:
                await self.notify(CANCELLED, cancellation(number))
            except UpstreamError as error:
                self.log.debug("link.cancel.undeliverable", reason=error.message)
