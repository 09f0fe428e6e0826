"""The gateway: a FastMCP server with the relay plugged in, and the doors that lead to it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from fastmcp import FastMCP
from fastmcp.server.context import reset_transport, set_transport
from mcp.server.connection import Connection
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy import __version__
from proxy.agents.view import View
from proxy.agents.views import changed_lists
from proxy.config.model import Config
from proxy.errors import UnknownServer
from proxy.front.early import Opening
from proxy.gateway import seams
from proxy.gateway.batch import Batches
from proxy.gateway.events import Audience
from proxy.gateway.express import ExpressLane
from proxy.gateway.finish import Finish
from proxy.gateway.forwarding import Forwarding
from proxy.gateway.guard import Guard
from proxy.gateway.hot import HotDoor
from proxy.gateway.identity import Identity
from proxy.gateway.joining import Joint
from proxy.gateway.metadata import Metadata
from proxy.gateway.opened import Open
from proxy.gateway.ownership import Ownership
from proxy.gateway.paths import AgentPath, TrimmedHeaders, current, split
from proxy.gateway.places import BoundedStreams
from proxy.gateway.relay import Relay, input_schema
from proxy.gateway.resume import RETRY, Events, Negotiated
from proxy.gateway.room import Room
from proxy.gateway.sessions import Sessions
from proxy.gateway.shallow import Shallow
from proxy.gateway.shortcut import ShortCut
from proxy.gateway.sse_lane import SSE_PATH, SseLane, is_messages
from proxy.gateway.state import Sealer
from proxy.gateway.status import METRICS, PATH, MetricsDoor, StatusDoor
from proxy.gateway.stdio import stdio_streams
from proxy.gateway.stdio_lane import StdioLane
from proxy.gateway.subscriptions import Subscriptions
from proxy.gateway.waking import Waking
from proxy.gateway.welcome import Welcome
from proxy.model import Caller, Params
from proxy.runtime import Runtime


class Gateway:
    """The front door of a runtime. ``run`` in a task group while a door is open.

    Args:
        runtime: what it is the door of.
        state: the state directory, where API tokens are; None has none.
    """

    def __init__(self, runtime: Runtime, state: Path | None = None) -> None:
        self.runtime = runtime
        settings = runtime.config.server
        self.server = FastMCP(settings.name, version=__version__, dereference_schemas=False)
        self.audience = Audience(self._changes, self._watch)
        self.subscriptions = Subscriptions(runtime)
        self.joint = Joint(runtime, Sealer([key.get_secret_value() for key in settings.state_keys]))
        self.finish = Finish({"name": settings.name, "version": __version__})
        self.relay = Relay(runtime, self.joint, self.audience, self.subscriptions, self.finish)
        self.sessions = Sessions(settings.session_idle)
        self.room = Room(self.sessions, settings.max_sessions)
        welcome = Welcome(runtime, seams.low_level(self.server), self.sessions, self.room)
        self.waking = Waking(self.sessions, welcome, self.audience)
        self.lane = ExpressLane(runtime, self.joint, self.finish, self.waking, settings.path)
        self.legacy = SseLane(runtime, self.lane.answerer)
        self.ownership = Ownership()
        self.forwarding = Forwarding(runtime)
        self.relay.on_opened = self._opened
        self.relay.on_enlisted = self.waking.enlisted
        self.sessions.on_opened = self._rests
        self.sessions.on_closed = self._rested
        self.identity = Identity(runtime.config, state)
        self.metadata = Metadata(runtime.config, (settings.path, SSE_PATH))
        self.guard = Guard(self.identity, self.metadata, self._is_door)
        self.guard.on_change = self._end_sessions
        self._seen: dict[str | None, View] = {}
        seams.plug_in(self.server, self.relay)
        # Otherwise every modern call with arguments would list all tools first (measured: 10 ms instead of 0.6 ms).
        seams.low_level(self.server).get_tool_input_schema = self._input_schema
        self.server.custom_route("/livez", methods=["GET"])(self._live)
        self.server.custom_route("/readyz", methods=["GET"])(self._ready)
        self.server.custom_route(PATH, methods=["GET"])(StatusDoor(runtime).get)
        scraped = MetricsDoor(runtime, lambda: len(self.relay.versions))
        self.server.custom_route(METRICS, methods=["GET"])(scraped.get)

    async def run(self) -> None:
        """Tell downstreams of list changes, until cancelled."""
        unsubscribe = self.runtime.holder.subscribe(lambda _change: self.audience.changed())
        try:
            async with anyio.create_task_group() as tasks:
                self.subscriptions.open(tasks)
                tasks.start_soon(self.joint.suspender.run)
                tasks.start_soon(self.guard.run)
                await self.audience.run()
        finally:
            unsubscribe()

    def configured(self, config: Config) -> None:
        """Go over to another configuration, which the runtime has gone over to already."""
        self.identity.configure(config)
        self.metadata.configure(config)
        self.guard.look()
        # Agents may see other things now, although the catalog is the same.
        self.audience.changed()

    async def stdio(self, agent: str | None = None, opening: Opening | None = None) -> None:
        """Serve one downstream over standard input and output, until it closes standard input.

        The upstreams are started when it has said what it can do: every link is for it alone. With an opening, what
        the early front has heard is heard first, and what it has answered is not answered again.

        Raises:
            UnknownServer: there is no such agent.
        """
        self.runtime.view(agent)
        self.relay.default_agent = agent
        self.relay.on_first = self.runtime.start
        settings = self.runtime.config.server
        lane = StdioLane(self.runtime, self.lane.answerer, agent) if settings.express else None
        if lane is not None:
            self.relay.on_first, self.relay.on_enlisted = lane.began, lane.opened
        server = seams.low_level(self.server)
        token = set_transport("stdio")
        try:
            async with stdio_streams(settings.max_body, opening, lane) as (read, write):
                await server.run(read, write, server.create_initialization_options())
        finally:
            reset_transport(token)

    def http_app(self, agent: str | None = None) -> "Doors":
        """The ASGI app with every HTTP door: streamable HTTP, legacy SSE, and the probes.

        Args:
            agent: the agent that applies to everybody, besides those of URLs and credentials.
        """
        settings = self.runtime.config.server
        middleware = [
            Middleware(self.guard.over),
            Middleware(RequestBodyLimitMiddleware, max_body_size=settings.max_body),
            Middleware(AgentPath, known=lambda: self.runtime.config.agents, flag=agent, sees=self._sees),
            Middleware(self.forwarding.over),
            Middleware(self.ownership.over),
            Middleware(TrimmedHeaders),
            Middleware(Negotiated, versions=self.relay.versions),
            Middleware(Batches, versions=self.relay.versions),
        ]
        hosts = [settings.host, *settings.allowed_hosts]
        origins = list(settings.allowed_origins)
        lane = [Middleware(self.lane.over)] if settings.express else []
        bounded = Middleware(BoundedStreams, most=settings.max_sessions)
        legacy_lane = [Middleware(self.legacy.over)] if settings.express else []
        events = self.sessions.events = Events()
        main = self.server.http_app(
            settings.path,
            middleware=[*middleware, *lane, Middleware(self.room.over), Middleware(Shallow)],
            event_store=events,
            retry_interval=RETRY,
            session_idle_timeout=settings.session_idle,
            host_origin_protection=True,
            allowed_hosts=hosts,
            allowed_origins=origins,
        )
        legacy = self.server.http_app(
            SSE_PATH,
            transport="sse",
            middleware=[*middleware, Middleware(Shallow), bounded, *legacy_lane],
            host_origin_protection=True,
            allowed_hosts=hosts,
            allowed_origins=origins,
        )
        self.sessions.transports = seams.session_transports(main, settings.path)
        self.waking.reviver = seams.Reviver(main, settings.path)
        if not settings.express:
            return Doors(main, legacy)
        return Doors(main, legacy, self._short_cut(agent).over(main), self._hot(main, agent))

    def _short_cut(self, agent: str | None) -> ShortCut:
        """The same guards as on the long way (``http_app``), those of Host and Origin and of bodies being its own."""
        settings = self.runtime.config.server
        select = partial(AgentPath, known=lambda: self.runtime.config.agents, flag=agent, sees=self._sees)
        short = ShortCut(
            self.lane.serve,
            self.lane.vouched,
            path=settings.path,
            max_body=settings.max_body,
            guards=(self.guard.over, select, self.forwarding.over),
        )
        short.listen = self.waking.listen
        return short

    def _hot(self, app: ASGIApp, agent: str | None) -> HotDoor:
        """The same guards once more, without ASGI between them."""
        settings = self.runtime.config.server
        select = AgentPath(app, lambda: self.runtime.config.agents, agent, self._sees).applying
        forwarding, path, max_body = self.forwarding, settings.path, settings.max_body
        return HotDoor(self.lane, self.legacy, self.guard, select, forwarding=forwarding, path=path, max_body=max_body)

    def _opened(self, connection: Connection, owner: str) -> None:
        self.ownership.opened(connection, owner)
        self.sessions.opened(connection, owner)
        self.legacy.opened(connection)

    def _rests(self, session: Open, caller: Caller) -> None:
        self.ownership.note(session.session_id, session.owner)
        self.relay.versions[session.session_id] = caller.version
        self.audience.keep(caller.agent)

    def _rested(self, session_id: str) -> None:
        self.ownership.forget(session_id)
        self.relay.versions.pop(session_id, None)

    async def _end_sessions(self) -> None:
        """End the sessions of those who were shut out, and what runs in them."""
        transports = self.sessions.transports()
        for session_id in self.ownership.fallen(self.identity.stands):
            if not self.sessions.end_id(session_id) and session_id in transports:
                await transports[session_id].terminate()

    def _is_door(self, path: str) -> bool:
        """Whether a path without an agent speaks MCP."""
        return path in (self.runtime.config.server.path, SSE_PATH) or is_messages(path)

    def _sees(self, agents: str) -> bool:
        return bool(self.runtime.view(agents).upstreams)

    def _changes(self, agent: str | None) -> Iterable[str]:
        """The notifications that an agent's downstreams are due since it was last asked."""
        try:
            new = self.runtime.view(agent)
        except UnknownServer:
            return ()  # the agent was taken out of the configuration; its downstreams find out when they ask
        old = self._seen.get(agent)
        self._seen[agent] = new
        return () if old is None or old is new else changed_lists(old, new)

    def _watch(self, agent: str | None) -> None:
        """From now on changes of this agent's view count."""
        self._seen.setdefault(agent, self.runtime.view(agent))

    def _input_schema(self, name: str) -> Params | None:
        agent, principal = current.get()
        return input_schema(self.runtime.router.seen_by(Caller(agent=agent, principal=principal)), name)

    async def _live(self, _request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def _ready(self, _request: Request) -> JSONResponse:
        waiting = self.runtime.waiting()
        body: dict[str, Any] = {"status": "starting" if waiting else "ready"}
        if not self.identity.asks:
            body["upstreams"] = self.runtime.counts()
        return JSONResponse(body, status_code=503 if waiting else 200)


class Doors:
    """Streamable HTTP and legacy SSE on one listener, with one lifespan."""

    def __init__(
        self, main: Starlette, legacy: Starlette, short: ASGIApp | None = None, direct: HotDoor | None = None
    ) -> None:
        """``short`` stands before ``main`` and tries a shorter way, ``direct`` is the shortest one, without ASGI."""
        self.direct = direct
        self._main = main
        self._first: ASGIApp = short or main
        self._legacy = legacy
        self._life = Starlette(lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose the door by the path."""
        if scope["type"] != "http":
            await self._life(scope, receive, send)
            return
        _, path = split(scope["path"])
        await (self._legacy if path == SSE_PATH or is_messages(path) else self._first)(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for app in (self._main, self._legacy):
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield
