"""How deeply JSON is nested, told from its bytes (proxy/wire/depth.py)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.depth import DEEPEST, too_deep

VALUES = st.recursive(
    st.none() | st.text(alphabet='[]{}"\\x', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[{"\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.integers(0, 6))
def test_it_says_what_decoding_would_say(value: Any, limit: int) -> None:
    assert too_deep(json.dumps(value).encode(), limit) is (depth(value) > limit)


@given(st.binary(max_size=200), st.integers(0, 10))
def test_bytes_that_are_no_json_are_no_reason_to_fail(data: bytes, limit: int) -> None:
    assert too_deep(data, limit) in (True, False)


@pytest.mark.parametrize(
    ("data", "deep"),
    [
        (b"[" * DEEPEST + b"]" * DEEPEST, False),
        (b"[" * (DEEPEST + 1), True),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, True),
        (b"[[1]," * 100_000, True),
        (b"[" + b"[]," * 10_000 + b"0]", False),
        (b'"' + b"[" * 10_000 + b'"', False),
        (b'["\\"' + b"[" * 10_000 + b'"]', False),
    ],
)
def test_bombs_are_known_and_wide_messages_are_none(data: bytes, *, deep: bool) -> None:
    assert too_deep(data) is deep
