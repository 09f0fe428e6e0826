"""Results and errors in the other era, and in older revisions."""

from typing import Any

import pytest

from proxy.bridge.convert import Crossing, error_for, result_for
from proxy.bridge.revisions import for_version
from proxy.errors import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    MISSING_CAPABILITY,
    RESOURCE_NOT_FOUND,
    Rejected,
)
from proxy.model import META_SERVER_INFO, Era

OURS = {"name": "manifold", "version": "1"}
L, M = Era.HANDSHAKE, Era.MODERN


def test_a_handshake_result_gets_the_envelope_of_the_modern_era() -> None:
    own = {"contents": [], "_meta": {"mine": 1}}
    told = result_for(Crossing(L, M), "resources/read", own, OURS)
    meta = {"mine": 1, META_SERVER_INFO: OURS}
    assert told == {**own, "resultType": "complete", "ttlMs": 0, "cacheScope": "private", "_meta": meta}
    assert own == {"contents": [], "_meta": {"mine": 1}}


def test_a_modern_result_loses_its_envelope_and_nothing_else() -> None:
    sent = {"content": [], "resultType": "complete", "ttlMs": 5, "cacheScope": "public"}
    theirs = {**sent, "_meta": {META_SERVER_INFO: {"name": "u"}, "mine": 1}}
    assert result_for(Crossing(M, L), "tools/call", theirs, OURS) == {"content": [], "_meta": {"mine": 1}}


def test_within_the_handshake_era_a_result_is_left_alone() -> None:
    sent = {"content": [], "ttlMs": 5, "resultType": "mine"}
    assert result_for(Crossing(L, L), "tools/call", sent, OURS) == sent


@pytest.mark.parametrize(
    ("crossing", "method", "sent", "told"),
    [
        (Crossing(L, M), "resources/read", (RESOURCE_NOT_FOUND, None), (INVALID_PARAMS, {"uri": "u://"})),
        (Crossing(M, L), "resources/read", (INVALID_PARAMS, {"uri": "x"}), (RESOURCE_NOT_FOUND, {"uri": "x"})),
        (Crossing(M, L), "tools/call", (INVALID_PARAMS, {"uri": "x"}), (INVALID_PARAMS, {"uri": "x"})),
        (Crossing(M, L), "tools/call", (MISSING_CAPABILITY, {"r": 1}), (INTERNAL_ERROR, {"r": 1})),
        (Crossing(M, M), "tools/call", (MISSING_CAPABILITY, {"r": 1}), (MISSING_CAPABILITY, {"r": 1})),
        (Crossing(M, M), "tools/call", (HEADER_MISMATCH, None), (INTERNAL_ERROR, None)),
        (Crossing(L, M), "tools/call", (4242, [1]), (4242, [1])),
    ],
)
def test_errors_that_an_era_does_not_know_are_translated(
    crossing: Crossing, method: str, sent: tuple[int, Any], told: tuple[int, Any]
) -> None:
    code, data = sent
    error = error_for(crossing, method, Rejected(code, "why", data), "u://")
    assert (error.jsonrpc, error.data) == told
    assert "why" in error.message


def schema_of(output: Any) -> Any:
    listed = for_version("2025-11-25", "tools/list", {"tools": [{"name": "t", "outputSchema": output}]})
    return listed["tools"][0].get("outputSchema")


def test_an_output_schema_of_the_handshake_era_is_an_object() -> None:
    own = {"type": "object", "properties": {}}
    assert schema_of(own) is own
    item = {"$ref": "#/$defs/item"}
    listed = {"$schema": "s", "$defs": {"item": {"type": "string"}}, "type": "array", "items": item}
    wrapped = {"type": "array", "items": item}
    assert schema_of(listed) == {
        "type": "object",
        "properties": {"result": wrapped},
        "required": ["result"],
        "$defs": {"item": {"type": "string"}},
    }
    assert schema_of({"type": "array", "items": {"$ref": "#"}}) is None


@pytest.mark.parametrize("value", [[1], "x", 3, None, False])
def test_structured_output_of_the_handshake_era_is_an_object(value: Any) -> None:
    told = for_version("2025-11-25", "tools/call", {"content": [], "structuredContent": value})
    assert told["structuredContent"] == {"result": value}


def test_prompts_of_older_revisions_keep_their_messages_with_known_content() -> None:
    link = {"type": "resource_link", "uri": "u://x", "name": "n", "title": "T"}
    audio = {"type": "audio", "data": "", "mimeType": "audio/wav"}
    sent = {"messages": [{"role": "user", "content": link}, {"role": "user", "content": audio}]}
    contents = [one["content"] for one in for_version("2024-11-05", "prompts/get", sent)["messages"]]
    assert contents == [
        {"type": "text", "text": "[T](u://x)"},
        {"type": "text", "text": "[audio, audio/wav: not supported here]"},
    ]
    assert for_version("2025-11-25", "prompts/get", sent) == sent
