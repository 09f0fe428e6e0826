"""``subscriptions/listen``: the modern era's one stream for changes (spec 2026-07-28, subscriptions)."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
import structlog
from mcp.server.context import ServerRequestContext
from msgspec.structs import replace

from proxy.errors import ManifoldError
from proxy.gateway import seams
from proxy.gateway.events import Audience, Listener, Send
from proxy.gateway.places import Places
from proxy.gateway.subscriptions import Subscriptions
from proxy.gateway.tasks import Tasks
from proxy.model import META_SUBSCRIPTION_ID, Call, Caller, Params, Reply
from proxy.router import Request
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

        request = Request(ctx.method, wanted, caller, None, ctx.request_id)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._places.one())
            gate = _Gate(send)

            async def opened(_call: Call, /) -> Reply:
                await send(_ACKNOWLEDGED, {"notifications": await self._honoured(stack, request, gate)})
                return Reply(b"{}")

            # Its opening is what counts and what is audited: how long it stays open takes nothing from anybody.
            await self._runtime.router.aside(_asked(request), opened)
            gate.open()
            await anyio.sleep_forever()

    async def _honoured(self, stack: AsyncExitStack, request: Request, gate: "_Gate") -> dict[str, Any]:
        """What of the wishes is fulfilled until the stack is left."""
        wanted = request.params
        flags = [flag for flag in _FLAGS if wanted.get(flag) is True]
        honoured: dict[str, Any] = dict.fromkeys(flags, True)
        if uris := await self._subscribe(stack, request, wanted.get("resourceSubscriptions"), gate):
            honoured["resourceSubscriptions"] = uris
        if wanted.get("taskIds"):
            group = await stack.enter_async_context(anyio.create_task_group())
            honoured["taskIds"] = await self._tasks.follow(group, request, wanted["taskIds"], gate)
        methods = frozenset(_FLAGS[flag] for flag in flags)
        await stack.enter_async_context(self._audience.listening(Listener(request.caller.agent, gate, methods)))
        return honoured

    async def _subscribe(self, stack: AsyncExitStack, request: Request, wanted: Any, send: Send) -> list[str]:
        """Subscribe to each resource; those that lead nowhere or are refused are not acknowledged."""
        honoured: list[str] = []
        router, caller = self._runtime.router, request.caller
        if isinstance(wanted, list) and wanted:
            await router.ready_for(caller)
        for uri in wanted[:MAX_URIS] if isinstance(wanted, list) else ():
            try:
                route = router.resource(replace(request, params={"uri": uri}))
                made = await self._subscriptions.add(route, lambda: router.seen_by(caller), send)
            except (ManifoldError, TypeError) as error:
                log.info("downstream.listen.refused", uri=str(uri)[:200], reason=str(error))
                continue
            stack.callback(self._subscriptions.forget, made)
            honoured.append(uri)
        return honoured


def _asked(request: Request) -> Call:
    """What a listen request is for the audit log and for limits. Ids of tasks are handles, and are only counted."""
    wanted = request.params
    uris, tasks = wanted.get("resourceSubscriptions"), wanted.get("taskIds")
    parts = [
        *(flag for flag in _FLAGS if wanted.get(flag) is True),
        *(map(str, uris) if isinstance(uris, list) else ()),
    ]
    if isinstance(tasks, list) and tasks:
        parts.append(f"taskIds: {len(tasks)}")
    return Call("", request.method, None, " ".join(parts), request.caller, number=request.number)


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
