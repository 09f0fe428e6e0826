"""Large frames: what comes out is what ``envelope.read`` says of the same bytes, wherever they are cut."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.model import URI_TRACES, Reply
from proxy.service.verdict import kind_of
from proxy.wire import envelope, large, scan
from proxy.wire.depth import too_deep
from proxy.wire.envelope import Malformed, Message
from proxy.wire.large import Frame, Scanned
from proxy.wire.repair import repaired

pytestmark = pytest.mark.filterwarnings("ignore:.*function-scoped fixture.*")

VALUES: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=200)
    | st.text('ab"\\/\n\u00e4\u4e2d\U0001f600', max_size=300)
    | st.sampled_from(["uri", "x" * 2000, "\\" * 150, '"' * 150, "\\u" * 90, "\u4e2d" * 90, "\U0001f600" * 90]),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(
            st.text(max_size=90) | st.sampled_from(["uri", "_meta", "isError", "k" * 1500]), inner, max_size=8
        )
    ),
    max_leaves=30,
)
BLANKS: Final = st.text(" \n\t\r", max_size=3)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    members: dict[str, Any] = {"jsonrpc": "2.0", "id": draw(st.integers(0, 99) | st.text(max_size=9))}
    names = st.sampled_from(["result", "result", "result", "error", "params", "other"])
    for name in draw(st.lists(names, min_size=1, max_size=3)):
        members[name] = draw(VALUES)
    if draw(st.booleans()):
        members["result"] = {"content": [{"type": "text", "text": draw(st.text(max_size=400))}], **draw(heads())}
    keys = draw(st.permutations(list(members)))
    ascii_only, blank = draw(st.booleans()), draw(BLANKS)
    separators = ("," + blank, blank + ":" + blank)
    text = json.dumps({key: members[key] for key in keys}, ensure_ascii=ascii_only, separators=separators)
    return draw(BLANKS).encode() + text.encode(errors="surrogatepass") + draw(BLANKS).encode()


def heads() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "isError": st.booleans(),
            "resultType": st.sampled_from(["complete", "input_required"]),
            "structuredContent": VALUES,
            "_meta": VALUES,
        },
    )


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(frames()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        new = draw(
            st.sampled_from([b"", b",", b'"', b"\\", b"]", b"}", b"{", b"[", b":", b"\xff", b"\x00", b"1", b" "])
        )
        data[at : at + draw(st.integers(0, 2))] = new + draw(st.sampled_from([b"", b"NaN", b"\\ud800", b"\xe2\x82"]))
    return bytes(data)


@contextmanager
def small() -> Iterator[None]:
    """Sizes at which short texts are cut often, and their values count as large."""
    with patch.multiple(scan, PIECE=40, FIRST=20, _LONG=20, _TRACE=16), patch.multiple(large, _SMALL=20, _KEY=100):
        yield


def taken(data: bytes, cuts: list[int]) -> list[Message | Malformed]:
    frame = Frame()
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        frame.add(data[start:end])
    assert len(frame) == len(data)
    return frame.finish()


def shown(one: Message | Malformed) -> object:
    if isinstance(one, Malformed):
        return "malformed"
    body = one.body if isinstance(one, Scanned) else None
    result = bytes(one.result) if body is None else b"".join(body.parts)
    return (one.id, one.method, plain(bytes(one.params)), plain(result), plain(bytes(one.error)), one.kind)


def plain(raw: bytes) -> object:
    return repr(json.loads(raw)) if raw else None


def compared(data: bytes, cuts: list[int]) -> None:
    with small():
        found = taken(data, cuts)
    wanted = envelope.read(data)
    assert [shown(one) for one in found] == [shown(one) for one in wanted]
    if isinstance(wanted[0], Message) and isinstance(found[0], Message) and wanted[0].result:
        noted(found[0], bytes(wanted[0].result))


def noted(found: Message, raw: bytes) -> None:
    body = found.body if isinstance(found, Scanned) else None
    if body is not None:
        assert b"".join(body.parts) == raw or repaired(raw) is not None
        assert body.size == sum(map(len, body.parts))
        assert body.traces >= {trace for trace in URI_TRACES if trace in raw}
        assert not too_deep(raw, body.depth)
        assert kind_of(Reply(b"", body=body)) is kind_of(Reply(raw))


CUTS: Final = st.lists(st.integers(0, 5000), max_size=6)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames(), CUTS)
def test_a_frame_is_read_as_if_it_had_come_whole(data: bytes, cuts: list[int]) -> None:
    compared(data, sorted(min(cut, len(data)) for cut in cuts))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated(), CUTS)
@example(b'{"jsonrpc":"2.0","id":1,"result":[,1]}' + b" " * 40, [])
@example(b'{"jsonrpc":"2.0","id":1,"result":[1,]}' + b" " * 40, [])
@example(b'{"jsonrpc":"2.0","id":1,"result":["' + b"a" * 50 + b'" "' + b"b" * 50 + b'"]}', [])
@example(b'{"jsonrpc":"2.0","id":1,"result":{"' + b"a" * 50 + b'","' + b"b" * 50 + b'":1}}', [])
@example(b'{"jsonrpc":"2.0","id":1,"result":["' + b"a" * 50 + b"]}" + b"b" * 50 + b'"}]', [])
def test_what_is_no_message_is_none_in_pieces_either(data: bytes, cuts: list[int]) -> None:
    compared(data, sorted(min(cut, len(data)) for cut in cuts))


@pytest.mark.parametrize("opened", [b"[", b'{"":'])
def test_what_is_nested_without_end_is_given_up_without_counting_it_level_by_level(opened: bytes) -> None:
    levels = 500_000  # with a look at all of it for each of them, it would take an hour
    closed = b"]" if opened == b"[" else b"0}"
    nested = opened * levels + (b"" if opened == b"[" else b"0") + closed[-1:] * levels
    frame = Frame(b'{"jsonrpc":"2.0","id":1,"result":{"a":1,"b":' + nested + b"}}")
    (found,) = frame.finish()
    assert isinstance(found, Malformed)
    assert found.id == 1


@pytest.mark.parametrize("result", [b"[%b1]", b'{"content":[],%b"z":1}'])
def test_of_a_result_with_very_many_members_little_is_noted_and_nothing_lost(result: bytes) -> None:
    many = (
        b"".join(b"1," for _ in range(20_000))
        if result[:1] == b"["
        else b"".join(b'"a%d":1,' % number for number in range(20_000))
    )
    data = b'{"jsonrpc":"2.0","result":' + result % many + b',"id":7}'
    frame = Frame(data)
    (found,) = frame.finish()
    assert isinstance(found, Scanned)
    assert found.id == 7
    assert found.body is not None
    assert b"".join(found.body.parts) == result % many
    assert len(frame._scan.commas) < 5000


@pytest.mark.parametrize("levels", [20, 40, 150, 400])
@pytest.mark.parametrize("end", ["", "]", "}"])
def test_deep_nesting_is_matched_bracket_by_bracket(levels: int, end: str) -> None:
    nested = '[{"a":' * levels + "1" + "}]" * levels
    several = ",".join([nested] * 3)
    data = f'{{"jsonrpc":"2.0","id":1,"result":{{"a":[{several}]}}{end}}}'.encode()
    compared(data, [len(data) // 3, len(data) // 2])
