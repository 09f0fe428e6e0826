"""Signs of life of a call (proxy/service/pulse.py); what time limits make of them is tested there."""

from typing import Any

from msgspec.structs import fields

from proxy.model import Call, Caller
from proxy.service.pulse import Pulse, watched, with_back
from tests.support.services import Ear, make_call


def test_another_backchannel_changes_nothing_else() -> None:
    more: dict[str, Any] = {"fixed": frozenset({"x"}), "public": "mcp_up_t", "number": 1, "exchange": "x-1"}
    call = Call(
        "up", "m", {"a": 1}, "t", Caller(session="s"), Ear("a"), safe=True, headers={"Mcp-Param-A": "1"}, **more
    )
    assert all(getattr(call, each.name) != each.default for each in fields(call)), "the test must set every field"
    other = Ear("b")

    changed = with_back(call, other)

    assert changed.back is other
    assert with_back(changed, call.back) == call


def test_a_call_without_a_backchannel_stays_as_it_is() -> None:
    call = make_call()
    assert watched(call) == (call, None)


def test_layers_share_one_pulse() -> None:
    call, pulse = watched(make_call(back=Ear("token")))
    assert isinstance(call.back, Pulse)
    assert str(call.back.progress_token) == "token"
    assert watched(call) == (call, pulse)


async def test_a_question_is_remembered() -> None:
    _, pulse = watched(make_call(back=Ear(answers=["yes"])))
    assert pulse is not None
    assert not pulse.asked

    assert await pulse.ask("elicitation/create", None) == "yes"

    assert pulse.asked


async def progress(pulse: Pulse, *values: float) -> None:
    for value in values:
        await pulse.notify("notifications/progress", {"progressToken": "t", "progress": value})


def told(ear: Ear) -> list[float]:
    return [params["progress"] for _, params in ear.heard if params]


async def test_progress_of_a_first_attempt_passes_as_it_is() -> None:
    ear = Ear("t")
    _, pulse = watched(make_call(back=ear))
    assert pulse is not None
    await progress(pulse, 1, 1, 3, 2)
    assert told(ear) == [1, 1, 3, 2]


async def test_progress_never_goes_back_when_a_call_is_repeated() -> None:
    ear = Ear("t")
    _, pulse = watched(make_call(back=ear))
    assert pulse is not None
    await progress(pulse, 1, 5)
    pulse.again()
    await progress(pulse, 1, 4, 5, 6, 6, 7)
    pulse.again()
    await progress(pulse, 2, 7, 8)
    assert told(ear) == [1, 5, 6, 7, 8]
