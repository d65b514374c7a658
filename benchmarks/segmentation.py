"""Segmentation on scenes of digits: what each score lets exit, and what it takes.

python benchmarks/segmentation.py RUN [--splits 20]

Records examples/scenes/small.onnx and big.onnx on 1,000 scenes into RUN, where they are not there yet; chooses
thresholds on one half and judges on the other, for many splits; times the scores on answers of several sizes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import pilotfish
from pilotfish.tasks import MASK
from pilotfish.tasks import mask_scores as scores
from pilotfish.tasks.mask_answers import reduce_masks

SCENES = Path(__file__).parents[1] / "examples" / "scenes"
NAMES = ("grid", "pixels", "slic", "learned", "auto")
DROP = 0.005


def record(run: Path) -> None:
    """Both networks, with every score."""
    for name in ("small", "big"):
        spec = f"onnx:{SCENES / name}.onnx?mean=0&std=1"
        pilotfish.record("scenes:val", spec, run, alias=name, task="mask", store="full")


def exits(run: Path, score: str, splits: int) -> str:
    """Exit ratio on all samples; exit ratio and drop on the half that did not choose."""
    whole = pilotfish.tune(run, ["small", "big"], max_drop=DROP, score=score, holdout=0).calibration
    points = [
        pilotfish.tune(run, ["small", "big"], max_drop=DROP, score=score, seed=seed).evaluation
        for seed in range(splits)
    ]
    ratio = np.array([point.exit_ratio[0] for point in points])
    drop = 100 * np.array([point.drop for point in points])
    over = (drop - 100 * DROP).clip(0)
    said = f"{ratio.mean():.3f} ± {ratio.std():.3f}   {drop.mean():.2f} ± {drop.std():.2f}"
    passed = f"{np.count_nonzero(over)} of {splits}, by {over.max():.2f} at most"
    return f"{score:8} {whole.exit_ratio[0]:.3f}   {said}   {passed}"


def ms(call: Callable[[], object], rounds: int = 9) -> float:
    """The median, after one call that does not count."""
    call()
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - begun))
    return float(np.median(found))


def times(size: int, classes: int) -> str:
    """Milliseconds per image: the mask with its PNG file, then what each score adds."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((1, classes, 16, 16)).repeat(size // 16, 2).repeat(size // 16, 3)
    raw = (4 * coarse + 0.3 * rng.standard_normal(coarse.shape)).astype(np.float32)
    image = rng.random((size, size, 3)).astype(np.float32)
    label, best = scores.peaks(raw)
    soft = np.zeros(1, bool)
    doubt = scores.doubts(raw, label, best, soft)[0]

    def at_points() -> np.ndarray:
        points, there = scores.at_points(raw), scores.at_points(label)
        return scores.grid_doubt(
            scores.doubts(points, there, scores.at_points(best), scores.are_probabilities(points)), there
        )

    mask = ms(lambda: reduce_masks(raw, 1, "", "none"))
    grid = ms(at_points)
    pixels = ms(lambda: scores.mean_doubt(scores.doubts(raw, label, best, soft)))
    slic = pixels + ms(lambda: scores.slic_doubt(doubt, image), 3)
    return f"{size}² x {classes:3}   mask {mask:6.2f}   grid {grid:5.2f}   pixels {pixels:6.2f}   slic {slic:7.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    given = parser.parse_args()
    record(given.run)
    run = pilotfish.open_run(given.run)
    values = {name: f"{100 * (run.read(name).value or 0):.2f}" for name in ("small", "big")}
    print(MASK.metric.says, values)
    print(f"score    exits   held out, {given.splits} splits: exits, drop in points, passed")
    for score in NAMES:
        print(exits(given.run, score, given.splits), flush=True)
    for size, classes in ((64, 11), (256, 21), (512, 21), (512, 150)):
        print(times(size, classes), flush=True)


if __name__ == "__main__":
    main()
