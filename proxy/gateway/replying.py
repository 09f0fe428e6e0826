"""Answers that are complete when they begin leave uvicorn in one write.

ASGI has two messages for a response, and uvicorn writes each at once: two system calls, which cost more than everything
else that it does for an answer. Where it serves by our protocol (``direct.py``), the scope has a way past that
(``WHOLE``). What it keeps of a response is kept as it would keep it; ``tests/unit/gateway/test_replying.py`` fails when
that moves.
"""

import weakref
from collections.abc import Callable
from typing import Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

WHOLE: Final = "manifold.whole"
"""The key of the ASGI scope under which the way past stands."""

DECLINED: Final = "manifold.declined"
"""The key under which it stands that the express lane will not serve a request: it need not look again."""

Whole = Callable[[int, bytes, bytes], bool]
"""Sends status, header lines (each with its line end) and body; False if that is not possible now: then by ASGI."""

_ONE_WRITE: Final = 1 << 16


def answer(cycle: RequestResponseCycle, status: int, head: bytes, body: bytes) -> bool:
    """Send a complete answer to the request of a cycle that has no headers of its own to add; see ``Whole``."""
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    close = b"" if cycle.keep_alive else b"connection: close\r\n"
    lines = b"%bcontent-length: %d\r\n%b%b\r\n" % (STATUS_LINE[status], len(body), head, close)
    if len(body) <= _ONE_WRITE:
        cycle.transport.write(lines + body)
    else:
        cycle.transport.writelines((lines, body))
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def part(cycle: RequestResponseCycle, body: bytes) -> bool:
    """Send some of a response that has begun and whose length nobody knows; False if that is not possible now."""
    if not (cycle.response_started and cycle.chunked_encoding) or cycle.response_complete:
        return False
    if cycle.disconnected or cycle.flow.write_paused or not body:  # to write nothing would be to end it
        return False
    cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
    return True


class Way:
    """The way past for one request. It does not keep it: a circle would be left to the collector for each request."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = weakref.ref(cycle)

    def __call__(self, status: int, head: bytes, body: bytes) -> bool:
        """Send status, header lines and body; see ``Whole``."""
        cycle = self._cycle()
        if cycle is None or not answer(cycle, status, head, body):
            return False
        cycle.message_event.set()
        return True

    def part(self, body: bytes) -> bool:
        """Send some of a response that has begun; see ``part``."""
        cycle = self._cycle()
        return cycle is not None and part(cycle, body)


def way_of(scope: Scope) -> Way | None:
    """The way past of a request, if its server has one."""
    found: Way | None = scope.get(WHOLE)
    return found
