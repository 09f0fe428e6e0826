"""``subscriptions/listen``: the modern era's one stream for changes (spec 2026-07-28, subscriptions)."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
import structlog
from mcp.server.context import ServerRequestContext

from proxy.errors import ManifoldError
from proxy.gateway import seams
from proxy.gateway.events import Audience, Listener, Send
from proxy.gateway.places import Places
from proxy.gateway.subscriptions import Subscriptions
from proxy.gateway.tasks import Tasks
from proxy.model import META_SUBSCRIPTION_ID, Caller, Params
from proxy.runtime import Runtime

log = structlog.get_logger(__name__)

_ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"

_FLAGS: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}
"""What a listen request may ask for, and the notification that it gets."""

MAX_STREAMS: Final = 1024
"""Streams that may be open at once."""
MAX_URIS: Final = 1000
"""Resources that one stream may subscribe to."""


class Listening:
    """Serves listen streams."""

    def __init__(self, runtime: Runtime, audience: Audience, subscriptions: Subscriptions, tasks: Tasks) -> None:
        self._runtime = runtime
        self._tasks = tasks
        self._audience = audience
        self._subscriptions = subscriptions
        self._places = Places(MAX_STREAMS, "listen streams")

    async def serve(self, ctx: ServerRequestContext[Any, Any], caller: Caller, wanted: Mapping[str, Any]) -> None:
        """Acknowledge what can be honoured, deliver exactly that, until the downstream closes the stream."""
        channel = seams.request_channel(ctx)
        stamp = {META_SUBSCRIPTION_ID: ctx.request_id}

        async def send(method: str, params: Params | None) -> None:
            await channel.notify(method, {**(params or {}), "_meta": stamp})

        flags = [flag for flag in _FLAGS if wanted.get(flag) is True]
        async with AsyncExitStack() as stack:
            stack.enter_context(self._places.one())
            honoured: dict[str, Any] = dict.fromkeys(flags, True)
            gate = _Gate(send)
            if uris := await self._subscribe(stack, caller, wanted.get("resourceSubscriptions"), gate):
                honoured["resourceSubscriptions"] = uris
            if wanted.get("taskIds"):
                group = await stack.enter_async_context(anyio.create_task_group())
                honoured["taskIds"] = await self._tasks.follow(group, caller, wanted["taskIds"], gate)
            methods = frozenset(_FLAGS[flag] for flag in flags)
            await stack.enter_async_context(self._audience.listening(Listener(caller.agent, gate, methods)))
            await send(_ACKNOWLEDGED, {"notifications": honoured})
            gate.open()
            await anyio.sleep_forever()

    async def _subscribe(self, stack: AsyncExitStack, caller: Caller, wanted: Any, send: Send) -> list[str]:
        """Subscribe to each resource; those that lead nowhere or are refused are not acknowledged."""
        honoured: list[str] = []
        if isinstance(wanted, list) and wanted:
            await self._runtime.ready(caller.agent)
        for uri in wanted[:MAX_URIS] if isinstance(wanted, list) else ():
            try:
                route = self._runtime.router.seen_by(caller).resource(uri)
                made = await self._subscriptions.add(route, lambda: self._runtime.router.seen_by(caller), send)
            except (ManifoldError, TypeError) as error:
                log.info("downstream.listen.refused", uri=str(uri)[:200], reason=str(error))
                continue
            stack.callback(self._subscriptions.forget, made)
            honoured.append(uri)
        return honoured


class _Gate:
    """Holds notifications back until the acknowledgement is out: it must be the first frame of the stream."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._opened = anyio.Event()

    def open(self) -> None:
        """Let everything pass."""
        self._opened.set()

    async def __call__(self, method: str, params: Params | None, /) -> None:
        """Deliver one notification."""
        await self._opened.wait()
        await self._send(method, params)
