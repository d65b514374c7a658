"""Detection: four detectors on 2,500 images of COCO val2017, brought into COCO's own JSON, imported and tuned.

    python benchmarks/detection.py DETECTORS.npz [--splits 10] [--draws 100] [--only metric|sweep|tuned|limits]

DETECTORS.npz holds, per detector, ``NAME/img``, ``box`` (y1, x1, y2, x2 from 0 to 1), ``score`` and ``cls``, the same
of ``gt``, and ``filenames``. Scores are cut at .3 there, so that mAP is less than the detectors' own. Images are taken
to be 640 by 640 pixels; overlaps do not depend on it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish import tune
from pilotfish.cascade import Budget, Rule
from pilotfish.plan.evaluate import BLOCKS, evaluate, measure
from pilotfish.plan.evidence import plain_stage_scores
from pilotfish.plan.methods import METHODS
from pilotfish.plan.trace import make_trace
from pilotfish.records import Run, Table, import_file, read_table
from pilotfish.tasks import BOXES, register
from pilotfish.tasks.box_matching import match
from pilotfish.tasks.mean_precision import coco_table, mean_precision

SIDE = 640
MACS = {"ssd-inception-v2": 1, "ssd-resnet-50-v1": 2, "faster-rcnn-resnet-50": 4, "rfcn-resnet-101": 6}
PAIRS = (("ssd-inception-v2", "faster-rcnn-resnet-50"), ("ssd-inception-v2", "rfcn-resnet-101"))
BUDGET = 0.005
AS_GIVEN = register(dataclasses.replace(BOXES, name="boxes_as_given", adjustment=None))


def to_coco(source: Path, folder: Path) -> tuple[list[str], Path]:
    """Write the instances and each detector's results into *folder*; (the detectors, the instances' file)."""
    data = np.load(source, allow_pickle=False)
    ids = [int(name.removesuffix(".jpg")) for name in data["filenames"].tolist()]

    def boxes(name: str) -> list[list[float]]:
        y1, x1, y2, x2 = SIDE * data[f"{name}/box"].astype(np.float64).T
        return np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).tolist()

    def rows(name: str) -> Any:
        return zip(data[f"{name}/img"].tolist(), data[f"{name}/cls"].tolist(), boxes(name), strict=True)

    truth = {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": SIDE, "height": SIDE} for i in ids],
        "categories": [{"id": int(c), "name": f"class {c}"} for c in np.unique(data["gt/cls"])],
        "annotations": [
            {"id": n, "image_id": ids[i], "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, (i, c, box) in enumerate(rows("gt"), 1)
        ],
    }
    (folder / "instances.json").write_text(json.dumps(truth))
    names = [name for name in MACS if f"{name}/box" in data]
    for name in names:
        found = [
            {"image_id": ids[i], "category_id": c, "bbox": box, "score": score}
            for (i, c, box), score in zip(rows(name), data[f"{name}/score"].tolist(), strict=True)
        ]
        (folder / f"{name}.json").write_text(json.dumps(found))
    return names, folder / "instances.json"


def oracle(folder: Path, results: list[dict[str, Any]]) -> list[float]:
    """The twelve figures of pycocotools, or of faster-coco-eval where that is not installed."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval as Evaluation
        except ImportError:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as Evaluation
        truth = COCO(str(folder / "instances.json"))
        evaluation = Evaluation(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:12]]


def check_metric(folder: Path, names: list[str], table: Table) -> None:
    """mAP of detectors and of random routings beside the oracle's."""
    results = {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
    ids = [int(i) for i in table.ids.to_pylist()]
    worst = 0.0
    for name in names:
        ours = coco_table(table.outputs[name], table.reference)
        theirs = oracle(folder, results[name])
        worst = max(worst, float(np.abs(np.array(list(ours.values())) - theirs).max()))
        print(f"{name:24} mAP {100 * ours['AP']:.3f}  AP50 {100 * ours['AP50']:.3f}")
    print(f"twelve figures of {len(names)} detectors differ from the oracle's by at most {worst:.1e}")
    rng, worst = np.random.default_rng(0), 0.0
    states = tuple(match(table.outputs[name], table.reference) for name in names)
    for _ in range(20):
        routing = rng.integers(0, len(names), len(ids))
        who = {i: names[k] for i, k in zip(ids, routing.tolist(), strict=True)}
        mixed = [row for name in names for row in results[name] if who[row["image_id"]] == name]
        worst = max(worst, abs(mean_precision(states, routing) - oracle(folder, mixed)[0]))
    print(f"mAP of 20 random routings differs by at most {worst:.1e}")


def time_sweep(table: Table) -> None:
    """All thresholds of a pair over all images."""
    saver, base = PAIRS[0]
    start = time.perf_counter()
    scores = plain_stage_scores(table, (saver, base), "mean_score")
    trace = make_trace(table, (saver, base), Rule(), scores, None, None)
    matched = time.perf_counter()
    path = METHODS["sweep"].path(trace, Budget("max_drop", BUDGET), None)
    found = measure(trace, path)
    swept = time.perf_counter()
    evaluate(trace, path.policy(len(path) // 2))
    print(
        f"{len(table):,} images: matched in {matched - start:.2f} s, {len(found.drop):,} thresholds in "
        f"{swept - matched:.2f} s, one policy with its interval in {time.perf_counter() - swept:.2f} s"
    )


def tuned(folder: Path, splits: int) -> None:
    """Tuned on one half, judged on the other: what exits and what is lost, for fitted boxes and the paper's way."""
    fitted, given = Run(folder / "run"), Run(folder / "as_given")
    for name in {name for pair in PAIRS for name in pair}:
        records = fitted.read(name)
        given.write(dataclasses.replace(records, meta=dataclasses.replace(records.meta, task=AS_GIVEN.name)))
    print(f"{'pair':46} {'boxes':10} {'score':10} {'exits':>6} {'drop':>6} {'sd':>5} {'over':>5}  mean of those over")
    for saver, base in PAIRS:
        for boxes, score in (("as given", "mean_score"), ("fitted", "mean_score"), ("fitted", "auto")):
            exits, drops, chosen = [], [], []
            for seed in range(splits):
                run = given if boxes == "as given" else fitted
                found = tune(run, [saver, base], max_drop=BUDGET, score=score, seed=seed)
                assert found.evaluation is not None
                exits.append(found.evaluation.exit_ratio[0])
                drops.append(100 * found.evaluation.drop)
                chosen += [choice.chosen for choice in found.choices]
            over = [drop for drop in drops if drop > 100 * BUDGET]
            print(
                f"{saver + ' → ' + base:46} {boxes:10} {score:10} {np.mean(exits):6.2f} {np.mean(drops):6.2f} "
                f"{np.std(drops):5.2f} {len(over):2}/{len(drops):2}  "
                f"{f'{np.mean(over):.2f}' if over else '-'} {' '.join(sorted(set(chosen)))}",
                flush=True,
            )


def limits(table: Table, draws: int) -> None:
    """How often the jackknife's one-sided 90 % limit of a drop is above the drop on all images, in draws of a
    quarter as many, each drawn anew from all."""
    from scipy.special import stdtrit

    saver, base = PAIRS[0]
    scores = plain_stage_scores(table, (saver, base), "mean_score")
    trace = make_trace(table, (saver, base), Rule(), scores, None, None)
    policy = ((float(np.quantile(trace.values[0], 0.3)),),)
    whole, n, held = evaluate(trace, policy).drop, len(table), 0
    for draw in range(draws):
        rows = np.sort(np.random.default_rng(draw).integers(0, n, n // 4))
        found = evaluate(trace.take(rows), policy)
        half = (found.drop_interval[1] - found.drop_interval[0]) / 2
        held += found.drop + half / float(stdtrit(BLOCKS - 1, 0.975)) * float(stdtrit(BLOCKS - 1, 0.9)) >= whole
    print(
        f"the 90 % limit of the jackknife on {n // 4} images holds in {held} of {draws} draws (drop {100 * whole:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--only", choices=["metric", "sweep", "tuned", "limits"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names, instances = to_coco(options.source, folder)
        run = Run(folder / "run")
        for model in names:
            start = time.perf_counter()
            run.write(import_file(folder / f"{model}.json", model, labels=instances, costs={"macs": MACS[model]}))
            print(f"imported {model} in {time.perf_counter() - start:.1f} s")
        table = read_table(run, names[:-1], names[-1])
        parts = {
            "metric": lambda: check_metric(folder, names, table),
            "sweep": lambda: time_sweep(table),
            "tuned": lambda: tuned(folder, options.splits),
            "limits": lambda: limits(table, options.draws),
        }
        for what, part in parts.items():
            if options.only in (None, what):
                part()


if __name__ == "__main__":
    main()
