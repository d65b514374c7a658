"""Recording costs the same memory however many samples there are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.process import LIMIT, environment

FEW, MANY, CLASSES = 6_000, 60_000, 1000

DRIVER = """
import json, resource, sys
from pilotfish.recording import RecordOptions, record

store = None if sys.argv[2] == "default" else sys.argv[2]
options = RecordOptions(timing=False, batch_size=256, store=store, workers=1)
result = record(f"arrays:{sys.argv[1]}.npz", "python:model:logits", f"run-{sys.argv[1]}", alias="m", options=options)[0]
print(json.dumps({"n": result.n, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""

MODEL = f"""
import numpy as np

WEIGHTS = np.random.default_rng(0).standard_normal((8, {CLASSES})).astype(np.float32)

def logits(batch):
    return batch @ WEIGHTS
"""


@pytest.mark.parametrize("store", ["default", "full"])
def test_ten_times_the_samples_take_no_more_memory(store: str, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "model.py").write_text(MODEL)
    peaks = []
    for n in (FEW, MANY):
        np.savez(tmp_path / f"{n}.npz", x=np.random.default_rng(1).standard_normal((n, 8), dtype=np.float32))
        ended = subprocess.run(
            [sys.executable, "driver.py", str(n), store],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT,
        )
        found = json.loads(ended.stdout)
        assert found["n"] == n
        peaks.append(found["peak"])
    assert peaks[1] - peaks[0] < 120, peaks  # MiB; the logits alone are 206 MiB more
