"""What a client does and sees: each script returns everything it saw, as JSON.

Run against the fixture directly and through Manifold, a script must see the same, except for what ``normal`` takes out.
"""

import base64
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.conformance.wire import META, Client, Exchange, Json

Script = Callable[[Client], Awaitable[Any]]
SCRIPTS: Final[dict[str, Script]] = {}

FULL: Final[Json] = {
    "roots": {"listChanged": True},
    "sampling": {"tools": {}, "context": {}},
    "elicitation": {"form": {}, "url": {}},
}
"""Everything a client can declare."""
SAMPLED: Final[Json] = {
    "role": "assistant",
    "model": "tiny-1",
    "stopReason": "toolUse",
    "content": [
        {"type": "text", "text": "let me see"},
        {"type": "tool_use", "id": "t1", "name": "calc", "input": {"a": [1, None, 2.5]}},
        {"type": "image", "data": base64.b64encode(b"png").decode(), "mimeType": "image/png"},
    ],
    "_meta": {"com.example/sampled": 1},
}
ROOTS: Final[Json] = {"roots": [{"uri": "file:///srv/code", "name": "me", "_meta": {"com.example/root": True}}]}


def script(function: Script) -> Script:
    """Register a script under its name."""
    SCRIPTS[function.__name__] = function
    return function


def person(method: str, params: Json | None) -> Json:
    """Answers everything, with every field there is."""
    if method == "roots/list":
        return ROOTS
    if method == "sampling/createMessage":
        rich = "tools" in (params or {})
        return SAMPLED if rich else {**SAMPLED, "content": {"type": "text", "text": "Paris"}}
    if (params or {}).get("mode") == "url":
        return {"action": "accept"}
    properties = (params or {}).get("requestedSchema", {}).get("properties", {})
    return {"action": "accept", "content": {name: _filled(schema) for name, schema in properties.items()}}


def _filled(schema: Json) -> Any:
    fillings = {"boolean": True, "integer": 3, "number": 1.5, "array": ["option1"]}
    return fillings.get(schema.get("type", ""), "blue")


def seen(exchange: Exchange) -> Json:
    """An exchange as JSON."""
    return {"answer": exchange.answer, "notes": exchange.notes, "asked": exchange.asked}


async def _tool(client: Client, name: str, arguments: Json | None = None, **rest: Any) -> Json:
    return seen(await client.tool(name, arguments, **rest))


# -- lists -------------------------------------------------------------------------------------------------------------


async def _entries(client: Client, method: str, key: str) -> Any:
    return (await client.send(method)).result[key]


@script
async def list_tools(client: Client) -> Any:
    tools = await _entries(client, "tools/list", "tools")
    # The fixture lists it in the modern era only; test_differences.py says how the handshake era gets it.
    return [tool for tool in tools if tool["name"] != "probe_structured_array"]


@script
async def list_resources(client: Client) -> Any:
    return await _entries(client, "resources/list", "resources")


@script
async def list_templates(client: Client) -> Any:
    return await _entries(client, "resources/templates/list", "resourceTemplates")


@script
async def list_prompts(client: Client) -> Any:
    return await _entries(client, "prompts/list", "prompts")


@script
async def list_with_an_invalid_cursor(client: Client) -> Any:
    return [
        (await client.send(method, {"cursor": "no such page"})).error["code"]
        for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
    ]


# -- calls -------------------------------------------------------------------------------------------------------------


@script
async def call_every_kind_of_content(client: Client) -> Any:
    names = ("simple_text", "image_content", "audio_content", "embedded_resource", "multiple_content_types")
    return [await _tool(client, f"test_{name}") for name in names]


@script
async def call_rich_content(client: Client) -> Any:
    return await _tool(client, "probe_rich_content")


@script
async def call_that_fails(client: Client) -> Any:
    return await _tool(client, "test_error_handling")


@script
async def call_with_arguments_of_every_type(client: Client) -> Any:
    value = {"x": [1, 2.5, -0.0, 1e300, 2**53, None, True, {"deep": {"": "ünï\u2028 😀"}}], "y": '\x7f\\"/'}
    return (await client.tool("probe_echo", value)).result["structuredContent"]["seen"]["arguments"]


@script
async def call_odd_names(client: Client) -> Any:
    return [await _tool(client, "probe_bad header tool"), await _tool(client, "probe_" + "n" * 120)]


@script
async def error_with_code_and_data(client: Client) -> Any:
    return [await _tool(client, "probe_protocol_error", {"code": code}) for code in (4242, -32603, -32000, -32602)]


@script
async def error_unknown_names(client: Client) -> Any:
    tool = await client.tool("no_such_tool")
    prompt = await client.send("prompts/get", {"name": "no_such_prompt"})
    return [tool.error["code"], prompt.error["code"]]


@script
async def error_unknown_method(client: Client) -> Any:
    return (await client.send("no/such_method", {})).error["code"]


@script
async def request_meta(client: Client) -> Any:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    meta = {"traceparent": trace, "tracestate": "a=b", "baggage": "k=v", "com.example/mine": {"a": [1]}}
    params = {"name": "probe_echo", "arguments": {}, "_meta": meta}
    exchange = await client.send("tools/call", params)
    arrived = exchange.result["structuredContent"]["seen"]["meta"]
    return {key: value for key, value in arrived.items() if not key.startswith(META)}


@script
async def client_capabilities(client: Client) -> Any:
    return (await client.tool("probe_echo")).result["structuredContent"]["seen"]["capabilities"]


@script
async def param_header(client: Client) -> Any:
    headers = {"Mcp-Param-Region": "=?base64?w7xi?="} if client.modern else {}
    return await _tool(client, "test_x_mcp_header", {"region": "üb"}, headers=headers)


# -- questions ---------------------------------------------------------------------------------------------------------


@script
async def elicitation_form(client: Client) -> Any:
    return await _tool(client, "test_elicitation", {"message": "who?"}, answer=person)


@script
async def elicitation_schemas(client: Client) -> Any:
    return [
        await _tool(client, name, answer=person)
        for name in ("test_elicitation_sep1034_defaults", "test_elicitation_sep1330_enums")
    ]


@script
async def elicitation_declined(client: Client) -> Any:
    return [
        await _tool(client, "probe_decline", answer=lambda _method, _params, action=action: {"action": action})
        for action in ("decline", "cancel")
    ]


@script
async def elicitation_url(client: Client) -> Any:
    found = await _tool(client, "probe_elicit_url", answer=person)
    # A modern upstream never says that a page was completed, so Manifold does; test_differences.py looks at that.
    found["notes"] = [note for note in found["notes"] if note["method"] != "notifications/elicitation/complete"]
    return found


@script
async def sampling_plain(client: Client) -> Any:
    return await _tool(client, "test_sampling", {"prompt": "capital?"}, answer=person)


@script
async def sampling_with_every_field(client: Client) -> Any:
    return await _tool(client, "probe_sampling_rich", answer=person)


@script
async def roots(client: Client) -> Any:
    return await _tool(client, "test_input_required_result_list_roots", answer=person)


@script
async def several_questions_at_once(client: Client) -> Any:
    found = await _tool(client, "test_input_required_result_multiple_inputs", answer=person)
    found["asked"].sort(key=lambda question: question["method"])
    return {**found, "answer": found["answer"].get("result", {}).get("isError", "no error")}


@script
async def several_rounds(client: Client) -> Any:
    return await _tool(client, "test_input_required_result_multi_round", answer=person)


@script
async def question_of_a_prompt(client: Client) -> Any:
    params = {"name": "test_input_required_result_prompt"}
    return seen(await client.call("prompts/get", params, answer=person))


@script
async def question_after_progress(client: Client) -> Any:
    params = {"name": "test_streaming_elicitation", "arguments": {}, "_meta": {"progressToken": "p-1"}}
    return seen(await client.call("tools/call", params, answer=person))


# -- notifications of a call -------------------------------------------------------------------------------------------


@script
async def logging(client: Client) -> Any:
    meta = {META + "logLevel": "info"} if client.modern else {}
    params: Json = {"name": "test_tool_with_logging", "arguments": {}, **({"_meta": meta} if meta else {})}
    return seen(await client.call("tools/call", params))


@script
async def logging_levels(client: Client) -> Any:
    found = []
    for level in ("warning", "debug"):
        params: Json = {"name": "test_logging_tool", "arguments": {}}
        if client.modern:
            params["_meta"] = {META + "logLevel": level}
        else:
            await client.send("logging/setLevel", {"level": level})
        found.append(seen(await client.call("tools/call", params)))
    return found


@script
async def logging_without_a_level(client: Client) -> Any:
    return await _tool(client, "test_logging_tool") if client.modern else None


@script
async def logging_with_a_wrong_level(client: Client) -> Any:
    return None if client.modern else (await client.send("logging/setLevel", {"level": "loud"})).error["code"]


@script
async def progress(client: Client) -> Any:
    params = {"name": "test_tool_with_progress", "arguments": {}}
    return [
        seen(await client.call("tools/call", {**params, "_meta": {"progressToken": token}})) for token in ("mine", 7)
    ]


@script
async def no_progress_unless_asked(client: Client) -> Any:
    return await _tool(client, "test_tool_with_progress")


# -- resources and prompts ---------------------------------------------------------------------------------------------


async def _read(client: Client, uri: str) -> Json:
    return seen(await client.call("resources/read", {"uri": uri}))


@script
async def read_text_and_binary(client: Client) -> Any:
    return [await _read(client, "test://static-text"), await _read(client, "test://static-binary")]


@script
async def read_several_contents(client: Client) -> Any:
    return await _read(client, "test://multi")


@script
async def read_by_template(client: Client) -> Any:
    return await _read(client, "test://template/a%20b/data")


@script
async def read_unlisted(client: Client) -> Any:
    return await _read(client, "hidden://unlisted")


@script
async def read_missing(client: Client) -> Any:
    return await _read(client, "test://nothing-here")


@script
async def read_that_fails(client: Client) -> Any:
    return await _read(client, "test://template/boom/data")


@script
async def prompts(client: Client) -> Any:
    wanted: tuple[tuple[str, Json], ...] = (
        ("test_simple_prompt", {}),
        ("test_prompt_with_arguments", {"arg1": "x", "arg2": "ü"}),
        ("test_prompt_with_embedded_resource", {"resourceUri": "test://example"}),
        ("test_prompt_with_image", {}),
        ("test_prompt_with_arguments", {"arg1": "boom", "arg2": ""}),
    )
    return [seen(await client.call("prompts/get", {"name": name, "arguments": args})) for name, args in wanted]


@script
async def completion(client: Client) -> Any:
    argument = {"name": "arg1", "value": "a"}
    prompt = {"ref": {"type": "ref/prompt", "name": "test_prompt_with_arguments"}, "argument": argument}
    context = {**prompt, "context": {"arguments": {"arg2": "é"}}}
    template = {"ref": {"type": "ref/resource", "uri": "test://template/{id}/data"}, "argument": argument}
    return [seen(await client.call("completion/complete", params)) for params in (prompt, context, template)]


@script
async def completion_of_nothing(client: Client) -> Any:
    params = {"ref": {"type": "ref/nothing", "name": "x"}, "argument": {"name": "a", "value": ""}}
    return (await client.send("completion/complete", params)).error["code"]


@script
async def ping(client: Client) -> Any:
    exchange = await client.send("ping")
    return exchange.error["code"] if client.modern else exchange.result


# -- what must differ --------------------------------------------------------------------------------------------------

STAMPS: Final = frozenset({META + "serverInfo"})
CACHE: Final = frozenset({"ttlMs", "cacheScope"})


def normal(value: Any) -> Any:
    """What was seen, without what Manifold must make itself (shared/protocol.md, sections 1.5, 1.7 and 2).

    ``serverInfo`` in results is Manifold's; caching hints are the weakest of all parts; ``requestState`` and
    ``elicitationId`` are sealed or minted; keys of ``inputRequests`` have no counterpart in the handshake era.
    """
    if isinstance(value, list):
        return [normal(one) for one in value]
    if not isinstance(value, dict):
        return value
    out = {key: normal(one) for key, one in value.items() if key not in CACHE | {"elicitationId", "requestState"}}
    if isinstance(out.get("_meta"), dict):
        out["_meta"] = {key: one for key, one in out["_meta"].items() if key not in STAMPS}
        if not out["_meta"]:
            del out["_meta"]
    return out
