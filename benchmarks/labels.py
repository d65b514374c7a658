"""Many labels per image: how much exits at a budget in micro F1, by score, on real answers of three services.

    python benchmarks/labels.py --data ../shared/data
    python benchmarks/labels.py --data ../shared/data --metric map --scores mean_margin,learned

VOC2012 as three commercial services answer it (FrugalMCT's data). Each of ten splits fits decision thresholds, scores
and the exit threshold on one half of the 5,770 images and judges on the other. ``mean_half`` is Little-Big's own score,
and ``--no-adjust`` leaves every decision threshold at 0.5, as the paper has it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish import open_run, tune
from pilotfish.records import Run, import_file
from pilotfish.tasks.labels import LABELS

SERVICES = {"Google": 15.0, "Microsoft": 10.0, "EveryPixel": 6.0}  # dollars for 10,000 images
PAIRS = (("EveryPixel", "Microsoft"), ("Google", "Microsoft"), ("Google", "EveryPixel"))
SCORES = ("mean_margin", "mean_half", "max_prob", "learned", "auto")


def recorded(file: Path, folder: Path) -> Path:
    """A run of the three services."""
    found = np.load(file)
    for name, price in SERVICES.items():
        arrays = {"probs": found[name], "label": found["label"], "class_names": found["classes"], "id": found["id"]}
        np.savez(folder / f"{name}.npz", **arrays)
        Run(folder / "run").write(import_file(folder / f"{name}.npz", name, costs={"usd": price}))
    return folder / "run"


def tuned(run: Path, pair: Sequence[str], score: str, splits: int, drop: float, metric: str | None) -> dict[str, Any]:
    """What a pair reaches over some splits, in points."""
    exits, drops, chosen = [], [], []
    for seed in range(splits):
        found = tune(open_run(run), list(pair), max_drop=drop, score=score, cost="usd", metric=metric, seed=seed)
        assert found.evaluation is not None
        exits.append(found.evaluation.exit_ratio[0])
        drops.append(100 * found.evaluation.drop)
        chosen.append(found.artefact.scores[0].name)
    over = [value - 100 * drop for value in drops if value > 100 * drop]
    return {
        "saver": pair[0],
        "base": pair[1],
        "score": score,
        "exit_ratio": [float(np.mean(exits)), float(np.std(exits))],
        "drop": [float(np.mean(drops)), float(np.std(drops))],
        "over": [len(over), max(over, default=0.0)],
        "chosen": sorted(set(chosen)),
    }


def main() -> None:
    """Print a row per pair and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of voc2012_multilabel.npz")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--max-drop", type=float, default=0.5, help="points")
    parser.add_argument("--metric", default=None)
    parser.add_argument("--scores", default=",".join(SCORES))
    parser.add_argument("--no-adjust", action="store_true", help="say a class from 0.5 on")
    parser.add_argument("--json", type=Path, help="write the rows here")
    given = parser.parse_args()
    if given.no_adjust:
        object.__setattr__(LABELS, "adjustment", None)  # no command offers this: it is worse
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = recorded(given.data / "voc2012_multilabel.npz", Path(folder))
        for pair in PAIRS:
            for score in given.scores.split(","):
                row = tuned(run, pair, score, given.splits, given.max_drop / 100, given.metric)
                rows.append(row)
                (r, r_sd), (d, d_sd), (over, most) = row["exit_ratio"], row["drop"], row["over"]
                print(
                    f"{pair[0]:>10} → {pair[1]:<10} {score:<12} exits {r:.3f} ± {r_sd:.3f}, drop {d:+.2f} ± {d_sd:.2f} "
                    f"points, over the budget {over} times by at most {most:.2f}  {','.join(row['chosen'])}",
                    flush=True,
                )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
