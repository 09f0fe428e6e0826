"""A scripted MCP server on standard input and output, without any SDK: it starts at once, and does what it is told.

Run as a program with one argument, a JSON object: ``name``, ``tools`` (names, or whole definitions), ``resources``
(URIs), ``templates``, ``prompts`` (names), ``waits_for`` (a file until whose appearance it stays silent), ``chain``
(it says that it is a Manifold). A tool answers with who it is and what it was given; its argument ``do`` names one of
the functions in ``DEEDS``.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SCRIPT: Json = {}


def upstream(name: str, *tools: str | Json, **more: Any) -> Json:
    """The configuration of such a server. ``more`` is for its script, apart from what a configuration knows."""
    known = ("resources", "templates", "prompts", "waits_for", "chain")
    own: Json = {key: more.pop(key) for key in known if key in more}
    script: Json = {"name": name, "tools": tools, **own}
    return {"command": sys.executable, "args": ["-S", __file__, json.dumps(script, default=str)], **more}


def crashing(last_words: str) -> Json:
    """The configuration of a server that ends at its start."""
    return {"command": sys.executable, "args": ["-S", "-c", f"raise SystemExit({last_words!r})"]}


def appear(file: Path) -> None:
    """Let there be a file for which a server waits."""
    file.touch()


def vanish(file: Path) -> None:
    """Let it be gone again."""
    file.unlink()


def say(message: Json) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def environment(_: Json) -> Json:
    return dict(os.environ)


def spawn(_: Json) -> Json:
    """Start a grandchild that ignores SIGTERM and the end of its input."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    return {"pid": child.pid}


def offer(arguments: Json) -> Json:
    """From now on offer another tool, and say so."""
    SCRIPT["tools"] = [*SCRIPT["tools"], arguments["tool"]]
    say({"method": "notifications/tools/list_changed"})
    return {}


def offer_silently(arguments: Json) -> Json:
    SCRIPT["tools"] = [*SCRIPT["tools"], arguments["tool"]]
    return {}


def die(_: Json) -> Json:
    os._exit(3)


def complain(arguments: Json) -> Json:
    sys.stderr.write(arguments["text"] + "\n")
    sys.stderr.flush()
    return {}


def babble(arguments: Json) -> Json:
    """Say something on standard output that is no JSON-RPC."""
    sys.stdout.write(arguments["text"] + "\n")
    return {}


def swell(arguments: Json) -> Json:
    return {"text": "x" * arguments["size"]}


def wait(arguments: Json) -> Json:
    if "text" in arguments:
        complain(arguments)
    while not Path(arguments["file"]).exists():
        time.sleep(0.02)
    return {}


def hang(arguments: Json) -> Json:
    complain(arguments)
    time.sleep(600)
    return {}


DEEDS = {
    deed.__name__: deed
    for deed in (environment, spawn, offer, offer_silently, die, complain, babble, swell, wait, hang)
}


def initialize(params: Json) -> Json:
    kinds = {"tools": SCRIPT["tools"], "resources": SCRIPT.get("resources"), "prompts": SCRIPT.get("prompts")}
    chain: Json = {"experimental": {"mcp-manifold": {}}} if SCRIPT.get("chain") else {}
    return {
        "protocolVersion": params["protocolVersion"],
        "capabilities": chain | {kind: {"listChanged": True} for kind, found in kinds.items() if found is not None},
        "serverInfo": {"name": SCRIPT["name"], "version": "1"},
    }


def call(params: Json) -> Json:
    arguments = params.get("arguments") or {}
    done = DEEDS[arguments["do"]](arguments) if "do" in arguments else None
    told = {"server": SCRIPT["name"], "tool": params["name"], "arguments": arguments, "pid": os.getpid(), "done": done}
    return {"content": [{"type": "text", "text": json.dumps(told)}], "structuredContent": told}


def read(uri: str) -> Json | None:
    known = uri in SCRIPT.get("resources", ()) or any(
        uri.startswith(template.partition("{")[0]) for template in SCRIPT.get("templates", ())
    )
    return {"contents": [{"uri": uri, "text": f"{SCRIPT['name']} has {uri}"}]} if known else None


def answer(method: str, params: Json) -> Json | None:
    if method == "initialize":
        return initialize(params)
    if method == "tools/call":
        return call(params)
    if method == "resources/read":
        return read(params["uri"])
    if method == "prompts/get":
        return {"messages": [{"role": "user", "content": {"type": "text", "text": SCRIPT["name"]}}]}
    return listed(method)


def listed(method: str) -> Json | None:
    if method == "tools/list":
        tools = [one if isinstance(one, dict) else {"name": one} for one in SCRIPT["tools"]]
        return {"tools": [{"inputSchema": {"type": "object"}, **one} for one in tools]}
    if method == "resources/list":
        return {"resources": [{"uri": uri, "name": uri} for uri in SCRIPT.get("resources", ())]}
    if method == "resources/templates/list":
        return {"resourceTemplates": [{"uriTemplate": uri, "name": uri} for uri in SCRIPT.get("templates", ())]}
    if method == "prompts/list":
        return {"prompts": [{"name": name} for name in SCRIPT.get("prompts", ())]}
    return {} if method == "ping" else None


def main() -> None:
    SCRIPT.update(json.loads(sys.argv[1]))
    while "waits_for" in SCRIPT and not Path(SCRIPT["waits_for"]).exists():
        time.sleep(0.02)
    for line in sys.stdin:
        message = json.loads(line)
        number, method = message.get("id"), message.get("method")
        if number is None or method is None:
            continue
        result = answer(method, message.get("params") or {})
        if result is None:
            code = -32002 if method == "resources/read" else -32601
            say({"id": number, "error": {"code": code, "message": f"no {method} here"}})
        else:
            say({"id": number, "result": result})


if __name__ == "__main__":
    main()
