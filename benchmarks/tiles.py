"""Routing by tile: a tile of an image exits, or the base answers it, on the tile and a margin around it.

python benchmarks/tiles.py [--n 1000] [--splits 10]

Little-Big names this among its extensions and does not try it. Scenes of digits (64 x 64 pixels), the networks of
examples/scenes; rows are (image, tile), groups are images. Whole images are routed by the same score. Costs count the
margin: what the base computes of a tile is the tile with its margin, cut at the border of the image.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa

import pilotfish
from pilotfish.data.scenes import SIDE, made
from pilotfish.records import Records, RecordsMeta, Run
from pilotfish.tasks import mask_scores as scores
from pilotfish.tasks.mask import KNOWN
from pilotfish.tasks.mask_answers import Masks
from pilotfish.tasks.true_masks import counts_of

SCENES = Path(__file__).parents[1] / "examples" / "scenes"
CLASSES = 11
MMACS = {"small": 4.73, "big": 21.41}  # of an image
DROP = 0.005


def network(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx.load(f"{SCENES / name}.onnx")
    for value in (*model.graph.input, *model.graph.output):  # nothing in these networks depends on the size
        for axis in (2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answers(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    """Logits (N, C, H, W)."""
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: images[i : i + 32]})[0] for i in range(0, len(images), 32)])


def tiles(tile: int, margin: int) -> list[tuple[slice, slice, slice, slice]]:
    """Of each tile its rows and columns, and those of the tile with its margin."""
    found = []
    for y in range(0, SIDE, tile):
        for x in range(0, SIDE, tile):
            wide = [slice(max(0, at - margin), min(SIDE, at + tile + margin)) for at in (y, x)]
            found.append((slice(y, y + tile), slice(x, x + tile), *wide))
    return found


def counts(said: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(intersection, union) (N, C) of masks (N, h, w)."""
    everything = np.ones(true.shape[1:], bool)
    pairs = [
        counts_of(a.astype(np.int64), b.astype(np.int64), everything, CLASSES) for a, b in zip(said, true, strict=True)
    ]
    return np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])


def write(run: Path, tile: int, margin: int, images: np.ndarray, true: np.ndarray, small: np.ndarray) -> None:
    """Records of both networks, a row for each tile of each image."""
    big, parts = network("big"), {"small": [], "big": []}
    label, best = scores.peaks(small)
    doubt = scores.doubts(small, label, best, np.zeros(len(small), bool))
    cost = 0.0
    for y, x, wide_y, wide_x in tiles(tile, margin):
        sure = scores.log_odds(scores.grid_doubt(doubt[:, y, x], label[:, y, x]))
        parts["small"].append((*counts(label[:, y, x], true[:, y, x]), sure))
        inner = [slice(a.start - b.start, a.stop - b.start) for a, b in ((y, wide_y), (x, wide_x))]
        said = scores.peaks(answers(big, images[:, :, wide_y, wide_x]))[0][:, inner[0], inner[1]]
        parts["big"].append((*counts(said, true[:, y, x]), np.zeros(len(images))))
        cost += (wide_y.stop - wide_y.start) * (wide_x.stop - wide_x.start) / SIDE**2
    per_image = len(parts["big"])
    names = [f"{i}/{k}" for k in range(per_image) for i in range(len(images))]
    groups = pa.array([str(i) for _ in range(per_image) for i in range(len(images))])
    for name, found in parts.items():
        both, either, sure = (np.concatenate(one) for one in zip(*found, strict=True))
        macs = MMACS[name] * 1e6 * (cost if name == "big" else 1) / per_image
        meta = RecordsMeta(name, "val", n_classes=CLASSES, costs={"macs": macs}, task="mask")
        known = np.full(len(names), KNOWN)
        Run(run).write(Records(pa.array(names), known, Masks(both, either, grid=sure), meta, group=groups))


def shown(run: Path, whole: float, splits: int) -> str:
    """Of the half that judges: share of the area that exits, drop, and cost beside the base on whole images."""
    points = [pilotfish.tune(run, ["small", "big"], max_drop=DROP, seed=seed).evaluation for seed in range(splits)]
    area = np.mean([point.exit_ratio[0] for point in points])
    drop = 100 * np.mean([point.drop for point in points])
    value = 100 * np.mean([point.base_value for point in points])
    cost = 100 * np.mean([point.cost for point in points]) / whole
    return f"base {value:.1f}   exits {area:.3f}   drop {drop:.2f}   cost {cost:.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--splits", type=int, default=10)
    given = parser.parse_args()
    pixels, true = made("val", given.n)[:2]
    images = (pixels.transpose(0, 3, 1, 2) / 255).astype(np.float32)
    small = answers(network("small"), images)
    for tile, margin in ((SIDE, 0), (32, 0), (32, 8), (32, 16), (16, 0), (16, 8), (16, 16)):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), tile, margin, images, true, small)
            whole = MMACS["big"] * 1e6 * (tile / SIDE) ** 2
            print(f"tiles of {tile:2}, margin {margin:2}: {shown(Path(folder), whole, given.splits)}", flush=True)


if __name__ == "__main__":
    main()
