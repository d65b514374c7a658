"""Efficiency of pairs at forced exit ratios: ideal time ÷ realised time, and images per second beside the peers.

    python benchmarks/efficiency.py --data path/to/imagenet_sample --out efficiency.json

Records the models if --run does not hold them, tunes each pair, finds how each stage runs fastest here (tune-runtime),
and benches the cascade with the exit ratio forced by a mask. Stages alone, the cascade and the peers run in turn,
through the same photos. About four minutes per pair and ratio on two cores; --no-peers takes half of that.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import pilotfish
from pilotfish.files import write_json
from pilotfish.report.format import percent

PAIRS = (
    "lite:efficientnet_lite0@128,lite:efficientnet_lite2@260",
    "lite:efficientnet_lite0@224,lite:efficientnet_lite2@260",
    "lite:efficientnet_lite1@176,lite:efficientnet_lite2@300",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of photos with labels.csv or class folders")
    parser.add_argument("--stages", nargs="+", default=list(PAIRS), help="pairs, each as SAVER,BASE")
    parser.add_argument("--exit-ratio", type=float, nargs="+", default=[0.3, 0.6, 0.9])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="about how long tune-runtime takes per stage")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--run", help="folder with records of the stages, or where to put them")
    parser.add_argument("--out", type=Path, help="JSON file with every figure")
    options = parser.parse_args()
    data, documents = f"folder:{options.data}", []
    with tempfile.TemporaryDirectory() as temporary:
        run = options.run or temporary
        for number, pair in enumerate(options.stages):
            stages = pair.split(",")
            pilotfish.record(data, stages, run)
            folder = pilotfish.tune(run, stages, max_drop=0.005).save(Path(temporary) / f"cascade{number}")
            pilotfish.tune_runtime(folder, data, seconds=options.seconds)
            cascade = pilotfish.Cascade.load(folder)
            for ratio in options.exit_ratio:
                result = pilotfish.bench(
                    cascade,
                    data,
                    exit_ratio=ratio,
                    runs=options.runs,
                    samples=options.samples,
                    peers=options.peers,
                )
                show(result)
                documents.append(result.to_json())
                if options.out is not None:
                    write_json(options.out, {"results": documents})
    print(json.dumps(result.machine))


def show(result: pilotfish.BenchResult) -> None:
    """One line per kind of measurement, and one per peer."""
    print(f"{' -> '.join(result.stages)}, {result.n} samples, exit ratio {percent(result.exit_ratio[0])} forced")
    for name, times in (("model only", result.model_only), ("file to answer", result.end_to_end)):
        alone = ", ".join(f"{s.median:.2f}" for s in times.stages_ms)
        print(
            f"  {name:14}: alone {alone} ms (batch {result.batch_sizes}), ideal {times.ideal_ms.median:.2f} ms, "
            f"realised {times.realised_ms.median:.2f} ms, efficiency {times.efficiency.median:.3f} "
            f"[{times.efficiency.low:.3f}, {times.efficiency.high:.3f}]"
        )
    once, single = result.decoded_once, result.single.overhead_ms
    print(f"  with decoding counted once: efficiency {once.median:.3f} [{once.low:.3f}, {once.high:.3f}]")
    print(
        f"  one input that exits: {single.median:.3f} ms [{single.low:.3f}, {single.high:.3f}] beyond its saver's call"
    )
    ours = result.end_to_end.realised_ms.median
    print(f"  {1000 / ours:.1f} images/s, {result.speedup.median:.2f}x the base alone, file to answer")
    for peer in result.peers:
        ratio = peer.end_to_end_ratio
        print(
            f"  {peer.name}: {1000 / peer.end_to_end.median:.1f} images/s; ours is {ratio.median:.2f}x "
            f"[{ratio.low:.2f}, {ratio.high:.2f}]",
            flush=True,
        )


if __name__ == "__main__":
    main()
