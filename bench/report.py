"""Raw data to tables and plots: medians over the rounds, and ratios within one run."""

import html
import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.verdicts import middle, reading

Row = dict[str, Any]

BEGIN: Final = "<!-- figures: written by make bench -->"
END: Final = "<!-- /figures -->"
_COLOURS: Final = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb", "#000000", "#997700")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def reasons(rows: Sequence[Row]) -> str:
    """Who was not measured, and why."""
    found = dict.fromkeys((row["target"], _where(row), row.get("reason") or row["fault"]) for row in rows if _bad(row))
    return "\n".join(f"* {target}{where}: {reason}" for target, where, reason in found)


def _where(row: Row) -> str:
    """At which load it went wrong, or with which kind of upstream."""
    places = [f"{row['upstream']} upstream"] if "upstream" in row else []
    if "fault" in row:
        places += [
            f"{name.replace('_', ' ')} {row[name]}" for name in ("wire", "connections", "in_flight") if name in row
        ]
    return f" ({', '.join(places)})" if places else ""


def loads(rows: Sequence[Row], *, by: Sequence[str], unit: str = "call") -> str:
    """Targets under load: one table for each value of ``by``; ratios to the bare relay, and else to the first.

    A unit is what the figures are of: a call, or a message of a stream.
    """
    parts = []
    good = [row for row in rows if not _bad(row)]
    for key in dict.fromkeys(tuple(row[name] for name in by) for row in good):
        here = [row for row in good if tuple(row[name] for name in by) == key]
        targets = {
            name: [row for row in here if row["target"] == name]
            for name in dict.fromkeys(row["target"] for row in here)
        }
        yardstick = "bare relay" if "bare relay" in targets else next(iter(targets))
        base, direct = middle(targets[yardstick], "per_second") or 1, _p50(targets.get("direct", ()))
        lines = []
        for name, found in targets.items():
            rate, p50 = middle(found, "per_second") or 0, _p50(found)
            added = "" if name == "direct" or not targets.get("direct") else _ms(p50 - direct)
            cpu = middle(found, "cpu_ms_a_call")
            figures = (_ms(p50), added, _ms(middle(found, "p95")), _ms(middle(found, "p99")))
            mib = round((middle(found, "rss") or 0) / 2**20) or ""
            lines.append((name, round(rate), f"{rate / base:.3g}", *figures, "" if cpu is None else f"{cpu:.3f}", mib))
        said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in zip(by, key, strict=True))
        missing = sum(row.get("missing", 0) for row in here)
        said += f" ({missing} messages did not come)" if missing else ""
        head = ("", f"{unit}s/s", f"of {yardstick}", "p50 ms", "added p50", "p95", "p99", f"CPU ms a {unit}", "RSS MiB")
        parts.append(f"**{said}**\n\n{table(head, lines)}")
    return "\n\n".join([*parts, reasons(rows)]).strip()


def started(rows: Sequence[Row]) -> str:
    """Start-up, one table for each set of upstreams."""
    parts = []
    for shape in dict.fromkeys(row["shape"] for row in rows):
        here = [row for row in rows if row["shape"] == shape]
        lines: list[Sequence[object]] = []
        for name in dict.fromkeys(row["target"] for row in here):
            found = [row for row in here if row["target"] == name]
            note = next((row.get("reason") or row.get("fault") for row in found if _bad(row)), "")
            shaken, listed = middle(found, "initialize"), middle(found, "list")
            tools = middle(found, "tools")
            seconds = ("-" if value is None else f"{value:.3f}" for value in (shaken, listed))
            lines.append((name, *seconds, "-" if tools is None else f"{tools:.0f} of {_offered(here)}", note))
        parts.append(f"**{shape}**\n\n{table(('', 'initialize s', 'first list s', 'tools in it', ''), lines)}")
    return "\n\n".join(parts)


def _offered(rows: Sequence[Row]) -> int:
    return next((int(row["offered"]) for row in rows if "offered" in row), 0)


def beside(rows: Sequence[Row]) -> str:
    """One upstream beside another."""
    good = [row for row in rows if not _bad(row)]
    quiet = middle([row for row in good if "quiet" in row["beside"]], "p99") or 1
    lines = []
    for name in dict.fromkeys(row["beside"] for row in good):
        found = [row for row in good if row["beside"] == name]
        p99 = middle(found, "p99") or 0
        lines.append((name, round(middle(found, "per_second") or 0), _ms(_p50(found)), _ms(p99), f"{p99 / quiet:.2f}"))
    return "\n\n".join([table(("", "calls/s", "p50 ms", "p99 ms", "of quiet"), lines), reasons(rows)]).strip()


def remembered(rows: Sequence[Row]) -> str:
    """Memory."""
    sessions = [row for row in rows if "bytes_a_session" in row]
    head = ("", "idle sessions", "KiB a session", "CPU ms a second, all idle", "before there were any")
    first = table(
        head,
        [
            (r["target"], r["sessions"], round(r["bytes_a_session"] / 1024, 1), r["cpu_ms_a_second"], quiet)
            for r in sessions
            for quiet in [r.get("cpu_ms_a_second_before", "")]
        ],
    )
    held = {(r["target"], r["kind"], r["upstreams"]): r["rss"] for r in rows if "kind" in r and not _bad(r)}
    lines = []
    for target, kind in dict.fromkeys((target, kind) for target, kind, _ in held):
        few, many = held.get((target, kind, 1)), held.get((target, kind, 10))
        if few and many:
            lines.append((target, kind, _mib(few), _mib(many), round((many - few) / 9 / 1024)))
    second = table(("", "upstreams", "MiB with 1", "MiB with 10", "KiB an upstream"), lines)
    return "\n\n".join([first, second, reasons(rows)]).strip()


def layered(rows: Sequence[Row]) -> str:
    """The layers."""
    nothing = {row["backchannel"]: statistics.median(row["ns"]) for row in rows if row["layer"] == "(nothing)"}
    names = dict.fromkeys(row["layer"] for row in rows)
    above = {(r["layer"], r["backchannel"]): statistics.median(r["ns"]) - nothing[r["backchannel"]] for r in rows}
    lines = [(name, round(above[name, False]), round(above[name, True])) for name in names]
    return table(("", "ns a call", "ns a call that may be asked back"), lines)


SECTIONS: Final[dict[str, tuple[str, Callable[[Sequence[Row]], str]]]] = {
    "calls-http": ("Calls, one HTTP upstream", lambda rows: loads(rows, by=("wire", "connections"))),
    "calls-halves": (
        "Requests in one piece and in two",
        lambda rows: loads(rows, by=("connections", "sent")),
    ),
    "calls-stdio": ("Calls, one stdio upstream", lambda rows: loads(rows, by=("connections",))),
    "calls-pipes": (
        "Calls by a client that speaks over standard input and output",
        lambda rows: loads(rows, by=("upstream", "in_flight")),
    ),
    "calls-sse": ("Calls over legacy SSE", lambda rows: loads(rows, by=("upstream", "connections"))),
    "calls-10-upstreams": ("Calls, ten upstreams with 20 tools each", lambda rows: loads(rows, by=("connections",))),
    "lists-200": ("`tools/list`, 200 tools of one upstream", lambda rows: loads(rows, by=("connections",))),
    "lists-10x20": ("`tools/list`, 200 tools of ten upstreams", lambda rows: loads(rows, by=("connections",))),
    "results": ("Calls with large results", lambda rows: loads(rows, by=("bytes",))),
    "streams": (
        "Long streams: progress messages before a result",
        lambda rows: loads(rows, by=("pace", "connections"), unit="message"),
    ),
    "start": ("Start-up over stdio", started),
    "neighbours": ("Beside a slow neighbour", beside),
    "dying": ("Beside a neighbour that dies of every call", beside),
    "memory": ("Memory", remembered),
    "layers": ("The layers of the tower, each alone", layered),
}


def chapter(results: dict[str, Any], plots: Path | None = None) -> str:
    """All sections, from measure -> {about, rows}: first what the figures mean, and then they themselves."""
    parts = [reading(results)]
    for name, (title, shape) in SECTIONS.items():
        if name not in results:
            continue
        about, rows = results[name]["about"], results[name]["rows"]
        kind = "a quick run" if about.get("quick", True) else "a full run"
        said = f"{kind}, {about['when']}, {about['machine']}, Python {about['python']}; {about['size']}"
        picture = ""
        if plots is not None and (drawn := _plot(name, title, rows)):
            (plots / f"{name}.svg").write_text(drawn)
            picture = f"![{title}](../bench/results/{name}.svg)\n\n"
        parts.append(
            f"### {title}\n\n{picture}{shape(rows)}\n\n<sub>{said}. Raw data: `bench/results/{name}.json`.</sub>"
        )
    return "\n\n".join(parts)


def into(page: Path, text: str) -> None:
    """Put the figures into a page, between its marks."""
    whole = page.read_text()
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _plot(name: str, title: str, rows: Sequence[Row]) -> str:
    good = [row for row in rows if not _bad(row)]
    if name == "calls-halves":
        key, unit = "per_second", "calls a second (logarithmic)"
        groups = [(f"{r['connections']}, {r['sent']}", r) for r in good]
    elif name in ("calls-pipes", "calls-sse"):
        key, unit = "per_second", "calls a second (logarithmic)"
        groups = [(f"{r['upstream']} {r.get('in_flight') or r['connections']}", r) for r in good]
    elif name.startswith(("calls", "lists")):
        key, unit = "per_second", "calls a second (logarithmic)"
        groups = [(f"{r.get('wire', '')} {r['connections']}".strip(), r) for r in good]
    elif name == "results":
        key, unit = "per_second", "calls a second (logarithmic)"
        groups = [(f"{r['bytes']} bytes", r) for r in good]
    elif name == "streams":
        key, unit = "per_second", "messages a second (logarithmic)"
        groups = [(f"{r['connections']}, {'paced' if '500' in r['pace'] else 'as fast as it goes'}", r) for r in good]
    elif name == "start":
        key, unit = "list", "seconds to the first list (logarithmic)"
        groups = [(r["shape"].split(" upstream")[0] + " upstreams", r) for r in good]
    else:
        return ""
    bars = {
        (group, target): middle([row for label, row in groups if label == group and row["target"] == target], key)
        for group in dict.fromkeys(label for label, _ in groups)
        for target in dict.fromkeys(row["target"] for _, row in groups)
    }
    return bar_chart(f"{title}: {unit}", {place: value for place, value in bars.items() if value})


def bar_chart(title: str, bars: dict[tuple[str, str], float]) -> str:
    """Horizontal bars in groups, as SVG; the length is logarithmic."""
    names = list(dict.fromkeys(target for _, target in bars))
    low = min(bars.values()) / 2
    span = math.log(max(bars.values()) / low) or 1.0
    lines, y, group = [f'<text x="8" y="20" font-weight="bold">{html.escape(title)}</text>'], 36, ""
    for (label, target), value in bars.items():
        if label != group:
            group, y = label, y + 8
            lines.append(f'<text x="8" y="{y + 11}">{html.escape(label)}</text>')
        width = 420 * math.log(value / low) / span
        colour = _COLOURS[names.index(target) % len(_COLOURS)]
        lines.append(f'<rect x="150" y="{y}" width="{width:.1f}" height="13" fill="{colour}"/>')
        lines.append(f'<text x="{156 + width:.1f}" y="{y + 11}">{html.escape(target)}: {value:,.4g}</text>')
        y += 16
    style = 'font-family="sans-serif" font-size="11"'
    back = '<rect width="100%" height="100%" fill="white"/>'
    body = "\n".join([back, *lines])
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{y + 10}" {style}>\n{body}\n</svg>\n'


def dump(path: Path, about: Row, rows: Sequence[Row]) -> None:
    """Keep raw data, a row on each line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    path.write_text(f'{{"about": {json.dumps(about)},\n"rows": [\n{lines}\n]}}\n')


def _bad(row: Row) -> bool:
    return "reason" in row or "fault" in row


def _p50(rows: Sequence[Row]) -> float:
    return middle(rows, "p50") or 0.0


def _mib(size: float) -> float:
    return round(size / 2**20, 1)


def _ms(microseconds: float | None) -> str:
    return "" if microseconds is None else f"{microseconds / 1000:.3g}"
