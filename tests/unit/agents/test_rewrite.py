import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.agents.rewrite import incoming, result, touches
from proxy.agents.view import View
from proxy.catalog.merge import merge
from proxy.catalog.naming import NamingPolicy
from proxy.catalog.policy import CatalogPolicy
from proxy.model import Listing, Reply

VIEW = View(merge({"up": Listing()}, CatalogPolicy(order=("up",))))
TRANSPARENT = View(merge({"up": Listing()}, CatalogPolicy(naming=NamingPolicy(pattern="{tool}"))))

LINK = {"type": "resource_link", "uri": "file:///a", "name": "a", "_meta": {"uri": "stays"}}
EMBEDDED = {"type": "resource", "resource": {"uri": "ui://w/x", "text": "file:///stays"}, "annotations": {}}
TEXT = {"type": "text", "text": "file:///stays", "uri": "stays"}
MAPPED_LINK = {**LINK, "uri": "up+file:///a"}
MAPPED_EMBEDDED = {**EMBEDDED, "resource": {"uri": "ui://up+w/x", "text": "file:///stays"}}

JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "uri", "content", "contents", "messages", "resource", "_meta", "ui", "params"]),
            inner | st.sampled_from(["resource", "resource_link", "tool_result"]),
        )
    ),
    max_leaves=15,
)
CASES: list[tuple[str, Any, Any]] = [
    (
        "tools/call",
        {"content": [TEXT, LINK, EMBEDDED], "structuredContent": {"uri": "stays"}, "isError": False},
        {"content": [TEXT, MAPPED_LINK, MAPPED_EMBEDDED], "structuredContent": {"uri": "stays"}, "isError": False},
    ),
    (
        "tools/call",
        {"content": [], "_meta": {"ui": {"resourceUri": "ui://w"}, "ui/resourceUri": "ui://w", "x": 1}},
        {"content": [], "_meta": {"ui": {"resourceUri": "ui://up+w"}, "ui/resourceUri": "ui://up+w", "x": 1}},
    ),
    (
        "prompts/get",
        {"description": "d", "messages": [{"role": "user", "content": EMBEDDED}, {"role": "user", "content": TEXT}]},
        {
            "description": "d",
            "messages": [{"role": "user", "content": MAPPED_EMBEDDED}, {"role": "user", "content": TEXT}],
        },
    ),
    (
        "resources/read",
        {"contents": [{"uri": "file:///a", "text": "1"}, {"uri": "file:///b", "blob": "AA=="}, {"text": "no uri"}]},
        {
            "contents": [
                {"uri": "up+file:///a", "text": "1"},
                {"uri": "up+file:///b", "blob": "AA=="},
                {"text": "no uri"},
            ]
        },
    ),
    (
        "tools/call",
        {
            "resultType": "input_required",
            "inputRequests": {
                "uri": {
                    "method": "sampling/createMessage",
                    "params": {"messages": [{"role": "user", "content": [TEXT, EMBEDDED]}], "maxTokens": 1},
                },
                "value": {"method": "elicitation/create", "params": {"mode": "url", "url": "https://stays"}},
            },
        },
        {
            "resultType": "input_required",
            "inputRequests": {
                "uri": {
                    "method": "sampling/createMessage",
                    "params": {"messages": [{"role": "user", "content": [TEXT, MAPPED_EMBEDDED]}], "maxTokens": 1},
                },
                "value": {"method": "elicitation/create", "params": {"mode": "url", "url": "https://stays"}},
            },
        },
    ),
]
UNTOUCHED: list[tuple[str, Any]] = [
    ("tools/call", {"content": [TEXT, {"type": "image", "data": "AA=="}], "structuredContent": {"uri": "x"}}),
    ("completion/complete", {"completion": {"values": ["file:///a"]}, "contents": [{"uri": "x"}]}),
    ("tools/call", {"content": "not a list"}),
    ("tools/call", {"content": [None, 7, {"type": "resource"}, {"type": "resource_link", "uri": 7}]}),
    ("resources/read", {"contents": {}}),
    ("prompts/get", None),
    ("unheard/of", {"content": [LINK]}),
]


@pytest.mark.parametrize(("method", "value", "mapped"), CASES)
def test_every_uri_in_a_result_is_mapped_and_nothing_else(method: str, value: Any, mapped: Any) -> None:
    before = copy.deepcopy(value)
    assert result(VIEW, "up", method, value) == mapped
    assert value == before


@pytest.mark.parametrize(("method", "value"), UNTOUCHED)
def test_a_result_without_uris_stays_the_object_that_it_is(method: str, value: Any) -> None:
    assert result(VIEW, "up", method, value) is value


@pytest.mark.parametrize(("method", "value", "_"), CASES)
def test_results_of_a_transparent_upstream_stay_the_objects_that_they_are(method: str, value: Any, _: Any) -> None:
    assert result(TRANSPARENT, "up", method, value) is value
    assert not touches(TRANSPARENT, "up", Reply(json.dumps(value).encode()))


def test_only_what_changes_is_copied_and_the_order_of_members_stays() -> None:
    value = {"content": [TEXT, LINK], "structuredContent": {"big": []}, "isError": False}
    mapped = result(VIEW, "up", "tools/call", value)
    assert list(mapped) == list(value)
    assert list(mapped["content"][1]) == list(LINK)
    assert mapped["content"][0] is TEXT
    assert mapped["structuredContent"] is value["structuredContent"]


def test_an_update_speaks_of_the_exported_uri() -> None:
    params = {"uri": "file:///a", "_meta": {"k": 1}}
    mapped = incoming(VIEW, "up", "notifications/resources/updated", params)
    assert mapped == {"uri": "up+file:///a", "_meta": {"k": 1}}
    assert params["uri"] == "file:///a"


def test_a_question_with_resources_in_it_is_mapped() -> None:
    tool_result = {"type": "tool_result", "toolUseId": "1", "content": [LINK]}
    params = {"messages": [{"role": "user", "content": tool_result}]}
    mapped = incoming(VIEW, "up", "sampling/createMessage", params)
    assert mapped == {"messages": [{"role": "user", "content": {**tool_result, "content": [MAPPED_LINK]}}]}


@pytest.mark.parametrize("method", ["notifications/progress", "notifications/message", "elicitation/create"])
def test_other_messages_stay_the_objects_that_they_are(method: str) -> None:
    params = {"uri": "file:///a", "data": {"uri": "x"}}
    assert incoming(VIEW, "up", method, params) is params
    assert incoming(VIEW, "up", "notifications/resources/updated", None) is None


@pytest.mark.parametrize(("method", "value", "mapped"), CASES)
def test_bytes_tell_that_a_result_may_have_to_be_mapped(method: str, value: Any, mapped: Any) -> None:
    assert mapped != value, method
    assert touches(VIEW, "up", Reply(json.dumps(value).encode()))


def test_bytes_without_uris_need_no_look() -> None:
    assert not touches(VIEW, "up", Reply(json.dumps({"content": [{"type": "text", "text": '{"uri": "x"}'}]}).encode()))


@given(st.sampled_from(["tools/call", "prompts/get", "resources/read"]), JSON)
def test_no_shape_of_a_result_does_any_harm(method: str, value: Any) -> None:
    before = copy.deepcopy(value)
    mapped = result(VIEW, "up", method, value)
    assert value == before
    assert (mapped is value) == (mapped == value)
    assert mapped == value or touches(VIEW, "up", Reply(json.dumps(value).encode()))
