"""How close cascades of masks, boxes and labels come to their ideal in the engine, on scenes of digits.

    python benchmarks/tasks_efficiency.py

The networks are those of examples/scenes. Every stage runs in batches of --batch, one call per core. The first stage
answers a forced share of the scenes, the base the rest; stages alone and the cascade take turns, models only; medians
over runs with the least and the most.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import pilotfish
from pilotfish.machine import cpu_count
from pilotfish.runtime.bench import bench
from pilotfish.runtime.choice import StageRuntime

RATIOS = (0.3, 0.6, 0.9)
MODELS = {
    "mask": "onnx:{}.onnx?mean=0&std=1",
    "boxes": "python:scene_models:{}_boxes",
    "labels": "python:scene_models:{}_labels",
}
NAMES = ("small", "big")


def main() -> None:
    """Time each task at each exit ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    os.chdir(Path(__file__).parents[1] / "examples" / "scenes")
    sys.path.insert(0, ".")
    print(
        f"{'task':8}{'batch':>6}{'exit ratio':>12}{'efficiency':>26}{'ms per scene':>15}{'ideal':>9}{'base alone':>12}"
    )
    for task, form in MODELS.items():
        data = pilotfish.load_data(f"scenes:val?task={task}&n={given.samples}")
        with tempfile.TemporaryDirectory() as folder:
            for name in NAMES:
                pilotfish.record(data, form.format(name), folder, alias=name, task=task, timing=False)
            tuned = pilotfish.tune(folder, NAMES, max_drop=0.02, holdout=0)
            allowed = tuple(form.format(name).removeprefix("python:") for name in NAMES)
            loaded = pilotfish.Cascade.load(tuned.save(Path(folder) / "cascade"), allow_python=allowed)
        for batch in given.batch:
            backend = loaded.models[0].backend.name
            threads = 1 if backend == "onnxruntime" else None
            way = StageRuntime(backend, batch, threads=threads, lanes=cpu_count() if threads else 1, ms=1.0)
            cascade = pilotfish.Cascade(loaded.artefact, loaded.models, [way] * len(NAMES), loaded.device)
            for ratio in RATIOS:
                found = bench(
                    cascade, data, exit_ratio=ratio, runs=given.runs, samples=given.samples, peers=False
                ).model_only
                eff = found.efficiency
                print(
                    f"{task:8}{batch:6}{ratio:12.1f}{f'{eff.median:.3f} ({eff.low:.3f} … {eff.high:.3f})':>26}"
                    f"{found.realised_ms.median:15.4f}{found.ideal_ms.median:9.4f}{found.base_ms.median:12.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
