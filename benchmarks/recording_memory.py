"""Memory while recording: flat, however many samples.

    python benchmarks/recording_memory.py                 # 300,000 samples x 1000 classes, both stores

A synthetic data set makes each sample when it is read; the model is a fixed projection to 1000 classes. The resident
memory of the process is printed along the way.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pilotfish.models import Model
from pilotfish.models.names.python_model import AS_IT_IS, PythonBackend
from pilotfish.recording import RecordOptions, record_model
from pilotfish.records import Run

FEATURES, CLASSES = 32, 1000
PROJECTION = np.random.default_rng(0).standard_normal((FEATURES, CLASSES), dtype=np.float32)


class Synthetic:
    """n samples that exist only when they are read."""

    spec = "synthetic"
    class_names = None

    def __init__(self, n: int) -> None:
        self.n = n
        self.ids = [f"{i:07d}" for i in range(n)]
        self.labels = np.arange(n, dtype=np.int64) % CLASSES
        self.fingerprint = f"synthetic-{n}"

    def __len__(self) -> int:
        return self.n

    def read(self, i: int) -> np.ndarray:
        return np.random.default_rng(i).standard_normal(FEATURES, dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=300_000)
    options = parser.parse_args()
    for store in ("top10", "full"):
        for n in (options.samples // 10, options.samples):
            process = get_context("spawn").Process(target=record_one, args=(n, store))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)


def record_one(n: int, store: str) -> None:
    """Record n samples in this process, and say how its memory went."""
    model = Model("synthetic", PythonBackend(lambda x: x @ PROJECTION), AS_IT_IS, "projection", (FEATURES,), CLASSES)
    data, seen = Synthetic(n), []

    def watch(_: str, done: int, total: int) -> None:
        if not seen or done >= seen[-1][0] + total // 10:
            seen.append((done, resident_mb()))

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        options = RecordOptions(batch_size=256, store=store, timing=False)
        result = record_model(data, model, Run(Path(folder)), "model", options, watch)
        seconds, size = time.perf_counter() - start, result.path.stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    trace = " ".join(f"{mb:.0f}" for _, mb in seen)
    print(
        f"{store:5} {n:7,} samples: {seconds:.1f} s, file {size:.1f} MB, peak {peak:.0f} MB; on the way (MB): {trace}"
    )


def resident_mb() -> float:
    """Resident memory of this process now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
