"""How this folder was made: run with the Pilotfish whose folders are to be kept, in this folder.

    python make.py

Commit 3551eeb wrote what lies here. The test beside it opens the folders with the Pilotfish of today.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import pilotfish
from pilotfish.runtime import save_with_weights

RNG = np.random.default_rng(7)
CLASSES = 5


def write_onnx(path: str, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int | str]) -> None:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def linear(path: str, weights: np.ndarray, softmax: bool = False) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z" if softmax else "y"])]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["z"], ["y"], axis=1))
    write_onnx(path, nodes, {"w": weights.astype(np.float32)}, [weights.shape[0]])


def of_images(path: str, weights: np.ndarray) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    write_onnx(path, nodes, {"w": weights.astype(np.float32)}, [3, 8, 8])


def answers(folder: str, inputs: object) -> list[dict[str, object]]:
    return [answer.to_json() for answer in pilotfish.Cascade.load(folder).predict(inputs)]


def main() -> None:
    truth = RNG.standard_normal((6, CLASSES))
    x = RNG.standard_normal((240, 6)).astype(np.float32)
    label = (x @ truth).argmax(1)
    np.savez_compressed("data.npz", x=x, label=label)
    linear("big.onnx", 4 * truth)
    linear("small.onnx", 3 * (truth + 0.7 * RNG.standard_normal(truth.shape)))
    linear("soft.onnx", 3 * (truth + 0.9 * RNG.standard_normal(truth.shape)), softmax=True)
    for i in range(40):
        folder = Path("photos", f"c{i % CLASSES}")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (9, 10, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    of_images("image.onnx", RNG.standard_normal((192, CLASSES)))

    models = ["onnx:small.onnx", "onnx:soft.onnx", "onnx:big.onnx"]
    pilotfish.record("arrays:data.npz", models, "run", timing=False)
    pilotfish.record("folder:photos", "onnx:image.onnx", "run-photos", timing=False)
    found = {
        "small": pilotfish.tune("run", [models[0], models[2]], max_drop=0.02),
        "soft": pilotfish.tune("run", [models[1], models[2]], max_drop=0.05),
        "learned": pilotfish.tune("run", [models[0], models[2]], max_drop=0.02, score="learned_right"),
        "pcee": pilotfish.tune("run", [models[0], models[1], models[2]], max_drop=0.2, method="pcee"),
        "certified": pilotfish.tune("run", [models[0], models[2]], max_drop=0.08, guarantee=0.9),
    }
    expected: dict[str, object] = {"savers": pilotfish.savers("run", models[2]).to_json()}
    for name, tuning in found.items():
        tuning.save(f"cascades/{name}")
        expected[name] = {"tune": tuning.to_json(), "answers": answers(f"cascades/{name}", x[:40])}
    save_with_weights(found["small"].artefact, "cascades/embedded")
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
