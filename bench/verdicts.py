"""What the figures mean: every target that was set, whether it was met, and where somebody else is ahead.

Targets are ratios within one run wherever they can be. A target whose figures are not there is said to be not measured,
and never counts as met.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

Row = dict[str, Any]
Results = Mapping[str, Any]

MANIFOLD: Final = "Manifold"
BARE: Final = "bare relay"
YARDSTICKS: Final = ("direct", BARE, MANIFOLD, "Manifold, lane off", "Manifold, connect")
"""What is no product of somebody else."""
BUILT_IN: Final = "fastmcp create_proxy"
"""Comes with the library and not from a registry by itself."""
MANY: Final = (8, 32, 64)
"""Connections."""


def middle(rows: Sequence[Row], key: str) -> float | None:
    """The median of a figure over the rounds."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return statistics.median(values) if values else None


class Figures:
    """Looks up medians in the results of a run."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def rows(self, measure: str) -> list[Row]:
        """The good rows of a measure."""
        rows: list[Row] = self._results.get(measure, {}).get("rows", [])
        return [row for row in rows if "reason" not in row and "fault" not in row]

    def of(self, measure: str, key: str, **where: Any) -> float | None:
        """The median of a figure in the rows that have these members."""
        return middle([row for row in self.rows(measure) if where.items() <= row.items()], key)

    def ratio(self, measure: str, key: str, to: str, **where: Any) -> float | None:
        """Manifold's figure in terms of somebody else's."""
        ours, theirs = self.of(measure, key, target=MANIFOLD, **where), self.of(measure, key, target=to, **where)
        return ours / theirs if ours is not None and theirs else None

    def peers(self, measure: str) -> list[str]:
        """Who of the registries was measured."""
        found = dict.fromkeys(row["target"] for row in self.rows(measure))
        return [name for name in found if name not in (*YARDSTICKS, BUILT_IN)]

    def seconds(self, target: str, shape: str) -> float | None:
        """From the introduction to the first list, in a start."""
        asked, listed = (self.of("start", key, target=target, shape=shape) for key in ("initialize", "list"))
        return None if asked is None or listed is None else listed - asked


Measured = Callable[[Figures], float | None]


def worst(measure: str, key: str, to: str, connections: Sequence[int], **where: Any) -> Measured:
    """The smallest of some ratios; those that were measured count."""

    def measured(figures: Figures) -> float | None:
        found = [figures.ratio(measure, key, to, connections=count, **where) for count in connections]
        return min((one for one in found if one is not None), default=None)

    return measured


def ahead_of_peers(measure: str, name: str, counts: Sequence[int], **where: Any) -> Measured:
    """Throughput in terms of the fastest registry peer's, where Manifold is least ahead.

    Args:
        measure: which.
        name: what is counted of the load.
        counts: how much of it; those that were measured count.
        where: what else the rows say.
    """

    def measured(figures: Figures) -> float | None:
        found = []
        for place in ({name: count, **where} for count in counts):
            ours = figures.of(measure, "per_second", target=MANIFOLD, **place)
            rates = [figures.of(measure, "per_second", target=peer, **place) for peer in figures.peers(measure)]
            best = max((rate for rate in rates if rate), default=None)
            if ours is not None and best is not None:
                found.append(ours / best)
        return min(found, default=None)

    return measured


def added(figures: Figures) -> float | None:
    """Latency added at one connection in terms of what the bare relay adds."""
    direct, bare, ours = (
        figures.of("calls-http", "p50", target=name, connections=1, wire="handshake")
        for name in ("direct", BARE, MANIFOLD)
    )
    return None if direct is None or bare is None or ours is None else (ours - direct) / (bare - direct)


def tail(figures: Figures) -> float | None:
    """p99 in terms of p50, at 64 connections."""
    p99, p50 = (
        figures.of("calls-http", key, target=MANIFOLD, connections=64, wire="handshake") for key in ("p99", "p50")
    )
    return p99 / p50 if p99 and p50 else None


ONE: Final = "1 upstream"
TEN: Final = "10 upstreams, 1 dead, 1 hanging"


def start_of(name: str) -> Measured:
    """Seconds to the introduction with ten upstreams, in terms of the fastest registry peer's with a healthy one."""

    def measured(figures: Figures) -> float | None:
        ours = figures.of("start", "initialize", target=name, shape=TEN)
        peers = {row["target"] for row in figures.rows("start") if row.get("peer")}
        theirs = [figures.of("start", "initialize", target=peer, shape=ONE) for peer in peers]
        best = min((one for one in theirs if one is not None), default=None)
        return ours / best if ours is not None and best else None

    return measured


def complete(figures: Figures) -> float | None:
    """The share of tools in the first list of a start that remembers."""
    rows = [row for row in figures.rows("start") if row["target"] == "Manifold, again" and row["shape"] == TEN]
    return min((row["tools"] / row["offered"] for row in rows if row.get("offered")), default=None)


def connecting(figures: Figures) -> float | None:
    """Seconds to the introduction by ``connect``, with one upstream or ten."""
    name = "connect to a running Manifold"
    found = [figures.of("start", "initialize", target=name, shape=shape) for shape in (ONE, TEN)]
    return max((one for one in found if one is not None), default=None)


def neighbour(measure: str, beside: str) -> Measured:
    """p99 beside a neighbour in terms of that beside a quiet one."""

    def measured(figures: Figures) -> float | None:
        loud, quiet = (figures.of(measure, "p99", beside=f"a {one} neighbour") for one in (beside, "quiet"))
        return loud / quiet if loud is not None and quiet else None

    return measured


def session(figures: Figures) -> float | None:
    """Kilobytes of an idle session."""
    found = figures.of("memory", "bytes_a_session", target=MANIFOLD)
    return None if found is None else found / 1000


def idling(figures: Figures) -> float | None:
    """CPU milliseconds a second that idle sessions cost."""
    now, before = (figures.of("memory", key, target=MANIFOLD) for key in ("cpu_ms_a_second", "cpu_ms_a_second_before"))
    return None if now is None or before is None else max(0.0, now - before)


TARGETS: Final[tuple[tuple[str, str, float, Measured], ...]] = (
    (
        "HTTP, handshake, 8 to 64 connections: throughput of the bare relay's, the worst",
        ">=",
        0.8,
        worst("calls-http", "per_second", BARE, MANY, wire="handshake"),
    ),
    (
        "HTTP, modern, 8 to 64 connections: the same",
        ">=",
        0.8,
        worst("calls-http", "per_second", BARE, MANY, wire="modern"),
    ),
    (
        "HTTP, requests in two pieces: throughput of the bare relay's, the worst",
        ">=",
        0.8,
        worst("calls-halves", "per_second", BARE, (1, *MANY), sent="in two pieces"),
    ),
    ("HTTP: added p50 at one connection, of the bare relay's", "<=", 1.3, added),
    (
        "HTTP, handshake, 8 to 64 connections: throughput of `fastmcp.create_proxy`'s, the worst",
        ">=",
        150,
        worst("calls-http", "per_second", BUILT_IN, MANY, wire="handshake"),
    ),
    (
        "HTTP, handshake, 8 to 64 connections: throughput of the fastest registry peer's, the worst",
        ">=",
        2.5,
        ahead_of_peers("calls-http", "connections", MANY, wire="handshake"),
    ),
    ("HTTP: p99 at 64 connections, of p50", "<=", 3, tail),
    (
        "stdio upstream, 8 to 64 connections: throughput of the fastest registry peer's",
        ">=",
        2.5,
        ahead_of_peers("calls-stdio", "connections", MANY),
    ),
    (
        "stdio upstream: throughput of the bare relay's, the worst",
        ">=",
        0.7,
        worst("calls-stdio", "per_second", BARE, (1, *MANY)),
    ),
    (
        "client over stdio, 1 and 32 in flight, HTTP upstream: throughput of the fastest registry peer's, the worst",
        ">=",
        2.5,
        ahead_of_peers("calls-pipes", "in_flight", (1, 32), upstream="http"),
    ),
    (
        "`tools/list` with 200 tools: throughput of the bare relay's",
        ">=",
        0.8,
        worst("lists-200", "per_second", BARE, (8,)),
    ),
    (
        "first start, 10 upstreams, 1 dead, 1 hanging: `initialize`, of the fastest registry peer's with 1 upstream",
        "<=",
        1,
        start_of("Manifold, first time"),
    ),
    ("any other start: the same", "<=", 1, start_of("Manifold, again")),
    ("any other start: share of all tools in the first list", ">=", 1, complete),
    (
        "any other start: seconds from `initialize` to the first list",
        "<=",
        0.1,
        lambda figures: figures.seconds("Manifold, again", TEN),
    ),
    ("`connect` to a running Manifold: seconds to `initialize`", "<=", 0.15, connecting),
    ("beside a slow neighbour: p99, of that beside a quiet one", "<=", 1.2, neighbour("neighbours", "slow")),
    ("beside a dying neighbour: p99, of that beside a quiet one", "<=", 1.5, neighbour("dying", "dying")),
    ("an idle session: kB", "<=", 20, session),
    ("all idle sessions together: CPU ms a second above those without any", "<=", 2, idling),
)


def verdicts(results: Results) -> Iterator[tuple[str, str, str, str]]:
    """What was asked for, the target, the figure, and whether it was met."""
    figures = Figures(results)
    for what, sign, bound, measured in TARGETS:
        found = measured(figures)
        if found is None:
            yield what, f"{sign} {bound:g}", "-", "not measured"
        else:
            met = found >= bound if sign == ">=" else found <= bound
            yield what, f"{sign} {bound:g}", f"{found:.3g}", "met" if met else "**not met**"


def ahead(results: Results) -> Iterator[str]:
    """Where somebody else's product has more throughput, or is sooner there, than Manifold."""
    figures = Figures(results)
    for measure in results:
        rows = [row for row in figures.rows(measure) if "per_second" in row or "initialize" in row]
        names = ("shape", "upstream", "wire", "connections", "in_flight", "sent", "bytes", "pace")
        for place in dict.fromkeys(tuple((name, row[name]) for name in names if name in row) for row in rows):
            here = [row for row in rows if dict(place).items() <= row.items()]
            yield from _ahead(measure, ", ".join(str(value) for _, value in place), here)


def _ahead(measure: str, place: str, rows: Sequence[Row]) -> Iterator[str]:
    key, sign = ("per_second", 1) if measure != "start" else ("initialize", -1)
    ours = [row for row in rows if row["target"] in (MANIFOLD, "Manifold, first time")]
    mine = middle(ours, key)
    for name in dict.fromkeys(row["target"] for row in rows):
        theirs = middle([row for row in rows if row["target"] == name], key)
        other = name not in YARDSTICKS and not name.startswith(("Manifold", "connect"))
        if other and mine is not None and theirs is not None and sign * theirs > sign * mine:
            yield f"{measure}, {place}: {name} {theirs:.4g}, Manifold {mine:.4g}"


def reading(results: Results) -> str:
    """The targets as a table, and who is ahead where."""
    lines = ["| | target | measured | |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(one)} |" for one in verdicts(results)]
    others = "\n".join(f"* {one}" for one in ahead(results)) or "Nowhere in what was measured."
    parts = ["### What it comes to", *_origin(results), "\n".join(lines), "**Where another product is ahead**", others]
    return "\n\n".join(parts)


def _origin(results: Results) -> Iterator[str]:
    """From how many runs this is, and what of it was only looked at briefly."""
    abouts = {name: one.get("about", {}) for name, one in results.items()}
    runs = dict.fromkeys(about.get("run", "an older one") for about in abouts.values())
    if len(runs) > 1:
        named = (
            "; ".join(name for name, about in abouts.items() if about.get("run", "an older one") == run) for run in runs
        )
        yield "Of several runs: " + ". ".join(f"{run}: {names}" for run, names in zip(runs, named, strict=True)) + "."
    quick = sorted(name for name, about in abouts.items() if about.get("quick", True))
    if quick:
        yield f"Short rounds, to be read to one digit: {', '.join(quick)}."
