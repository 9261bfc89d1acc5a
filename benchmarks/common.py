"""What every benchmark shares: timing, the table it prints, the JSON it leaves in ``benchmarks/results/``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from sepo_kit.runs import provenance, write_json

RESULTS = Path(__file__).parent / "results"


def options(about: str) -> argparse.Namespace:
    """``--smoke`` runs everything once on little data: it shows that the benchmark works, not how fast the kit is."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--smoke", action="store_true", help="once, on little data, nothing written")
    return parser.parse_args()


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The least wall time of ``work`` over ``repeats`` runs: what it takes when nothing disturbs it."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def conclude(name: str, rows: list[dict], smoke: bool) -> None:
    """Print ``rows`` as a table; write them with machine, versions and commit unless it was a smoke run."""
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if not smoke:
        keep(name, rows)


def keep(name: str, rows: list[dict]) -> None:
    """Write ``rows`` with machine, versions and commit; one that takes long does so after each of them."""
    write_json(RESULTS / f"{name}.json", {"rows": rows, "provenance": provenance()})
