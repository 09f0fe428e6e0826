"""The tasks extension between a modern downstream and a modern upstream (SEP-2663, ``io.modelcontextprotocol/tasks``).

A tool may answer with a task instead of a result. The downstream gets an id of ours for it, which holds the upstream
and the upstream's own id, sealed for that downstream: so ``tasks/get``, ``tasks/update`` and ``tasks/cancel`` find
their way back, in every replica that shares the keys, and a stolen id is good for nobody else.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskGroup
from mcp.server.context import ServerRequestContext

from proxy.agents import rewrite
from proxy.bridge.suspend import Claim
from proxy.catalog.moves import now_called
from proxy.errors import HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CAPABILITY, Rejected, UpstreamError
from proxy.gateway.backchannel import RequestBackchannel
from proxy.gateway.events import Send
from proxy.gateway.state import Sealer
from proxy.gateway.writable import writable
from proxy.model import TASKS_EXTENSION, Call, Caller, Json, Params
from proxy.router import Request
from proxy.runtime import Runtime
from proxy.wire.headers import NAME, decode_value

log = structlog.get_logger(__name__)

METHODS: Final = ("tasks/get", "tasks/update", "tasks/cancel")
MAX_TASKS: Final = 1000
"""Tasks that one stream may follow."""

_NEWS: Final = "notifications/tasks"
_LISTEN: Final = "subscriptions/listen"
_ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
_PATIENCE: Final = 1.0
"""Seconds an upstream may take to acknowledge a stream."""


class Tasks:
    """Exports tasks, and routes what is asked about them."""

    def __init__(self, runtime: Runtime, sealer: Sealer) -> None:
        self._runtime = runtime
        self._sealer = sealer

    def exported(self, caller: Caller, upstream: str, result: dict[str, Any]) -> dict[str, Any]:
        """A result with the id of its task exported, if it is a task."""
        if result.get("resultType") != "task" or not isinstance(result.get("taskId"), str):
            return result
        return {**result, "taskId": self._public(caller, upstream, result["taskId"])}

    async def serve(self, ctx: ServerRequestContext[Any, Any], caller: Caller) -> dict[str, Any]:
        """Answer a request about a task.

        Raises:
            Rejected: there is no such task for this caller, or its upstream's refusal.
            UpstreamError: as the tower does.
        """
        params = ctx.params or {}
        public = params.get("taskId")
        _check_name(ctx, public)
        if not declares_tasks(caller.capabilities):
            needed: Params = {"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}}
            raise Rejected(MISSING_CAPABILITY, f"{ctx.method}: the client did not declare {TASKS_EXTENSION}", needed)
        upstream, own = self._found(Request(ctx.method, {}, caller, None, ctx.request_id), public)
        back = RequestBackchannel(ctx, caller)
        back.view, back.upstream = self._runtime.router.seen_by(caller), upstream
        call = Call(
            upstream,
            ctx.method,
            {**params, "taskId": own},
            target=own,
            caller=caller,
            back=back,
            safe=ctx.method == "tasks/get",
            number=ctx.request_id,
        )
        reply = writable(await self._runtime.router.dispatch(call), upstream)
        return self._known(caller, upstream, str(public), reply.result)

    def _known(self, caller: Caller, upstream: str, public: str, result: Json) -> dict[str, Any]:
        out = dict(result) if isinstance(result, Mapping) else {}
        view = self._runtime.router.seen_by(caller)
        if "taskId" in out:
            out["taskId"] = public
        out = dict(rewrite.result(view, upstream, "tools/call", out))
        if isinstance(out.get("result"), dict):
            out["result"] = rewrite.result(view, upstream, "tools/call", out["result"])
        return out

    async def follow(self, tasks: TaskGroup, request: Request, wanted: Any, send: Send) -> list[str]:
        """Have news of tasks delivered for as long as the task group runs; the ids that upstreams agreed to.

        Args:
            tasks: where it is delivered from.
            request: who wants them, and with what request.
            wanted: the ids of the tasks, as the downstream gives them.
            send: takes the news.
        """
        found: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for public in wanted[:MAX_TASKS] if isinstance(wanted, list) else ():
            try:
                upstream, own = self._found(request, public)
            except Rejected:
                log.info("downstream.listen.refused", task=str(public)[:40])
                continue
            found[upstream][own] = public
        honoured: list[str] = []
        for upstream, ids in found.items():
            stream = _Stream(ids, send)
            tasks.start_soon(self._listen, request.caller, upstream, stream)
            with anyio.move_on_after(_PATIENCE):
                await stream.acknowledged.wait()
            honoured += [ids[own] for own in stream.honoured]
        return honoured

    async def _listen(self, caller: Caller, upstream: str, stream: "_Stream") -> None:
        params = {"notifications": {"taskIds": list(stream.ids)}}
        # Past the tower: its deadlines are for calls, and this one has no end.
        session = self._runtime.registry[upstream].session
        try:
            if session is not None:
                await session.request(Call(upstream, _LISTEN, params, caller=caller, back=stream))
        except UpstreamError as error:
            log.info("upstream.listen.lost", upstream=upstream, error=error.message)
        finally:
            stream.acknowledged.set()

    def _public(self, caller: Caller, upstream: str, own: str) -> str:
        # The upstream says when a task ends; the id must not end before it.
        return self._sealer.seal(_claim(caller), upstream=(upstream, own), ttl=math.inf)

    def _found(self, request: Request, public: Any) -> tuple[str, str]:
        try:
            return self._own(request.caller, public)
        except Rejected as error:
            self._runtime.router.refused(request, error)
            raise

    def _own(self, caller: Caller, public: Any) -> tuple[str, str]:
        try:
            upstream, own = self._sealer.open(public, _claim(caller)).upstream
        except (Rejected, TypeError, ValueError) as error:
            raise _unknown() from error
        upstream = now_called(self._runtime.holder.current, str(upstream))
        if upstream not in self._runtime.router.seen_by(caller).upstreams:
            raise _unknown()
        return upstream, str(own)


class _Stream:
    """The back channel of one upstream's stream of news."""

    progress_token = None

    def __init__(self, ids: Mapping[str, str], send: Send) -> None:
        self.ids = ids
        self._send = send
        self.honoured: list[str] = []
        self.acknowledged = anyio.Event()

    async def notify(self, method: str, params: Params | None) -> None:
        told = params or {}
        if method == _ACKNOWLEDGED:
            agreed = told.get("notifications", {}).get("taskIds")
            self.honoured = [own for own in agreed if own in self.ids] if isinstance(agreed, list) else []
            self.acknowledged.set()
        elif method == _NEWS and told.get("taskId") in self.ids:
            await self._send(method, {**told, "taskId": self.ids[told["taskId"]]})

    async def ask(self, method: str, params: Params | None) -> Json:
        del params
        raise Rejected(METHOD_NOT_FOUND, f"{method} is no request of this era")


def declares_tasks(capabilities: Params) -> bool:
    """Whether a downstream said that it understands tasks."""
    extensions = capabilities.get("extensions")
    return isinstance(extensions, Mapping) and TASKS_EXTENSION in extensions


def _claim(caller: Caller) -> Claim:
    return Claim(caller.owner, "task")


def _unknown() -> Rejected:
    return Rejected(INVALID_PARAMS, "Failed to retrieve task: Task not found", {"reason": "unknown_task"})


def _check_name(ctx: ServerRequestContext[Any, Any], task: Any) -> None:
    """``Mcp-Name`` bears the task's id (SEP-2663); the SDK checks it for the methods of the core only."""
    if ctx.request is None:
        return
    said = ctx.request.headers.getlist(NAME)
    if len(said) != 1 or decode_value(said[0]) != task:
        raise Rejected(HEADER_MISMATCH, f"{NAME} header does not match the request body's 'taskId' parameter")
