"""A scripted faulty MCP server over stdio or HTTP, without any SDK: it is well until it is told not to be.

Run as a program with one argument, a JSON object: ``over`` (``stdio`` or ``http``), ``fault`` (one of the functions in
``FAULTS``, done by each call of the tool ``act``), ``plan`` and ``count`` (files, see ``Plan`` and ``execute``).
Over HTTP it prints its port; the listening socket outlives the process that serves, so nobody is ever refused.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

SCRIPT: Json = {}
HELD: dict[str, bytes] = {}
LONG: Final = 600.0
"""Seconds of a hang: longer than any test waits."""
BIG: Final = 50_000_000
FLOOD: Final = 20_000
READ_ONLY: Final = {"readOnlyHint": True}
CORES: Final = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else [0]
STATUS: Final = {"401": 401, "404": 404, "429": 429, "500": 500}

listings = 0
"""How often the tools were listed, by this process."""


class Over(Exception):
    """The peer has gone."""


class Plan:
    """When to die. Armed by a file, which the next request consumes: what comes after it meets a server that is well.

    The file has ``read`` (bytes of the request after which to die), ``executed`` (false: just before executing, true:
    just after), ``written`` (bytes of the answer after which to die) and ``how`` (``kill``, ``abort`` or ``close``).
    """

    def __init__(self) -> None:
        self.read: int | None = None
        self.executed: bool | None = None
        self.written: int | None = None
        self.how = "kill"

    @classmethod
    def taken(cls) -> "Plan":
        """The plan for the request that begins now."""
        plan = cls()
        if "plan" in SCRIPT:
            with contextlib.suppress(FileNotFoundError):
                told = json.loads(Path(SCRIPT["plan"]).read_bytes())
                Path(SCRIPT["plan"]).unlink()
                vars(plan).update(told)
        return plan


class Pipe:
    """One conversation on two file descriptors."""

    def __init__(self, reads: int, writes: int, end: Callable[[str], None]) -> None:
        self.reads = reads
        self.writes = writes
        self.plan = Plan()
        self._end = end
        self._rest = b""
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Wait for the next request, without reading any of it."""
        if not self._rest:
            select.select([self.reads], [], [])
        self.plan = Plan.taken()
        if self.plan.read is not None:
            self._read_and_die(self.plan.read)

    def _read_and_die(self, size: int) -> None:
        # The request may be shorter: then it is read whole.
        while size > 0 and select.select([self.reads], [], [], 0.05)[0] and (data := os.read(self.reads, size)):
            size -= len(data)
        self.die()

    def until(self, mark: bytes) -> bytes:
        """Read up to a mark, and the mark."""
        while mark not in self._rest:
            self._more()
        found, _, self._rest = self._rest.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._rest) < size:
            self._more()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _more(self) -> None:
        try:
            data = os.read(self.reads, 1 << 16)
        except OSError:
            data = b""
        if not data:
            raise Over
        self._rest += data

    def write(self, data: bytes) -> None:
        """Write all of it, or as much as the plan says."""
        limit = self.plan.written
        part = data if limit is None else data[: max(limit, 0)]
        try:
            with self._lock:
                for start in range(0, len(part), 1 << 20):
                    view = memoryview(part)[start : start + (1 << 20)]
                    while view:
                        view = view[os.write(self.writes, view) :]
        except OSError:
            raise Over from None
        if limit is not None:
            self.plan.written = limit - len(part)
            if self.plan.written <= 0:
                self.die()

    def die(self) -> None:
        """End as the plan says: the whole process, or only this conversation."""
        if self.plan.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self._end(self.plan.how)
        raise Over


# -- what it answers ---------------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """One request, and how to answer it."""

    pipe: Pipe
    message: Json
    over_http: bool

    def say(self, message: Json) -> None:
        """Say something before the answer."""
        self.raw(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def raw(self, frame: bytes) -> None:
        """Say some bytes before the answer: an event, or a line."""
        if self.over_http:
            self._open()
            data = b"data: %b\n\n" % frame
            self.pipe.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self.pipe.write(frame + b"\n")

    def _open(self) -> None:
        if not self.streaming:
            self.streaming = True
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.pipe.write(head)

    streaming = False

    def answer(self, result: Json) -> None:
        """Answer."""
        self.reply(json.dumps({"jsonrpc": "2.0", "id": self.message["id"], "result": result}).encode())

    def reply(self, frame: bytes) -> None:
        """Answer with some bytes."""
        if self.streaming:
            self.raw(frame)
            self.pipe.write(b"0\r\n\r\n")
        elif self.over_http:
            self.pipe.write(response(200, frame, SCRIPT.get("headers", {})))
        else:
            self.pipe.write(frame + b"\n")


def response(status: int, body: bytes, headers: Json) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += ["Connection: close"] if SCRIPT.get("close") else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def tools() -> list[Json]:
    named: Json = {"act": {}, "note": {}, "look": READ_ONLY}
    if SCRIPT.get("fault") == "changing_tools":
        named[f"tool_{listings}"] = {}
    schema = {"type": "object"}
    return [{"name": name, "inputSchema": schema, "annotations": notes} for name, notes in named.items()]


def listed(params: Json) -> Json:
    global listings  # noqa: PLW0603 - a program with one counter
    listings += 1
    if SCRIPT.get("fault") != "endless_pages":
        return {"tools": tools()}
    page = int(params.get("cursor", "0"))
    more = {"name": f"tool_{page}", "inputSchema": {"type": "object"}}
    return {"tools": [*tools(), more] if page == 0 else [more], "nextCursor": str(page + 1)}


def execute(asked: Asked) -> None:
    """Run a tool: note in the file ``count`` that it ran, before or after which the plan may say to die."""
    params = asked.message["params"]
    plan = asked.pipe.plan
    if plan.executed is False:
        asked.pipe.die()
    if "count" in SCRIPT:
        with Path(SCRIPT["count"]).open("a") as file:
            file.write(f"{params['arguments'].get('n')}\n")
    if plan.executed is True:
        asked.pipe.die()
    fault = FAULTS.get(SCRIPT.get("fault", "")) if params["name"] == "act" else None
    if fault is None or not fault(asked):
        asked.answer({"content": [{"type": "text", "text": str(os.getpid())}]})


def respond(asked: Asked) -> None:
    method = asked.message["method"]
    if method == "tools/call":
        execute(asked)
    elif method == "initialize":
        capabilities = {"tools": {"listChanged": True}, "logging": {}}
        about = {"serverInfo": {"name": "faulty", "version": "1"}, "capabilities": capabilities}
        asked.answer({"protocolVersion": asked.message["params"]["protocolVersion"], **about})
    elif method == "tools/list":
        asked.answer(listed(asked.message.get("params") or {}))
    elif method == "ping":
        asked.answer({})
    else:
        error = {"code": -32601, "message": f"no {method} here"}
        asked.reply(json.dumps({"jsonrpc": "2.0", "id": asked.message["id"], "error": error}).encode())


# -- faults: each is done by a call; true means that there is no answer to come ----------------------------------------


def hang(_: Asked) -> bool:
    time.sleep(LONG)
    return True


def crash(asked: Asked) -> bool:
    asked.pipe.die()
    return True


def close(asked: Asked) -> bool:
    asked.pipe.plan.how = "close"
    asked.pipe.die()
    return True


def garbage(asked: Asked) -> bool:
    """Bytes that are no JSON, and JSON that is no message, in the place of the answer."""
    number = json.dumps(asked.message["id"]).encode()
    for frame in (b"\x00\xff\xfe{{{", b'{"jsonrpc": "2.0"}', b"[]", b'{"jsonrpc": "2.0", "id": ' + number + b"}"):
        asked.raw(frame)
    return True


def garbage_body(asked: Asked) -> bool:
    asked.reply(b"\x00\xff{{{ no JSON")
    return True


def big(asked: Asked) -> bool:
    text = HELD.setdefault("big", b"x" * BIG)  # made once: making it costs more than sending it
    number = json.dumps(asked.message["id"]).encode()
    head = b'{"jsonrpc": "2.0", "id": %b, "result": {"content": [{"type": "text", "text": "' % number
    tail = b'"}]}}'
    if SCRIPT.get("events"):
        head, tail = b"event: message\ndata: " + head, tail + b"\n\n"
    if asked.over_http:
        empty = response(200, b"", {}).replace(b"Length: 0", b"Length: %d" % (len(head) + len(text) + len(tail)))
        asked.pipe.write(empty.replace(b"application/json", b"text/event-stream") if SCRIPT.get("events") else empty)
    for part in (head, text, tail if asked.over_http else tail + b"\n"):
        asked.pipe.write(part)
    return True


def drip(asked: Asked) -> bool:
    """An answer that comes byte by byte and has no end."""
    asked.pipe.write(response(200, b"{" + b" " * BIG, {})[:200] if asked.over_http else b"{")
    while True:
        time.sleep(0.005)
        asked.pipe.write(b" ")


def flood(asked: Asked) -> bool:
    params = {"level": "info", "data": "x" * 100}
    frame = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": params}).encode()
    for _ in range(FLOOD):
        asked.raw(frame)
    return False


def progress(asked: Asked) -> bool:
    token = json.dumps(asked.message["params"]["_meta"]["progressToken"]).encode()
    head = (
        b'{"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": %b, "progress": ' % token
    )
    for number in range(FLOOD):
        asked.raw(b"%b%d}}" % (head, number))
    return False


def requests(asked: Asked) -> bool:
    """Put questions that nobody can answer; over a pipe, what is answered to them is not read before the answer."""
    return questions(asked, b"roots/list")


def pings(asked: Asked) -> bool:
    return questions(asked, b"ping")


def questions(asked: Asked, method: bytes) -> bool:
    for number in range(SCRIPT.get("many", FLOOD)):
        asked.raw(b'{"jsonrpc": "2.0", "id": "q%d", "method": "%b"}' % (number, method))
    return False


def storm(asked: Asked) -> bool:
    for _ in range(FLOOD):
        asked.raw(b'{"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}')
    return False


def changing_tools(asked: Asked) -> bool:
    asked.say({"method": "notifications/tools/list_changed"})
    return False


def endless_pages(asked: Asked) -> bool:
    return changing_tools(asked)


def pollution(asked: Asked) -> bool:
    for number in range(1_000):
        asked.pipe.write(b"Server is running, request %d is coming in ...\n" % number)
    return False


def family(asked: Asked) -> bool:
    """Start grandchildren that ignore SIGTERM and hold our pipes, note their ids, and die."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        with Path(SCRIPT["family"]).open("a") as file:
            file.write(f"{child.pid}\n")
    asked.pipe.die()
    return True


def stderr(_: Asked) -> bool:
    """Write more on standard error than any pipe holds."""
    for _each in range(2_000):
        os.write(2, b"x" * 1000 + b"\n")
    return False


def status(asked: Asked) -> bool:
    code = STATUS[SCRIPT["status"]]
    body = b"" if code == STATUS["404"] else b'{"error": "no"}'
    asked.pipe.write(response(code, body, {"Retry-After": "60"} if code == STATUS["429"] else {}))
    return True


FAULTS: Final[Mapping[str, Callable[[Asked], bool]]] = {
    each.__name__: each
    for each in (
        *(hang, crash, close, garbage, garbage_body, big, drip, flood, progress, requests, pings, storm),
        *(changing_tools, endless_pages, pollution, family, stderr, status),
    )
}


# -- the two transports ------------------------------------------------------------------------------------------------


def _deaf() -> None:
    """From the first listing on read nothing any more, if that is the fault."""
    if SCRIPT.get("fault") == "deaf" and listings:
        time.sleep(LONG)


def over_stdio() -> None:
    def end(_how: str) -> None:
        """Close standard output and live on."""
        os.close(1)
        while os.read(0, 1 << 16):
            pass
        raise SystemExit

    pipe = Pipe(0, 1, end)
    with contextlib.suppress(Over):
        while True:
            _deaf()
            pipe.begin()
            message = json.loads(pipe.until(b"\n"))
            if "id" in message and "method" in message:
                respond(Asked(pipe, message, over_http=False))


def talk(sock: socket.socket) -> None:
    """Serve one HTTP connection."""

    def end(how: str) -> None:
        if how == "close":  # our side only: the peer may go on sending
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while sock.recv(1 << 16):
                    pass
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    pipe = Pipe(sock.fileno(), sock.fileno(), end)
    with sock, contextlib.suppress(Over, OSError):
        while True:
            pipe.begin()
            _deaf()
            head = pipe.until(b"\r\n\r\n").decode()
            first, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = pipe.exactly(int(headers.get("content-length", "0")))
            message = json.loads(body) if first.startswith("POST") else {}
            if not message:
                pipe.write(response(405 if first.startswith("GET") else 200, b"", {}))
            elif "id" not in message or "method" not in message:
                pipe.write(response(202, b"", {}))
            else:
                if message["method"] == "initialize" and SCRIPT.get("session", True):
                    SCRIPT["headers"] = {**SCRIPT.get("headers", {}), "Mcp-Session-Id": str(os.getpid())}
                respond(Asked(pipe, message, over_http=True))
            if SCRIPT.get("close"):
                return


def work(listener: socket.socket) -> None:
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=talk, args=(sock,), daemon=True).start()


def over_http() -> None:
    """Serve in a child, and start another one whenever it has died, until our standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    child = 0

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            work(listener)
        os.waitpid(child, 0)


def step_back() -> None:
    """Leave the processor to whoever wants it: in life this runs elsewhere, and its work costs nobody here anything."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def aside() -> list[str]:
    """The same, before a command."""
    taskset, chrt = shutil.which("taskset"), shutil.which("chrt")
    return [taskset, "--cpu-list", str(CORES[-1]), chrt, "--idle", "0"] if taskset and chrt else []


@contextlib.contextmanager
def first_core() -> Iterator[None]:
    """What is started meanwhile has a core of its own, if there are two: the others are for those that step back."""
    if sys.platform != "linux" or len(CORES) < 2:
        yield
        return
    os.sched_setaffinity(0, {CORES[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES)


def main() -> None:
    SCRIPT.update(json.loads(sys.argv[1]))
    step_back()
    (over_http if SCRIPT["over"] == "http" else over_stdio)()


# -- for tests ---------------------------------------------------------------------------------------------------------


def command(**script: Any) -> list[str]:
    """How to run it: aside from its first instruction on, or each start of it would cost others."""
    return [*aside(), sys.executable, "-S", __file__, json.dumps(script, default=str)]


def faulty_child(fault: str, **script: Any) -> Json:
    """The configuration of one over stdio."""
    program, *args = command(over="stdio", fault=fault, **script)
    return {"command": program, "args": args}


@asynccontextmanager
async def faulty_site(fault: str, **script: Any) -> AsyncIterator[str]:
    """Run one over HTTP until the block is left; its URL."""
    import anyio  # the program itself runs without any package

    process = await anyio.open_process(command(over="http", fault=fault, **script), stderr=None)
    assert process.stdout is not None
    try:
        with anyio.fail_after(20):
            port = int((await process.stdout.receive()).decode())
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        with anyio.CancelScope(shield=True):
            process.terminate()
            with anyio.fail_after(20):
                await process.wait()
            await process.aclose()


if __name__ == "__main__":
    main()
