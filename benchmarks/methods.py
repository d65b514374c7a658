"""Ways to set exits, side by side on real records: tuned on one half, judged on the other.

    python benchmarks/methods.py --data ../shared/data

CIFAR-10: LeNet-5 and WRN-16-4 as savers of 16 bases. FrugalML: all pairs of APIs by rising price. For each method and
each score, at two drops: exit ratio on the half that judges, the drop realised there, how often it broke the budget.
Then scores alone: fitted on one half, read off the other half's own frontier, beside max_prob.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from public_data import Task, cifar, frugalml, halves

from pilotfish.cascade import Budget, Rule, choose
from pilotfish.errors import PilotfishError
from pilotfish.plan.certificate import Promise, certify
from pilotfish.plan.evaluate import evaluate, measure
from pilotfish.plan.evidence import auto_score, evidence
from pilotfish.plan.methods import METHODS
from pilotfish.plan.path import threshold_path
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import Table
from pilotfish.scores import SCORES as KINDS
from pilotfish.scores import FittedScore, can_fit, cross_fit

DROPS = (0.001, 0.005)
PATHS = ("sweep", "first_violation", "grid50", "pcee", "pcee-ws", "dyce", "msdnet")
SCORES = (
    *("max_prob", "margin", "entropy", "temperature", "per_class", "learned_right", "learned_gain"),
    *("learned_base_gain", "dirichlet", "learned", "auto"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the public predictions")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a task's name, such as CIFAR")
    parser.add_argument("--most", type=int, default=1_000_000, help="samples per task; more are sampled down to it")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE as well")
    options = parser.parse_args()
    tasks = [t for t in (cifar(options.data, 10), *frugalml(options.data)) if options.only in t.name]
    jobs = [
        (task, saver, split, options.most) for task in tasks for saver in task.savers for split in range(options.splits)
    ]
    with ProcessPoolExecutor(options.workers) as workers:
        rows = [row for found in workers.map(_one_split, jobs) for row in found]
    better = {(t.name, s, b) for t in tasks for s, b in t.pairs() if t.accuracy(b) > t.accuracy(s)}
    for group in ("CIFAR-10", "FrugalML"):
        _methods_table(group, [r for r in rows if r["task"].startswith(group)], options.splits)
    _scores_table(rows, better)
    if options.json:
        Path(options.json).write_text(json.dumps(rows))


def _one_split(job: tuple[Task, str, int, int]) -> list[dict[str, Any]]:
    task, saver, split, most = job
    bases = [base for s, base in task.pairs() if s == saver]
    n = len(task.records[saver])
    fit, judge = halves(n, split)
    if n > most:
        fit, judge = fit[: most // 2], judge[: most // 2]
    known: dict[str, FittedScore] = {}
    rows: list[dict[str, Any]] = []
    for base in bases:
        table = task.table(saver, base)
        where = {"task": task.name, "saver": saver, "base": base, "split": split}
        fitted = _all_scores(table, saver, base, fit, known)
        for name, one in fitted.items():
            trace = _trace(table, one, judge)
            own = sweep(trace.values[0], trace.quality[0], trace.quality[1])
            rows.append({**where, "score": name, "frontier": float(own.exited[own.last_feasible(0.005)] / len(judge))})
        for drop in DROPS:
            budget = Budget("max_drop", drop)
            rows += [{**where, **row} for row in _tuned(table, fitted, fit, judge, budget)]
    return rows


def _all_scores(
    table: Table, saver: str, base: str, fit: np.ndarray, known: dict[str, FittedScore]
) -> dict[str, FittedScore]:
    """Every score, cross-fitted on the fit half; *known* keeps those that fit no base from one base to the next."""
    found = evidence(table, saver, base, fit)
    fitted = {}
    for name in SCORES:
        if name == "auto" or not can_fit(KINDS[name], found):
            continue
        if name not in known or KINDS[name].uses_base:
            known[name] = cross_fit(KINDS[name], found)
        fitted[name] = known[name]
    free = {name: one for name, one in known.items() if not KINDS[name].uses_base}
    fitted["auto"], _ = auto_score(found, Budget("max_drop", 0.005), known=free)
    return fitted


def _tuned(
    table: Table, fitted: dict[str, FittedScore], fit: np.ndarray, judge: np.ndarray, budget: Budget
) -> Iterable[dict[str, Any]]:
    plain = fitted["max_prob"]
    for name in PATHS:
        yield _row(f"method {name}", name, table, plain, fit, judge, budget)
    for name in SCORES:
        if name in fitted and name != "max_prob":
            yield _row(f"score {name}", "sweep", table, fitted[name], fit, judge, budget)
    trace, held = _trace(table, plain, fit), _trace(table, plain, judge)
    path = threshold_path(sweep(trace.values[0], trace.quality[0], trace.quality[1]).thresholds[:, None])
    try:
        index = certify(trace, path, Promise("drop", budget.value, 0.1), 0.9).index
    except PilotfishError:  # too few samples for this drop
        return
    yield _judged("guarantee 90%", evaluate(held, path.policy(index)), budget)


def _row(
    what: str, method: str, table: Table, one: FittedScore, fit: np.ndarray, judge: np.ndarray, budget: Budget
) -> dict[str, Any]:
    chosen = METHODS[method]
    scored = [one.scored]  # of the fit half, each sample by a model that did not see it
    trace = make_trace(table, table.models, Rule(), (one.score,), scored, None, fit)
    path = chosen.path(trace, budget, chosen.options())
    frontier = measure(trace, path)
    index = len(frontier) - 1 if chosen.takes_last else choose(frontier, budget)
    return _judged(what, evaluate(_trace(table, one, judge), path.policy(index)), budget)


def _judged(what: str, found: Any, budget: Budget) -> dict[str, Any]:
    return {"what": what, "budget": budget.value, "exit_ratio": found.exit_ratio[0], "drop": found.drop}


def _trace(table: Table, one: FittedScore, rows: np.ndarray) -> Trace:
    return make_trace(table, table.models, Rule(), (one.score,), None, None, rows)


def _methods_table(group: str, rows: list[dict[str, Any]], splits: int) -> None:
    tuned = [r for r in rows if "what" in r]
    if not tuned:
        return
    pairs = len({(r["task"], r["saver"], r["base"]) for r in tuned})
    print(f"\n{group}: {pairs} pairs, {splits} splits; means over both; points")
    print(f"{'':24}" + "".join(f"{f'drop <= {100 * d:g}':^38}" for d in DROPS))
    print(f"{'':24}" + f"{'exit ratio':>12}{'drop':>10}{'over budget':>16}" * len(DROPS))
    for what in dict.fromkeys(r["what"] for r in tuned):
        line = f"{what:24}"
        for drop in DROPS:
            cells = [r for r in tuned if r["what"] == what and r["budget"] == drop]
            if not cells:
                line += f"{'-':>12}{'-':>10}{'-':>16}"
                continue
            over = np.mean([r["drop"] > drop + 1e-12 for r in cells])
            line += f"{100 * np.mean([r['exit_ratio'] for r in cells]):12.2f}"
            line += f"{100 * np.mean([r['drop'] for r in cells]):10.3f}{100 * over:15.1f}%"
        print(line)


def _scores_table(rows: list[dict[str, Any]], better: set[tuple[str, str, str]]) -> None:
    """Exit ratio at half a point on the judging half's own frontier, minus max_prob's, mean over splits."""
    values: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in rows:
        if "frontier" in r:
            values[r["task"], r["saver"], r["base"]][r["score"]].append(r["frontier"])
    lead = {
        pair: {name: 100 * (np.mean(v) - np.mean(by["max_prob"])) for name, v in by.items()}
        for pair, by in values.items()
    }
    groups: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for pair in lead:
        kind = "better bases" if pair in better else "bases no better"
        groups[f"{pair[0].split()[0]} {pair[1] if pair[0].startswith('CIFAR') else ''} -> {kind}"].append(pair)
    print("\nScores alone, exit ratio at a drop <= 0.5 minus max_prob's, points (mean of the pairs; worst pair)")
    for group, pairs in groups.items():
        print(f"  {group} ({len(pairs)} pairs)")
        for name in SCORES[1:]:
            found = {pair: lead[pair][name] for pair in pairs if name in lead[pair]}
            if found:
                worst = min(found, key=found.__getitem__)
                print(
                    f"    {name:20}{np.mean(list(found.values())):+7.2f}   worst {found[worst]:+7.2f}"
                    f"  {worst[0]}: {worst[1]} -> {worst[2]}"
                )
    print("\nauto, pair by pair")
    for pair, by in lead.items():
        mean = 100 * np.mean(values[pair]["max_prob"])
        print(f"  {pair[0]:18} {f'{pair[1]} -> {pair[2]}':52} max_prob {mean:6.2f}   auto {by['auto']:+6.2f}")


if __name__ == "__main__":
    main()
