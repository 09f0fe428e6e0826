"""Event streams over HTTP that outlive their connection: answers that are resumed, and the stream for all else."""

import random
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import anyio
import structlog

from proxy.errors import AuthRequired, Lost, ProtocolFault, Rejected, SessionGone, UpstreamError
from proxy.service.backoff import BackoffPolicy, full_jitter
from proxy.upstream.client import EVENTS, HttpClient
from proxy.upstream.events import Events
from proxy.upstream.http_connection import Broken
from proxy.upstream.http_errors import HttpFailed, HttpFault, HttpRejected, lost
from proxy.upstream.http_response import Response
from proxy.upstream.share import Turns
from proxy.wire.envelope import Malformed, Message
from proxy.wire.lines import Oversized

Take = Callable[[Message | Malformed | Oversized], Awaitable[Message | None]]
"""Takes one message; returns it if it is the answer that is waited for."""

_MAX_RESUMES: Final = 5
"""Attempts in a row to resume an answer without getting one event further."""
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 30.0
_SHORTEST_WAIT: Final = 0.05
SILENCE: Final = 1.0
"""Seconds in which nothing comes on an answer's stream that was resumed, after which it is resumed once more; each time
twice as many, for the server may just have nothing to say.

Servers on the Python SDK lose what they have to say in the moment in which they take up a stream again: it is kept, but
only given to who asks for it, and for more than came after the event with which they take it up.
"""
_RECONNECT: Final = BackoffPolicy(base=_FIRST_WAIT, cap=_LONGEST_WAIT)

log = structlog.get_logger(__name__)


class Stream:
    """A stream of events, over as many connections as it takes."""

    def __init__(self, client: HttpClient, take: Take) -> None:
        self._client = client
        self._take = take
        self.last_id = ""
        """The id to resume after; empty while the server gave none."""
        self._mark = ""
        """The id after which all is still to come: that of the last message, or else the first one."""
        self._silent = False
        self.retry: float | None = None
        """How long the server wants us to wait before resuming, in seconds, if it said so."""
        self.advanced = False
        """Whether the last connection brought anything."""
        self.patience: float | None = None
        """Seconds of silence that count as the end of a connection; None for any."""
        self.broken: Exception | None = None
        """How the last connection broke; None when it ended properly."""

    async def read(self, response: Response) -> Message | None:
        """Read one connection until the answer comes (the response is left open) or until its end (it is closed)."""
        events = Events(response, self._client.max_message, self._client.large, self.patience)
        self.broken, self.advanced = None, False
        try:
            answer = await self._until_answer(events)
        except BaseException:
            response.close()
            raise
        if answer is None:
            response.close()
            self._silent = events.silent
            self.advanced = self.advanced or events.silent  # that it has nothing to say yet is no failure
            self.last_id = events.last_id or self.last_id
            self._mark = events.mark or self._mark or self.last_id
            self.retry = events.retry if events.retry is not None else self.retry
        return answer

    async def reopen(self) -> Response:
        """Connect by GET, to go on after the last event if there was one with an id.

        Raises:
            UpstreamError: refused, unreachable, or no event stream.
        """
        response = await self._client.get(self._mark if self._silent else self.last_id)
        if response.status == HTTPStatus.BAD_REQUEST and self._silent and self._mark != self.last_id:
            response.close()  # that is too long ago for it
            response = await self._client.get(self.last_id)
        if response.status != HTTPStatus.OK:
            raise await self._client.refusal(response)
        if (kind := response.kind) != EVENTS:
            response.close()
            raise ProtocolFault(f"a GET was answered with {kind or 'no type'}", upstream=self._client.upstream)
        return response

    async def _until_answer(self, events: Events) -> Message | None:
        turns = Turns(self._client.share)
        while True:
            try:
                messages = await events.messages()
            except Broken as error:
                self.broken = error
                return None
            if messages is None:
                return None
            self.advanced = True
            turns.begin(events.since)
            for message in messages:
                if (answer := await self._take(message)) is not None:
                    return answer
                await turns.pause()  # a flood is read without waiting; others want to run, too


async def answer_in_stream(
    client: HttpClient, response: Response, take: Take, *, resumable: bool
) -> tuple[Message, Response]:
    """Read the event stream that answers a POST, on new connections if need be.

    Returns the answer, and the response that still has to be finished.

    Raises:
        Lost: the stream ended without the answer and cannot be resumed.
        UpstreamError: what ``take`` raises.
    """
    stream = Stream(client, take)
    failures = 0
    while (answer := await stream.read(response)) is None:
        failures = 0 if stream.advanced else failures + 1
        if not resumable or not stream.last_id or failures > _MAX_RESUMES:
            raise _broken_off(client, stream)
        log.debug("link.answer.resuming", upstream=client.upstream, failures=failures)
        await anyio.sleep(_wait(stream, failures))
        stream.patience = SILENCE if stream.patience is None else min(_LONGEST_WAIT, 2 * stream.patience)
        response, failures = await _resume(stream, failures)
    return answer, response


async def _resume(stream: Stream, failures: int) -> tuple[Response, int]:
    while True:
        try:
            return await stream.reopen(), failures
        except UpstreamError as error:
            failures += 1
            if failures > _MAX_RESUMES or not _may_pass(error):
                # Whatever the refusal says of itself: the call was sent long ago.
                text = f"the answer broke off and cannot be resumed: {error.message}"
                raise Lost(text, upstream=error.upstream) from error
        await anyio.sleep(_wait(stream, failures))


async def keep_listening(client: HttpClient, take: Take, die: Callable[[str], None]) -> None:
    """Keep the GET stream of a handshake-era server open; give up when the server has none to offer."""
    stream = Stream(client, take)
    failures = 0
    while True:
        try:
            await stream.read(await stream.reopen())
            failures = 0 if stream.advanced else failures + 1
        except SessionGone as error:
            die(error.message)
            return
        except UpstreamError as error:
            if not _may_pass(error):
                level = log.info if isinstance(error, AuthRequired) else log.debug
                level("link.stream.refused", upstream=client.upstream, reason=error.message)
                return
            failures += 1
        await anyio.sleep(_wait(stream, failures))


def _may_pass(error: UpstreamError) -> bool:
    """Whether trying again later makes sense."""
    if isinstance(error, HttpRejected | HttpFault) and error.status == HTTPStatus.CONFLICT:
        return True  # the server has not noticed yet that the connection before is gone
    final = isinstance(error, Rejected | ProtocolFault | AuthRequired | SessionGone)
    return not final and not (isinstance(error, HttpFailed) and error.status == HTTPStatus.NOT_IMPLEMENTED)


def _wait(stream: Stream, failures: int) -> float:
    jitter = full_jitter(failures, _RECONNECT, random.random) if failures else 0.0
    asked = _FIRST_WAIT if stream.retry is None and not failures else stream.retry or 0.0
    return max(_SHORTEST_WAIT, min(_LONGEST_WAIT, max(asked, jitter)))


def _broken_off(client: HttpClient, stream: Stream) -> Lost:
    if stream.broken is not None:
        return lost(stream.broken, client.upstream)
    return Lost("the connection was lost during the call: the stream ended without an answer", upstream=client.upstream)
