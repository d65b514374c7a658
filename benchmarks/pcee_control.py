"""Does an accuracy that is asked for come out? PCEE's control, beside plain confidence thresholds.

    python benchmarks/pcee_control.py --data ../shared/data

For each delta the samples that exit are those whose estimated accuracy is at least delta: by the confidence itself, by
the confidence after temperature scaling, or by a reliability diagram. Fitted on one half, judged on the other: the
accuracy of the exits minus delta, over the deltas that leave at least 50 exits; and again over those of them that bind,
where somebody stays (below a model's own accuracy everybody may leave, and the accuracy lies above delta for certain).
Then a chain of three, where the second exit's diagram sees samples that the first one refused.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from public_data import Task, cifar, halves

from pilotfish.cascade import ExitSets, Rule
from pilotfish.plan.evidence import stage_scores
from pilotfish.plan.methods import PceeOptions, PceeWsOptions
from pilotfish.plan.methods.pcee import exit_sets
from pilotfish.plan.path import route
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.scores import from_shown

DELTAS = np.arange(50, 100) / 100
FEWEST = 50
CHAIN = ("lenet5", "wrn16_4", "wrn_28_10")
WAYS: dict[str, Any] = {
    "confidence": "max_prob",
    "temperature": "temperature",
    "pcee, 10 bins": PceeOptions(bins=10),
    "pcee, 50 bins": PceeOptions(),
    "pcee, 20 bins of equal mass": PceeOptions(bins=20, binning="mass"),
    "pcee-ws, neighbours": PceeWsOptions(),
    "pcee-ws, kernel": PceeWsOptions(smoothing="kernel"),
    "pcee-ws, isotonic": PceeWsOptions(smoothing="isotonic"),
    "pcee-ws, lower bound 90%": PceeWsOptions(lower_bound=0.9),
    "pcee, mean": PceeOptions(control="mean"),
    "pcee-ws, mean": PceeWsOptions(control="mean"),
    "pcee-ws, mean, isotonic": PceeWsOptions(control="mean", smoothing="isotonic"),
    "pcee-ws, mean, bound 90%": PceeWsOptions(control="mean", lower_bound=0.9),
}
VARIANTS = {
    "everybody": PceeWsOptions(),
    "survivors": PceeWsOptions(diagram="survivors"),
    "everybody, lower bound 90%": PceeWsOptions(lower_bound=0.9),
    "survivors, lower bound 90%": PceeWsOptions(diagram="survivors", lower_bound=0.9),
    "everybody, mean": PceeWsOptions(control="mean"),
    "survivors, mean": PceeWsOptions(diagram="survivors", control="mean"),
    "survivors, mean, bound 90%": PceeWsOptions(diagram="survivors", control="mean", lower_bound=0.9),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the public predictions")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE as well")
    options = parser.parse_args()
    rows = []
    for classes in (10, 100):
        task = cifar(options.data, classes)
        for saver in task.savers:
            base = next(m for m in task.records if m not in task.savers)
            rows += _one_exit(task, saver, base, options.splits)
    _one_exit_table(rows, options.splits)
    chain = _chain(cifar(options.data, 10), options.splits)
    _chain_table(chain, options.splits)
    if options.json:
        Path(options.json).write_text(json.dumps({"one exit": rows, "chain": chain}))


def _one_exit(task: Task, saver: str, base: str, splits: int) -> list[dict[str, Any]]:
    table, rows = task.table(saver, base), []
    for split in range(splits):
        fit, judge = halves(len(table), split)
        for way, how in WAYS.items():
            name = how if isinstance(how, str) else "max_prob"
            scores = stage_scores(table, (saver, base), name, fit)
            trace, held = (_trace(table, (saver, base), scores.scores, part) for part in (fit, judge))
            policy = _by_value(trace) if isinstance(how, str) else lambda d, t=trace, o=how: exit_sets(t, d, o)
            for delta in DELTAS.tolist():
                exits = route(held, policy(delta)) == 0
                if exits.sum() >= FEWEST:
                    error = float(held.right[0][exits].mean()) - delta
                    where = {"task": task.name, "saver": saver, "way": way, "split": split, "delta": delta}
                    rows.append({**where, "error": error, "coverage": float(exits.mean()), "binds": not exits.all()})
    return rows


def _by_value(trace: Trace) -> Callable[[float], ExitSets]:
    """Exit where the confidence itself is at least delta."""
    return lambda delta: tuple((float(from_shown(scale, delta)),) for scale in trace.scales)


def _trace(table: Any, stages: tuple[str, ...], scores: Any, rows: np.ndarray) -> Trace:
    return make_trace(table, stages, Rule(), scores, None, None, rows)


def _one_exit_table(rows: list[dict[str, Any]], splits: int) -> None:
    print(f"Accuracy of the exits minus delta, in points; delta = 0.50 … 0.99 with >= {FEWEST} exits; {splits} splits")
    header = f"{'':30}{'mean |error|':>14}{'mean error':>12}{'undershoot':>12}{'coverage':>10}{'deltas':>8}"
    header += f"{'binding: |error|':>20}{'deltas':>8}"
    for task, saver in dict.fromkeys((r["task"], r["saver"]) for r in rows):
        print(f"\n{task}, {saver}\n{header}")
        mine = [r for r in rows if (r["task"], r["saver"]) == (task, saver)]
        for way in WAYS:
            found = [r for r in mine if r["way"] == way]
            if not found:
                print(f"{way:30}{'no delta leaves enough exits':>40}")
                continue
            error = np.array([r["error"] for r in found])
            below = np.maximum(-error, 0).mean()
            print(
                f"{way:30}{100 * np.abs(error).mean():14.2f}{100 * error.mean():+12.2f}{100 * below:12.2f}"
                f"{100 * np.mean([r['coverage'] for r in found]):9.1f}%{len(found) / splits:8.1f}"
                + _binding([r["error"] for r in found if r["binds"]], splits)
            )


def _binding(errors: list[float], splits: int) -> str:
    return f"{100 * np.mean(np.abs(errors)):20.2f}{len(errors) / splits:8.1f}" if errors else f"{'-':>20}"


def _chain(task: Task, splits: int) -> list[dict[str, Any]]:
    table, rows = task.chain(*CHAIN), []
    for split in range(splits):
        fit, judge = halves(len(table), split)
        scores = stage_scores(table, CHAIN, "max_prob", fit)
        trace, held = (_trace(table, CHAIN, scores.scores, part) for part in (fit, judge))
        for variant, how in VARIANTS.items():
            for delta in DELTAS.tolist():
                answered_by = route(held, exit_sets(trace, delta, how))
                for k in range(len(CHAIN)):
                    here, reached = answered_by == k, answered_by >= k
                    if here.sum() >= FEWEST:
                        error = float(held.right[k][here].mean()) - delta
                        where = {"variant": variant, "split": split, "delta": delta, "exit": k}
                        binds = not here[reached].all()
                        rows.append({**where, "error": error, "share": float(here.mean()), "binds": binds})
    return rows


def _chain_table(rows: list[dict[str, Any]], splits: int) -> None:
    print(f"\n{' -> '.join(CHAIN)} on CIFAR-10: accuracy at each exit minus delta, in points; {splits} splits")
    print(
        f"{'':30}" + "".join(f"{f'exit {k + 1}, mean':>16}{'|error|':>9}{'share':>8}" for k in (0, 1)) + f"{'last':>8}"
    )
    for variant in VARIANTS:
        line = f"{variant:30}"
        for k in (0, 1, 2):
            found = [r for r in rows if r["variant"] == variant and r["exit"] == k]
            error = np.array([r["error"] for r in found])
            if not len(error):
                line += f"{'-':>16}{'':17}"
            elif k < 2:
                share = 100 * np.mean([r["share"] for r in found])
                line += f"{100 * error.mean():+16.2f}{100 * np.abs(error).mean():9.2f}{share:7.1f}%"
            else:
                line += f"{100 * error.mean():+8.2f}"
        print(line)
    print(
        "\nwhere delta binds at the exit and is 0.8 or more: mean error (share of cells below delta by over 0.5 points)"
    )
    for k in (0, 1):
        for variant in VARIANTS:
            mine = [r for r in rows if r["variant"] == variant and r["exit"] == k and r["delta"] >= 0.8 and r["binds"]]
            error = np.array([r["error"] for r in mine])
            print(
                f"  exit {k + 1} {variant:30}{100 * error.mean():+7.2f} ({np.mean(error < -0.005):.0%} of {len(mine)})"
            )


if __name__ == "__main__":
    main()
