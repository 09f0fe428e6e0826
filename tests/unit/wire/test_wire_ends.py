"""The id of a frame that nobody decodes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.ends import asked, ends_of
from proxy.wire.lines import EDGE, Oversized

LARGE = {"arguments": {"x": "y" * 3 * EDGE, "id": 99, "method": "no"}}
IDS = st.integers(-(2**53), 2**53) | st.text("abc-xyz 0123", max_size=30)


@given(
    IDS,
    st.permutations(["jsonrpc", "method", "params", "id"]).filter(
        lambda order: order.index("method") < order.index("params") and order[-2:] != ["id", "jsonrpc"]
    ),
    st.sampled_from([(",", ":"), (", ", ": ")]),
)
def test_the_id_of_a_long_request_is_found_wherever_libraries_write_it(
    number: Any, order: list[str], marks: tuple[str, str]
) -> None:
    every = {"jsonrpc": "2.0", "method": "tools/call", "params": LARGE, "id": number}
    line = json.dumps({name: every[name] for name in order}, separators=marks).encode()
    assert asked(ends_of(line)) == number


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": LARGE},
        {"jsonrpc": "2.0", "id": 1, "result": LARGE},
        {"jsonrpc": "2.0", "id": None, "method": "x", "params": LARGE},
        {"jsonrpc": "2.0", "id": True, "method": "x", "params": LARGE},
        {"jsonrpc": "2.0", "method": "x", "params": {"deep": {**LARGE, "id": 5}}},
        {"params": LARGE, "method": "x", "id": 5},
        [{"jsonrpc": "2.0", "id": 1, "method": "x", "params": LARGE}],
        "x" * 3 * EDGE,
    ],
)
def test_what_is_no_request_or_cannot_be_told_has_no_id(message: Any) -> None:
    assert asked(ends_of(json.dumps(message).encode())) is None


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_bytes_of_any_kind_are_no_trouble(head: bytes, tail: bytes) -> None:
    assert asked(Oversized(head, tail, 10_000)) is None or b'"id"' in head + tail


def test_the_ends_of_nothing_but_brackets_are_looked_at_quickly() -> None:
    assert asked(ends_of(b"[" * 200_000)) is None
