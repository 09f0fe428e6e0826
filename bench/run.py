"""The benchmark: ``python -m bench.run [--quick] [--keep] [MEASURE ...]``.

Everything runs side by side and in turns within one run, so that a drift of the machine hits all alike; what counts are
the ratios. ``--keep`` writes the raw data to ``bench/results/`` and the tables to ``docs/benchmarks.md``.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.driving import FULL, QUICK
from bench.measures import MEASURES, QUICK_ONES

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = Path(__file__).parent / "results"
PAGE: Final = ROOT / "docs" / "benchmarks.md"
_NAMED: Final = ("fastmcp", "mcp", "aiohttp", "uvicorn", "uvloop", "httptools", "msgspec")


def main() -> int:
    """Measure, print, and keep if told to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rounds, a few measures: for development")
    parser.add_argument("--keep", action="store_true", help="write bench/results/ and docs/benchmarks.md")
    parser.add_argument("measures", nargs="*", choices=[[], *MEASURES], help="which; all if none is named")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything that was started ends with it
    size = QUICK if chosen.quick else FULL
    results: dict[str, Any] = {}
    failed: list[str] = []
    run = time.strftime("%Y-%m-%d %H:%M")
    for name in chosen.measures or (QUICK_ONES if chosen.quick else MEASURES):
        began = time.monotonic()
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        try:
            rows = MEASURES[name](size)
        except Exception:  # noqa: BLE001 - one that fails must not take the others with it
            traceback.print_exc()
            failed.append(name)
            continue
        took = round(time.monotonic() - began)
        results[name] = {"about": _about(str(size), run, quick=chosen.quick, took=took), "rows": rows}
        print(f"{took} s", file=sys.stderr)
        if chosen.keep:
            RESULTS.mkdir(exist_ok=True)
            report.dump(RESULTS / f"{name}.json", results[name]["about"], rows)
            report.into(PAGE, report.chapter(_kept(), RESULTS))  # now: what comes next may take the run with it
    print(report.chapter(results))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _about(size: str, run: str, *, quick: bool, took: int) -> dict[str, Any]:
    return {
        "run": run,
        "quick": quick,
        "seconds": took,
        "when": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _NAMED},
        "size": size,
    }


def _kept() -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


if __name__ == "__main__":
    sys.exit(main())
