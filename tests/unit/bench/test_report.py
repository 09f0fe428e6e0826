"""Raw data of the benchmark to tables and plots."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench import report
from bench.measures import MEASURES

ABOUT = {"when": "2026-01-01", "machine": "2 cores", "python": "3.11", "size": "small"}


def row(target: str, rate: float, p50: float, **more: Any) -> dict[str, Any]:
    figures = {"per_second": rate, "p50": p50, "p95": p50, "p99": p50, "cpu_ms_a_call": 0.1, "rss": 2**20}
    return {"target": target, "wire": "handshake", "connections": 8, **figures, **more}


def test_ratios_are_of_the_medians_and_to_the_bare_relay() -> None:
    rows = [row("bare relay", rate, 200) for rate in (900, 1000, 5000)]
    rows += [row("Manifold", rate, 300) for rate in (100, 800, 801)]
    text = report.loads(rows, by=("wire", "connections"))
    assert "| Manifold | 800 | 0.8 | 0.3 |" in text


def test_what_is_added_is_counted_from_the_direct_call() -> None:
    text = report.loads([row("direct", 10, 100), row("bare relay", 5, 350)], by=("connections",))
    assert "| bare relay | 5 | 1 | 0.35 | 0.25 |" in text


def test_who_could_not_be_measured_is_listed_once_with_the_reason() -> None:
    rows = [row("bare relay", 1, 1), {"target": "other", "reason": "no"}, {"target": "other", "reason": "no"}]
    assert report.loads(rows, by=("connections",)).count("* other: no") == 1


def test_a_failure_is_listed_with_the_load_and_the_kind_of_upstream() -> None:
    rows = [row("bare relay", 1, 1, upstream="http"), {"target": "x", "upstream": "stdio", "reason": "no"}]
    rows.append({"target": "y", "upstream": "http", "in_flight": 32, "fault": "it ended"})
    text = report.loads(rows, by=("upstream",))
    assert "* x (stdio upstream): no" in text
    assert "* y (http upstream, in flight 32): it ended" in text


def test_every_measure_has_its_section() -> None:
    assert set(report.SECTIONS) == set(MEASURES)


def test_a_start_that_never_answers_is_shown_as_such() -> None:
    rows = [{"target": "x", "shape": "1 upstream", "fault": "no answer for 20 s"}]
    assert "| x | - | - | - | no answer for 20 s |" in report.started(rows)


def test_figures_replace_older_figures_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.into(page, "new")
    assert page.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"


@pytest.mark.parametrize("value", [1.0, 1000.0])
def test_a_plot_is_well_formed_and_names_everybody(value: float) -> None:
    drawn = report.bar_chart("a < b", {("8", "x & y"): value, ("8", "z"): 1.0})
    texts = [one.text for one in ET.fromstring(drawn).iter() if one.text and one.text.strip()]  # noqa: S314 - our own
    assert any("x & y" in str(text) for text in texts)
    assert "a < b" in texts


def test_raw_data_is_kept_as_it_is(tmp_path: Path) -> None:
    rows = [row("direct", 1, 1), row("bare relay", 1, 1)]
    report.dump(tmp_path / "calls-stdio.json", ABOUT, rows)
    chapter = report.chapter({"calls-stdio": {"about": ABOUT, "rows": rows}}, tmp_path)
    assert "calls-stdio.svg" in chapter
    assert (tmp_path / "calls-stdio.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(("measure", "load"), [("calls-pipes", "in_flight"), ("calls-sse", "connections")])
def test_each_kind_of_upstream_has_a_table_and_bars_of_its_own(measure: str, load: str, tmp_path: Path) -> None:
    rows = [row("Manifold", 1, 1, upstream=kind) | {load: 32} for kind in ("http", "stdio")]
    chapter = report.chapter({measure: {"about": ABOUT, "rows": rows}}, tmp_path)
    assert f"**upstream stdio, {load.replace('_', ' ')} 32**" in chapter
    drawn = (tmp_path / f"{measure}.svg").read_text()
    assert "http 32" in drawn
    assert "stdio 32" in drawn
