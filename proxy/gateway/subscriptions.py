"""Who subscribed to which resource, and telling them when it was updated.

A subscription belongs to one downstream connection, or to one ``subscriptions/listen`` stream; it ends with it. Towards
the upstream all of them together are one (``Upstream.subscribe`` counts).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from proxy.agents import rewrite
from proxy.agents.view import View
from proxy.catalog.holder import Change
from proxy.catalog.moves import now_called
from proxy.errors import UnknownServer
from proxy.gateway.events import PATIENCE, Send
from proxy.model import Call, Params, Reply, Route
from proxy.router import Request
from proxy.runtime import Runtime

log = structlog.get_logger(__name__)

UPDATED: Final = "notifications/resources/updated"

MAX_DUE: Final = 256
"""Resources of which one subscription may be due news at a time: an upstream may invent any number below one."""


@dataclass(eq=False, slots=True)
class Subscription:
    """One downstream's interest in one resource."""

    upstream: str
    uri: str
    """The upstream's own URI."""
    exported: str
    """The URI under which the downstream knows it, also after the upstream was renamed."""
    view: Callable[[], View]
    send: Send


@dataclass(eq=False, slots=True)
class _Due:
    """What one subscription is still to be told: by resource, for news of one replace each other."""

    news: dict[str, Params] = field(default_factory=dict)
    dropped: int = 0

    def add(self, uri: str, params: Params) -> None:
        if uri in self.news or len(self.news) < MAX_DUE:
            self.news[uri] = params
        else:
            self.dropped += 1


class Subscriptions:
    """All of them. Deliveries and farewells run in the task group given to ``open``."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._all: dict[str, set[Subscription]] = {}
        self._telling: dict[Subscription, _Due] = {}
        """Who is being told something."""
        self._tasks: TaskGroup | None = None

    def open(self, tasks: TaskGroup) -> None:
        """From now on updates are delivered."""
        self._tasks = tasks
        self._runtime.on_notification.append(self._heard)
        self._runtime.holder.subscribe(self._follow)

    def __len__(self) -> int:
        return sum(len(found) for found in self._all.values())

    async def make(self, request: Request, send: Send) -> Subscription:
        """Subscribe a caller to the resource that its request names.

        Raises:
            RoutingError: the URI leads nowhere that the caller may see.
            UpstreamError: the upstream refuses, or cannot be reached; or the caller's agent is over its limits.
        """
        router, caller, made = self._runtime.router, request.caller, list[Subscription]()
        await router.ready_for(caller)
        route = router.resource(request)

        async def subscribe(_call: Call, /) -> Reply:
            made.append(await self.add(route, lambda: router.seen_by(caller), send))
            return Reply(b"{}")

        await router.aside(asked(request, route), subscribe)
        return made[0]

    async def end(self, request: Request, subscription: Subscription | None) -> None:
        """Unsubscribe a caller; harmless when there is nothing to end."""

        async def unsubscribe(_call: Call, /) -> Reply:
            if subscription is not None:
                await self.remove(subscription)
            return Reply(b"{}")

        await self._runtime.router.aside(asked(request, subscription), unsubscribe)

    async def add(self, route: Route, view: Callable[[], View], send: Send) -> Subscription:
        """The same for a route, without a look at who asks.

        Raises:
            UpstreamError: the upstream refuses, or cannot be reached.
        """
        await self._runtime.registry[route.upstream].subscribe(route.name)
        upstream = now_called(self._runtime.holder.current, route.upstream)
        subscription = Subscription(upstream, route.name, route.public, view, send)
        self._all.setdefault(upstream, set()).add(subscription)
        return subscription

    async def remove(self, subscription: Subscription) -> None:
        """Unsubscribe; harmless when that has happened already."""
        found = self._all.get(subscription.upstream, set())
        if subscription in found:
            found.discard(subscription)
            if subscription.upstream in self._runtime.registry:
                await self._runtime.registry[subscription.upstream].unsubscribe(subscription.uri)

    def forget(self, subscription: Subscription) -> None:
        """The same from where nobody can wait: a connection that closes."""
        if self._tasks is not None:
            self._tasks.start_soon(self.remove, subscription)

    def _follow(self, change: Change) -> None:
        """What belongs to an upstream goes with it when it is renamed."""
        for old in self._all.keys() & change.new.moves.keys():
            for subscription in self._all.pop(old):
                subscription.upstream = now_called(change.new, old)
                self._all.setdefault(subscription.upstream, set()).add(subscription)

    def _heard(self, upstream: str, method: str, params: Params | None) -> None:
        uri = (params or {}).get("uri")
        if method != UPDATED or not isinstance(uri, str) or params is None or self._tasks is None:
            return
        for subscription in tuple(self._all.get(upstream, ())):
            if covers(subscription.uri, uri):
                self._due(subscription, uri, params)

    def _due(self, subscription: Subscription, uri: str, params: Params) -> None:
        """Tell it, or when it has taken what it is being told."""
        due = self._telling.get(subscription)
        if due is None and self._tasks is not None:
            due = self._telling[subscription] = _Due()
            self._tasks.start_soon(self._tell_all, subscription, due)
        if due is not None:
            due.add(uri, params)

    async def _tell_all(self, subscription: Subscription, due: _Due) -> None:
        try:
            while due.news and subscription in self._all.get(subscription.upstream, ()):
                params = due.news.pop(next(iter(due.news)))
                if (told := self._worded(subscription, params)) is None or await _taken(subscription, told):
                    continue
                due.dropped += 1 + len(due.news)
                due.news.clear()
        finally:
            del self._telling[subscription]
            if due.dropped:
                log.warning("downstream.updates.dropped", uri=subscription.exported, count=due.dropped)

    @staticmethod
    def _worded(subscription: Subscription, params: Params) -> Params | None:
        """What to tell it; None is nothing."""
        try:
            view = subscription.view()
        except UnknownServer:
            return None  # its agent was removed
        if not view.readable(subscription.upstream, params["uri"]):
            return None  # what it may not see any more, or of what it subscribed to, it does not hear of either
        own = {key: value for key, value in params.items() if key != "_meta"}
        told = rewrite.incoming(view, subscription.upstream, UPDATED, own)
        if told is not None and params["uri"] == subscription.uri:
            told = {**told, "uri": subscription.exported}
        return told


def asked(request: Request, found: Route | Subscription | None) -> Call:
    """The call that a request about updates is for the audit log and for limits: no tower ever sees it."""
    upstream, own = "", ""
    if isinstance(found, Route):
        upstream, own = found.upstream, found.name
    elif found is not None:
        upstream, own = found.upstream, found.uri
    public = str(request.params.get("uri", ""))
    return Call(upstream, request.method, None, own, request.caller, public=public, number=request.number)


def covers(subscribed: str, updated: str) -> bool:
    """Whether an update concerns a subscription: the resource itself, or one below it (spec, resources/updated)."""
    return updated == subscribed or updated.startswith(subscribed.rstrip("/") + "/")


async def _taken(subscription: Subscription, params: Params) -> bool:
    """Tell it; False when it does not take it in time."""
    with anyio.move_on_after(PATIENCE):
        try:
            await subscription.send(UPDATED, params)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            log.debug("downstream.gone", method=UPDATED)
        return True
    return False
