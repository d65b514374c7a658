"""``torchvision:NAME``."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from safetensors.torch import save_file  # noqa: E402

from pilotfish.errors import ModelError  # noqa: E402
from pilotfish.models import load_model  # noqa: E402
from pilotfish.models.names.spec import task_named  # noqa: E402

load_torch = functools.partial(load_model, backend="torch")

NAME = "torchvision:squeezenet1_1"


def test_random_weights_are_a_whole_model() -> None:
    model = load_torch(f"{NAME}@64?weights=random")
    assert model.n_classes == 1000
    assert model.class_names is not None
    assert model.class_names[0] == "tench"
    assert model.input_shape == (3, 64, 64)
    assert model.preprocessing.size == (64, 64)
    assert model.run(np.zeros((2, 3, 64, 64), np.float32)).shape == (2, 1000)


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    made = load_torch(f"{NAME}?weights=random&num_classes=7")
    assert (made.n_classes, made.class_names) == (7, None)
    save_file(made.backend.module.state_dict(), tmp_path / "w.safetensors")
    again = load_torch(f"{NAME}?weights={tmp_path}/w.safetensors&num_classes=7")
    assert again.weights_hash == made.weights_hash


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:resnet81?weights=random", "torchvision has no model 'resnet81' here; nearest names: resnet"),
        ("torchvision:raft_large", "torchvision has no model"),
        (f"{NAME}?weights=random&num_classes=abc", "num_classes must be a whole number of at least 2, found 'abc'"),
        (f"{NAME}?weights=random&num_classes=1", "num_classes must be a whole number of at least 2, found '1'"),
        (f"{NAME}?weights=IMAGENET1K_V9", "no such weights file"),
        (f"{NAME}?pretrained=yes", "unknown option 'pretrained'"),
    ],
)
def test_wrong_names_and_options(name: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_torch(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_that_fails_is_one_line_and_leaves_stdout_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        sys.stdout.write("talk\n")
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ModelError) as caught:
        load_torch(NAME)
    assert "cannot be had (<urlopen error no route>); use ?weights=FILE" in str(caught.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "task", "billions"),
    [
        ("deeplabv3_mobilenet_v3_large", "mask", 10.45),
        ("fcn_resnet101", "mask", 232.7),
        ("ssdlite320_mobilenet_v3_large", "boxes", 0.583),
        ("fasterrcnn_resnet50_fpn", "boxes", 134.4),
    ],
)
def test_detectors_and_segmentation_cost_what_is_printed_of_them(name: str, task: str, billions: float) -> None:
    model = load_model(f"torchvision:{name}?weights=random")
    assert (model.task, model.backend.name, model.preprocessing.size) == (task, "torch", None)
    found = model.count()
    assert abs(found.costs["macs"] / 1e9 / billions - 1) < 0.005
    assert any("MACs are of an image of" in note for note in found.notes)


def test_a_detector_answers_in_the_pixels_of_the_image() -> None:
    model = load_model("torchvision:ssdlite320_mobilenet_v3_large?weights=random&num_classes=3")
    found = model.run(np.random.default_rng(0).random((2, 3, 24, 40), np.float32))
    assert [set(one) for one in found] == [{"boxes", "scores", "labels"}] * 2
    assert (found[0]["boxes"] >= 0).all()
    assert (found[0]["boxes"] <= [40, 24, 40, 24]).all()
    assert set(found[0]["labels"]) <= {1, 2}


def test_segmentation_answers_at_the_size_of_the_image_whatever_it_is_resized_to(tmp_path: Path) -> None:
    made = load_model("torchvision:lraspp_mobilenet_v3_large?weights=random&num_classes=5&resize=64")
    images = np.random.default_rng(0).random((2, 3, 24, 40), np.float32)
    found = made.run(images)
    assert found.shape == (2, 5, 24, 40)
    assert made.weights is not None
    made.weights(tmp_path / "w.safetensors")
    name = f"torchvision:lraspp_mobilenet_v3_large?weights={tmp_path}/w.safetensors"
    again, other = load_model(f"{name}&resize=64"), load_model(name)  # as many classes as the head has
    assert (again.n_classes, again.weights_hash) == (5, made.weights_hash)
    assert np.array_equal(again.run(images), found)
    assert other.weights_hash != made.weights_hash  # it is resized otherwise, and so answers otherwise
    with pytest.raises(ModelError, match="of 4096x2 pixels is too long to be resized"):
        made.run(np.zeros((1, 3, 2, 4096), np.float32))


def test_a_detectors_own_number_of_classes_is_that_of_its_head(tmp_path: Path) -> None:
    made = load_model("torchvision:ssdlite320_mobilenet_v3_large?weights=random&num_classes=4")
    assert made.weights is not None
    made.weights(tmp_path / "w.safetensors")
    again = load_model(f"torchvision:ssdlite320_mobilenet_v3_large?weights={tmp_path}/w.safetensors")
    assert (again.n_classes, again.class_names, again.weights_hash) == (4, None, made.weights_hash)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ssdlite320_mobilenet_v3_large?weights=random&resize=64", "built for 320x320 pixels"),
        ("lraspp_mobilenet_v3_large@64?weights=random", "leave the size out, or write ?resize=N"),
        ("lraspp_mobilenet_v3_large?weights=random&resize=3", "resize must be a whole number of at least 32"),
        ("lraspp_mobilenet_v3_large?weights=random&aux=yes", "aux is none or left out; found 'yes'"),
        ("lraspp_mobilenet_v3_large?weights=random&task=boxes", "answers mask, and boxes is asked for"),
        ("ssdlite320_mobilenet_v3_large?weights=random&dtype=bf16", "a detector is run in float32 by torch"),
    ],
)
def test_what_detectors_and_segmentation_do_not_take(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=r".") as caught:
        load_model(f"torchvision:{name}")
    assert said in str(caught.value)


def test_segmentation_in_bfloat16_is_counted_and_answers_alike() -> None:
    name = "torchvision:lraspp_mobilenet_v3_large?weights=random&num_classes=3&resize=64&dtype=bf16"
    model = load_model(name)
    assert model.notes == ()
    assert model.count().costs["macs"] == load_model(name.replace("&dtype=bf16", "")).count().costs["macs"]
    assert model.run(np.zeros((1, 3, 24, 40), np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("torchvision:ssd300_vgg16", "boxes"),
        ("torchvision:fcn_resnet50?resize=256", "mask"),
        ("torchvision:resnet18", None),
        ("onnx:somewhere.onnx?task=labels", "labels"),
        ("python:here:there", None),
    ],
)
def test_what_a_name_says_of_its_task(name: str, task: str | None) -> None:
    assert task_named(name) == task
