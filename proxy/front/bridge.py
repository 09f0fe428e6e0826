"""The bridge of ``connect``: lines on standard input and output, streamable HTTP to Manifold.

Messages are sent in the order in which they came; each answer is read in a thread of its own. What passes through is
not re-modelled: an answer in JSON goes out as the bytes that came.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.front.hearing import Hearing
from proxy.front.session import ParamHeaders, missed, modern_version, one_line, request
from proxy.front.start import Unavailable
from proxy.front.threads import Threads
from proxy.front.uplink import Uplink
from proxy.front.wire import Exchange, Lost, NotSent
from proxy.front.wording import answer_of, failure, say, words_of

LINGER: Final = 5.0
"""Seconds for answers that are still on their way when standard input is closed."""
RESUMES: Final = 3
"""How often an answer whose stream broke is asked for again before it is given up."""
RESENDS: Final = 3
"""How often one request is sent again at most."""

_INITIALIZE: Final = "initialize"
_INITIALIZED: Final = "notifications/initialized"
_CANCELLED: Final = "notifications/cancelled"
_LISTEN: Final = "subscriptions/listen"
_ONCE: Final = ("tools/call", "tasks/")
"""Requests that must not be sent twice, by what they start with."""
_ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
_NOT_FOUND, _BAD_REQUEST = 404, 400
_HEADER_MISMATCH: Final = b"-32020"


@dataclass(eq=False)
class Ask:
    """A request of the client that is not answered yet."""

    id: Any
    method: str
    params: Any
    line: bytes
    version: str | None
    """Its revision, in the modern era; None in the handshake era."""
    exchange: Exchange | None = None
    generation: int = 0
    resent: int = 0
    """How often it was sent again."""

    @property
    def once(self) -> bool:
        """Whether sending it twice may do harm."""
        return self.method.startswith(_ONCE)


class Bridge:
    """One client on one side, one Manifold on the other.

    Args:
        uplink: Manifold.
        write: puts bytes on standard output.
    """

    def __init__(self, uplink: Uplink, write: Callable[[bytes], None]) -> None:
        self._uplink = uplink
        self._write_bytes = write
        self._writing = threading.Lock()
        self._threads = Threads()
        self._params = ParamHeaders()
        self._hearing = Hearing(uplink, self._threads, self._write)
        self._asks: dict[Any, Ask] = {}
        self._answered = threading.Condition()
        uplink.on_reopened = self._reopened

    def run(self, lines: Iterable[bytes]) -> None:
        """Carry messages until the client closes its end, and wait a moment for the last answers."""
        for line in lines:
            if line.strip():
                self._take(one_line(line))
        with self._answered:
            self._answered.wait_for(lambda: all(ask.method == _LISTEN for ask in self._asks.values()), LINGER)

    # -- from the client -----------------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            self._write(failure(None, f"this line is not JSON: {error}", -32700))
            return
        if not isinstance(message, dict):
            self._write(failure(None, "one message a line: batches are not carried", -32600))
        elif "method" in message and "id" in message:
            self._request(
                Ask(message["id"], str(message["method"]), message.get("params"), line, modern_version(message))
            )
        else:
            self._tell(message, line)

    def _request(self, ask: Ask) -> None:
        if ask.method == _INITIALIZE:
            self._uplink.session.hello = None  # a new one, should there have been one
        with self._answered:
            self._asks[ask.id] = ask
        if self._sent(ask):
            if ask.method == _INITIALIZE:
                self._follow(ask)  # nothing else may be sent before it is answered
            else:
                self._threads.start(lambda: self._follow(ask))

    def _tell(self, message: Mapping[str, Any], line: bytes) -> None:
        """A notification, or the answer to a question of Manifold's."""
        method = message.get("method")
        params = message.get("params")
        ask = self._asks.get(params.get("requestId")) if method == _CANCELLED and isinstance(params, dict) else None
        if ask is not None and ask.version is not None:
            self._forget(ask)  # in the modern era a closed response is the cancellation
            if ask.exchange is not None:
                ask.exchange.close()
            return
        try:
            exchange, _ = self._uplink.send(line, lambda: self._uplink.session.headers)
        except Unavailable as error:
            say(f"{method or 'an answer'} was not delivered: {error}")
            return
        if method == _INITIALIZED:
            self._uplink.session.ready = True
            _received(exchange)
            self._hearing.begin()
        else:
            self._threads.start(lambda: _received(exchange))

    def _sent(self, ask: Ask) -> bool:
        """Send a request; if that cannot be done the client is told."""
        try:
            ask.exchange, ask.generation = self._uplink.send(ask.line, lambda: self._headers(ask))
        except Unavailable as error:
            say(str(error))
            self._answer(ask, failure(ask.id, f"{error} The request was not sent."))
            return False
        return True

    def _headers(self, ask: Ask) -> Mapping[str, str]:
        if ask.version is not None:
            return self._params.headers(ask.version, ask.method, ask.params)
        return {} if ask.method == _INITIALIZE else self._uplink.session.headers

    # -- from Manifold -------------------------------------------------------------------------------------------------

    def _follow(self, ask: Ask) -> None:
        """Carry the answer to a request, and what comes before it; ask again where that does no harm."""
        while True:
            try:
                if self._carried(ask):
                    return
            except Lost as error:
                if ask.exchange is None or ask.exchange.closed:
                    return
                if ask.once or ask.resent >= RESENDS:
                    words = f"The connection to Manifold was lost ({error}); {ask.method} may have been executed."
                    self._answer(ask, failure(ask.id, words))
                    return
            ask.resent += 1
            if not self._sent(ask):
                return

    def _carried(self, ask: Ask) -> bool:
        """Carry one answer; returns False if the request was refused for a reason that is gone now.

        Raises:
            Lost: there is no answer.
        """
        assert ask.exchange is not None  # noqa: S101 - it was sent
        exchange = ask.exchange
        response = exchange.begin()
        if exchange.streams:
            self._stream(ask, exchange)
            return True
        body = one_line(exchange.body())
        if self._is_gone(ask, response.status):
            try:
                self._uplink.recover(ask.generation)  # a Manifold that does not know the session did not serve it
            except Unavailable as error:
                self._answer(ask, failure(ask.id, f"{error} The request was not sent."))
                return True
            return False
        if response.status == _BAD_REQUEST and _HEADER_MISMATCH in body and not ask.resent and self._listed(ask):
            return False
        self._answer(ask, answer_of(ask.id, ask.method, response.status, body))
        return True

    @staticmethod
    def _is_gone(ask: Ask, status: int) -> bool:
        """Whether Manifold does not know the session any more."""
        fresh = ask.method == _INITIALIZE or ask.version is not None
        return status == _NOT_FOUND and not fresh and ask.resent < RESENDS

    def _stream(self, ask: Ask, exchange: Exchange) -> None:
        last = ""
        acknowledged = ask.resent > 0
        for attempt in range(RESUMES + 1):
            wait = 0
            for event in exchange.events():
                last, wait = event.id or last, wait if event.retry is None else event.retry
                if not event.data:
                    continue
                message = json.loads(event.data)
                if message.get("id") == ask.id and "method" not in message:
                    self._answer(ask, one_line(event.data))
                    exchange.drain()
                    return
                if acknowledged and message.get("method") == _ACKNOWLEDGED:
                    acknowledged = False  # the client has seen one, but may have missed any change since
                    for frame in missed(message):
                        self._write(frame)
                    continue
                self._write(one_line(event.data))
            if exchange.closed or not last or attempt == RESUMES or self._uplink.wait(wait / 1000):
                break
            try:
                ask.exchange = exchange = self._uplink.listen(last)
                if not exchange.streams:
                    break
            except NotSent:
                break
        raise Lost("its stream ended without an answer")

    def _listed(self, ask: Ask) -> bool:
        """Learn which arguments belong into headers, for a client that has not asked for the list itself."""
        if ask.method != "tools/call" or ask.version is None:
            return False
        version, params = ask.version, {"_meta": {**ask.params["_meta"]}}
        try:
            listing = request("front-list", "tools/list", params)
            exchange, _ = self._uplink.send(listing, lambda: self._params.headers(version, "tools/list", params))
            self._params.learn(exchange.body())
        except (Unavailable, Lost):
            return False
        return True

    def _answer(self, ask: Ask, frame: bytes) -> None:
        if ask.method == _INITIALIZE:
            self._opened(ask, frame)
        elif ask.method == "tools/list" and ask.version is not None:
            self._params.learn(frame)
        elif b'"error"' not in frame[:200]:
            self._uplink.session.note(ask.method, ask.params)
        if self._forget(ask):
            self._write(frame)

    def _opened(self, ask: Ask, frame: bytes) -> None:
        result = json.loads(frame).get("result")
        if isinstance(result, dict) and ask.exchange is not None and ask.exchange.response is not None:
            self._uplink.session.hello = ask.params
            self._uplink.session.opened(result, ask.exchange.response.headers.get("Mcp-Session-Id"))

    def _forget(self, ask: Ask) -> bool:
        """The request is over; returns False if it was already."""
        with self._answered:
            there = self._asks.get(ask.id) is ask
            if there:
                del self._asks[ask.id]
            self._answered.notify_all()
        return there

    def _reopened(self) -> None:
        """Manifold was restarted, and the session is open again."""
        if self._uplink.session.ready:
            self._hearing.begin()
            for frame in self._uplink.session.changed():
                self._write(frame)

    def _write(self, frame: bytes) -> None:
        with self._writing:
            self._write_bytes(frame + b"\n")


def _received(exchange: Exchange) -> None:
    """Take note that a message arrived which has no answer."""
    try:
        status = exchange.begin().status
        body = exchange.body()
    except Lost as error:
        say(f"a message may not have been delivered: {error}")
        return
    if status >= _BAD_REQUEST:
        say(f"Manifold refused a message: HTTP {status} {words_of(body)}")
