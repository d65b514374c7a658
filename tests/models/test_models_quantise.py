"""``quantise``: an int8 model agrees with its source, and is a model of its own to everything after it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import pilotfish  # noqa: E402
from pilotfish.data import load_data  # noqa: E402
from pilotfish.errors import DataError, ModelError, PilotfishError, UsageError  # noqa: E402
from pilotfish.flow.demo import Recipe, train_demo_models  # noqa: E402
from pilotfish.flow.quantise import Quantised, quantise  # noqa: E402
from pilotfish.models import load_model  # noqa: E402
from support.process import command, refusal  # noqa: E402

DIGITS = load_data("digits:train")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A convolutional network that reads digits."""
    recipes = [Recipe("net", "convnet", width=8, epochs=4, learning_rate=5e-3)]
    [path] = train_demo_models(DIGITS, tmp_path_factory.mktemp("net"), recipes, lambda *_: None)
    return f"checkpoint:{path}"


@pytest.fixture(scope="module")
def int8(source: str, tmp_path_factory: pytest.TempPathFactory) -> Quantised:
    return quantise(source, DIGITS, tmp_path_factory.mktemp("int8") / "net.onnx", samples=64)


def test_it_says_nearly_the_same_on_samples_it_was_not_calibrated_on(source: str, int8: Quantised) -> None:
    images = load_data("digits:val")
    a, b = load_model(source), load_model(f"onnx:{int8.path}")
    batch = np.stack([a.preprocessing(images.read(i)) for i in range(400)])
    ours, theirs = b.run(batch), a.run(batch)
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.97
    assert not np.array_equal(ours, theirs)
    assert int8.agreement > 0.9
    assert (int8.samples, int8.compared) == (64, 21)
    assert 0 < int8.mean_difference <= int8.max_difference < 0.5


def test_it_is_another_model_of_the_same_work(source: str, int8: Quantised) -> None:
    a, b = load_model(source), load_model(f"onnx:{int8.path}")
    assert b.preprocessing.dtype == "int8"
    assert b.preprocessing.hash != a.preprocessing.hash
    assert b.weights_hash != a.weights_hash
    assert (b.class_names, b.n_classes) == (a.class_names, 10)
    assert b.count().costs["macs"] == a.count().costs["macs"]
    stored = onnx.load(int8.path).graph.initializer
    assert sum(t.data_type == TensorProto.INT8 for t in stored) >= 5  # every convolution and the head


def test_planning_and_running_see_it_as_a_saver_of_its_source(source: str, int8: Quantised, tmp_path: Path) -> None:
    names = [f"onnx:{int8.path}", source]
    pilotfish.record("digits:val", names, tmp_path / "run", timing=False, costs={})
    ranked = pilotfish.savers(tmp_path / "run", source, cost="params")
    assert [s.saver for s in ranked.savers] == names[:1]
    folder = pilotfish.tune(tmp_path / "run", names, max_drop=0.01, holdout=0).save(tmp_path / "cascade")
    cascade = pilotfish.Cascade.load(folder)
    assert all(answer.error is None for answer in cascade.predict(load_data("digits:val")))


def test_numbers_that_are_shapes_stay_as_they_are(tmp_path: Path) -> None:
    """A reshape whose target is computed: height times width, 77 x 77, which no 8-bit number holds."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "two"], ["h"], name="height"),
        helper.make_node("Gather", ["shape", "three"], ["w"], name="width"),
        helper.make_node("Cast", ["h"], ["hf"], to=TensorProto.FLOAT, name="hf"),
        helper.make_node("Cast", ["w"], ["wf"], to=TensorProto.FLOAT, name="wf"),
        helper.make_node("Mul", ["hf", "wf"], ["areaf"], name="area"),
        helper.make_node("Add", ["areaf", "ends"], ["targetf"], name="shifted"),
        helper.make_node("Cast", ["targetf"], ["target"], to=TensorProto.INT64, name="target"),
        helper.make_node("Reshape", ["x", "target"], ["flat"], name="flat"),
        helper.make_node("Flatten", ["flat"], ["row"], name="row"),
        helper.make_node("MatMul", ["row", "W"], ["y"], name="y"),
    ]
    weights = np.random.default_rng(0).standard_normal((2 * 5929, 4)).astype(np.float32)
    stored = [numpy_helper.from_array(np.array([i], np.int64), name) for i, name in ((2, "two"), (3, "three"))]
    stored.append(numpy_helper.from_array(np.array([-5930, -5927, 0], np.float32), "ends"))  # (-1, 2, area)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, "H", "W"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "graph", [x], [y], [*stored, numpy_helper.from_array(weights, "W")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "f.onnx")
    images = np.random.default_rng(1).standard_normal((40, 2, 77, 77)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=images)
    found = quantise(
        f"onnx:{tmp_path}/f.onnx@77", load_data(f"arrays:{tmp_path}/data.npz"), tmp_path / "q.onnx", samples=16
    )
    assert found.agreement > 0.8


def test_the_command(source: str, tmp_path: Path) -> None:
    done = command(tmp_path, "quantise", source, "--data", "digits:train", "--out", "q.onnx", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["model"] == "onnx:q.onnx"
    assert document["bytes"] < document["float_bytes"]
    assert "agreement" in done.stderr
    assert load_model(f"onnx:{tmp_path}/q.onnx").preprocessing.dtype == "int8"
    typed = shlex.split(done.stderr.partition("Next, on other samples: pilotfish ")[2].splitlines()[0])
    assert (typed[-2], typed.pop()) == ("--data", "folder:photos")
    recorded = command(tmp_path, *typed, "digits:val", "--no-timing")
    assert recorded.returncode == 0, recorded.stderr
    assert "are in the training data" in refusal(tmp_path, *typed, "digits:train", "--no-timing", "--overwrite")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"samples": 3}, UsageError, "at least 8 samples are needed to calibrate, found 3"),
        ({"calibration": "best"}, UsageError, "calibration is one of minmax, entropy, percentile; found 'best'"),
        ({"target": "q.bin"}, UsageError, "written as .onnx, found 'q.bin'"),
        ({"name": "?dtype=bfloat16"}, ModelError, "expected a float32 model that ONNX Runtime can run"),
        ({"data": 4}, DataError, "4 samples of .* can be read; at least 10 are needed"),
    ],
)
def test_what_is_refused(
    options: dict[str, Any], error: type[PilotfishError], said: str, source: str, tmp_path: Path
) -> None:
    given = dict(options)
    name, target = source + given.pop("name", ""), tmp_path / given.pop("target", "q.onnx")
    data = DIGITS
    if few := given.pop("data", None):
        np.savez(tmp_path / "few.npz", x=np.zeros((few, 8, 8), np.uint8))
        data = load_data(f"arrays:{tmp_path}/few.npz")
    with pytest.raises(error, match=said):
        quantise(name, data, target, **given)
    assert not target.exists()


def test_an_int8_model_is_not_quantised_again(int8: Quantised, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run by onnxruntime in int8; expected a float32 model"):
        quantise(f"onnx:{int8.path}", DIGITS, tmp_path / "again.onnx")


@pytest.mark.parametrize("task", ["mask", "labels"])
def test_masks_and_labels_are_compared_place_by_place(task: str, tmp_path: Path) -> None:
    network = Path(__file__).parents[2] / "examples/scenes/small.onnx"
    if task == "labels":
        network = pooled(network, tmp_path / "labels.onnx")
    data = load_data(f"scenes:train?n=40&task={task}")
    found = quantise(f"onnx:{network}?scale=0..1&task={task}", data, tmp_path / "q.onnx", samples=16)
    assert (found.task, found.compared) == (task, 5)
    assert 0.98 < found.agreement <= 1
    assert 0 < found.max_difference < 0.5
    unit = "pixels" if task == "mask" else "labels"
    assert f"the agreement is that of {unit} of 5 samples" in found.notes
    again = load_model(found.to_json()["model"])
    assert (again.task, again.preprocessing.dtype) == (task, "int8")
    assert again.run(np.zeros((1, 3, 64, 64), np.float32)).shape == ((1, 11, 64, 64) if task == "mask" else (1, 11))


def pooled(source: Path, target: Path) -> Path:
    """The network of a file, with the largest number of each class over the image as its answer."""
    model = onnx.load(str(source))
    [old] = model.graph.output
    model.graph.node.append(helper.make_node("ReduceMax", [old.name], ["most"], axes=[2, 3], keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("most", TensorProto.FLOAT, ["N", 11]))
    onnx.save(model, str(target))
    return target


def test_boxes_are_not_quantised(tmp_path: Path) -> None:
    network = Path(__file__).parents[2] / "examples/scenes/small.onnx"
    with pytest.raises(ModelError, match="how far two sets of boxes agree is not measured here"):
        quantise(f"onnx:{network}?scale=0..1&task=boxes", load_data("scenes:train?n=20"), tmp_path / "q.onnx")
