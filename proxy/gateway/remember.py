"""Taking over a conversation that the early front has begun, and remembering what to begin the next one with."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec
import structlog
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from proxy.front.early import Opening
from proxy.front.memory import KEPT
from proxy.front.session import modern_version
from proxy.model import Caller, Era

log = structlog.get_logger(__name__)

_CHANGED: Final = {
    "tools/list": "notifications/tools/list_changed",
    "prompts/list": "notifications/prompts/list_changed",
    "resources/list": "notifications/resources/list_changed",
    "resources/templates/list": "notifications/resources/list_changed",
}


class Remember:
    """Sits in a stdio door, hears every message and decides what becomes of an answer."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        given = opening.take()
        self.data = given.data
        """What the early front has read: the door hears it before anything else."""
        self._answered = given.answered
        self._asked: dict[Any, tuple[str, str]] = {}
        self._lists: dict[tuple[str, str], bytes] = {}
        self._version = ""
        self._modern = False
        self._news = anyio.Event()

    def heard(self, message: JSONRPCMessage) -> None:
        """The downstream said something."""
        if not isinstance(message, JSONRPCRequest) or message.method not in KEPT:
            return
        params = message.params or {}
        if message.method == "initialize":
            self._version = str(params.get("protocolVersion"))
        version = modern_version({"params": params})
        self._modern = version is not None
        if params.get("cursor") is None:
            self._asked[message.id] = (version or self._version, message.method)

    def said(self, message: JSONRPCMessage) -> Iterable[JSONRPCMessage]:
        """Manifold says something; returns what the downstream is told."""
        if isinstance(message, JSONRPCResponse):
            self._learn(message)
            if message.id in self._answered:
                return self._corrected(message)
        elif isinstance(message, JSONRPCError):
            self._asked.pop(message.id, None)
            if message.id in self._answered:
                method, _ = self._answered.pop(message.id)
                log.warning("front.answered_too_early", method=method, reason=message.error.message)
                return ()
        return (message,)

    def was_answered(self, number: object) -> bool:
        """Whether the early front has answered a request, whose answer here is not yet known."""
        return number in self._answered

    def listed(self, caller: Caller, method: str, result: bytes) -> None:
        """The downstream was given a list past the SDK; the same object as long as it is the same list."""
        version = caller.version if caller.era is Era.MODERN else self._version
        if self._lists.get((version, method)) is not result:
            self._lists[version, method] = result
            if self._opening.memory.learn(version, method, msgspec.json.decode(result)):
                self._news.set()

    async def run(self) -> None:
        """Keep what is learned, until cancelled."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            try:
                await anyio.to_thread.run_sync(partial(self._opening.save))
            except OSError as error:
                log.warning("front.not_remembered", reason=error.strerror or str(error))

    def _learn(self, message: JSONRPCResponse) -> None:
        version, method = self._asked.pop(message.id, ("", ""))
        if method and self._opening.memory.learn(version, method, message.result):
            self._news.set()

    def _corrected(self, message: JSONRPCResponse) -> Iterable[JSONRPCMessage]:
        """The downstream has this answer already; if it was another, it is asked to look again."""
        method, result = self._answered.pop(message.id)
        if result == message.result or self._modern or method not in _CHANGED:
            return ()
        return (JSONRPCNotification(jsonrpc="2.0", method=_CHANGED[method]),)
