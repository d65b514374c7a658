"""Do certificates keep their promise, and how far do they go? Many draws from public predictions.

    python benchmarks/certificates.py --data ../shared/data

Scores and paths are fitted once, on samples that no draw sees. Each draw takes n of the others with replacement,
certifies a drop, and is judged on all the others: that is its population. A promise of 90 % may break in 10 % of draws.
The columns of the other tests are their certified exit ratio minus the exact test's, on the first of the same draws.
Beside it the plain reference: the same bound in plain Python, policy by policy, on two draws.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from public_data import Task, cifar, frugalml
from scipy.stats import beta

from pilotfish.cascade import Budget, Rule
from pilotfish.errors import PilotfishError
from pilotfish.plan.certificate import Promise, check_promise, last_kept
from pilotfish.plan.certificate.exact import critical_value
from pilotfish.plan.evaluate import outcomes
from pilotfish.plan.evidence import StageScores, stage_scores
from pilotfish.plan.methods import METHODS
from pilotfish.plan.path import PolicyPath, densify
from pilotfish.plan.trace import Trace, make_trace

CONFIDENCE = 0.9
FIT = 3000
REFERENCE_DRAWS = 2


@dataclass(frozen=True)
class Setting:
    """One way to tune on one cascade."""

    task: Task
    stages: tuple[str, ...]
    method: str
    score: str = "max_prob"
    own_path: bool = False  # a pair's sweep: thresholds are the certified samples' own scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the public predictions")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--paired-draws", type=int, default=100, help="of them also for paired_cp")
    parser.add_argument("--wsr-draws", type=int, default=10, help="of them also for the slowest test")
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 2000, 5000])
    parser.add_argument("--drops", type=float, nargs="+", default=[0.005, 0.01])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a setting's name, such as pcee")
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE as well")
    options = parser.parse_args()
    cells = [
        (s, n, drop, (options.draws, options.paired_draws, options.wsr_draws))
        for s in settings(options.data)
        if options.only in f"{s.method} {s.score}"
        for n in options.samples
        for drop in options.drops
    ]
    rows = []
    print(HEADER)
    with ProcessPoolExecutor(options.workers) as workers:
        for row in workers.map(_cell, cells):
            rows.append(row)
            print(_line(row), flush=True)
    broken = [r for r in rows if r["exact"]["broken"] > 0.1 + 2 * math.sqrt(0.09 / r["draws"])]
    print(f"\n{len(rows)} settings; promise broken in more than 10 % + 2 standard errors of the draws: {len(broken)}")
    if options.json:
        Path(options.json).write_text(json.dumps(rows))


def settings(data: Path) -> list[Setting]:
    """Pairs and chains of CIFAR-10, one pair of FrugalML."""
    task = cifar(data, 10)
    wide, shake = ("wrn16_4", "wrn_28_10"), ("wrn16_4", "shake_shake_26_2x64d_SSI_cutout16")
    chain, lenet = ("lenet5", "wrn16_4", "wrn_28_10"), ("lenet5", "wrn16_4")
    faces = next(t for t in frugalml(data) if t.name.endswith("SHOP"))
    return [
        Setting(task, wide, "sweep", own_path=True),
        Setting(task, shake, "sweep", own_path=True),
        Setting(task, lenet, "sweep", own_path=True),
        Setting(faces, ("Google", "Baidu"), "sweep", own_path=True),
        *(Setting(task, wide, method) for method in ("sweep", "pcee", "pcee-ws", "dyce", "msdnet")),
        *(Setting(task, wide, "sweep", score) for score in ("per_class", "learned")),
        *(Setting(task, lenet, method) for method in ("ensemble", "average")),
        *(Setting(task, chain, method) for method in ("sweep", "pcee-ws", "dyce", "msdnet", "agreement", "patience")),
    ]


def _cell(cell: tuple[Setting, int, float, tuple[int, int, int]]) -> dict[str, Any]:
    setting, n, drop, draws = cell
    population, path = _fitted(setting, drop)
    started = time.perf_counter()
    row: dict[str, Any] = {
        "cascade": " -> ".join(setting.stages),
        "method": f"{setting.method}{' (own cuts)' if setting.own_path else ''}",
        "score": setting.score,
        "n": n,
        "drop": drop,
        "draws": draws[0],
    }
    exact: list[float] = []
    for test, count in zip(("exact", "paired_cp", "wsr"), draws, strict=True):
        promise = Promise("drop", drop, 1 - CONFIDENCE, test)
        exits, broken = _over_draws(setting, population, path, promise, n, count)
        exact = exact or exits
        lead = float(np.mean(exits) - np.mean(exact[: len(exits)]))  # beside the exact test on the same draws
        row[test] = {"exit_ratio": float(np.mean(exits)), "lead": lead, "broken": broken}
    row["reference"] = _reference(setting, population, path, drop, n)
    return {**row, "seconds": time.perf_counter() - started}


def _fitted(setting: Setting, drop: float) -> tuple[Trace, PolicyPath | None]:
    """(all samples but those that fitted, the path); no path where each draw makes its own."""
    table = setting.task.chain(*setting.stages)
    order = np.random.default_rng(0).permutation(len(table))
    fit, rest = np.sort(order[:FIT]), np.sort(order[FIT:])
    method = METHODS[setting.method]
    budget = Budget("max_drop", drop)
    scores = StageScores((), ())
    if Rule(method.rule, 1.0).scores:
        scores = stage_scores(table, setting.stages, setting.score, fit, budget)
    rule = Rule(method.rule, 0.8 if method.rule == "ensemble" else None)
    mixed = scores.scored if rule.kind != "average" else None
    trace = make_trace(table, setting.stages, rule, scores.scores, mixed or None, None, fit)
    population = make_trace(table, setting.stages, rule, scores.scores, None, None, rest)
    if setting.own_path:
        return population, None
    return population, densify(method.path(trace, budget, method.options()), trace)


def _draw(setting: Setting, population: Trace, path: PolicyPath | None, n: int, i: int) -> tuple[Trace, PolicyPath]:
    sample = population.take(np.random.default_rng([1, i]).integers(0, len(population), n))
    if path is None:
        method = METHODS[setting.method]
        return sample, method.path(sample, Budget("max_drop", 0.0), method.options())
    return sample, path


def _over_draws(
    setting: Setting, population: Trace, path: PolicyPath | None, promise: Promise, n: int, draws: int
) -> tuple[list[float], float]:
    """(certified exit ratio, all but the last stage, by draw; share of the draws that break the promise)."""
    try:
        check_promise(promise, n)
    except PilotfishError:
        return [0.0] * draws, 0.0
    exits, broken = [], 0
    seen: dict[Any, tuple[float, bool]] = {}
    for i in range(draws):
        sample, tried = _draw(setting, population, path, n, i)
        index = last_kept(sample, tried, promise)
        if index is None:  # nothing is promised, and nobody exits
            exits.append(0.0)
            continue
        policy = tried.policy(index)
        if policy not in seen:
            answered_by, gap = outcomes(population, policy)
            seen[policy] = float((answered_by < population.stages - 1).mean()), bool(gap.mean() > promise.target)
        exits.append(seen[policy][0])
        broken += seen[policy][1]
    return exits, broken / draws


def _reference(setting: Setting, population: Trace, path: PolicyPath | None, drop: float, n: int) -> dict[str, float]:
    """The same bounds in plain Python on a few draws: mean exit ratio of the reference minus that of the library."""
    found = {}
    for test, keeps in (("exact", _exact_keeps), ("paired_cp", _paired_keeps), ("wsr", _wsr_keeps)):
        differences = []
        promise = Promise("drop", drop, 1 - CONFIDENCE, test)
        try:
            check_promise(promise, n)
        except PilotfishError:
            continue
        for i in range(REFERENCE_DRAWS):
            sample, tried = _draw(setting, population, path, n, i)
            index = last_kept(sample, tried, promise)
            plain = _plain_last_kept(sample, tried, drop, keeps, index)
            differences.append(0.0 if index == plain else 1.0)
        found[test] = float(np.mean(differences))
    return found


def _plain_last_kept(
    sample: Trace, path: PolicyPath, drop: float, keeps: Callable[[np.ndarray, float], bool], hint: int | None
) -> int | None:
    """Policy by policy from the first; starts a little before *hint* to save time, where all before it are checked
    at every tenth policy."""
    start = max(0, (hint or 0) - 15)
    rows = [*range(0, start, max(1, start // 10)), *range(start, len(path))]
    last = None
    for i in rows:
        _, gap = outcomes(sample, path.policy(i))
        nobody = all(len(b) == 1 and b[0] == math.inf for b in path.policy(i)) and not gap.any()
        if not (nobody or keeps(gap, drop)):
            break
        last = i
    return last


def _exact_keeps(gap: np.ndarray, drop: float) -> bool:
    """Tango's statistic with the root of the score equation found by bisection."""
    n, b, c = len(gap), int((gap > 0).sum()), int((gap < 0).sum())

    def slope(q: float) -> float:
        return b / (q + drop) + (c / q if c else 0.0) - 2 * (n - b - c) / max(1 - 2 * q - drop, 1e-300)

    low, high = 0.0, (1 - drop) / 2
    if b + c and slope(1e-15) > 0:
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    q = low if b + c else 0.0
    statistic = (c - b + n * drop) / math.sqrt(n * (2 * q + drop - drop * drop))
    return statistic >= critical_value(n, drop, 1 - CONFIDENCE) - 1e-9


def _paired_keeps(gap: np.ndarray, drop: float) -> bool:
    n, b, c, half = len(gap), int((gap > 0).sum()), int((gap < 0).sum()), (1 - CONFIDENCE) / 2
    above = 1.0 if b == n else beta.ppf(1 - half, b + 1, n - b)
    below = 0.0 if c == 0 else beta.ppf(half, c, n - c + 1)
    return bool(above - below <= drop)


def _wsr_keeps(gap: np.ndarray, drop: float) -> bool:
    n, mean, wealth, best = len(gap), (drop + 1) / 2, 0.0, 0.0
    total, squares, variance = 0.5, 0.25, 0.25
    level = math.log(1 / (1 - CONFIDENCE))
    for i, x in enumerate(((gap + 1) / 2).tolist(), 1):
        bet = min(math.sqrt(2 * level / (n * variance)), 0.9 / (1 - mean))
        wealth += math.log1p(-bet * (x - mean))
        best = max(best, wealth)
        total += x
        squares += (x - total / (i + 1)) ** 2
        variance = squares / (i + 1)
    return best >= level


HEADER = (
    f"{'cascade':46}{'method':18}{'score':10}{'n':>6}{'drop':>6}"
    f"{'exact':>8}{'broken':>8}{'p. CP':>8}{'WSR':>8}  reference differs"
)


def _line(row: dict[str, Any]) -> str:
    cells = f"{100 * row['exact']['exit_ratio']:8.1f}{100 * row['exact']['broken']:8.1f}"
    cells += "".join(f"{100 * row[t]['lead']:+8.1f}" for t in ("paired_cp", "wsr"))
    differs = " ".join(f"{t} {v:.0%}" for t, v in row["reference"].items())
    name = f"{row['cascade'][:45]:46}{row['method']:18}{row['score'][:9]:10}"
    return f"{name}{row['n']:6}{100 * row['drop']:6.1f}{cells}  {differs}"


if __name__ == "__main__":
    main()
