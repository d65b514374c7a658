"""The same from Python: record, tune, predict. Run it in examples/scenes: python ../segmentation/scenes.py seg"""

from __future__ import annotations

import sys
from pathlib import Path

import pilotfish


def main(folder: Path, n: int = 1000) -> None:
    data, run = f"scenes:val?n={n}", folder / "run"
    for name in ("small", "big"):
        pilotfish.record(data, f"onnx:{name}.onnx?mean=0&std=1", run, alias=name, task="mask")
    tuned = pilotfish.tune(run, ["small", "big"], max_drop="3%")
    tuned.save(folder / "cascade")
    pilotfish.write_report(folder / "report.html", cascade=folder / "cascade", run=run, data=data)
    cascade = pilotfish.Cascade.load(folder / "cascade")
    for answer in cascade.predict(pilotfish.load_data("scenes:train?n=4"), save=folder / "drawn"):
        print(answer.input, answer.name, f"stage {answer.stage}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
