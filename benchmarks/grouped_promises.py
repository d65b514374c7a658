"""Every sample five times under other ids: how often does a 90 % promise break, with groups and without?

    python benchmarks/grouped_promises.py --data ../shared/data

Each draw takes n of CIFAR-10's 10,000 test images with replacement, writes each down five times under other ids,
certifies a drop of the pair, and is judged on all 10,000: that is its population. Ungrouped, five copies pass for five
samples; with ``--group-by '^(\\d+)_'`` they are one group. A promise of 90 % may break in 10 % of the draws.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from public_data import Task, cifar

from pilotfish.cascade import Rule
from pilotfish.errors import BudgetError
from pilotfish.plan.certificate import Promise, check_promise, last_kept
from pilotfish.plan.evaluate import outcomes
from pilotfish.plan.evidence import plain_stage_scores
from pilotfish.plan.path import threshold_path
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import Table, align

CONFIDENCE = 0.9
GROUP_BY = r"^(\d+)_"
PAIRS = (("wrn16_4", "wrn_28_10"), ("wrn16_4", "shake_shake_26_2x64d_SSI_cutout16"), ("lenet5", "wrn16_4"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with cifar10_test.npz")
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--samples", type=int, default=400, help="images drawn, before they are copied")
    parser.add_argument("--times", type=int, default=5, help="copies of each")
    parser.add_argument("--drops", type=float, nargs="+", default=[0.01, 0.02])
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE as well")
    options = parser.parse_args()
    task, rows = cifar(options.data, 10), []
    print(f"{'pair':48}{'drop':>6}{'':>3}{'broken, %':>16}{'mean exit ratio, %':>20}")
    for pair in PAIRS:
        for drop in options.drops:
            for how, group_by in (("ungrouped", "none"), ("grouped", GROUP_BY)):
                row = judge(task, pair, drop, group_by, options.samples, options.times, options.draws)
                rows.append({"pair": " -> ".join(pair), "drop": drop, "how": how, **row})
                broken = f"{100 * row['broken']:.1f} ± {100 * row['standard_error']:.1f}"
                exits = f"{100 * row['exit_ratio']:14.1f}"
                print(f"{' -> '.join(pair)[:47]:48}{100 * drop:6.1f}   {how:10}{broken:>12}{exits}", flush=True)
    worst = max(row["broken"] for row in rows if row["how"] == "grouped")
    allowed = 0.1 + 2 * math.sqrt(0.09 / options.draws)
    print(f"\ngrouped, worst: {100 * worst:.1f} %; 10 % and two standard errors are {100 * allowed:.1f} %")
    if options.json:
        Path(options.json).write_text(json.dumps(rows))


def judge(
    task: Task, pair: tuple[str, str], drop: float, group_by: str, samples: int, times: int, draws: int
) -> dict[str, float]:
    """Share of the draws whose promise breaks on the whole population, and the mean certified exit ratio."""
    population = trace_of(task.table(*pair))
    promise, broken, exits = Promise("drop", drop, 1 - CONFIDENCE), 0, []
    for i in range(draws):
        drawn = np.random.default_rng([2, i]).integers(0, len(population), samples)
        trace = trace_of(copied(task, pair, drawn, times, group_by))
        path = threshold_path(sweep(trace.values[0], trace.quality[0], trace.quality[1]).thresholds[:, None])
        try:
            check_promise(promise, len(trace), trace)
            index = last_kept(trace, path, promise)
        except BudgetError:  # too few: nothing is promised
            index = None
        answered_by, gap = outcomes(population, path.policy(index or 0))
        broken += bool(gap.mean() > drop)
        exits.append(float((answered_by == 0).mean()))
    share = broken / draws
    return {
        "broken": share,
        "standard_error": math.sqrt(share * (1 - share) / draws),
        "exit_ratio": float(np.mean(exits)),
    }


def copied(task: Task, pair: tuple[str, str], drawn: np.ndarray, times: int, group_by: str) -> Table:
    """The records of *drawn* images, each several times under other ids."""
    rows = np.repeat(drawn, times)
    ids = pa.array([f"{place}_{copy}" for place in range(len(drawn)) for copy in range(times)])
    saver, base = (replace(task.records[name].take(rows), ids=ids) for name in pair)
    return align([saver], base, group_by)


def trace_of(table: Table) -> Trace:
    """The pair's plain max_prob on all samples."""
    stages = table.models
    return make_trace(table, stages, Rule(), plain_stage_scores(table, stages, "max_prob"), None, None)


if __name__ == "__main__":
    main()
