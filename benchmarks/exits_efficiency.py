"""How close networks with exits come to their ideal in the engine, every stage in batches of 32.

    python benchmarks/exits_efficiency.py --run experiments/work/seed0/run --name resnet34-joint msdnet \\
        --data idx:t10k-images-idx3-ubyte.gz

The ideal is each segment's own time at full batches, in the same engine with that segment alone, summed over the
samples that run it. The first exit answers a forced share of the samples, the last one the rest, so every segment and
every head is run. Stages alone and the cascade take turns; medians over runs with the least and the most.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import pilotfish
from pilotfish.data import load_data
from pilotfish.machine import cpu_count
from pilotfish.runtime.bench import bench
from pilotfish.runtime.choice import StageRuntime

RATIOS = (0.3, 0.6, 0.9)


def main() -> None:
    """Time each network at each exit ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="records of the exits")
    parser.add_argument("--name", nargs="+", required=True, help="names of networks, recorded as NAME#1 …")
    parser.add_argument("--data", required=True, help="samples to run")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--lanes", type=int, default=cpu_count(), help="calls at a time, of cores / lanes threads each")
    parser.add_argument("--allow-bad-base", action="store_true", help="accept a last exit no better than chance")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'network':20}{'exit ratio':>12}{'efficiency':>26}{'ms per sample':>15}{'ideal':>9}{'last exit alone':>17}")
    for name in given.name:
        cascade = _cascade(given.run, name, given.batch, given.lanes, given.allow_bad_base)
        for ratio in RATIOS:
            found = bench(
                cascade, load_data(given.data), exit_ratio=ratio, runs=given.runs, samples=given.samples, peers=False
            ).model_only
            eff = found.efficiency
            rows.append({"network": name, "exit_ratio": ratio, "model_only": dataclasses.asdict(found)})
            print(
                f"{name:20}{ratio:12.1f}{f'{eff.median:.3f} ({eff.low:.3f} … {eff.high:.3f})':>26}"
                f"{found.realised_ms.median:15.4f}{found.ideal_ms.median:9.4f}"
                f"{found.base_ms.median:17.4f}"
            )
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1))


def _cascade(run: Path, name: str, batch: int, lanes: int, allow_bad_base: bool) -> pilotfish.Cascade:
    """All exits of *name*, each in batches of *batch*."""
    exits = sorted(
        (m for m in pilotfish.open_run(run).models() if m.rpartition("#")[0] == name),
        key=lambda m: int(m.rpartition("#")[2]),
    )
    tuned = pilotfish.tune(run, exits, max_drop=0.01, holdout=0, allow_bad_base=allow_bad_base)
    with tempfile.TemporaryDirectory() as folder:
        loaded = pilotfish.Cascade.load(tuned.save(Path(folder) / "cascade"))
    way = StageRuntime("onnxruntime", batch, threads=max(1, cpu_count() // lanes), lanes=lanes, ms=1.0)
    return pilotfish.Cascade(loaded.artefact, loaded.models, [way] * len(exits), loaded.device)


if __name__ == "__main__":
    main()
