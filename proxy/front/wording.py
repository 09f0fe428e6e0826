"""What the front says itself: to the client as messages, to the person behind it in words."""

import json
import sys
from typing import Any, Final

from proxy.front.credential import HINT

_SHOWN: Final = 300
_ERRORS_FROM: Final = 400
_UNAUTHORIZED: Final = 401


def failure(number: Any, message: str, code: int = -32603) -> bytes:
    """An error as the answer to a request."""
    error = {"code": code, "message": message}
    return json.dumps({"jsonrpc": "2.0", "id": number, "error": error}, ensure_ascii=False).encode()


def answer_of(number: Any, method: str, status: int, body: bytes) -> bytes:
    """The answer to a request as a message of JSON-RPC, whatever came; an error without an id belongs to the request.

    Args:
        number: the request's id.
        method: the request's method.
        status: the HTTP status.
        body: what came.
    """
    if status < _ERRORS_FROM and body:
        return body
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        return json.dumps({**found, "id": number}, ensure_ascii=False).encode()
    if status == _UNAUTHORIZED:
        return failure(number, f"This Manifold asks for a credential, and took none: {HINT}")
    return failure(number, f"Manifold answered {method} with HTTP {status}: {words_of(body)}")


def words_of(body: bytes) -> str:
    """The start of an answer that is not understood."""
    return body[:_SHOWN].decode("utf-8", "replace") or "(nothing)"


def say(words: str) -> None:
    """Tell the person behind the client."""
    sys.stderr.write(f"mcp-manifold connect: {words}\n")
    sys.stderr.flush()
