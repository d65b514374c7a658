"""``?mean=…&std=…&crop=…`` on every form of a model's name, and what is assumed where nothing states it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.errors import PilotfishError
from pilotfish.models import Preprocessing, load_model
from pilotfish.models.names.stated import spec_with
from pilotfish.models.preprocessing import AS_IT_IS
from support.colours import by_hand, linear_onnx

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8))
CROP = "resize 36, centre crop 32, bicubic"
MEAN = (0.485, 0.456, 0.406)
MODULE = """
import numpy as np
from pilotfish.models import Preprocessing

def bare(batch):
    return batch.reshape(len(batch), -1)[:, :3]

def told(batch):
    return batch.reshape(len(batch), -1)[:, :3]

told.preprocessing = Preprocessing(size=(64, 64), resize=80)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of several forms that take pictures of 32 pixels and three colours."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("models")
    (folder / "stated_models.py").write_text(MODULE)
    weights, bias = RNG.standard_normal((3 * 32 * 32, 3)).astype(np.float32), np.zeros(3, np.float32)
    linear_onnx(folder / "first.onnx", weights, bias, ("N", 3, 32, 32))
    linear_onnx(folder / "last.onnx", weights, bias, ("N", 32, 32, 3))
    linear_onnx(folder / "free.onnx", weights, bias, ("N", "channels", "height", "width"))
    linear_onnx(folder / "free-last.onnx", weights, bias, ("N", "height", "width", "channels"))
    linear_onnx(folder / "bytes.onnx", weights, bias, ("N", 32, 32, 3), "UINT8")
    own = Preprocessing(size=(32, 32), resize=40, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), dtype="int8")
    told = {"pilotfish.preprocessing": json.dumps(own.to_json())}
    linear_onnx(folder / "told.onnx", weights, bias, ("N", 3, 32, 32), **told)
    linear_onnx(folder / "vector.onnx", weights[:64], bias, ("N", 64))
    return folder


@pytest.fixture(autouse=True)
def on_the_path(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(models)


FORMS = {
    "onnx": "onnx:{}/first.onnx",
    "onnx, channels last": "onnx:{}/last.onnx",
    "onnx, told": "onnx:{}/told.onnx",
    "onnx, free": "onnx:{}/free.onnx@32",
    "python": "python:stated_models:bare?size=32",
    "python, told": "python:stated_models:told?size=32",
    "timm": "timm:test_convnext?weights=random&size=32",
    "timm, fixed size": "timm:test_vit@32?weights=random",
    "torchvision": "torchvision:squeezenet1_1@32?weights=random",
}
COLOURS = (103.939, 116.779, 123.68)
STATED: dict[str, dict[str, Any]] = {
    "mean=0.5:0.4:0.3&std=0.2:0.3:0.4&crop=0.875": {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)},
    "mean=0.5,0.4,0.3&std=0.2&crop=squeeze&channels=bgr": {
        "mean": (0.5, 0.4, 0.3),
        "std": 0.2,
        "squeeze": True,
        "bgr": True,
    },
    "scale=-1..1&crop=0.875": {"scale": 2, "offset": -1},
    "scale=0..255&mean=103.939:116.779:123.68&channels=bgr&crop=0.875": {"scale": 255, "mean": COLOURS, "bgr": True},
    "scale=0..1&crop=squeeze": {"squeeze": True},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_makes_the_input_that_is_stated(form: str, models: Path) -> None:
    if form.startswith("t"):
        pytest.importorskip("torch")
        pytest.importorskip(form.partition(",")[0])
    for stated, by in STATED.items():
        name = FORMS[form].format(models)
        name += f"{'&' if '?' in name else '?'}{stated}&interpolation=bicubic"
        model = load_model(name, backend="torch" if form.startswith("t") else None)
        assert (model.spec, model.notes, model.assumed) == (name, (), ())
        assert (model.preprocessing.size, model.preprocessing.dtype == "int8") == ((32, 32), form == "onnx, told")
        expected = by_hand(**by, last="last" in form)(PICTURE)
        np.testing.assert_allclose(model.preprocessing(PICTURE), expected, atol=1e-6 * np.abs(expected).max())
        assert model.run(expected[None]).shape[0] == 1


def test_what_is_not_stated_stays_the_files(models: Path) -> None:
    told = load_model(f"onnx:{models}/told.onnx?crop=squeeze").preprocessing
    assert (told.mean, told.std, told.resize, told.dtype) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), None, "int8")
    turned = load_model(f"onnx:{models}/told.onnx?channels=bgr").preprocessing
    assert (turned.mean, turned.std, turned.resize) == ((0.3, 0.2, 0.1), (0.6, 0.5, 0.4), 40)
    python = load_model("python:stated_models:told?size=32x48").preprocessing
    assert (python.size, python.resize, python.mean) == ((32, 48), 40, MEAN)


def test_one_number_stands_for_all_channels_and_grey_is_one(models: Path) -> None:
    assert load_model("python:stated_models:bare?mean=0.5&std=0.5").preprocessing.mean == (0.5,) * 3
    grey = load_model("python:stated_models:bare?channels=grey&size=8&layout=nhwc&std=0.25")
    assert grey.preprocessing(PICTURE).shape == (8, 8, 1)
    assert (grey.preprocessing.mean, grey.preprocessing.std) == ((0.0,), (0.25,))
    assert (
        "assumed: resize 9, centre crop 8, bicubic, mean 0, channels last; state it with ?mean=…&crop=…"
        in grey.notes[0]
    )


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("onnx:{}/first.onnx", f"{CROP}, ImageNet mean and std; state it with ?mean=…&std=…&crop=…"),
        ("onnx:{}/first.onnx?mean=0.5", f"{CROP}, ImageNet std; state it with ?std=…&crop=…"),
        ("onnx:{}/first.onnx?crop=squeeze", "ImageNet mean and std; state it with ?mean=…&std=…"),
        ("onnx:{}/first.onnx?scale=0..1", "resize 36, centre crop 32, bicubic; state it with ?crop=…"),
        ("onnx:{}/first.onnx?channels=bgr&crop=1", "ImageNet mean and std; state it with ?mean=…&std=…"),
        ("onnx:{}/last.onnx", "ImageNet mean and std, channels last; state it with"),
        ("onnx:{}/bytes.onnx", "resize 36, centre crop 32, bicubic, channels last; state it with ?crop=…"),
        ("python:stated_models:bare?size=32x16", "resize 18, centre crop 32x16, bicubic, ImageNet mean and std"),
        ("python:stated_models:bare?mean=0&std=1", None),
        ("python:stated_models:bare", None),
        ("python:stated_models:told", None),
        ("onnx:{}/told.onnx", None),
        ("onnx:{}/bytes.onnx?crop=1", None),
        ("onnx:{}/vector.onnx", None),
    ],
)  # fmt: skip
def test_what_was_assumed_is_a_note(name: str, note: str | None, models: Path) -> None:
    notes = load_model(name.format(models)).notes
    assert len(notes) == (note is not None)
    assert all(found.startswith("preprocessing assumed: ") and str(note) in found for found in notes)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("onnx:{}/first.onnx?mean=1:2", "mean takes 1 or 3 numbers separated by ':', found '1:2'"),
        ("onnx:{}/first.onnx?mean=nan", "mean takes 1 or 3 numbers"),
        ("onnx:{}/first.onnx?std=0", "std is what pixels are divided by; expected numbers other than 0"),
        ("onnx:{}/first.onnx?mean=123.7:116.8:103.9", "no numbers of pixels from 0 to 1; write scale=0..255 as well"),
        ("onnx:{}/first.onnx?mean=0&std=58.4", "no numbers of pixels from 0 to 1; write scale=0..255 as well"),
        ("onnx:{}/first.onnx?scale=0..255&mean=0.5&std=0.5", "no numbers of pixels from 0 to 255; leave scale out"),
        ("onnx:{}/first.onnx?scale=0-1", "expected as scale one of 0..1, -1..1, 0..255; found '0-1'"),
        ("onnx:{}/first.onnx?channels=gbr", "expected as channels one of rgb, bgr, grey"),
        ("onnx:{}/first.onnx?channels=grey", "takes 3 channels; leave channels=grey out"),
        ("onnx:{}/first.onnx?layout=nhwc", "takes inputs of shape (3, 32, 32), channels first; leave layout out"),
        ("onnx:{}/last.onnx?layout=nchw", "takes inputs of shape (32, 32, 3), channels last; leave layout out"),
        ("onnx:{}/last.onnx?layout=hwc", "expected as layout one of nchw, nhwc, tensor"),
        ("onnx:{}/last.onnx?layout=tensor&mean=0.5", "layout=tensor takes arrays as they are; leave mean out"),
        ("onnx:{}/first.onnx?crop=2", "crop is a share from 0 to 1 of the shorter side, squeeze or center; found '2'"),
        ("onnx:{}/first.onnx?size=64", "the file takes inputs of 32x32 pixels only; leave ?size out"),
        ("onnx:{}/last.onnx@64", "the file takes inputs of 32x32 pixels only; leave @ out"),
        ("onnx:{}/first.onnx@32?size=64", "names two sizes, @32 and ?size=64; keep one"),
        ("onnx:{}/first.onnx?size=0", "an input of 0 pixels is out of range (1 to 4096)"),
        ("onnx:{}/first.onnx?size=32x", "size is pixels, such as 224, or height x width, such as 160x224; found '32x'"),
        ("onnx:{}/bytes.onnx?mean=0.5&std=0.5", "takes bytes from 0 to 255; leave mean, std and scale out"),
        ("onnx:{}/vector.onnx?mean=0.5", "its inputs of shape (64,) are no images of 1 or 3 channels; leave mean out"),
        ("onnx:{}/vector.onnx@64", "the file takes inputs of shape ['N', 64], no images; leave @ out"),
        ("python:stated_models:bare?crop=squeeze", "a crop needs the input's size; write size=224 as well"),
        ("python:stated_models:bare?colour=red", "unknown option 'colour'"),
    ],
)
def test_statements_that_make_no_sense_are_refused(name: str, said: str, models: Path) -> None:
    with pytest.raises(PilotfishError) as caught:
        load_model(name.format(models))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["onnx:{}/last.onnx", "python:stated_models:told", "onnx:{}/told.onnx"])
def test_a_model_can_take_arrays_as_they_are(name: str, models: Path) -> None:
    model = load_model(f"{name.format(models)}?layout=tensor")
    assert (model.preprocessing.kind, model.notes) == ("tensor", ())
    array = RNG.standard_normal((32, 32, 3)).astype(np.float32)
    assert np.array_equal(model.preprocessing(array), array)


@pytest.mark.parametrize(
    ("shape", "name", "found", "layout"),
    [
        (("N", 32, 48, 3), "{}", (32, 48, 3), "nhwc"),
        (("N", 28, 28, 1), "{}", (28, 28, 1), "nhwc"),
        (("N", None, None, 3), "{}@24", (24, 24, 3), "nhwc"),
        (("N", "height", "width", "channels"), "{}?size=24x16", (24, 16, 3), "nhwc"),
        (("N", "num_channels", "height", "width"), "{}@24", (3, 24, 24), "nchw"),
        (("N", "a", "b", "c"), "{}@24?layout=nhwc", (24, 24, 3), "nhwc"),
        (("N", "a", "b", "d"), "{}@24?channels=grey", (1, 24, 24), "nchw"),
        (("N", 3, 3, 3), "{}", (3, 3, 3), "nchw"),
        (("N", 3, 3, 3), "{}?layout=nhwc", (3, 3, 3), "nhwc"),
        (("N", 1, 28, 28), "{}", (1, 28, 28), "nchw"),
    ],
)
@pytest.mark.parametrize("dtype", ["FLOAT", "UINT8", "FLOAT16"])
def test_onnx_images_may_have_their_channels_last_and_be_bytes(
    shape: tuple[Any, ...], name: str, found: tuple[int, ...], layout: str, dtype: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    weights = RNG.standard_normal((int(np.prod(found)), 3)).astype(np.float32)
    path = linear_onnx(tmp_path / "net.onnx", weights, np.zeros(3, np.float32), shape, dtype)
    model = load_model("onnx:" + name.format(path))
    assert (model.input_shape, model.preprocessing.layout) == (found, layout)
    made = model.preprocessing(PICTURE)
    assert made.shape == found
    if dtype == "UINT8":
        assert made.min() >= 0
        assert made.max() > 100
        assert np.array_equal(made, np.rint(made))
    typed = made.astype({"FLOAT": np.float32, "UINT8": np.uint8, "FLOAT16": np.float16}[dtype]).astype(np.float32)
    np.testing.assert_allclose(model.run(made[None]), typed.reshape(1, -1) @ weights, rtol=1e-3, atol=1e-2)
    assert model.count().costs["macs"] == weights.size


@pytest.mark.parametrize("shape", [("N", 4, 32, 32), ("N", 32, 32, 4), ("N", 8, 3, 32, 32), ("N", 28, 28)])
def test_other_inputs_are_taken_as_they_are_and_that_is_said(shape: tuple[Any, ...], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    weights = np.zeros((int(np.prod(shape[1:])), 3), np.float32)
    name = f"onnx:{linear_onnx(tmp_path / 'net.onnx', weights, weights[0], shape)}"
    model = load_model(name)
    assert model.preprocessing == AS_IT_IS
    assert model.notes == (
        f"its inputs of shape {shape[1:]} are no images of 1 or 3 channels: samples are taken as they are",
    )
    assert load_model(f"{name}?layout=tensor").notes == ()


def test_bytes_are_rounded_and_never_wrap(models: Path) -> None:
    backend = load_model(f"onnx:{models}/bytes.onnx").backend
    batch = np.array([-300.0, -0.4, 0.6, 254.6, 255.4, 256.0, 1e9], np.float32)
    assert backend.fed(batch).tolist() == [0, 0, 1, 255, 255, 255, 255]  # type: ignore[attr-defined]


def test_options_are_added_to_a_name_or_replaced() -> None:
    assert spec_with("onnx:a", {"mean": "0", "std": "1"}) == "onnx:a?mean=0&std=1"
    assert spec_with("timm:a@32?weights=w.pth", {"crop": "squeeze"}) == "timm:a@32?weights=w.pth&crop=squeeze"
    assert spec_with("onnx:a?mean=1&dtype=x", {"mean": "0"}) == "onnx:a?dtype=x&mean=0"


@pytest.mark.parametrize(
    ("chain", "digest"),
    [
        (Preprocessing(), "43a4baf4cc2ebe9ef4bf60cf7fbcc1b904b33c54e2079410d1a957746bf0be15"),
        (AS_IT_IS, "6cc33105a8d83e95a0660f4639743786bedb0b78e134fea10960cdd722bfb0dc"),
        (
            Preprocessing("image", (224, 160), (256, 180), "bicubic", (0.5,) * 3, (0.5,) * 3, "int8", "pillow-draft"),
            "e4bd7b2583808f5d23c493da14ee766cb687dfcc111edaa5534493b319ef994e",
        ),
    ],
)
def test_chains_of_earlier_versions_keep_their_hash(chain: Preprocessing, digest: str) -> None:
    """Order and layout are in the document off their default alone."""
    assert chain.hash == digest


@pytest.mark.parametrize(
    "change", [{"order": "gbr"}, {"layout": "hwc"}, {"order": "bgr", "mean": [0.5], "std": [0.5]}, {"std": [0, 1, 1]}]
)
def test_a_document_with_another_order_or_layout_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PilotfishError, match="cannot be carried out"):
        Preprocessing.from_json({**Preprocessing().to_json(), **change})
