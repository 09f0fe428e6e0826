# mypy: ignore-errors
# A scripted server, dense on purpose: one line says one thing that the suite or a test looks for.
"""Era-selectable MCP conformance + fidelity fixture (own work, written for this project).

It exposes every tool/resource/prompt the official conformance suite looks for, plus `probe_*` items that
measure what an intermediary changes.  Every interactive tool is written ONCE as a step function
`step(answers, state) -> finished | Ask(...)` and is served in the idiom of the era the caller speaks:

  * handshake era (<= 2025-11-25): each Ask becomes real server->client requests on the request's own channel
  * modern era   (2026-07-28)    : each Ask becomes an `InputRequiredResult` (MRTR)

so the same conformance scenario can be driven through an era-bridging proxy in all four combinations.

    fixture.py --port 3101 [--era dual|legacy|modern] [--page-size N] [--name X]
    fixture.py --stdio     [--era dual|legacy|modern]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import sys
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable

import mcp_types as T
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = base64.b64encode(b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\0\0\0\0").decode()
EMPTY = {"type": "object", "properties": {}}
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
MIN_LEVEL: dict[Any, str] = {}
NEEDS = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}
NAME_SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


# ---------------------------------------------------------------- call object
@dataclass
class Ask:
    """The tool needs these client requests answered; `state` survives until the next step."""

    requests: dict[str, dict[str, Any]]
    state: str | None = None


@dataclass
class Call:
    ctx: ServerRequestContext[Any, Any]
    args: dict[str, Any]
    answers: dict[str, Any] = field(default_factory=dict)
    state: str | None = None

    @property
    def modern(self) -> bool:
        return self.ctx.protocol_version in MODERN_PROTOCOL_VERSIONS

    @property
    def capabilities(self) -> dict[str, Any]:
        caps = self.ctx.session.client_capabilities
        return caps.model_dump(by_alias=True, mode="json", exclude_none=True) if caps else {}

    async def log(self, level: str, data: Any, logger: str | None = None) -> None:
        if not self.modern and LEVELS.index(level) < LEVELS.index(MIN_LEVEL.get(self.ctx.session._connection, "debug")):
            return  # logging/setLevel is the handshake era's filter; the modern one is the SDK's per-request logLevel gate
        await self.ctx.session.send_log_message(level, data, logger, related_request_id=self.ctx.request_id)  # type: ignore[arg-type]

    async def progress(self, value: float, total: float | None = None, message: str | None = None) -> None:
        await self.ctx.session.report_progress(value, total, message)


def text(s: str, **extra: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": s}], **extra}


def elicit(message: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


def sample(prompt: str, max_tokens: int = 100, **extra: Any) -> dict[str, Any]:
    return {
        "method": "sampling/createMessage",
        "params": {
            "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}],
            "maxTokens": max_tokens,
            **extra,
        },
    }


ROOTS = {"method": "roots/list"}


def form(answer: Any, key: str) -> Any:
    """Accepted form content, or None when the answer is missing/malformed/declined."""
    if not isinstance(answer, dict) or answer.get("action") != "accept":
        return None
    value = (answer.get("content") or {}).get(key)
    return value


def sampled(answer: Any) -> str | None:
    content = answer.get("content") if isinstance(answer, dict) else None
    return content.get("text") if isinstance(content, dict) else None


# ---------------------------------------------------------------- tools
Step = Callable[[Call], "Awaitable[dict[str, Any] | Ask]"]
TOOLS: dict[str, tuple[dict[str, Any], Step]] = {}


def tool(name: str, description: str, schema: dict[str, Any] | None = None, **extra: Any) -> Callable[[Step], Step]:
    def deco(fn: Step) -> Step:
        TOOLS[name] = ({"name": name, "description": description, "inputSchema": schema or EMPTY, **extra}, fn)
        return fn

    return deco


def obj(required: list[str] | None = None, **props: Any) -> dict[str, Any]:
    return {"type": "object", "properties": props, **({"required": required} if required else {})}


STR = {"type": "string"}

# -- static content ----------------------------------------------------------------------------------------------------
_STATIC: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "test_simple_text": (
        "Plain text result",
        [{"type": "text", "text": "This is a simple text response for testing."}],
    ),
    "test_image_content": ("Image result", [{"type": "image", "data": PNG, "mimeType": "image/png"}]),
    "test_audio_content": ("Audio result", [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]),
    "test_embedded_resource": (
        "Embedded resource result",
        [
            {
                "type": "resource",
                "resource": {
                    "uri": "test://embedded-resource",
                    "mimeType": "text/plain",
                    "text": "This is an embedded resource content.",
                },
            }
        ],
    ),
    "test_multiple_content_types": (
        "Mixed content result",
        [
            {"type": "text", "text": "Multiple content types test:"},
            {"type": "image", "data": PNG, "mimeType": "image/png"},
            {
                "type": "resource",
                "resource": {
                    "uri": "test://mixed-content-resource",
                    "mimeType": "application/json",
                    "text": '{"test":"data","value":123}',
                },
            },
        ],
    ),
}
for _n, (_d, _c) in _STATIC.items():

    def _mk(content: list[dict[str, Any]]) -> Step:
        async def fn(c: Call) -> dict[str, Any]:
            return {"content": content}

        return fn

    tool(_n, _d)(_mk(_c))


@tool("test_error_handling", "Always fails")
async def _(c: Call):
    return text("This tool intentionally returns an error for testing", isError=True)


@tool("test_tool_with_logging", "Logs three times at info")
async def _(c: Call):
    for i, msg in enumerate(("Tool execution started", "Tool processing data", "Tool execution completed")):
        if i:
            await asyncio.sleep(0.05)
        await c.log("info", msg)
    return text("Tool with logging executed successfully")


@tool("test_logging_tool", "Logs at every level (must stay silent without logLevel on the modern wire)")
async def _(c: Call):
    for level in ("debug", "info", "warning", "error"):
        await c.log(level, {"at": level}, "fixture")
    return text("logged")


@tool("test_tool_with_progress", "Reports 0/50/100 progress")
async def _(c: Call):
    for i, v in enumerate((0, 50, 100)):
        if i:
            await asyncio.sleep(0.05)
        await c.progress(v, 100, f"step {v}")
    return text("progress reported")


@tool("test_reconnection", "Closes its SSE stream mid-call (SEP-1699)")
async def _(c: Call):
    if c.ctx.close_sse_stream is not None:
        await asyncio.sleep(0.05)  # the SDK closes a stream even before it wrote the event with the id to go on from
        await c.ctx.close_sse_stream()
    await asyncio.sleep(0.2)
    return text("Reconnection test completed")


# -- interactive tools, handshake-suite names --------------------------------------------------------------------------
@tool("test_sampling", "Asks the client's LLM", obj(["prompt"], prompt=STR))
async def _(c: Call):
    if "llm" not in c.answers:
        return Ask({"llm": sample(c.args.get("prompt", ""))})
    return text(f"LLM response: {sampled(c.answers['llm'])}")


@tool("test_elicitation", "Asks the user", obj(["message"], message=STR))
async def _(c: Call):
    if "user" not in c.answers:
        return Ask(
            {
                "user": elicit(
                    c.args.get("message", ""),
                    obj(
                        ["username", "email"],
                        username={**STR, "description": "User's response"},
                        email={**STR, "description": "User's email address"},
                    ),
                )
            }
        )
    a = c.answers["user"]
    return text(f"User response: action={a.get('action')}, content={json.dumps(a.get('content') or {})}")


@tool("test_elicitation_sep1034_defaults", "Elicits with defaults of every primitive type")
async def _(c: Call):
    if "user" not in c.answers:
        return Ask(
            {
                "user": elicit(
                    "Please provide user information",
                    obj(
                        name={**STR, "default": "John Doe", "description": "User name"},
                        age={"type": "integer", "default": 30},
                        score={"type": "number", "default": 95.5},
                        status={**STR, "enum": ["active", "inactive", "pending"], "default": "active"},
                        verified={"type": "boolean", "default": True},
                    ),
                )
            }
        )
    a = c.answers["user"]
    return text(f"Elicitation completed: action={a.get('action')}, content={json.dumps(a.get('content') or {})}")


@tool("test_elicitation_sep1330_enums", "Elicits with every enum schema variant")
async def _(c: Call):
    if "user" not in c.answers:
        return Ask(
            {
                "user": elicit(
                    "Please select values",
                    obj(
                        untitledSingle={**STR, "enum": ["option1", "option2", "option3"]},
                        titledSingle={
                            **STR,
                            "oneOf": [{"const": f"value{i}", "title": f"Option {i}"} for i in (1, 2, 3)],
                        },
                        legacyEnum={
                            **STR,
                            "enum": ["opt1", "opt2", "opt3"],
                            "enumNames": ["Option One", "Option Two", "Option Three"],
                        },
                        untitledMulti={
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 3,
                            "items": {**STR, "enum": ["option1", "option2", "option3"]},
                        },
                        titledMulti={
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 3,
                            "items": {"anyOf": [{"const": f"value{i}", "title": f"Option {i}"} for i in (1, 2, 3)]},
                        },
                    ),
                )
            }
        )
    a = c.answers["user"]
    return text(f"Elicitation completed: action={a.get('action')}, content={json.dumps(a.get('content') or {})}")


# -- interactive tools, MRTR-suite names -------------------------------------------------------------------------------
@tool("test_input_required_result_elicitation", "One elicitation")
async def _(c: Call):
    name = form(c.answers.get("user_name"), "name")
    if not isinstance(name, str):
        return Ask({"user_name": elicit("What is your name?", NAME_SCHEMA)})
    return text(f"Hello, {name}!")


@tool("test_input_required_result_sampling", "One sampling request")
async def _(c: Call):
    answer = sampled(c.answers.get("capital_question"))
    if answer is None:
        return Ask({"capital_question": sample("What is the capital of France?")})
    return text(f"Model said: {answer}")


@tool("test_input_required_result_list_roots", "One roots/list request")
async def _(c: Call):
    roots = (c.answers.get("client_roots") or {}).get("roots")
    if roots is None:
        return Ask({"client_roots": ROOTS})
    return text(f"Client exposed {len(roots)} root(s): {json.dumps(roots)}")


CONFIRM = obj(["ok"], ok={"type": "boolean"})


@tool("test_input_required_result_request_state", "requestState round trip")
async def _(c: Call):
    if form(c.answers.get("confirm"), "ok") is None or c.state != "nonce":
        return Ask({"confirm": elicit("Please confirm", CONFIRM)}, state="nonce")
    return text("state-ok: confirmation received")


@tool("test_input_required_result_tampered_state", "rejects tampered requestState (boundary)")
async def _(c: Call):
    if c.state is None:
        return Ask({"confirm": elicit("Please confirm", CONFIRM)}, state="round-1")
    return text(f"state-ok: {c.state}")


@tool("test_input_required_result_multiple_inputs", "elicitation + sampling + roots at once")
async def _(c: Call):
    if not {"user_name", "greeting", "client_roots"} <= c.answers.keys():
        return Ask(
            {
                "user_name": elicit("What is your name?", NAME_SCHEMA),
                "greeting": sample("Generate a greeting", 50),
                "client_roots": ROOTS,
            },
            state="multi",
        )
    return text(f"All inputs received: {sorted(c.answers)}")


@tool("test_input_required_result_multi_round", "three rounds with evolving state")
async def _(c: Call):
    state = json.loads(c.state) if c.state else {}
    if state.get("round") == 1 and (name := form(c.answers.get("step1"), "name")) is not None:
        return Ask(
            {"step2": elicit("Step 2: What is your favorite color?", obj(["color"], color=STR))},
            state=json.dumps({"round": 2, "name": name}),
        )
    if state.get("round") == 2 and (color := form(c.answers.get("step2"), "color")) is not None:
        return text(f"{state['name']} likes {color}.")
    return Ask({"step1": elicit("Step 1: What is your name?", NAME_SCHEMA)}, state=json.dumps({"round": 1}))


@tool("test_input_required_result_capabilities", "asks only for what the client declared")
async def _(c: Call):
    caps, asks = c.capabilities, {}
    if "sampling" in caps and "sample" not in c.answers:
        asks["sample"] = sample("Say hello", 50)
    if "elicitation" in caps and "ask" not in c.answers:
        asks["ask"] = elicit("What is your name?", NAME_SCHEMA)
    if asks:
        return Ask(asks, state="gated")
    return text(f"answered: {sorted(c.answers)}")


@tool("test_streaming_elicitation", "progress first, then an elicitation")
async def _(c: Call):
    if "user" not in c.answers:
        await c.progress(1, 2)
        return Ask({"user": elicit("stream?", NAME_SCHEMA)})
    return text("streamed")


@tool("test_missing_capability", "requires the client 'sampling' capability")
async def _(c: Call):
    if "sampling" not in c.capabilities:
        raise MCPError(
            T.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool requires the client 'sampling' capability",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return text("sampling declared")


@tool("test_x_mcp_header", "argument mirrored into Mcp-Param-Region", obj(region={**STR, "x-mcp-header": "Region"}))
async def _(c: Call):
    return text(f"region={c.args.get('region')}")


@tool(
    "json_schema_2020_12_tool",
    "2020-12 keywords must survive tools/list",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": STR, "city": STR}}},
        "properties": {
            "name": STR,
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {**STR, "enum": ["phone", "email"]},
            "phone": STR,
            "email": STR,
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def _(c: Call):
    return text("ok")


@tool("test_trigger_tool_change", "announces tools/list_changed")
async def _(c: Call):
    await announce(c, "tools")
    return text("tool list changed")


@tool("test_trigger_prompt_change", "announces prompts/list_changed")
async def _(c: Call):
    await announce(c, "prompts")
    return text("prompt list changed")


# -- fidelity probes (not part of the official suite) ------------------------------------------------------------------
CANCELLED: list[str] = []


@tool(
    "probe_echo",
    "What the upstream sees of this request",
    obj(x={}, y=STR),
    title="Probe Echo Title",
    annotations={"title": "ann", "readOnlyHint": True, "openWorldHint": False},
    icons=[{"src": "https://example.com/i.png", "mimeType": "image/png", "sizes": ["48x48"]}],
    outputSchema={"type": "object", "properties": {"seen": {"type": "object"}}},
    _meta={"com.example/tool": 1},
)
async def _(c: Call):
    req = c.ctx.request
    info = c.ctx.session.client_params
    seen = {
        "protocolVersion": c.ctx.protocol_version,
        "meta": dict(c.ctx.meta or {}),
        "capabilities": c.capabilities,
        "clientInfo": info.client_info.model_dump(exclude_none=True, mode="json")
        if info and info.client_info
        else None,
        "headers": {
            k: v
            for k, v in (req.headers.items() if req is not None else [])
            if k
            in (
                "mcp-param-region",
                "authorization",
                "cookie",
                "x-custom",
                "mcp-name",
                "mcp-method",
                "mcp-protocol-version",
                "user-agent",
            )
        },
        "arguments": c.args,
    }
    return text(
        json.dumps(seen, default=str),
        structuredContent={"seen": json.loads(json.dumps(seen, default=str))},
        _meta={"com.example/result": {"a": [1]}},
    )


@tool(
    "probe_structured_array",
    "structuredContent that is not an object (2026-07-28)",
    outputSchema={"type": "array", "items": {"type": "integer"}},
)
async def _(c: Call):
    return text("[1,2]", structuredContent=[1, 2]) if c.modern else text("[1,2]")


@tool("probe_rich_content", "annotated, linked, multi-part content")
async def _(c: Call):
    return {
        "content": [
            {
                "type": "text",
                "text": "t",
                "annotations": {"audience": ["user"], "priority": 0.25},
                "_meta": {"com.example/c": 1},
            },
            {
                "type": "resource_link",
                "uri": "test://static-text",
                "name": "link",
                "title": "L",
                "description": "d",
                "mimeType": "text/plain",
                "size": 7,
            },
            {
                "type": "resource",
                "resource": {"uri": "test://b", "mimeType": "application/octet-stream", "blob": "AAEC"},
            },
        ],
        "isError": True,
        "_meta": {"com.example/r": True},
    }


@tool(
    "probe_protocol_error", "raises a JSON-RPC error with an application code and data", obj(code={"type": "integer"})
)
async def _(c: Call):
    raise MCPError(int(c.args.get("code", 4242)), "upstream says no", {"reason": "quota", "retryAfter": 7})


@tool("probe_sampling_rich", "sampling with every optional field; returns what came back")
async def _(c: Call):
    if "s" not in c.answers:
        return Ask(
            {
                "s": sample(
                    "rich",
                    77,
                    systemPrompt="sys",
                    temperature=0.5,
                    stopSequences=["X"],
                    metadata={"k": "v"},
                    includeContext="none",
                    modelPreferences={"hints": [{"name": "claude"}], "speedPriority": 0.5},
                    tools=[{"name": "calc", "inputSchema": EMPTY}],
                    toolChoice={"mode": "auto"},
                )
            }
        )
    return text(json.dumps(c.answers["s"], sort_keys=True))


@tool("probe_elicit_url", "URL-mode elicitation")
async def _(c: Call):
    if "u" not in c.answers:
        p = {"mode": "url", "message": "visit", "url": "https://example.com/consent?x=1"}
        return Ask({"u": {"method": "elicitation/create", "params": p if c.modern else {**p, "elicitationId": "e-1"}}})
    return text(json.dumps(c.answers["u"], sort_keys=True))


@tool("probe_decline", "elicitation; reports decline/cancel faithfully")
async def _(c: Call):
    if "d" not in c.answers:
        return Ask({"d": elicit("say no", NAME_SCHEMA)})
    return text(json.dumps(c.answers["d"], sort_keys=True))


@tool("probe_slow", "sleeps; records its cancellation", obj(seconds={"type": "number"}, tag=STR))
async def _(c: Call):
    try:
        await asyncio.sleep(float(c.args.get("seconds", 5)))
    except asyncio.CancelledError:
        CANCELLED.append(str(c.args.get("tag", "?")))
        raise
    return text("slept")


@tool("probe_cancelled", "tags of cancelled probe_slow calls")
async def _(c: Call):
    return text(json.dumps(CANCELLED))


@tool("probe_touch_resource", "emits resources/updated for a URI", obj(["uri"], uri=STR))
async def _(c: Call):
    await announce(c, "resource", c.args["uri"])
    return text("touched")


@tool("probe_touch_resource_list", "emits resources/list_changed")
async def _(c: Call):
    await announce(c, "resources")
    return text("touched")


@tool("probe_grow", "adds an entry to a list, or takes it out again, and announces it", obj(["what"], what=STR))
async def _(c: Call):
    what = c.args["what"]
    entries = {"resources": RESOURCES, "prompts": PROMPTS}.get(what)
    if entries is None:
        if TOOLS.pop("probe_grown", None) is None:
            tool("probe_grown", "was not there at first")(TOOLS["test_simple_text"][1])
    elif entries[-1]["name"] == "grown":
        entries.pop()
    else:
        entries.append({"name": "grown", **({"uri": "test://grown"} if what == "resources" else {})})
    await announce(c, what)
    return text(what)


ROOTS_CHANGED: list[str] = []


@tool("probe_roots_changed", "how often a client said that its roots changed")
async def _(c: Call):
    return text(str(len(ROOTS_CHANGED)))


@tool("probe_bad header tool", "name outside SEP-986 (space)", obj(a=STR))
async def _(c: Call):
    return text("odd name ok")


@tool("probe_" + "n" * 120, "126-character tool name")
async def _(c: Call):
    return text("long name ok")


# ---------------------------------------------------------------- resources / prompts
RESOURCES = [
    {
        "uri": "test://static-text",
        "name": "static-text",
        "title": "Static",
        "description": "static text",
        "mimeType": "text/plain",
        "size": 48,
        "annotations": {"audience": ["assistant"], "priority": 0.5, "lastModified": "2026-01-01T00:00:00Z"},
        "icons": [{"src": "https://example.com/r.png"}],
        "_meta": {"com.example/res": 1},
    },
    {"uri": "test://static-binary", "name": "static-binary", "description": "static binary", "mimeType": "image/png"},
    {
        "uri": "test://watched-resource",
        "name": "watched-resource",
        "description": "subscribable",
        "mimeType": "text/plain",
    },
    {"uri": "test://multi", "name": "multi", "description": "reads as two documents with their own URIs"},
]
TEMPLATES = [
    {
        "uriTemplate": "test://template/{id}/data",
        "name": "template",
        "title": "Tpl",
        "description": "parameterised",
        "mimeType": "application/json",
        "annotations": {"priority": 0.1},
        "_meta": {"com.example/tpl": 1},
    }
]
PROMPTS = [
    {"name": "test_simple_prompt", "description": "no arguments", "title": "Simple", "_meta": {"com.example/p": 1}},
    {
        "name": "test_prompt_with_arguments",
        "description": "two arguments",
        "arguments": [
            {"name": "arg1", "title": "First", "description": "First test argument", "required": True},
            {"name": "arg2", "title": "Second", "description": "Second test argument", "required": True},
        ],
    },
    {
        "name": "test_prompt_with_embedded_resource",
        "description": "embeds",
        "arguments": [{"name": "resourceUri", "required": True}],
    },
    {"name": "test_prompt_with_image", "description": "image"},
    {"name": "test_input_required_result_prompt", "description": "elicits before rendering"},
]


def user(content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": content}


async def prompt_step(c: Call, name: str) -> dict[str, Any] | Ask:
    a = c.args
    if name == "test_simple_prompt":
        return {
            "description": "simple",
            "messages": [user({"type": "text", "text": "This is a simple prompt for testing."})],
            "_meta": {"com.example/pr": 1},
        }
    if name == "test_prompt_with_arguments" and a.get("arg1") == "boom":
        raise MCPError(4242, "prompt says no", {"k": 1})
    if name == "test_prompt_with_arguments":
        return {
            "messages": [
                user({"type": "text", "text": f"Prompt with arguments: arg1='{a.get('arg1')}', arg2='{a.get('arg2')}'"})
            ]
        }
    if name == "test_prompt_with_embedded_resource":
        return {
            "messages": [
                user(
                    {
                        "type": "resource",
                        "resource": {
                            "uri": a.get("resourceUri", ""),
                            "mimeType": "text/plain",
                            "text": "Embedded resource content for testing.",
                        },
                    }
                ),
                user({"type": "text", "text": "Please process the embedded resource above."}),
            ]
        }
    if name == "test_prompt_with_image":
        return {
            "messages": [
                user({"type": "image", "data": PNG, "mimeType": "image/png"}),
                user({"type": "text", "text": "Please analyze the image above."}),
            ]
        }
    if name == "test_input_required_result_prompt":
        ctx_text = form(c.answers.get("user_context"), "context")
        if ctx_text is None:
            return Ask({"user_context": elicit("What context should the prompt use?", obj(["context"], context=STR))})
        return {"messages": [user({"type": "text", "text": f"Use the following context: {ctx_text}"})]}
    raise MCPError(T.INVALID_PARAMS, f"Unknown prompt: {name}")


async def read_step(c: Call, uri: str) -> dict[str, Any] | Ask:
    if uri == "test://static-text":
        return {
            "contents": [
                {
                    "uri": uri,
                    "mimeType": "text/plain",
                    "text": "This is the content of the static text resource.",
                    "_meta": {"com.example/rc": 1},
                }
            ],
            "_meta": {"com.example/rr": 1},
        }
    if uri == "test://static-binary":
        return {"contents": [{"uri": uri, "mimeType": "image/png", "blob": PNG}]}
    if uri == "test://watched-resource":
        return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": "Watched resource content"}]}
    if uri == "test://multi":
        return {
            "contents": [
                {"uri": "test://multi/a", "text": "A"},
                {"uri": "test://multi/b", "mimeType": "text/markdown", "text": "B"},
            ]
        }
    if uri == "hidden://unlisted":  # readable although never listed (resource_link targets behave like this)
        return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": "unlisted"}]}
    if uri == "test://template/boom/data":
        raise MCPError(4242, "resource says no", {"k": 1})
    if uri.startswith("test://template/") and uri.endswith("/data"):
        rid = uri[len("test://template/") : -len("/data")]
        return {
            "contents": [
                {
                    "uri": uri,
                    "mimeType": "application/json",
                    "text": json.dumps({"id": rid, "templateTest": True, "data": f"Data for ID: {rid}"}),
                }
            ]
        }
    raise MCPError(T.INVALID_PARAMS if c.modern else -32002, "Resource not found", {"uri": uri})


# ---------------------------------------------------------------- serving
BUS = InMemorySubscriptionBus()
SUBSCRIBERS: dict[str, set[Any]] = {}
SESSIONS: list[Any] = []


async def announce(c: Call, what: str, uri: str = "") -> None:
    """Publish a change: onto listen streams (modern) and onto every known handshake session's standalone channel."""
    event = {
        "tools": ToolsListChanged(),
        "prompts": PromptsListChanged(),
        "resources": ResourcesListChanged(),
        "resource": ResourceUpdated(uri=uri),
    }[what]
    await BUS.publish(event)
    for conn in list(SESSIONS):
        if what == "resource" and conn not in SUBSCRIBERS.get(uri, ()):
            continue
        method = {
            "tools": "notifications/tools/list_changed",
            "prompts": "notifications/prompts/list_changed",
            "resources": "notifications/resources/list_changed",
            "resource": "notifications/resources/updated",
        }[what]
        with contextlib.suppress(Exception):
            await conn.outbound.notify(method, {"uri": uri} if what == "resource" else None)


def remember(ctx: ServerRequestContext[Any, Any]) -> Any:
    conn = ctx.session._connection
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS and conn not in SESSIONS:
        SESSIONS.append(conn)
        conn.exit_stack.callback(
            lambda: (
                SESSIONS.remove(conn) if conn in SESSIONS else None,
                [s.discard(conn) for s in SUBSCRIBERS.values()],
            )
        )
    return conn


async def drive(
    ctx: ServerRequestContext[Any, Any],
    args: dict[str, Any] | None,
    params: Any,
    step: Callable[[Call], Awaitable[dict[str, Any] | Ask]],
) -> dict[str, Any]:
    """Run one interactive step; answer its Asks in the era's own idiom."""
    remember(ctx)
    call = Call(ctx, args or {})
    if call.modern:
        call.answers = {
            k: v.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(v, "model_dump") else v
            for k, v in (params.input_responses or {}).items()
        }
        call.state = params.request_state
        out = await step(call)
        if isinstance(out, Ask):
            missing = {
                NEEDS[r["method"]]: {} for r in out.requests.values() if NEEDS[r["method"]] not in call.capabilities
            }
            if missing:  # spec MUST: never ask for what the client did not declare
                raise MCPError(
                    T.MISSING_REQUIRED_CLIENT_CAPABILITY,
                    "Client capability required",
                    {"requiredCapabilities": missing},
                )
            res: dict[str, Any] = {"resultType": "input_required"}
            if out.requests:
                res["inputRequests"] = out.requests
            if out.state is not None:
                res["requestState"] = out.state
            return res
        return {"resultType": "complete", **out}
    for _ in range(8):
        out = await step(call)
        if not isinstance(out, Ask):
            return out
        # concurrently, so a bridge that batches can put them into one InputRequiredResult
        answers = await asyncio.gather(
            *(
                ctx.session._request_outbound.send_raw_request(r["method"], r.get("params"), None)
                for r in out.requests.values()
            )
        )
        call.answers.update(zip(out.requests, answers))
        call.state = out.state
    raise MCPError(T.INTERNAL_ERROR, "too many rounds")


def build(name: str, page_size: int, era: str) -> Server[Any]:
    def done(result: dict[str, Any], ctx: Any) -> dict[str, Any]:
        return {"resultType": "complete", **result} if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS else result

    def page(ctx: Any, items: list[dict[str, Any]], key: str, params: Any) -> dict[str, Any]:
        start = 0
        if params is not None and params.cursor is not None:
            try:
                start = int(params.cursor)
            except ValueError:
                raise MCPError(T.INVALID_PARAMS, "Invalid cursor") from None
        end = start + page_size if page_size else len(items)
        return done({key: items[start:end], **({"nextCursor": str(end)} if end < len(items) else {})}, ctx)

    async def list_tools(ctx, p):
        remember(ctx)
        modern = (
            ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
        )  # a non-object outputSchema only exists on the modern wire
        return page(
            ctx,
            [d for d, _ in TOOLS.values() if modern or d.get("outputSchema", {}).get("type", "object") == "object"],
            "tools",
            p,
        )

    async def call_tool(ctx, p):
        entry = TOOLS.get(p.name)
        if entry is None:
            raise MCPError(T.INVALID_PARAMS, f"Unknown tool: {p.name}")
        return await drive(ctx, p.arguments, p, entry[1])

    async def list_resources(ctx, p):
        return page(ctx, RESOURCES, "resources", p)

    async def list_templates(ctx, p):
        return page(ctx, TEMPLATES, "resourceTemplates", p)

    async def list_prompts(ctx, p):
        return page(ctx, PROMPTS, "prompts", p)

    async def read_resource(ctx, p):
        return await drive(ctx, None, p, lambda c: read_step(c, p.uri))

    async def get_prompt(ctx, p):
        return await drive(ctx, p.arguments, p, lambda c: prompt_step(c, p.name))

    async def complete(ctx, p):
        ref = p.ref.name if isinstance(p.ref, T.PromptReference) else p.ref.uri
        seen = (p.context.arguments if p.context else None) or {}
        return done(
            {
                "completion": {
                    "values": [f"{ref}|{p.argument.name}|{p.argument.value}|{json.dumps(seen, sort_keys=True)}"],
                    "total": 1,
                    "hasMore": False,
                }
            },
            ctx,
        )

    async def subscribe(ctx, p):
        SUBSCRIBERS.setdefault(p.uri, set()).add(remember(ctx))
        return {}

    async def unsubscribe(ctx, p):
        SUBSCRIBERS.get(p.uri, set()).discard(remember(ctx))
        return {}

    async def set_level(ctx, p):
        MIN_LEVEL[remember(ctx)] = p.level
        return {}

    async def roots_changed(ctx, p):
        ROOTS_CHANGED.append("")

    hint = CacheHint(ttl_ms=60_000, scope="public")
    server: Server[Any] = Server(
        name,
        version="9.9.9",
        title="Fixture Title",
        instructions="fixture instructions",
        cache_hints={
            "tools/list": hint,
            "prompts/list": hint,
            "resources/list": CacheHint(5_000, "private"),
            "resources/templates/list": hint,
            "resources/read": CacheHint(1_000, "private"),
            "server/discover": hint,
        },
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_set_logging_level=set_level,
        on_roots_list_changed=roots_changed,
        on_subscriptions_listen=ListenHandler(BUS),
    )
    server.middleware.append(
        RequestStateBoundary(
            RequestStateSecurity(keys=[b"fixture-request-state-key-0123456789"]), default_audience=name
        )
    )
    original = server.create_initialization_options
    server.create_initialization_options = lambda *a, **k: original(NotificationOptions(True, True, True))  # type: ignore[method-assign]
    return server


class Events(EventStore):
    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []

    async def store_event(self, stream_id, message):
        self.log.append((stream_id, message))
        return str(len(self.log))

    async def replay_events_after(self, last_event_id, send_callback):
        with contextlib.suppress(ValueError):
            i = int(last_event_id)
            if 0 < i <= len(self.log):
                stream = self.log[i - 1][0]
                for j, (s, m) in enumerate(self.log[i:], i + 1):
                    if s == stream and m is not None:
                        await send_callback(EventMessage(m, str(j)))
                return stream
        return None


def era_gate(app: Any, era: str) -> Any:
    """Make the dual-era HTTP app answer like a server of only one era."""

    async def reply(send: Any, status: int, code: int, message: str, data: Any = None, rid: Any = None) -> None:
        body = json.dumps(
            {
                "jsonrpc": "2.0",
                "id": rid,
                "error": {"code": code, "message": message, **({"data": data} if data else {})},
            }
        ).encode()
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": body})

    async def gate(scope, receive, send):
        if scope["type"] == "http" and era != "dual":
            version = dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode()
            modern = version in MODERN_PROTOCOL_VERSIONS
            if era == "legacy" and modern:  # what mcp 1.x answers to a session-less modern POST
                return await reply(send, 400, T.INVALID_REQUEST, "Bad Request: Missing session ID", rid="server-error")
            if era == "modern" and (not version or version in HANDSHAKE_PROTOCOL_VERSIONS):
                if scope["method"] != "POST":
                    await send({"type": "http.response.start", "status": 405, "headers": [(b"allow", b"POST")]})
                    return await send({"type": "http.response.body", "body": b""})
                return await reply(
                    send,
                    400,
                    T.UNSUPPORTED_PROTOCOL_VERSION,
                    "Unsupported protocol version (this server speaks 2026-07-28)",
                    {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": version or "2025-03-26"},
                )
        return await app(scope, receive, send)

    return gate


async def run_stdio(server: Server[Any], era: str) -> None:
    from mcp.server import runner
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (r, w), server.lifespan(server) as state:
        opts = server.create_initialization_options()
        if era == "legacy":
            await runner.serve_loop(server, r, w, lifespan_state=state, init_options=opts)
        elif era == "modern":
            await runner._serve_modern_stream(server, r, w, lifespan_state=state, raise_exceptions=False)
        else:
            await runner.serve_dual_era_loop(server, r, w, lifespan_state=state, init_options=opts)


def main() -> None:
    ap = argparse.ArgumentParser()
    ap.add_argument("--port", type=int, default=3101)
    ap.add_argument("--era", choices=["dual", "legacy", "modern"], default="dual")
    ap.add_argument("--stdio", action="store_true")
    ap.add_argument("--page-size", type=int, default=0)
    ap.add_argument("--name", default="fixture")
    a = ap.parse_args()
    server = build(a.name, a.page_size, a.era)
    if a.stdio:
        return asyncio.run(run_stdio(server, a.era))
    import uvicorn

    app = server.streamable_http_app(event_store=Events() if a.era != "modern" else None, retry_interval=100)
    uvicorn.run(era_gate(app, a.era), host="127.0.0.1", port=a.port, log_level="warning", http="h11")


if __name__ == "__main__":
    sys.exit(main())
