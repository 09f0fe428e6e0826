"""A server of the modern era with the tasks extension (SEP-2663): what the suite's ``tasks-*`` scenarios look for.

It speaks plain JSON and is no more than that. Own work.

    tasks_fixture.py PORT
    tasks_fixture.py --stdio
"""

import asyncio
import base64
import itertools
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]
Emit = Callable[[Json], Awaitable[None]]
META = "io.modelcontextprotocol/"
EXTENSION = META + "tasks"
TTL = 600_000
STATUS = {-32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}
ABOUT = ("tasks/get", "tasks/update", "tasks/cancel")
TERMINAL = ("completed", "failed", "cancelled")


class Fault(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **({} if data is None else {"data": data})}


@dataclass
class Task:
    """One task."""

    number: str
    status: str = "working"
    outcome: Json = field(default_factory=dict)
    asked: dict[str, Json] = field(default_factory=dict)
    answers: dict[str, Json] = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    work: "asyncio.Task[None] | None" = None

    def described(self) -> Json:
        """As the wire has it."""
        now = datetime.now(UTC).isoformat()
        about = {"taskId": self.number, "status": self.status, "createdAt": self.created, "lastUpdatedAt": now}
        return {**about, "ttlMs": TTL, "pollIntervalMs": 100}

    async def ask(self, **questions: str) -> list[Json]:
        """Put questions to the client and wait for all answers."""
        schema = {"type": "object", "properties": {"confirm": {"type": "boolean"}}}
        self.asked = {
            key: {
                "method": "elicitation/create",
                "params": {"mode": "form", "message": text, "requestedSchema": schema},
            }
            for key, text in questions.items()
        }
        await self.move("input_required")
        await self.answered.wait()
        await self.move("working")
        return [self.answers[key] for key in questions]

    async def move(self, status: str) -> None:
        """Another status; whoever listens is told."""
        self.status = status
        for emit in LISTENERS.get(self.number, ()):
            await emit({"method": "notifications/tasks", "params": {**self.described(), **self.outcome}})


TASKS: dict[str, Task] = {}
LISTENERS: dict[str, list[Emit]] = {}
NUMBERS = itertools.count(1)


def text(words: str, **rest: Any) -> Json:
    return {"content": [{"type": "text", "text": words}], **rest}


async def slow_compute(arguments: Json, task: Task | None) -> Json:
    await asyncio.sleep(float(arguments.get("seconds", 0)))
    return text(f"computed {arguments.get('label', '')} by {task.number if task else 'nobody'}")


async def failing_job(_arguments: Json, _task: Task | None) -> Json:
    await asyncio.sleep(0.2)
    return text("failing_job failed", isError=True)


async def protocol_error_job(_arguments: Json, _task: Task | None) -> Json:
    raise Fault(-32603, "protocol_error_job crashed")


async def confirm_delete(arguments: Json, task: Task | None) -> Json:
    if task is None:
        return text("nobody can be asked")
    answer = (await task.ask(confirm=f"Delete {arguments.get('filename')}?"))[0]
    return text(f"deleted={answer.get('content')}")


async def multi_input(_arguments: Json, task: Task | None) -> Json:
    return text(json.dumps(await task.ask(first="first?", second="second?") if task else []))


async def named(arguments: Json, _task: Task | None) -> Json:
    return text(f"Hello, {arguments['name']}!")


TOOLS: dict[str, Callable[[Json, Task | None], Awaitable[Json]]] = {
    "greet": named,
    "slow_compute": slow_compute,
    "failing_job": failing_job,
    "protocol_error_job": protocol_error_job,
    "confirm_delete": confirm_delete,
    "multi_input": multi_input,
    "test_tool_with_task": named,
}
REQUIRED = ("failing_job", "test_tool_with_task")


async def run(task: Task, name: str, arguments: Json) -> None:
    status = "completed"
    try:
        task.outcome = {"result": await TOOLS[name](arguments, task)}
    except Fault as fault:
        status, task.outcome = "failed", {"error": fault.error}
    except asyncio.CancelledError:
        status = "cancelled"
    await task.move(status)


async def call(params: Json) -> Json:
    name, arguments = params.get("name"), dict(params.get("arguments") or {})
    if name not in TOOLS:
        raise Fault(-32602, f"Unknown tool: {name}")
    if name == "greet":
        return await TOOLS[name](arguments, None)
    if not speaks_tasks(params):
        if name in REQUIRED:
            raise Fault(
                -32021, "This tool answers by a task", {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
            )
        return await TOOLS[name](arguments, None)
    if name == "test_tool_with_task":
        answer = (params.get("inputResponses") or {}).get("user_name")
        if answer is None:
            question = {"mode": "form", "message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}
            asked = {"user_name": {"method": "elicitation/create", "params": question}}
            return {"resultType": "input_required", "inputRequests": asked, "requestState": "round-1"}
        arguments = answer["content"]
    number = f"task/{next(NUMBERS)} ü"
    task = TASKS[number] = Task(number)
    created = {"resultType": "task", **task.described()}
    task.work = asyncio.create_task(run(task, name, arguments))
    return created


def speaks_tasks(params: Json) -> bool:
    declared = (params.get("_meta") or {}).get(META + "clientCapabilities") or {}
    return EXTENSION in (declared.get("extensions") or {})


async def about(method: str, params: Json) -> Json:
    if not speaks_tasks(params):
        raise Fault(-32021, "Tasks are needed", {"requiredCapabilities": {"extensions": {EXTENSION: {}}}})
    task = TASKS.get(str(params.get("taskId")))
    if task is None:
        raise Fault(-32602, "Task not found")
    if method == "tasks/cancel":
        if task.work is not None and task.status not in TERMINAL:
            task.work.cancel()
        return {}
    if method == "tasks/update":
        for key, answer in (params.get("inputResponses") or {}).items():
            if task.asked.pop(key, None) is not None:
                task.answers[key] = answer
        if not task.asked:
            task.answered.set()
        return {}
    asked = {"inputRequests": task.asked} if task.status == "input_required" else {}
    return {**task.described(), **asked, **(task.outcome if task.status in TERMINAL else {})}


async def listen(number: Any, params: Json, emit: Emit) -> None:
    """Serve a stream of news until it is cancelled."""
    ids = [one for one in params["notifications"].get("taskIds", ()) if one in TASKS]
    stamp = {META + "subscriptionId": number}

    async def stamped(message: Json) -> None:
        await emit({"jsonrpc": "2.0", **message, "params": {**message["params"], "_meta": stamp}})

    honoured = {"taskIds": ids} if ids else {}
    await stamped({"method": "notifications/subscriptions/acknowledged", "params": {"notifications": honoured}})
    for one in ids:
        LISTENERS.setdefault(one, []).append(stamped)
    try:
        await asyncio.Event().wait()
    finally:
        for one in ids:
            LISTENERS[one].remove(stamped)


async def answer(method: str, params: Json) -> Json:
    if method == "server/discover":
        capabilities = {"tools": {}, "extensions": OFFERED}
        return {"supportedVersions": ["2026-07-28"], "capabilities": capabilities, **CACHED}
    if method == "tools/list":
        schema = {"type": "object"}
        return {"tools": [{"name": name, "description": name, "inputSchema": schema} for name in TOOLS], **CACHED}
    if method == "tools/call":
        return await call(params)
    if method in ABOUT:
        return await about(method, params)
    raise Fault(-32601, f"Unknown method: {method}")


OFFERED: Json = {EXTENSION: {}, META + "ui": {"mimeTypes": ["a/b"]}, "com.example/unheard-of": {}}
CACHED: Json = {"ttlMs": 0, "cacheScope": "private"}


async def served(message: Json) -> tuple[Json, int]:
    """The response to a request, and its HTTP status."""
    try:
        result = await answer(message["method"], message.get("params") or {})
    except Fault as fault:
        return {"jsonrpc": "2.0", "id": message["id"], "error": fault.error}, STATUS.get(fault.error["code"], 200)
    meta = {META + "serverInfo": {"name": "tasks-fixture", "version": "1"}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", "_meta": meta, **result}}, 200


# -- doors -------------------------------------------------------------------------------------------------------------


async def handle(request: Request) -> Response:
    message = await request.json()
    method, params = message["method"], message.get("params") or {}
    if request.headers.get("mcp-protocol-version") != "2026-07-28":
        unsupported = Fault(-32022, "Unsupported protocol version", {"supported": ["2026-07-28"]})
        return JSONResponse({"jsonrpc": "2.0", "id": message.get("id"), "error": unsupported.error}, 400)
    named_by = "name" if method == "tools/call" else "taskId" if method in ABOUT else ""
    said = request.headers.get("mcp-name", "")
    if request.headers.get("mcp-method") != method or (named_by and decoded(said) != params.get(named_by)):
        error = Fault(-32020, "the headers do not match the body").error
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error}, 400)
    if method == "subscriptions/listen":
        return StreamingResponse(events(message), media_type="text/event-stream")
    response, status = await served(message)
    return JSONResponse(response, status)


def decoded(value: str) -> str:
    """What a header value stands for."""
    wrapped = value.startswith("=?base64?")
    return base64.b64decode(value[9:-2]).decode() if wrapped else value


async def events(message: Json) -> Any:
    queue: asyncio.Queue[Json] = asyncio.Queue()
    listening = asyncio.create_task(listen(message["id"], message["params"], queue.put))
    try:
        while True:
            yield f"data: {json.dumps(await queue.get())}\n\n"
    finally:
        listening.cancel()


async def over_stdio() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running: dict[Any, asyncio.Task[None]] = {}

    async def emit(message: Json) -> None:
        print(json.dumps(message), flush=True)

    async def serve(message: Json) -> None:
        if message["method"] == "subscriptions/listen":
            await listen(message["id"], message["params"], emit)
        response, _ = await served(message)
        await emit(response)

    while line := await reader.readline():
        message = json.loads(line)
        if "id" in message:
            running[message["id"]] = asyncio.create_task(serve(message))
        elif message["method"] == "notifications/cancelled":
            running[message["params"]["requestId"]].cancel()


if __name__ == "__main__":
    if sys.argv[1] == "--stdio":
        asyncio.run(over_stdio())
    else:
        app = Starlette(routes=[Route("/mcp", handle, methods=["POST"])])
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", http="h11")
