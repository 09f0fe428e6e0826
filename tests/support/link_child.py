"""A scripted server on standard input and output: it does what the method's name says. Run as a program."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Params = dict[str, Any]
seen: list[Params] = []


def say(message: Params) -> None:
    raw(json.dumps({"jsonrpc": "2.0", **message}))


def raw(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def notify(method: str, params: Params) -> None:
    say({"method": method, "params": params})


def heard() -> Params:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    message: Params = json.loads(line)
    seen.append(message)
    return message


def echo(params: Params) -> Any:
    return params


def about(_params: Params) -> Any:
    return {"env": dict(os.environ), "cwd": str(Path.cwd()), "pid": os.getpid(), "group": os.getpgid(0)}


def seen_so_far(_params: Params) -> Any:
    return seen[:-1]


def progress(params: Params) -> Any:
    for step in range(params["steps"]):
        notify("notifications/progress", {"progressToken": params["_meta"]["progressToken"], "progress": step})
    return {"token": params["_meta"]["progressToken"]}


def ask(params: Params) -> Any:
    say({"id": "q", "method": params["method"], "params": params.get("params", {})})
    if params.get("then_cancel"):
        notify("notifications/cancelled", {"requestId": "q"})
        return {}
    return heard()


def speak(params: Params) -> Any:
    for line in params["lines"]:
        raw(line)
    return {}


def die(params: Params) -> Any:
    sys.stderr.write(params.get("stderr", ""))
    sys.stderr.flush()
    sys.stdout.write(params.get("stdout", ""))
    sys.stdout.flush()
    os._exit(params.get("code", 0))


def grandchild(_params: Params) -> Any:
    return {"pid": subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid}


def stderr(params: Params) -> Any:
    sys.stderr.write(params["text"] * params.get("times", 1))
    sys.stderr.flush()
    return {}


def close_stdout(params: Params) -> Any:
    os.close(1)
    time.sleep(params["seconds"])
    os._exit(3)


def big(params: Params) -> Any:
    return {"text": "x" * params["size"]}


def deaf(params: Params) -> Any:
    time.sleep(params["seconds"])
    return {}


METHODS = {
    name: function
    for name, function in globals().items()
    if callable(function) and name not in ("say", "raw", "notify", "heard", "Any", "Path")
}


def main() -> None:
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        message = heard()
        method, number = message.get("method", ""), message.get("id")
        params = message.get("params") or {}
        if number is None or not method or method == "hang" or "hang" in params:
            continue
        if method == "refuse":
            say({"id": number, "error": {"code": -32042, "message": "no", "data": {"why": [1]}}})
        else:
            say({"id": number, "result": METHODS[method](params)})


def loop_for_ever() -> None:
    while True:
        time.sleep(600)


if __name__ == "__main__":
    try:
        main()
    finally:
        if "stubborn" in sys.argv:
            loop_for_ever()
