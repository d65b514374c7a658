"""Do guarantees of ratios and ranks keep their promise, and how far do they go? Many draws from public predictions.

    python benchmarks/sums_promises.py --data ../shared/data
    python benchmarks/sums_promises.py --data ../shared/data --only boxes --draws 100 --samples 1250

Micro F1 (by bets, at any n), macro F1 and mAP of labels (by a jackknife, asymptotic) on VOC2012, mAP of boxes (by a
jackknife) on COCO. Thresholds, box scores and the path are fitted once, on samples that no draw sees. Each draw takes n
of the others with replacement, certifies at 90 %, and is judged on all the others: that is its population. A promise of
90 % may break in 10 % of draws. ``granted``: draws in which some may exit or, of a least value, that promise anything.
``covered``: draws in which the limit of a fixed policy, 60 % exits, is above its true drop.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import BudgetError
from pilotfish.plan.certificate import Promise, begun, bound_of, certified
from pilotfish.plan.evaluate import measure
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.trace import Trace
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks import Metric
from pilotfish.tasks.box_matching import Boxes, TrueBoxes
from pilotfish.tasks.box_scores import fit_scores, mean_score, with_scores
from pilotfish.tasks.boxes import BOXES
from pilotfish.tasks.label_metrics import (
    RankedLabels,
    best_threshold,
    class_counts,
    f1_counts,
    f1_parts,
    macro_f1,
    mean_average_precision,
    micro_f1,
)

CONFIDENCE, STEPS, FIXED = 0.9, 200, 0.6
MICRO = Metric("micro_f1", "micro F1", "ratio", value=micro_f1, parts=f1_parts)
MACRO = Metric("macro_f1", "macro F1", "ratio", value=macro_f1)
LABEL_MAP = Metric("map", "mAP", "rank", value=mean_average_precision)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One metric of one pair; ``test`` as ``tune --test`` has it."""

    what: str  # "labels" or "boxes"
    metric: str
    pair: tuple[str, str]
    test: str


SETTINGS = [
    Setting("labels", "micro_f1", ("EveryPixel", "Microsoft"), "wsr"),
    Setting("labels", "micro_f1", ("EveryPixel", "Microsoft"), "jackknife"),
    Setting("labels", "micro_f1", ("Google", "EveryPixel"), "wsr"),
    Setting("labels", "macro_f1", ("EveryPixel", "Microsoft"), "jackknife"),
    Setting("labels", "map", ("EveryPixel", "Microsoft"), "jackknife"),
    Setting("boxes", "map", ("ssd-inception-v2", "faster-rcnn-resnet-50"), "jackknife"),
    Setting("boxes", "map", ("ssd-inception-v2", "rfcn-resnet-101"), "jackknife"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the public predictions")
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 2000, 5000])
    parser.add_argument("--drops", type=float, nargs="+", default=[0.01, 0.02, 0.03])
    parser.add_argument("--only", default="", help="part of a setting, such as 'micro_f1 wsr' or boxes")
    parser.add_argument("--promises", nargs="+", default=["drop", "least"], choices=["drop", "least"])
    parser.add_argument("--limits", action="store_true", help="look at the limits of the fixed policy alone")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", metavar="FILE", help="write the rows to FILE as well")
    options = parser.parse_args()
    cells = [
        (options.data, setting, kind, drop, n, options.draws, options.limits)
        for setting in SETTINGS
        if options.only in f"{setting.what} {setting.metric} {setting.test} {' '.join(setting.pair)}"
        for kind in options.promises
        for drop in options.drops
        for n in options.samples
    ]
    rows = []
    print(f"{'pair':44}{'metric':10}{'test':11}{'promise':9} points      n  granted  exits  broken  covered  s/draw")
    with ProcessPoolExecutor(options.workers) as workers:
        for row in workers.map(_cell, cells):
            rows.append(row)
            print(
                f"{row['pair'][:43]:44}{row['metric']:10}{row['test']:11}{row['kind']:9}{100 * row['points']:7.1f}"
                f"{row['n']:7}{100 * row['granted']:9.0f}{100 * row['exits']:7.1f}{100 * row['broken']:8.1f}"
                f"{100 * row['covered']:9.1f}{row['seconds']:8.2f}",
                flush=True,
            )
    if options.json:
        Path(options.json).write_text(json.dumps(rows))


def _cell(cell: tuple[Path, Setting, str, float, int, int, bool]) -> dict[str, Any]:
    data, setting, kind, points, n, draws, limits = cell
    population, fit, path = _fitted(data, setting)
    true = measure(population, path)
    base = float(true.value[0])
    promise = Promise("drop", points, 1 - CONFIDENCE, setting.test)
    if kind == "least":
        promise = Promise(population.metric.name, base - points, 1 - CONFIDENCE, setting.test)
    at = path.take(np.array([int(np.argmin(abs(true.exit_ratio[:, 0] - FIXED)))]))
    fixed = measure(population, at)
    started, granted, broken, covered, exits = time.perf_counter(), 0, 0, 0, []
    for i in range(draws):
        sample = population.take(np.random.default_rng([n, i]).integers(0, len(population), n))
        try:
            index = -1 if limits else certified(sample, begun(path, fit, sample, promise), promise, CONFIDENCE)
        except BudgetError:
            index = -1
        granted += index >= (kind == "drop")
        exits.append(float(true.exit_ratio[index, 0]) if index > 0 else 0.0)
        if index >= 0:
            broken += true.drop[index] > points if kind == "drop" else true.value[index] < promise.target
        limit = bound_of(sample, at, promise)
        covered += limit >= fixed.drop[0] if kind == "drop" else limit <= fixed.value[0]
    return {
        "pair": " -> ".join(setting.pair),
        "metric": setting.metric,
        "test": setting.test,
        "kind": kind,
        "points": points,
        "n": n,
        "draws": draws,
        "granted": granted / draws,
        "exits": float(np.mean(exits)),
        "broken": float(broken) / draws,
        "covered": float(covered) / draws,
        "seconds": (time.perf_counter() - started) / draws,
    }


@cache
def _fitted(data: Path, setting: Setting) -> tuple[Trace, Trace, PolicyPath]:
    """(the samples that are drawn from, the others, and the path that these gave)."""
    make = _labels if setting.what == "labels" else _boxes
    trace, fit, rest = make(data, setting)
    cuts = np.quantile(trace.values[0][fit], np.linspace(1, 0, STEPS))
    return trace.take(rest), trace.take(fit), threshold_path(np.unique(cuts)[::-1][:, None])


def _trace(metric: Metric, values: np.ndarray, states: tuple[Any, Any]) -> Trace:
    quality = np.ones((2, len(values)))
    return Trace(values[None], ("identity",), quality, quality[1], metric=metric, states=states, base_states=states[1])


def _labels(data: Path, setting: Setting) -> tuple[Trace, np.ndarray, np.ndarray]:
    with np.load(data / "voc2012_multilabel.npz", allow_pickle=False) as found:
        truth = found["label"].astype(bool)
        probs = [found[name].astype(np.float64) for name in setting.pair]
    order = np.random.default_rng(0).permutation(len(truth))
    fit, rest = np.sort(order[:1500]), np.sort(order[1500:])
    at = [best_threshold(p[fit], truth[fit]) for p in probs]
    values = np.abs(probs[0] - at[0]).mean(axis=1)
    if setting.metric == "map":
        return _trace(LABEL_MAP, values, tuple(RankedLabels(p, truth) for p in probs)), fit, rest
    metric, counts = (MICRO, f1_counts) if setting.metric == "micro_f1" else (MACRO, class_counts)
    return _trace(metric, values, tuple(counts(p >= t, truth) for p, t in zip(probs, at, strict=True))), fit, rest


def _boxes(data: Path, setting: Setting) -> tuple[Trace, np.ndarray, np.ndarray]:
    with np.load(data / "coco_val2017_4detectors.npz", allow_pickle=False) as found:
        n = len(found["filenames"])
        counts, box, label, _ = _detected(found, "gt", n)
        truth = TrueBoxes.of(counts, box, label, np.zeros(len(box), bool), box[:, 2] * box[:, 3])
        detectors = [Boxes(*_lists(*_detected(found, name, n))) for name in setting.pair]
    order = np.random.default_rng(0).permutation(n)
    fit, rest = np.sort(order[:500]), np.sort(order[500:])
    adjusted = [with_scores(one, parameters=fit_scores(one[fit], truth[fit])) for one in detectors]
    assert BOXES.metric.states is not None
    states = tuple(BOXES.metric.states(one, truth) for one in adjusted)
    return _trace(BOXES.metric, mean_score(adjusted[0]), states), fit, rest


def _detected(found: Any, name: str, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(boxes per image; their x, y, width, height, classes and scores, image after image)."""
    order = np.argsort(found[f"{name}/img"], kind="stable")
    corners = found[f"{name}/box"][order].astype(np.float64)
    box = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    score = np.ones(len(box)) if name == "gt" else found[f"{name}/score"][order].astype(np.float64)
    return np.bincount(found[f"{name}/img"], minlength=n), box, found[f"{name}/cls"][order].astype(np.int64), score


def _lists(counts: np.ndarray, box: np.ndarray, label: np.ndarray, score: np.ndarray) -> list[Ragged]:
    return [Ragged.by_counts(values, counts) for values in (box, score, label)]


if __name__ == "__main__":
    main()
