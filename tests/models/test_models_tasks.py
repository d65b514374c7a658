"""Models that answer boxes, masks or many labels."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.errors import ModelError
from pilotfish.models import load_model
from pilotfish.models.outputs.raw_answers import RawAnswers

BOXES = np.array([[1.0, 2, 30, 20], [4, 4, 9, 12]])
ONE = {"boxes": BOXES, "scores": np.array([0.9, 0.4]), "labels": np.array([3, 1])}
NONE = {"boxes": np.empty((0, 4)), "scores": np.empty(0), "labels": np.empty(0, np.int64)}
IMAGES = np.zeros((2, 3, 48, 64), np.float32)


class Detections:
    """As supervision has them."""

    xyxy, confidence, class_id = ONE["boxes"], ONE["scores"], ONE["labels"]


@pytest.mark.parametrize(
    "returned",
    [
        [ONE, NONE],
        (ONE, NONE),
        [(ONE["boxes"], ONE["scores"], ONE["labels"]), (NONE["boxes"], NONE["scores"], NONE["labels"])],
        [Detections(), {**NONE, "boxes": np.empty(0)}],
        {"boxes": np.stack([BOXES, 0 * BOXES]), "scores": np.array([[0.9, 0.4], [0, 0]]), "labels": [[3, 1], [0, 0]]},
        {
            "detection_boxes": np.stack([BOXES[:, [1, 0, 3, 2]] / [48, 64, 48, 64]] * 2),
            "detection_scores": np.array([[0.9, 0.4]] * 2),
            "detection_classes": np.array([[3.0, 1.0]] * 2),
            "num_detections": np.array([2.0, 0.0]),
        },
        {"17": np.stack([BOXES, 0 * BOXES]), "23": np.array([[0.9, 0.4], [0, 0]]), "9": np.array([[3, 1], [0, 0]])},
    ],
)
def test_boxes_as_models_return_them(returned: Any) -> None:
    one, none = RawAnswers("boxes")(returned, IMAGES, "m")
    assert np.allclose(one["boxes"], BOXES)
    assert one["scores"].tolist() == [0.9, 0.4]
    assert one["labels"].tolist() == [3, 1]
    assert none["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (np.zeros((2, 10)), "expected for each image a dictionary of boxes (m, 4)"),
        ([ONE], "found a list of 1 of dict for 2 images"),
        ([{"logits": BOXES, "pred_boxes": BOXES}, NONE], "found a dictionary of logits, pred_boxes for 1 image"),
        ([{**ONE, "scores": np.array([0.9, np.nan])}, NONE], "1 of 2 boxes have numbers or scores that are not finite"),
        ([{**ONE, "boxes": BOXES[:, [2, 3, 0, 1]]}, NONE], "2 of 2 boxes end before they begin"),
        ([{**ONE, "boxes": BOXES / 64}, NONE], "shares of the image; expected pixels"),
        ([{**ONE, "labels": np.array([0.5, 1])}, NONE], "labels of boxes are class numbers"),
        ([{**ONE, "scores": np.array([0.9])}, NONE], "found boxes (2, 4), scores (1,), labels (2,)"),
    ],
)
def test_what_is_no_answer_of_boxes_is_refused(returned: Any, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        RawAnswers("boxes")(returned, IMAGES, "m")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (np.zeros((2, 5, 24, 32), np.float32), "returns masks of 24x32 for images of 48x64 pixels"),
        (np.zeros((2, 1, 48, 64), np.float32), "found one channel"),
        (np.zeros((2, 48, 64), np.float32), "expected logits or probabilities (N, C, H, W)"),
        (np.zeros((2, 5), np.float32), "found float32 (2, 5) for 2 images"),
    ],
)
def test_what_is_no_mask_is_refused(returned: Any, said: str) -> None:
    with pytest.raises(ModelError, match="m: ") as caught:
        RawAnswers("mask")(returned, IMAGES, "m")
    assert said in str(caught.value)


def test_masks_come_as_logits_or_as_classes_in_a_dictionary_or_alone() -> None:
    soft, hard = np.random.default_rng(0).random((2, 5, 48, 64)), np.ones((2, 48, 64), np.uint8)
    for returned in (soft, {"out": soft, "aux": 2 * soft}, list(soft), [one[None] for one in soft]):
        assert np.array_equal(RawAnswers("mask")(returned, IMAGES, "m"), soft)
    assert RawAnswers("mask")(hard, IMAGES, "m").dtype == np.int64


def test_labels_are_probabilities_once_their_activation_is_known() -> None:
    logits = np.array([[0.0, 2.0], [-1.0, 800.0]])
    assert np.array_equal(RawAnswers("labels")(logits, logits, "m"), logits)
    assert np.allclose(RawAnswers("labels", activation="none")(logits, logits, "m"), 1 / (1 + np.exp(-logits)))
    with pytest.raises(ModelError, match="labels that may all be there at once"):
        RawAnswers("labels")(np.zeros(2), logits, "m")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = ModuleType("detecting")
    monkeypatch.setitem(sys.modules, "detecting", found)
    return found


def test_a_callable_is_loaded_for_its_task_and_its_name_says_so(module: ModuleType) -> None:
    module.find = lambda batch: [ONE] * len(batch)  # type: ignore[attr-defined]
    model = load_model("python:detecting:find", task="boxes")
    assert (model.task, model.spec) == ("boxes", "python:detecting:find?task=boxes")
    assert load_model(model.spec).task == "boxes"
    assert model.run(IMAGES)[1]["labels"].tolist() == [3, 1]


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("python:detecting:find?task=mask", "boxes", "states the task mask, and boxes is asked for"),
        ("python:detecting:find?task=box", None, "unknown task 'box'; nearest"),
        ("python:detecting:find?activation=softmax", "labels", "a model of labels takes one of none, sigmoid"),
        ("python:detecting:find?output=boxes", "boxes", "leave output out"),
    ],
)
def test_what_contradicts_a_task_is_refused(name: str, task: str | None, said: str, module: ModuleType) -> None:
    module.find = lambda batch: [ONE] * len(batch)  # type: ignore[attr-defined]
    with pytest.raises(ModelError) as caught:
        load_model(name, task=task)
    assert said in str(caught.value)


def onnx_file(path: Path, outputs: dict[str, np.ndarray], side: int | str = 16, batch: int | str = "N") -> Path:
    """A file of images (batch, 3, side, side) that always returns *outputs*; ``mask`` is computed from the image."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, {"f": onnx.TensorProto.FLOAT, "i": onnx.TensorProto.INT64}
    nodes = [helper.make_node("Identity", [f"c_{name}"], [name]) for name in outputs if name != "mask"]
    if "mask" in outputs:  # one class a colour
        nodes.append(helper.make_node("Mul", ["images", "c_mask"], ["mask"]))
    shapes = {
        name: list(values.shape) if name != "mask" else [batch, 3, side, side] for name, values in outputs.items()
    }
    entries = [helper.make_tensor_value_info(name, kinds[v.dtype.kind], shapes[name]) for name, v in outputs.items()]
    images = helper.make_tensor_value_info("images", kinds["f"], [batch, 3, side, side])
    held = [onnx.numpy_helper.from_array(values, f"c_{name}") for name, values in outputs.items()]
    graph = helper.make_graph(nodes, "g", [images], entries, held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.mark.parametrize("names", [("boxes", "scores", "labels"), ("11", "9", "10")])
def test_a_detector_in_an_onnx_file_runs_image_by_image_and_answers_in_the_pixels_of_each(
    tmp_path: Path, names: tuple[str, str, str]
) -> None:
    values = (BOXES.astype(np.float32) / 2, np.array([0.75, 0.5], np.float32), np.array([3, 1]))
    path = onnx_file(tmp_path / "d.onnx", dict(zip(names, values, strict=True)), batch=1)
    model = load_model(f"onnx:{path}?scale=0..1", task="boxes")
    assert (model.preprocessing.size, model.input_shape) == (None, (3, 16, 16))
    same, wide = model.run(np.zeros((1, 3, 16, 16), np.float32)), model.run(np.zeros((2, 3, 32, 64), np.float32))
    assert np.allclose(same[0]["boxes"], BOXES / 2)
    assert np.allclose(wide[1]["boxes"], BOXES / 2 * [4, 2, 4, 2])


@pytest.mark.parametrize(("side", "size"), [(16, ""), ("S", ""), ("S", "@16")])
def test_a_mask_of_an_onnx_file_has_the_size_of_the_image(tmp_path: Path, side: int | str, size: str) -> None:
    path = onnx_file(tmp_path / "m.onnx", {"mask": np.ones(1, np.float32)}, side)
    model = load_model(f"onnx:{path}{size}?scale=0..1", task="mask")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 40, 3), np.uint8))
    given = model.preprocessing(image)
    assert given.shape == (3, 24, 40)
    found = model.run(given[None])
    assert found.shape == (1, 3, 24, 40)
    assert np.array_equal(found[0], given) == (side == "S" and not size)  # else it went through 16 x 16
    if side == "S" and not size:
        with pytest.raises(ModelError, match="runs at the size of each image"):
            model.count()
    else:
        assert model.count().costs["macs"] == 0


def test_a_class_number_a_pixel_stays_whole(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "m.onnx", {"classes": np.full((1, 4, 4), 2)}, 4, 1)
    found = load_model(f"onnx:{path}?scale=0..1", task="mask").run(np.zeros((1, 3, 8, 6), np.float32))
    assert (found.dtype, found.shape, set(found.ravel())) == (np.int64, (1, 8, 6), {2})
