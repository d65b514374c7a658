"""Recording against a bare loop over the same loader and model.

    python benchmarks/recording_speed.py --data path/to/photos

The bare loop reads, preprocesses and runs the model, and throws the outputs away. What recording adds is reducing the
outputs, writing Parquet parts, and joining them. Both run in turn; the figure is bare time ÷ recording time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from pilotfish.data import Dataset, load_data
from pilotfish.models import Model, load_model
from pilotfish.recording import RecordOptions, record_model
from pilotfish.recording.loader import batches
from pilotfish.records import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of photos, class folders or labels.csv")
    parser.add_argument("--model", default="lite:efficientnet_lite0@128")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    data, model = load_data(f"folder:{options.data}"), load_model(options.model)
    bare, full = [], []
    for turn in range(options.runs + 1):
        a = bare_loop(data, model, options.batch_size, options.workers)
        b = recording(data, model, options.batch_size, options.workers)
        if turn:
            bare.append(a)
            full.append(b)
            print(f"run {turn}: bare {len(data) / a:6.1f}/s, recording {len(data) / b:6.1f}/s, ratio {a / b:.3f}")
    ratios = sorted(a / b for a, b in zip(bare, full, strict=True))
    print(
        f"{options.model}, {len(data)} samples, batches of {options.batch_size}: recording at "
        f"{statistics.median(ratios):.3f} of a bare loop (median of {options.runs}, "
        f"{ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


def bare_loop(data: Dataset, model: Model, batch_size: int, workers: int) -> float:
    """Seconds for reading everything and running the model."""
    start = time.perf_counter()
    for batch in batches(data, model.preprocessing, 0, batch_size, workers):
        model.run(batch.inputs)
    return time.perf_counter() - start


def recording(data: Dataset, model: Model, batch_size: int, workers: int) -> float:
    """Seconds for a whole recording, without measuring times first."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        options = RecordOptions(batch_size=batch_size, workers=workers, timing=False)
        record_model(data, model, Run(Path(folder)), "model", options)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
