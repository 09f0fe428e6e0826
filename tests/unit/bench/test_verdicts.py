"""What the benchmark concludes from its figures."""

from typing import Any

from bench.verdicts import TARGETS, ahead, reading, verdicts


def row(target: str, rate: float, connections: int, **more: Any) -> dict[str, Any]:
    return {"target": target, "wire": "handshake", "connections": connections, "per_second": rate, "p50": 1000.0} | more


def results(*rows: dict[str, Any], measure: str = "calls-http", quick: bool = False) -> dict[str, Any]:
    return {measure: {"about": {"quick": quick}, "rows": list(rows)}}


def verdict(found: dict[str, Any], start: str) -> tuple[str, str]:
    return next((figure, word) for what, _, figure, word in verdicts(found) if what.startswith(start))


def test_what_was_not_measured_is_not_met() -> None:
    assert {word for _, _, _, word in verdicts({})} == {"not measured"}
    assert len(list(verdicts({}))) == len(TARGETS)


def test_the_worst_of_several_loads_counts_and_each_by_its_median() -> None:
    rows = [row("bare relay", 1000, count) for count in (8, 64)]
    rows += [row("Manifold", rate, 8) for rate in (950, 900, 10)]
    assert verdict(results(*rows, row("Manifold", 790, 64)), "HTTP, handshake") == ("0.79", "**not met**")
    assert verdict(results(*rows, row("Manifold", 810, 64)), "HTTP, handshake") == ("0.81", "met")


def test_a_target_that_failed_is_not_taken_for_one_that_was_measured() -> None:
    rows = [row("bare relay", 1000, 8), {"target": "Manifold", "wire": "handshake", "connections": 8, "fault": "500"}]
    assert verdict(results(*rows), "HTTP, handshake") == ("-", "not measured")


def test_what_is_added_is_compared_with_what_the_bare_relay_adds() -> None:
    rows = [row(name, 1, 1, p50=p50) for name, p50 in (("direct", 50), ("bare relay", 150), ("Manifold", 170))]
    assert verdict(results(*rows), "HTTP: added p50") == ("1.2", "met")


def test_only_what_comes_from_a_registry_is_a_registry_peer() -> None:
    rows = [row("Manifold", 500, 8), row("fastmcp create_proxy", 400, 8), row("bare relay", 900, 8)]
    assert verdict(results(*rows, measure="calls-stdio"), "stdio upstream, 8") == ("-", "not measured")
    found = results(*rows, row("a", 100, 8), row("b", 250, 8), measure="calls-stdio")
    assert verdict(found, "stdio upstream, 8") == ("2", "**not met**")


def test_a_client_over_stdio_is_compared_where_manifold_is_least_ahead() -> None:
    def asked(target: str, rate: float, count: int) -> dict[str, Any]:
        return {"target": target, "upstream": "http", "in_flight": count, "per_second": rate}

    rows = [asked("Manifold", 900, 1), asked("x", 300, 1), asked("Manifold, connect", 5000, 1)]
    assert verdict(results(*rows, measure="calls-pipes"), "client over stdio") == ("3", "met")
    found = results(*rows, asked("Manifold", 200, 32), asked("x", 100, 32), measure="calls-pipes")
    assert verdict(found, "client over stdio") == ("2", "**not met**")


def test_the_first_list_is_counted_from_the_introduction() -> None:
    shape = "10 upstreams, 1 dead, 1 hanging"
    row = {"target": "Manifold, again", "shape": shape, "initialize": 0.03, "list": 0.04, "tools": 1, "offered": 1}
    assert verdict(results(row, measure="start"), "any other start: seconds") == ("0.01", "met")


def test_a_start_with_ten_upstreams_is_compared_with_the_fastest_peer_with_one() -> None:
    def begun(target: str, shape: str, seconds: float, *, peer: bool = False) -> dict[str, Any]:
        return {"target": target, "shape": shape, "initialize": seconds, "peer": peer}

    ten, one = "10 upstreams, 1 dead, 1 hanging", "1 upstream"
    rows = [begun("Manifold, first time", ten, 0.3), begun("x", one, 0.4, peer=True), begun("y", one, 0.6, peer=True)]
    assert verdict(results(*rows, measure="start"), "first start") == ("0.75", "met")


def test_who_is_ahead_is_told_and_yardsticks_are_not_products() -> None:
    rows = [row("direct", 9000, 8), row("bare relay", 1000, 8), row("Manifold", 900, 8), row("x", 901, 8)]
    assert list(ahead(results(*rows))) == ["calls-http, handshake, 8: x 901, Manifold 900"]


def test_a_quick_run_is_told_apart_from_a_full_one() -> None:
    assert "read to one digit: calls-http" in reading(results(row("Manifold", 1, 8), quick=True))
    assert "one digit" not in reading(results(row("Manifold", 1, 8)))


def test_figures_of_several_runs_are_told_apart() -> None:
    found = results(row("Manifold", 1, 8)) | results(row("Manifold", 1, 8), measure="lists-200")
    assert "several runs" not in reading(found)
    found["lists-200"]["about"]["run"] = "2026-01-01 10:00"
    assert "2026-01-01 10:00: lists-200" in reading(found)
