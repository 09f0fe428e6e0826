"""Takes the names of one upstream out of a Manifold that prefixes, so that the unmodified suite runs through it.

    suite --> shim --> Manifold with prefixes --> the fixture, and a decoy with the same names

Requests get the prefix (in the body and in ``Mcp-Name``) and exported URIs; answers lose them, and everything that
belongs to another upstream is hidden. Everything else passes through as it is. Own work.

    shim.py PORT TARGET_URL UPSTREAM
"""

import base64
import binascii
import json
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

PORT, TARGET, UPSTREAM = int(sys.argv[1]), sys.argv[2], sys.argv[3]
PREFIX, SLUG = f"mcp_{UPSTREAM}_", f"{UPSTREAM}+"
HOPS = {"host", "content-length", "connection", "transfer-encoding", "keep-alive", "te", "upgrade"}
NAMED = ("tools/call", "prompts/get")
LISTS = {"tools": ("name", PREFIX), "prompts": ("name", PREFIX), "resources": ("uri", SLUG)}
LISTS["resourceTemplates"] = ("uriTemplate", SLUG)

client = httpx2.AsyncClient(timeout=httpx2.Timeout(30, read=None))


def exported(uri: Any) -> Any:
    return f"{SLUG}{uri}" if isinstance(uri, str) else uri


def own(uri: Any) -> Any:
    return uri.removeprefix(SLUG) if isinstance(uri, str) else uri


def ask(body: dict[str, Any]) -> str:
    """Change a request in place; returns its method."""
    method, params = str(body.get("method")), body.get("params") or {}
    if method in NAMED and "name" in params:
        params["name"] = PREFIX + params["name"]
    elif method.startswith("resources/") and "uri" in params:
        params["uri"] = exported(params["uri"])
    elif method == "completion/complete":
        ref = params.get("ref") or {}
        if "name" in ref:
            ref["name"] = PREFIX + ref["name"]
        if "uri" in ref:
            ref["uri"] = exported(ref["uri"])
    elif method == "subscriptions/listen":
        wanted = params.get("notifications") or {}
        if wanted.get("resourceSubscriptions"):
            wanted["resourceSubscriptions"] = [exported(uri) for uri in wanted["resourceSubscriptions"]]
    return method


def answer(message: Any) -> Any:
    """A message of Manifold's as the fixture would have sent it."""
    if not isinstance(message, dict):
        return message
    result, params, error = message.get("result"), message.get("params"), message.get("error")
    if isinstance(result, dict):
        _result(result)
    if isinstance(params, dict):
        if "uri" in params:
            params["uri"] = own(params["uri"])
        honoured = params.get("notifications")
        if isinstance(honoured, dict) and honoured.get("resourceSubscriptions"):
            honoured["resourceSubscriptions"] = [own(uri) for uri in honoured["resourceSubscriptions"]]
    if isinstance(error, dict) and isinstance(error.get("data"), dict) and "uri" in error["data"]:
        error["data"]["uri"] = own(error["data"]["uri"])
    return message


def _result(result: dict[str, Any]) -> None:
    for key, (member, mark) in LISTS.items():
        if isinstance(result.get(key), list):
            mine = (entry for entry in result[key] if str(entry.get(member)).startswith(mark))
            result[key] = [{**entry, member: entry[member].removeprefix(mark)} for entry in mine]
    for entry in result.get("contents") or ():
        entry["uri"] = own(entry.get("uri"))
    blocks = [*(result.get("content") or ()), *(message.get("content") for message in result.get("messages") or ())]
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "resource_link":
            block["uri"] = own(block["uri"])
        elif isinstance(block, dict) and block.get("type") == "resource":
            block["resource"]["uri"] = own(block["resource"]["uri"])


def named(raw: str, method: str) -> str:
    """``Mcp-Name`` for Manifold; what does not match the body stays a mismatch."""
    mark = PREFIX if method in NAMED else SLUG
    sent = raw.strip()
    if encoded := re.fullmatch(r"=\?base64\?(.*)\?=", sent):
        try:
            plain = base64.b64decode(encoded[1], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return raw
        return f"=?base64?{base64.b64encode((mark + plain).encode()).decode()}?="
    return raw.replace(sent, mark + sent, 1) if sent else raw


def headers_of(request: Request, method: str) -> list[tuple[str, str]]:
    host = request.headers.get("host", "")
    headers = [(name, value) for name, value in request.headers.items() if name not in HOPS]
    # A foreign host passes through: the suite tries whether it is refused.
    headers.append(("host", httpx2.URL(TARGET).netloc.decode() if host.endswith(f":{PORT}") else host))
    renamed = (*NAMED, "resources/read")
    return [
        (name, named(value, method) if name == "mcp-name" and method in renamed else value) for name, value in headers
    ]


async def events(response: httpx2.Response) -> AsyncIterator[bytes]:
    buffer = b""
    try:
        async for chunk in response.aiter_bytes():
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                yield _event(line) + b"\n"
    except httpx2.HTTPError:
        pass  # the stream was closed on Manifold's side: so it is on ours
    finally:
        await response.aclose()


def _event(line: bytes) -> bytes:
    line = line.rstrip(b"\r")
    data = line[5:].strip() if line.startswith(b"data:") else b""
    return b"data: " + json.dumps(answer(json.loads(data))).encode() if data else line


async def handle(request: Request) -> Response:
    body, method = await request.body(), ""
    try:
        parsed = json.loads(body) if body else None
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        method = ask(parsed)
        body = json.dumps(parsed).encode()
    sent = client.build_request(request.method, TARGET, headers=headers_of(request, method), content=body or None)
    response = await client.send(sent, stream=True)
    headers = {name: value for name, value in response.headers.items() if name not in HOPS | {"content-encoding"}}
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        return StreamingResponse(events(response), response.status_code, headers=headers)
    data = await response.aread()
    await response.aclose()
    if response.headers.get("content-type", "").startswith("application/json") and data:
        data = json.dumps(answer(json.loads(data))).encode()
    return Response(data, response.status_code, headers=headers)


app = Starlette(routes=[Route("/mcp", handle, methods=["GET", "POST", "DELETE", "OPTIONS"])])
uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", http="h11")
