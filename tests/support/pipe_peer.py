"""A handshake server on standard input and output that answers calls when it likes, in threads, and says things before.

Tools: ``echo`` gives back its arguments; ``steps`` reports ``count`` steps, one log line each, and then answers;
``large`` answers with ``size`` bytes; ``hold`` says so on standard error and answers when somebody calls ``release``;
``ask`` asks the client and answers with what it was told. Cancellations are told on standard error, and
take the questions of the call back.
"""

import json
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.manifold import ROOT

Json = dict[str, Any]
TOOLS = ("echo", "steps", "large", "hold", "release", "ask")
FORM = {"type": "object", "properties": {"x": {"type": "string"}}}

lock = threading.Lock()
released = threading.Event()
told: dict[str, Json] = {}
news = threading.Condition()


def config(**more: Any) -> Json:
    """The configuration of one."""
    return {"command": sys.executable, "args": [str(Path(__file__))], "env": {"PYTHONPATH": str(ROOT)}, **more}


def say(message: Json) -> None:
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(value: str) -> Json:
    return {"content": [{"type": "text", "text": value}]}


def ask(number: str, _: Json, __: Json) -> Json:
    question = f"question-{number}"
    say({"id": question, "method": "elicitation/create", "params": {"message": "x?", "requestedSchema": FORM}})
    with news:
        news.wait_for(lambda: question in told)
        return text(json.dumps(told.pop(question)))


def steps(_: str, arguments: Json, meta: Json) -> Json:
    for step in range(arguments["count"]):
        say({"method": "notifications/progress", "params": {"progressToken": meta["progressToken"], "progress": step}})
        say({"method": "notifications/message", "params": {"level": "warning", "data": step}})
    return text("done")


def hold(_: str, __: Json, ___: Json) -> Json:
    sys.stderr.write("held\n")
    sys.stderr.flush()
    released.wait()
    return text("released")


def release(_: str, __: Json, ___: Json) -> Json:
    released.set()
    return text("")


DEEDS = {"ask": ask, "steps": steps, "hold": hold, "release": release}


def call(number: Any, params: Json) -> None:
    arguments, meta = params.get("arguments") or {}, params.get("_meta") or {}
    if params["name"] in DEEDS:
        result = DEEDS[params["name"]](str(number), arguments, meta)
    else:
        result = text("x" * arguments["size"] if params["name"] == "large" else json.dumps(arguments))
    say({"id": number, "result": result})


def take(message: Json) -> None:
    number, method = message.get("id"), message.get("method")
    if method is None:
        with news:
            told[str(number)] = {key: message[key] for key in ("result", "error") if key in message}
            news.notify_all()
    elif method == "tools/call":
        threading.Thread(target=call, args=(number, message["params"]), daemon=True).start()
    elif method == "notifications/cancelled":
        sys.stderr.write("cancelled\n")
        sys.stderr.flush()
        say({"method": method, "params": {"requestId": f"question-{message['params']['requestId']}"}})
    elif number is not None:
        about = {"protocolVersion": "2025-11-25", "serverInfo": {"name": "peer", "version": "1"}}
        known: Json = {
            "initialize": {**about, "capabilities": {"tools": {}, "logging": {}}},
            "tools/list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]},
            "ping": {},
            "logging/setLevel": {},
        }
        error = {"error": {"code": -32601, "message": "no such method"}}
        say({"id": number, **({"result": known[method]} if method in known else error)})


if __name__ == "__main__":
    for line in sys.stdin:
        take(json.loads(line))
