"""Large results on their way out are the same JSON as small ones."""

import json
from typing import Any

import pytest

from proxy.gateway.finish import Finish
from proxy.gateway.pieces import Parts, answer, event, gathered, size_of
from proxy.model import Caller, Era, Reply
from proxy.upstream.pending import reply_of
from proxy.wire import envelope
from proxy.wire.large import LARGE, Frame
from proxy.wire.sse import Event, Parser

TEXT = "x" * (2 * LARGE)
FINISH = Finish({"name": "manifold", "version": "1"})
RESULTS: tuple[dict[str, Any], ...] = (
    {"content": [{"type": "text", "text": TEXT}], "isError": False},
    {"content": [{"type": "text", "text": TEXT}], "structuredContent": {"a": 1}},
    {"content": [{"type": "text", "text": TEXT}], "structuredContent": [TEXT]},
    {"content": [{"type": "audio", "data": TEXT, "mimeType": "audio/wav"}], "_meta": {"k": "v"}},
    {"content": [], "resultType": "complete", "_meta": {"k": TEXT}, "ttlMs": 5},
    {"resultType": "complete", "content": [{"type": "text", "text": TEXT}], "_meta": {"k": 1}, "cacheScope": "public"},
)
CALLERS = (
    Caller(),
    Caller(version="2025-06-18"),
    Caller(version="2024-11-05"),
    Caller(era=Era.MODERN, version="2026-07-28"),
)


class _Uris:
    def keeps(self, _upstream: str) -> bool:
        return True


class _View:
    class catalog:  # noqa: N801 - an attribute of the view
        uris = _Uris()


class _Routed:
    view = _View()

    class route:  # noqa: N801 - an attribute of what is routed
        upstream = "up"


def large(result: dict[str, Any], era: Era) -> Reply:
    (message,) = Frame(envelope.response(1, result)).finish()
    assert isinstance(message, envelope.Message)
    reply = reply_of(message, "up")
    reply.era = era
    assert reply.body is not None
    return reply


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.version)
@pytest.mark.parametrize("number", range(len(RESULTS)))
def test_a_large_result_is_shaped_as_a_small_one(era: Era, caller: Caller, number: int) -> None:
    reply = large(RESULTS[number], era)
    routed: Any = _Routed()
    wanted = FINISH.reply(caller, "tools/call", routed, Reply.of(RESULTS[number]) if era is Era.HANDSHAKE else reply)
    found = FINISH.raw(caller, "tools/call", routed, reply)
    assert json.loads(found if isinstance(found, bytes) else b"".join(found)) == wanted


def test_a_large_text_is_not_put_together_on_its_way() -> None:
    routed: Any = _Routed()
    parts = FINISH.raw(CALLERS[3], "tools/call", routed, large(RESULTS[0], Era.HANDSHAKE))
    assert isinstance(parts, list)
    assert max(map(len, parts)) <= 2 * LARGE


def test_an_answer_in_pieces_is_an_answer() -> None:
    parts = answer(7, [b'{"a":', b"1}"])
    assert json.loads(b"".join(parts)) == {"jsonrpc": "2.0", "id": 7, "result": {"a": 1}}
    assert size_of(parts) == len(b"".join(parts))


def test_an_event_in_pieces_has_one_line_of_data() -> None:
    (found,) = Parser(100).feed(b"".join(event([b'{\n"a":', b"1\r\n}"], "5")))
    assert isinstance(found, Event)
    assert (found.id, json.loads(bytes(found.data))) == ("5", {"a": 1})


@pytest.mark.parametrize("parts", [[b"ab", b"c", b"defg", b"h"], b"abcdefgh"])
def test_pieces_are_gathered_to_a_size(parts: Parts | bytes) -> None:
    found = list(gathered(parts, 3))
    assert b"".join(found) == b"abcdefgh"
    assert len(found) == 3
