"""A server on standard input and output that changes its mind: what it offers stands in a file, which a test rewrites.

Run as a program with the file as its argument. The file is a JSON object with ``tools``, ``prompts``, ``resources``,
``templates`` (definitions as on the wire) and ``instructions``. Its tool ``turn`` makes it say that everything changed;
any other tool, prompt or resource is answered whether it is offered or not, as a hostile server would.
"""

import json
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]

TURN: Json = {"name": "turn", "description": "Say that the lists changed.", "inputSchema": {"type": "object"}}
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "templates",
}


def changing(file: Path, **more: Any) -> Json:
    """The configuration of such a server."""
    return {"command": sys.executable, "args": ["-S", __file__, str(file)], **more}


def tool(name: str, description: str = "A tool.", **more: Any) -> Json:
    """The definition of a tool."""
    return {"name": name, "description": description, "inputSchema": {"type": "object"}, **more}


def offer(file: Path, *tools: Json, **more: Any) -> None:
    """Let the server offer this from now on; ``turn`` makes it say so."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps({"resourceTemplates": [], **more, "tools": [TURN, *tools]}))
    part.replace(file)


def say(message: Json) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def offered() -> Json:
    found: Json = json.loads(Path(sys.argv[1]).read_text())
    return found


def answer(method: str, params: Json) -> Json:
    if method == "initialize":
        every: Json = {kind: {"listChanged": True} for kind in ("tools", "prompts", "resources")}
        about = {"serverInfo": {"name": "changing", "version": "1"}, "protocolVersion": params["protocolVersion"]}
        said = offered().get("instructions")
        return {**about, "capabilities": every} | ({"instructions": said} if said else {})
    if method in LISTS:
        key = "resourceTemplates" if method == "resources/templates/list" else LISTS[method]
        return {key: offered().get(LISTS[method], [])}
    if method == "tools/call":
        if params["name"] == "turn":
            for kind in ("tools", "prompts", "resources"):
                say({"method": f"notifications/{kind}/list_changed"})
        return {"content": [{"type": "text", "text": f"did {params['name']}"}]}
    if method == "prompts/get":
        return {"messages": [{"role": "user", "content": {"type": "text", "text": f"prompt {params['name']}"}}]}
    if method == "resources/read":
        return {"contents": [{"uri": params["uri"], "text": f"content of {params['uri']}"}]}
    return {}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("id") is not None and "method" in message:
            say({"id": message["id"], "result": answer(message["method"], message.get("params") or {})})


if __name__ == "__main__":
    main()
