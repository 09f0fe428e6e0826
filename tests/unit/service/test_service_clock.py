"""The machine's clock (proxy/service/clock.py)."""

import anyio

from proxy.service.clock import SYSTEM


async def test_a_timer_rings_once_its_time_has_come() -> None:
    rang = anyio.Event()
    SYSTEM.call_at(SYSTEM.now() + 0.001, rang.set)

    with anyio.fail_after(5):
        await rang.wait()


async def test_a_cancelled_timer_stays_silent() -> None:
    rang: list[str] = []
    later = anyio.Event()
    SYSTEM.call_at(SYSTEM.now(), lambda: rang.append("no")).cancel()
    SYSTEM.call_at(SYSTEM.now() + 0.001, later.set)

    with anyio.fail_after(5):
        await later.wait()

    assert rang == []


async def test_sleeping_takes_time() -> None:
    before = SYSTEM.now()
    with anyio.fail_after(5):
        await SYSTEM.sleep(0.001)
    assert SYSTEM.now() > before
