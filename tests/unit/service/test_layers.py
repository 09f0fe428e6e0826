"""Stacking layers (proxy/service/base.py)."""

from proxy.model import Call, Reply
from proxy.service.base import Layer, Service, stack
from tests.support.services import OK, Scripted, make_call


def recording(name: str, record: list[str]) -> Layer:
    def layer(service: Service) -> Service:
        async def run(call: Call) -> Reply:
            record.append(f"> {name}")
            reply = await service(call)
            record.append(f"< {name}")
            return reply

        return run

    return layer


async def test_the_first_layer_is_the_outermost() -> None:
    record: list[str] = []
    service = stack(recording("a", record), recording("b", record))(Scripted())

    await service(make_call())

    assert record == ["> a", "> b", "< b", "< a"]


async def test_a_layer_that_is_off_is_not_there() -> None:
    upstream = Scripted()

    assert stack(None, None)(upstream) is upstream
    assert await stack(None)(upstream)(make_call()) is OK


async def test_a_stack_is_a_layer_itself() -> None:
    record: list[str] = []
    inner = stack(recording("b", record), recording("c", record))

    await stack(recording("a", record), inner)(Scripted())(make_call())

    assert record[:3] == ["> a", "> b", "> c"]
