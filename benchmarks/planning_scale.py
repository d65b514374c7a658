"""Planning at scale: all pairs of a large pool, and all three-stage chains to a base.

    python benchmarks/planning_scale.py --json scale.json

A synthetic pool of models is written to Parquet, top-1 and score per model. Timed apart: reading it, r_match of all
pairs, and for comparison on a few pairs the 0.001-step loop of TinySaver's released search (its rule, t = 1.000, 0.999,
… with confidence > t until the first violation) and the same grid vectorised, both on one core and extrapolated to
all pairs. Then the three-stage search on fewer samples, and on random chains the screen's cost against the exact one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.cascade import make_budget
from pilotfish.documents import as_document
from pilotfish.plan.chains import best_chain, descend, grid_screen, search_chains
from pilotfish.plan.pool import match_pool
from pilotfish.plan.trace import Trace, trace_of

CLASSES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_281_167, help="for the pairs")
    parser.add_argument("--chain-samples", type=int, default=50_000)
    parser.add_argument("--models", type=int, default=44)
    parser.add_argument("--loop-pairs", type=int, default=2, help="pairs that the 0.001-step loops are timed on")
    parser.add_argument("--random-chains", type=int, default=100)
    parser.add_argument("--max-drop", type=float, default=0.005, help="of the three-stage search")
    parser.add_argument("--all-exact", action="store_true", help="solve every three-stage chain, to judge the screen")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    options = parser.parse_args()
    figures = {"options": vars(options), "pairs": pairs(options), "chains": chains(options)}
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1))


def costs_of(models: int) -> np.ndarray:
    """Rising over three decades, the base at 100."""
    return np.geomspace(0.1, 100.0, models)


def synthetic(models: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds (models, n) and right (models, n): samples of unequal difficulty, models of rising skill."""
    rng = np.random.default_rng(seed)
    hard = 1.2 * rng.standard_normal(n)
    scores, right = np.empty((models, n)), np.empty((models, n), bool)
    for k, skill in enumerate(np.linspace(0.66, 1.98, models)):
        able = skill - hard + 0.6 * rng.standard_normal(n)
        right[k] = able + 0.35 * rng.logistic(size=n) > 0
        scores[k] = able + 0.3 * rng.standard_normal(n)
    return scores, right


def write_pool(folder: Path, models: int, n: int, seed: int) -> None:
    """One Parquet file per model with its top-1 and score, and one with the labels."""
    scores, right = synthetic(models, n, seed)
    label = np.random.default_rng(seed + 1).integers(0, CLASSES, n).astype(np.int32)
    pq.write_table(pa.table({"label": label}), folder / "label.parquet")
    for k in range(models):
        top1 = np.where(right[k], label, (label + 1 + k) % CLASSES).astype(np.int32)
        pq.write_table(pa.table({"prediction": top1, "log_odds": scores[k]}), folder / f"{k}.parquet")


def read_pool(folder: Path, models: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores float64 (models, n) and right bool (models, n)."""
    label = pq.read_table(folder / "label.parquet")["label"].to_numpy()
    scores, right = np.empty((models, len(label))), np.empty((models, len(label)), bool)
    for k in range(models):
        table = pq.read_table(folder / f"{k}.parquet")
        scores[k] = table["log_odds"].to_numpy()
        np.equal(table["prediction"].to_numpy(), label, out=right[k])
    return scores, right


def pairs(options: argparse.Namespace) -> dict[str, Any]:
    """All pairs of the pool, and the loops beside them. The pool is written by a child: its memory is not ours."""
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            write_pool(Path(folder), options.models, options.samples, options.seed)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit("the pool could not be written")
        start = time.perf_counter()
        scores, right = read_pool(Path(folder), options.models)
        reading = time.perf_counter() - start
    trace = trace_of(scores[:-1], right, costs_of(options.models))
    count = options.models * (options.models - 1) // 2
    runs = [timed(lambda: match_pool(trace, 0.0, options.threads))[0] for _ in range(options.repeat)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{count} pairs of {options.models} models, {options.samples:,} samples, {options.threads} threads")
    print(f"  read from Parquet {reading:.1f} s; {spread(runs)}; peak {peak:.2f} GB; load {load()}")
    chosen = np.random.default_rng(options.seed).integers(0, options.models, (options.loop_pairs, 2))
    found: dict[str, Any] = {"pairs": count, "reading_s": reading, "seconds": runs, "peak_gb": peak, "load": load()}
    loops: tuple[tuple[str, Callable[..., float]], ...] = (
        ("the released 0.001-step loop", released_loop),
        ("the same grid vectorised", vectorised_grid),
    )
    for name, method in loops:
        seconds = []
        for pair in chosen:
            saver, base = sorted(pair) if pair[0] != pair[1] else (0, options.models - 1)
            confidence = 1 / (1 + np.exp(-scores[saver]))
            seconds.append(timed(lambda f=method, c=confidence, s=saver, b=base: f(c, right[s], right[b]))[0])
        median = statistics.median(seconds)
        print(
            f"  {name}: {median:.3f} s a pair (median of {len(seconds)}), extrapolated to all: {median * count:.0f} s"
        )
        found[name] = {"seconds": seconds, "extrapolated_s": median * count}
    return found


def released_loop(confidence: np.ndarray, saver_right: np.ndarray, base_right: np.ndarray) -> float:
    """t = 1.000, 0.999, … with confidence > t, until the saver is worse on what exits."""
    for k in range(1000, 0, -1):
        exits = confidence > k / 1000
        if exits.any() and saver_right[exits].mean() < base_right[exits].mean():
            break
    return k / 1000


def vectorised_grid(confidence: np.ndarray, saver_right: np.ndarray, base_right: np.ndarray) -> float:
    """The first violation on the same grid, from one histogram."""
    grid = np.arange(1, 1001) / 1000
    place = np.searchsorted(grid, confidence, side="left")  # confidence > grid[i] for i < place
    change = saver_right.view(np.int8) - base_right.view(np.int8)
    gain = np.cumsum(np.bincount(place, change, 1001)[:0:-1])
    broken = np.flatnonzero(gain < 0)
    return float(grid[::-1][broken[0]]) if len(broken) else float(grid[0])


def chains(options: argparse.Namespace) -> dict[str, Any]:
    """The three-stage search, and the screen against the exact optimum on random chains."""
    scores, right = synthetic(options.models, options.chain_samples, options.seed + 2)
    costs, budget = costs_of(options.models), make_budget(max_drop=options.max_drop)
    trace = trace_of(scores[:-1], right, costs)
    found: dict[str, Any] = {}

    def search(**more: int) -> Any:
        return search_chains(trace, budget, threads=options.threads, **more)

    results = [timed(search) for _ in range(options.repeat)]
    seconds, result = [r[0] for r in results], results[-1][1]
    best, peak = result.best, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{result.screened[3]} three-stage chains, {options.chain_samples:,} samples, drop <= {options.max_drop}")
    print(f"  {spread(seconds)}; the best {result.refined[3]} refined exactly; load {load()}")
    print(f"  winner {' -> '.join(best.stages)}: cost {best.cost:.3f} of {costs[-1]:.3f}, drop {best.drop:.5f}")
    for what, other in (("its best sub-chain", best.over_shorter), ("the best pair of the pool", best.over_pair)):
        if other is not None:
            print(f"  the third stage saves {100 * other.saving:.1f} % of {what} ({other.cost:.3f})")
    everything = timed(lambda: search(polish=0, refine=result.screened[3])) if options.all_exact else None
    if everything is not None:
        excess = best.cost / everything[1].best.cost - 1
        print(
            f"  all of them solved exactly: {everything[0]:.1f} s; the search's winner costs {100 * excess:.3f} % more"
        )
        found["all_exact"] = {"seconds": everything[0], "winner_excess": excess}
    found |= {"chains": result.screened[3], "seconds": seconds, "load": load(), "peak_gb": peak}
    return {**found, "best": as_document(best), "random_chains": compare(options, trace)}


def compare(options: argparse.Namespace, pool: Trace) -> dict[str, Any]:
    """Cost above the exact optimum of the grid's best point, alone and after descent from it, on random chains."""
    rng, budget = np.random.default_rng(options.seed + 3), make_budget(max_drop=options.max_drop)
    excess: dict[str, list[float]] = {"grid": [], "grid, then descent": [], "exact": []}
    seconds = []
    for _ in range(options.random_chains):
        chain = pool.pick(sorted(rng.choice(pool.stages - 1, 2, replace=False).tolist()))
        took, exact = timed(lambda one=chain: best_chain(one, budget))
        seconds.append(took)
        grid = grid_screen(chain).best(budget)
        polished = descend(chain, budget, grid.thresholds)
        for name, point in zip(excess, (grid, polished, exact), strict=True):
            excess[name].append(point.cost / exact.cost - 1)
    print(f"  {options.random_chains} random chains, cost above the exact optimum:")
    for name in ("grid", "grid, then descent"):
        values = [100 * x for x in excess[name]]
        print(f"    {name}: median {statistics.median(values):.2f} %, largest {max(values):.2f} %")
    print(f"    exact (what the search refines with): 0 %, {spread(seconds)} a chain, sorting included")
    return {"excess": {k: excess[k] for k in ("grid", "grid, then descent")}, "exact_s": seconds}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what *work* returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def spread(seconds: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(seconds):.3g} s (median of {len(seconds)}, {min(seconds):.3g} to {max(seconds):.3g})"


def load() -> str:
    """The machine's load averages: other jobs slow this one."""
    return " ".join(f"{x:.2f}" for x in os.getloadavg())


if __name__ == "__main__":
    main()
