"""Kinds of results (proxy/service/verdict.py); verdicts on errors are tested through the breaker."""

import pytest

from proxy.model import Reply
from proxy.service.verdict import ResultKind, kind_of


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"content":[]}', ResultKind.COMPLETE),
        (b'{"content":[],"isError":false}', ResultKind.COMPLETE),
        (b'{"content":[],"isError": true}', ResultKind.TOOL_ERROR),
        (b'{"isError":"yes"}', ResultKind.COMPLETE),
        (b'{"resultType":"complete"}', ResultKind.COMPLETE),
        (b'{"resultType":"input_required"}', ResultKind.INPUT_REQUIRED),
        (rb'{"content":[{"type":"text","text":"{\"isError\":true}"}]}', ResultKind.COMPLETE),
        (b'{"structuredContent":{"isError":true}}', ResultKind.COMPLETE),
        (b"[1,2]", ResultKind.COMPLETE),
        (b"null", ResultKind.COMPLETE),
    ],
)
def test_only_the_results_own_members_count(raw: bytes, kind: ResultKind) -> None:
    assert kind_of(Reply(raw)) is kind
