"""Efficiency of a pair at a forced exit ratio: ideal time ÷ realised time.

    python benchmarks/efficiency.py --data path/to/imagenet_sample

Records the two models if --run does not hold them, tunes them, and benches the cascade with the exit ratio forced by a
mask. Stages alone and the cascade run in turn, through the same engine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import pilotfish
from pilotfish.report.format import percent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of photos with labels.csv or class folders")
    parser.add_argument("--stages", default="lite:efficientnet_lite0@128,lite:efficientnet_lite2@260")
    parser.add_argument("--exit-ratio", type=float, nargs="+", default=[0.5])
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--run", help="folder with records of the stages, or where to put them")
    options = parser.parse_args()
    stages = options.stages.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        run = options.run or temporary
        pilotfish.record(f"folder:{options.data}", stages, run)
        folder = pilotfish.tune(run, stages, max_drop=0.005).save(Path(temporary) / "cascade")
        cascade = pilotfish.Cascade.load(folder)
        for ratio in options.exit_ratio:
            result = pilotfish.bench(
                cascade, f"folder:{options.data}", exit_ratio=ratio, runs=options.runs, samples=options.samples
            )
            show(result)
    print(json.dumps(result.machine))


def show(result: pilotfish.BenchResult) -> None:
    """One line per kind of measurement."""
    print(f"{' -> '.join(result.stages)}, {result.n} samples, exit ratio {percent(result.exit_ratio[0])} forced")
    for name, times in (("model only", result.model_only), ("file to answer", result.end_to_end)):
        alone = ", ".join(f"{s.median:.2f}" for s in times.stages_ms)
        print(
            f"  {name:14}: alone {alone} ms (batch {result.batch_sizes}), ideal {times.ideal_ms.median:.2f} ms, "
            f"realised {times.realised_ms.median:.2f} ms, efficiency {times.efficiency.median:.3f} "
            f"[{times.efficiency.low:.3f}, {times.efficiency.high:.3f}]"
        )
    print(f"  speed-up over the base alone, file to answer: {result.speedup.median:.2f}x")


if __name__ == "__main__":
    main()
