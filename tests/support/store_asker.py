"""An MCP server on standard input and output whose tools ask their client. It speaks both eras. No SDK."""

import json
import sys
from typing import Any

Json = dict[str, Any]

MODERN = "2026-07-28"
TOOLS = ("greet", "think", "where", "can", "work")
QUESTIONS: dict[str, tuple[str, Json]] = {
    "greet": (
        "elicitation/create",
        {
            "mode": "form",
            "message": "Who are you?",
            "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    ),
    "think": (
        "sampling/createMessage",
        {"messages": [{"role": "user", "content": {"type": "text", "text": "6 * 7?"}}], "maxTokens": 10},
    ),
    "where": ("roots/list", {}),
}

told: Json = {}
"""The client's capabilities, as it said at the handshake."""
numbers = iter(range(1000, 100_000))


def say(message: Json) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(words: str) -> Json:
    return {"content": [{"type": "text", "text": words}]}


def conclude(tool: str, answer: Json) -> Json:
    """The result of a tool whose question was answered."""
    if tool == "greet":
        accepted = answer.get("action") == "accept"
        return text(f"Hello, {answer['content']['name'] if accepted else 'nobody'}")
    if tool == "think":
        return text(f"I think {answer['content']['text']}")
    return text(" ".join(root["uri"] for root in answer["roots"]))


def ask(method: str, params: Json) -> Json:
    """Ask a handshake client and wait for its answer."""
    number = next(numbers)
    say({"id": number, "method": method, "params": params})
    while True:
        message = json.loads(sys.stdin.readline())
        if message.get("id") == number and "method" not in message:
            return dict(message)
        if "id" in message and "method" in message:
            serve(message)


def call(params: Json, capabilities: Json, *, modern: bool) -> Json:
    tool = params["name"]
    if tool == "can":
        return text(json.dumps(sorted(capabilities)))
    if tool == "work":
        return work(params)
    method, question = QUESTIONS[tool]
    if not modern:
        answer = ask(method, question)
        if "error" in answer:
            return {**text(answer["error"]["message"]), "isError": True}
        return conclude(tool, answer["result"])
    answers = params.get("inputResponses")
    if answers:
        return conclude(tool, answers["it"])
    return {"resultType": "input_required", "inputRequests": {"it": {"method": method, "params": question}}}


def work(params: Json) -> Json:
    token = (params.get("_meta") or {}).get("progressToken")
    for level, words in (("info", "all is well"), ("warning", "be careful")):
        say({"method": "notifications/message", "params": {"level": level, "data": words}})
    for step in (1, 2):
        if token is not None:
            say({"method": "notifications/progress", "params": {"progressToken": token, "progress": step, "total": 2}})
    return text("done")


def serve(message: Json) -> None:
    method, params = message["method"], message.get("params") or {}
    meta = params.get("_meta") or {}
    modern = meta.get("io.modelcontextprotocol/protocolVersion") == MODERN
    if method == "initialize":
        told.clear()
        told.update(params["capabilities"])
        result: Json = {"protocolVersion": "2025-11-25", **about()}
    elif method == "server/discover":
        result = {"supportedVersions": [MODERN], **about(), "ttlMs": 0, "cacheScope": "private"}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
        if modern:
            result |= {"ttlMs": 0, "cacheScope": "private"}
    elif method == "tools/call":
        capabilities = meta.get("io.modelcontextprotocol/clientCapabilities", {}) if modern else told
        result = call(params, capabilities, modern=modern)
    elif method in ("ping", "logging/setLevel"):
        result = {}
    else:
        say({"id": message["id"], "error": {"code": -32601, "message": f"no {method} here"}})
        return
    if modern:
        result.setdefault("resultType", "complete")
    say({"id": message["id"], "result": result})


def about() -> Json:
    return {"capabilities": {"tools": {}, "logging": {}}, "serverInfo": {"name": "asker", "version": "1"}}


if __name__ == "__main__":
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            serve(message)
