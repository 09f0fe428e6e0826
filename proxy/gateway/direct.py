"""uvicorn's HTTP protocol, which serves hot requests directly: without most of what it makes for each request.

A request whose head the app is ready to take (``Direct.fit``) is started when its body is there and not when its head
is. So it needs no event to wait for its body, and no ASGI messages: the app gets it as it is. If the app leaves it
alone, uvicorn serves it as any other one, from the very same state. Whatever else comes is uvicorn's from the
beginning. A head that the connection has had before is not even parsed (``repeated.py``).
"""

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.gateway.heads import BoundedHeads
from proxy.gateway.repeated import MOST, Repeated
from proxy.gateway.replying import WHOLE, Way
from proxy.gateway.taken import Direct, Taken
from proxy.gateway.worker import Worker


class HttpProtocol(BoundedHeads):
    """uvicorn's HTTP protocol, with the way past in the scope of each request, and hot ones served directly."""

    direct: Direct | None = None
    _held: Taken | None = None
    """What was taken, as long as its body is not there."""
    _by_parser = True
    """Whether that body comes from the parser."""
    _read: bytes | None = None
    """What is being read, if a request begins with it."""
    _between = True
    """Whether the parser has nothing of the next request."""
    _idle_since: float | None = None
    _worker: Worker | None = None
    """Serves what is taken; mostly the same for all requests of the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connected."""
        super().connection_made(transport)
        plain = not self.access_log and not self.root_path and self.limit_concurrency is None
        plain = plain and not self.config.reset_contextvars
        self.direct = getattr(self.app, "direct", None) if plain else None
        self._repeated: list[Repeated] = []

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._held = None
        if self._worker is not None:
            self._worker.end()
            self._worker = None
        super().connection_lost(exc)
        super()._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Take the body that is waited for, or a request with a head that is known; or feed the parser."""
        if not self._by_parser:
            self._go_on(data)
        elif not (self._repeated and self._between and self._took(data)):
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._read = data if self._between else None
        super().data_received(data)
        self._read = None
        if self._held is not None and self._held.missing > HIGH_WATER_LIMIT:
            held, self._held = self._held, None  # uvicorn sees to it that no more is kept than the app can take
            held.restore()
            self._start_asgi_task(held, self.app)

    def _took(self, data: bytes) -> bool:
        """Take a request whose head is known and begins what was read."""
        if self.direct is None or not (self.cycle is None or self.cycle.response_complete):
            return False
        for head in self._repeated:
            if (found := head.match(data)) is not None:
                break
        else:
            return False
        start, length = found
        if length > self.direct.largest or (length > HIGH_WATER_LIMIT and start + length > len(data)):
            return False
        self._idle_since = None
        complete = start + length == len(data)
        taken = Taken(self, head.scope, head.known, data[start:] if complete else bytearray())
        taken.head, taken.length = head, length
        self.cycle = taken
        if complete:
            taken.more_body = False
            self._start(taken)
            return True
        self._held, self._by_parser = taken, False
        taken.missing = length
        self._go_on(data[start:])
        return True

    def _go_on(self, data: bytes) -> None:
        """Take what is missing of a body. What comes behind it is another request."""
        held = self._held
        if held is None:
            return
        missing = held.missing
        held.body += data[:missing]
        held.missing -= len(data)
        if held.missing <= 0:
            self._held, self._by_parser = None, True
            held.more_body = False
            self._start(held)
        if held.missing < 0:
            self._parse(data[missing:])

    def _start(self, taken: Taken) -> None:
        worker = self._worker
        if worker is None or not worker.take(taken):
            if worker is not None:
                worker.end()
            self._worker = worker = Worker(self.loop, self.app, cast("Direct", self.direct), taken)
            worker.task.add_done_callback(self.tasks.discard)
            self.tasks.add(worker.task)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is complete: perhaps one of a hot request."""
        taken = None if self.direct is None else self._taken(self.direct)
        if taken is None:
            if self.parser.should_upgrade():
                self._repeated = []  # what comes then may not be HTTP
            super().on_headers_complete()
            return
        self._head_came()
        self.headers = []
        self.cycle = self._held = taken

    def _taken(self, direct: Direct) -> Taken | None:
        last, parser = self.cycle, self.parser
        if self.expect_100_continue or self.server_state.default_headers or parser.get_method() != b"POST":
            return None
        if self.pipeline or not (last is None or last.response_complete):
            return None
        scope = self.scope
        scope["method"] = "POST"
        known = direct.fit(self.url, scope)  # type: ignore[arg-type]
        if known is None or parser.get_http_version() != "1.1" or parser.should_upgrade():
            return None
        path, _, query = self.url.partition(b"?")
        scope["path"] = path.decode("ascii")
        scope["raw_path"] = path
        scope["query_string"] = query
        taken = Taken(self, scope, known, bytearray())
        taken.missing = int(dict(scope["headers"]).get(b"content-length", b"0"))
        if not parser.should_keep_alive():
            taken.keep_alive = False
        elif self._read is not None and (head := Repeated.of(self._read, scope, known)) is not None:
            taken.head, taken.length = head, taken.missing
            self._repeated = [head, *self._repeated[: MOST - 1]]
        return taken

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        if self._held is None:
            super().on_body(body)
        else:
            self._body_came()
            self._held.body += body
            self._held.missing -= len(body)

    def on_message_complete(self) -> None:
        """All of it came."""
        self._between = True
        self._read = None
        if self._held is None:
            super().on_message_complete()
        else:
            held, self._held = self._held, None
            held.more_body = False
            self._start(held)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.default_headers:
            cycle.scope[WHOLE] = Way(cycle)  # type: ignore[typeddict-unknown-key]
        super()._start_asgi_task(cycle, app)

    # -- keep-alive: one timer that lives on; uvicorn arms and cancels one for each request ----------------------------

    def on_response_complete(self) -> None:
        """A response went out; another request may be waiting."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if nobody has used it for so long; otherwise look again when that may be."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > _ROUNDED:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()


_ROUNDED: Final = 0.002
"""Seconds by which a timer may ring early: uvloop rounds to milliseconds."""
