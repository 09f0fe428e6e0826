"""The store or one agent, as a program uses it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import count
from typing import Any, Final

from proxy.errors import ManifoldError
from proxy.model import MODERN_VERSIONS, Caller, Era, Kind
from proxy.store.arguments import normalised
from proxy.store.asking import Handlers
from proxy.store.batch import Pace, Progress, run_batch
from proxy.store.calls import ToolCall, tool_call, tool_calls
from proxy.store.engine import Engine, Errors, Validate
from proxy.store.formats import anthropic_block, openai_message, responses_item
from proxy.store.request import Door, Manner, failed
from proxy.store.result import ToolResult
from proxy.store.servers import Servers
from proxy.store.storage import Shelf
from proxy.store.tool import FunctionName, Tool, anthropic_tool, openai_tool, responses_tool
from proxy.telemetry.metrics import Summary, slowest
from proxy.upstream.pool import canonical

_numbers = count(1)
_STORE: Final = "store"


class Context(Servers):
    """What an agent sees and does, or the store, which sees everything. Made by ``Manifold.for_store``/``for_agent``.

    Names of tools may be written in any form: as listed, ``server.tool``, ``server_tool``, or the bare name of a tool
    where only one has it. Nothing of an agent is shared with another one: neither what it sees, nor sessions of
    upstreams with ``session: agent`` or ``client``, nor figures, nor its ``storage``.
    """

    def __init__(self, engine: Engine, agent: str | None, handlers: Handlers) -> None:
        self._engine = engine
        self._agent = agent
        self._place = engine.place
        # The modern era is spoken where an upstream speaks it, and the other one elsewhere: nothing has to cross.
        caller = Caller(
            era=Era.MODERN,
            version=MODERN_VERSIONS[-1],
            capabilities=handlers.capabilities,
            told=canonical(handlers.capabilities),
            agent=agent,
            session=f"program {next(_numbers)}",
            log_level=handlers.log_level if handlers.log is not None else None,
        )
        self._door = Door(engine, caller, handlers)

    @property
    def agent(self) -> str | None:
        """The agent's name; None for the store."""
        return self._agent

    @property
    def storage(self) -> Shelf:
        """A place for data of this agent alone."""
        return Shelf(self._engine.storage, _STORE if self._agent is None else f"agent-{self._agent}")

    # -- tools ---------------------------------------------------------------------------------------------------------

    async def list_tools(self, *, wait: bool | float = True) -> list[Tool]:
        """The tools, from memory.

        Args:
            wait: True waits for upstreams that are starting until the grace of each is over (1.5 s remote, 5 s local,
                unless configured); a number waits for so many seconds at most; False does not wait.

        Raises:
            UnknownServer: the agent was removed.
        """
        await self._engine.wait(self._agent, wait)
        return list(self._engine.known(self._agent).tools)

    async def get_tool(self, name: str) -> Tool:
        """One tool.

        Raises:
            UnknownTarget: there is none of that name for this agent; with suggestions.
            AmbiguousName: the name fits several.
        """
        return await self._door.tool(name)

    async def call_tool(
        self,
        name: str,
        /,
        arguments: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the limit has to end in an error which says what was sent
        validate: Validate | None = None,
        errors: Errors | None = None,
        **keywords: Any,
    ) -> ToolResult:
        """Call a tool.

        A tool that answers with an error is no exception: the result is false, and ``raise_for_error`` makes it one.

        Args:
            name: its name in any form.
            arguments: a mapping, a pydantic object, a JSON object in a string, or None.
            timeout: seconds for the whole call, questions included; the upstream's own limits hold besides.
            validate: ``off``, ``warn`` or ``strict``: whether to check the arguments against the tool's schema first.
            errors: ``raise``, or ``result`` to get errors as a result that a model can read.
            keywords: further arguments.

        Raises:
            RoutingError: the name leads nowhere, or to several tools.
            InvalidArguments: they are no JSON object, or do not fit (``strict``).
            UpstreamError: the upstream did not answer; ``sent`` says whether the call may have run.
        """
        manner = Manner(timeout, validate or self._engine.validate)
        call = ToolCall(name, arguments)
        return await self._safely(call, errors or self._engine.errors, lambda: self._call(call, manner, keywords))

    async def batch_call(  # noqa: PLR0913 - same
        self,
        calls: Iterable[Any],
        *,
        max_concurrent: int = 2,
        timeout: float | None = None,  # noqa: ASYNC109 - same
        pause: float = 0.0,
        validate: Validate | None = None,
        progress: Progress | None = None,
    ) -> list[ToolResult]:
        """Call many tools; one result for each call, in their order. A failure is a result and harms no other call.

        Args:
            calls: ``ToolCall``s, names, pairs of name and arguments, mappings, or tool calls of a model.
            max_concurrent: how many run at once.
            timeout: seconds for each call.
            pause: seconds between a group of ``max_concurrent`` calls and the next; 0 makes no groups.
            validate: as for ``call_tool``.
            progress: called after each call with the number done, the number of all, and the result.

        Raises:
            ValueError: ``max_concurrent`` or ``pause`` makes no sense.
        """
        manner = Manner(timeout, validate or self._engine.validate)
        pace = Pace(max_concurrent, pause, progress, self._engine.runtime.clock)

        async def one(given: Any) -> ToolResult:
            try:
                call = tool_call(given)
            except ManifoldError as error:
                return failed(ToolCall(""), error)
            return await self._safely(call, "result", lambda: self._call(call, manner, {}))

        return await run_batch(list(calls), one, pace)

    async def _call(self, call: ToolCall, manner: Manner, keywords: Mapping[str, Any]) -> ToolResult:
        return await self._door.call(call, normalised(call.arguments, keywords), manner)

    @staticmethod
    async def _safely(call: ToolCall, errors: Errors, run: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        try:
            return await run()
        except ManifoldError as error:
            if errors == "raise":
                raise
            return failed(call, error)

    # -- models --------------------------------------------------------------------------------------------------------

    async def openai_tools(self, *, wait: bool | float = True) -> list[dict[str, Any]]:
        """The tools as OpenAI's chat completions take them in ``tools``."""
        return [openai_tool(tool) for tool in await self.list_tools(wait=wait)]

    async def responses_tools(self, *, wait: bool | float = True) -> list[dict[str, Any]]:
        """The tools as OpenAI's Responses take them in ``tools``."""
        return [responses_tool(tool) for tool in await self.list_tools(wait=wait)]

    async def anthropic_tools(self, *, wait: bool | float = True) -> list[dict[str, Any]]:
        """The tools as Anthropic's messages take them in ``tools``."""
        return [anthropic_tool(tool) for tool in await self.list_tools(wait=wait)]

    async def answer_openai(self, message: Any, /, **batch: Any) -> list[dict[str, Any]]:
        """Make the tool calls in a model's message and return the ``role: tool`` messages that answer them.

        Args:
            message: a chat completion, its message, or its ``tool_calls``, as objects or as plain data.
            batch: as for ``batch_call``.
        """
        return [openai_message(result) for result in await self.batch_call(tool_calls(message), **batch)]

    async def answer_responses(self, response: Any, /, **batch: Any) -> list[dict[str, Any]]:
        """Make the function calls in a response and return the ``function_call_output`` items that answer them.

        Args:
            response: a response or its output, as objects or as plain data.
            batch: as for ``batch_call``.
        """
        return [responses_item(result) for result in await self.batch_call(tool_calls(response), **batch)]

    async def answer_anthropic(self, message: Any, /, **batch: Any) -> list[dict[str, Any]]:
        """Make the tool calls in a model's message and return the ``tool_result`` blocks that answer them.

        Args:
            message: a message or its content, as objects or as plain data.
            batch: as for ``batch_call``.
        """
        return [anthropic_block(result) for result in await self.batch_call(tool_calls(message), **batch)]

    async def parse_function_name(self, name: str) -> FunctionName:
        """What a model means by a function's name: by table, never by cutting; also ``server_tool`` or ``server.tool``.

        Raises:
            RoutingError: it means no tool of this agent, or several.
        """
        tool = await self._door.tool(name)
        return FunctionName(tool.name, tool.server, tool.own_name)

    # -- resources and prompts -----------------------------------------------------------------------------------------

    async def list_resources(self, *, wait: bool | float = True) -> list[dict[str, Any]]:
        """The resources as MCP defines them, with exported URIs."""
        return await self._listing(Kind.RESOURCE, wait)

    async def list_resource_templates(self, *, wait: bool | float = True) -> list[dict[str, Any]]:
        """The resource templates as MCP defines them, with exported URI templates."""
        return await self._listing(Kind.TEMPLATE, wait)

    async def list_prompts(self, *, wait: bool | float = True) -> list[dict[str, Any]]:
        """The prompts as MCP defines them."""
        return await self._listing(Kind.PROMPT, wait)

    async def read_resource(self, uri: str, *, timeout: float | None = None) -> dict[str, Any]:  # noqa: ASYNC109 - same
        """Read a resource: the result as MCP defines it, with ``contents``.

        Raises:
            RoutingError: the URI leads nowhere.
            UpstreamError: the upstream refuses (``Rejected``) or did not answer.
        """
        return await self._door.request("resources/read", {"uri": uri}, timeout)

    async def get_prompt(
        self,
        name: str,
        /,
        arguments: Any = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - same
        **keywords: str,
    ) -> dict[str, Any]:
        """Get a prompt: the result as MCP defines it, with ``messages``. Arguments as for ``call_tool``.

        Raises:
            RoutingError: the name leads nowhere.
            UpstreamError: the upstream refuses (``Rejected``) or did not answer.
        """
        params = {"name": name, "arguments": normalised(arguments, keywords)}
        return await self._door.request("prompts/get", params, timeout)

    async def _listing(self, kind: Kind, wait: bool | float) -> list[dict[str, Any]]:
        await self._engine.wait(self._agent, wait)
        return [dict(raw) for raw in self._engine.runtime.view(self._agent).listing(kind)]

    # -- figures -------------------------------------------------------------------------------------------------------

    def tool_metrics(self) -> dict[str, Summary]:
        """The figures of each tool that was called here, as ``server.tool``; the store's are those of everybody."""
        return self._engine.recorder.tools(self._agent)

    def server_metrics(self) -> dict[str, Summary]:
        """The same for each upstream."""
        return self._engine.recorder.upstreams(self._agent)

    def slowest_tools(self, count: int = 5) -> list[Summary]:
        """The tools with the highest 95th percentile, the slowest first."""
        return slowest(self.tool_metrics().values(), count)
