from typing import Any

import anyio
from structlog.testing import capture_logs

from proxy.catalog.holder import CatalogHolder, Change
from proxy.catalog.naming import NamingPolicy
from proxy.catalog.policy import CatalogPolicy
from proxy.model import Kind, Listing


def tools(*names: str, **more: Any) -> Listing:
    return Listing(tools=tuple({"name": name, "inputSchema": {"type": "object"}} for name in names), **more)


def names(holder: CatalogHolder) -> list[str]:
    return [entry.route.public for entry in holder.current.of(Kind.TOOL)]


def holder_at(times: list[float] | None = None) -> CatalogHolder:
    ticks = iter(times or [float(tick) for tick in range(100)])
    return CatalogHolder(CatalogPolicy(order=("a", "b")), clock=lambda: next(ticks))


def test_a_listing_replaces_the_one_before_and_leaves_the_others() -> None:
    holder = holder_at()
    holder.replace("b", tools("x"))
    holder.replace("a", tools("old"))
    holder.replace("a", tools("new"))
    assert names(holder) == ["mcp_a_new", "mcp_b_x"]


def test_an_upstream_that_is_gone_takes_its_entries_with_it() -> None:
    holder = holder_at()
    holder.replace("a", tools("x"))
    change = holder.replace("a", None)
    assert change is not None
    assert change.kinds == {Kind.TOOL}
    assert names(holder) == []


def test_the_same_listing_again_changes_nothing() -> None:
    holder = holder_at()
    holder.replace("a", tools("x"))
    before = holder.current
    heard: list[Change] = []
    holder.subscribe(heard.append)
    assert holder.replace("a", tools("x")) is None
    assert holder.replace("never seen", None) is None
    assert holder.current is before
    assert heard == []


def test_subscribers_hear_what_changed_until_they_leave() -> None:
    holder = holder_at()
    heard: list[Change] = []
    leave = holder.subscribe(heard.append)
    holder.replace("a", tools("x", prompts=({"name": "p"},)))
    holder.replace("a", tools("x"))
    leave()
    leave()
    holder.replace("a", None)
    assert [change.kinds for change in heard] == [{Kind.TOOL, Kind.PROMPT}, {Kind.PROMPT}]
    assert heard[0].new is heard[1].old


def test_a_new_catalog_without_new_lists_says_so() -> None:
    holder = holder_at()
    holder.replace("a", tools("x"))
    change = holder.replace("a", tools("x", instructions="read me"))
    assert change is not None
    assert change.kinds == frozenset()
    assert holder.current.listings["a"].instructions == "read me"


def test_a_subscriber_that_fails_does_not_keep_the_news_from_others() -> None:
    holder = holder_at()
    heard: list[Change] = []

    def fail(_: Change) -> None:
        raise RuntimeError

    holder.subscribe(fail)
    holder.subscribe(heard.append)
    with capture_logs() as logs:
        holder.replace("a", tools("x"))
    assert len(heard) == 1
    assert [entry["event"] for entry in logs] == ["catalog.subscriber_failed"]


def test_a_new_policy_renames_and_keeps_old_names_as_aliases() -> None:
    holder = holder_at()
    holder.replace("a", tools("x"))
    policy = CatalogPolicy(order=("a",), naming=NamingPolicy(pattern="{server}-{tool}"))
    change = holder.update(holder.current.listings, policy)
    assert change is not None
    assert change.kinds == {Kind.TOOL}
    assert names(holder) == ["a-x"]
    assert holder.current.aliased(Kind.TOOL, "mcp_a_x") == holder.current.find(Kind.TOOL, "a-x")


def test_aliases_expire_by_the_holders_clock() -> None:
    holder = holder_at([0.0, 0.0, 0.0, 1e9])
    holder.replace("a", tools("b_x"))
    holder.replace("a_b", tools("x"))
    assert holder.current.aliased(Kind.TOOL, "mcp_a_b_x") is not None
    holder.replace("a_b", tools("x", "y"))
    assert holder.current.aliased(Kind.TOOL, "mcp_a_b_x") is None


def test_an_entry_that_is_left_out_is_logged_once() -> None:
    holder = holder_at()
    with capture_logs() as logs:
        holder.replace("a", Listing(tools=({"name": "x"},)))
        holder.replace("b", tools("y"))
    assert [(entry["event"], entry["upstream"], entry["name"]) for entry in logs] == [
        ("catalog.entry_left_out", "a", "x")
    ]


def test_a_flood_of_bad_entries_does_not_flood_the_log() -> None:
    holder = holder_at()
    with capture_logs() as logs:
        holder.replace("a", Listing(tools=tuple({"name": f"x{number}"} for number in range(1000))))
    assert len(logs) < 30
    assert logs[-1]["event"] == "catalog.more_entries_left_out"


def test_listings_that_are_nested_too_deeply_to_compare_do_no_harm() -> None:
    def deep() -> Listing:
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        return Listing(tools=({"name": "deep", "inputSchema": {"type": "object", "x": value}},))

    holder = holder_at()
    holder.replace("b", tools("x"))
    holder.replace("a", deep())
    holder.replace("a", deep())
    assert names(holder) == ["mcp_b_x"]


async def test_who_waits_gets_the_newest_catalog() -> None:
    holder = holder_at()
    got: list[int] = []

    async def wait() -> None:
        got.append((await holder.newer(holder.current.version)).version)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            holder.replace("a", tools("x"))
            holder.replace("a", tools("x", "y"))
    assert got == [holder.current.version] * 2


async def test_who_missed_a_change_does_not_wait() -> None:
    holder = holder_at()
    seen = holder.current.version
    holder.replace("a", tools("x"))
    with anyio.fail_after(5):
        assert await holder.newer(seen) is holder.current
