"""What a model reads when a call failed: what failed, which server, whether it may have run, what to do next."""

from typing import Any

import pytest

from proxy.bridge.failed import failed_call
from proxy.errors import (
    AuthRequired,
    CircuitOpen,
    ConnectFailed,
    DeadlineExceeded,
    Draining,
    Lost,
    ProtocolFault,
    QueueFull,
    RateLimited,
    SessionGone,
    UpstreamError,
)
from proxy.service.breaker import Breaker
from proxy.service.breaker_state import BreakerPolicy
from tests.support.services import Scripted, make_call

KINDS = [
    ConnectFailed,
    CircuitOpen,
    QueueFull,
    RateLimited,
    Draining,
    AuthRequired,
    DeadlineExceeded,
    Lost,
    SessionGone,
    ProtocolFault,
]


def text(result: dict[str, Any]) -> str:
    assert result["isError"] is True
    said: str = result["content"][0]["text"]
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_every_failure_names_the_server_its_fate_and_what_to_do(kind: type[UpstreamError]) -> None:
    said = text(failed_call(kind("it broke", upstream="files")))
    assert said.startswith("Upstream 'files': it broke. ")
    assert said.endswith(kind.advice)
    fate = {"no": "was not executed", "maybe": "may have been executed", "yes": "reached the server"}[kind.sent.value]
    assert fate in said


def test_a_safe_call_may_be_repeated_even_if_it_may_have_run() -> None:
    said = text(failed_call(Lost("it broke", upstream="files"), safe=True))
    assert "It can be repeated without harm." in said
    assert "check before" not in said


def test_what_a_hint_says_is_not_said_twice() -> None:
    error = DeadlineExceeded("slow", upstream="files", hint="It may have run: check its effect before you repeat it.")
    assert text(failed_call(error)) == "Upstream 'files': slow. It may have run: check its effect before you repeat it."


async def test_the_towers_own_errors_name_the_server_once() -> None:
    service = Breaker(BreakerPolicy(min_calls=1))(Scripted(Lost("died", upstream="up")))
    with pytest.raises(Lost):
        await service(make_call())
    with pytest.raises(CircuitOpen) as caught:
        await service(make_call())
    said = text(failed_call(caught.value))
    assert said.count("up ") == 1
    assert said.count("Nothing was sent.") == 1
    assert "It will take calls again in" in said


def test_programs_get_the_same_as_data() -> None:
    result = failed_call(QueueFull("full", upstream="files", hint="Later."))
    assert result["_meta"]["mcp-manifold/error"] == {
        "code": "queue-full",
        "documentation": "docs/errors.md#queue-full",
        "upstream": "files",
        "sent": "no",
        "hint": "Later.",
    }
