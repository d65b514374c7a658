"""Preprocessing against the pipelines the models were trained with: torchvision's and timm's."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")

from torchvision import transforms  # noqa: E402
from torchvision.models import get_model_weights  # noqa: E402

from pilotfish.models import Preprocessing, load_model  # noqa: E402

load_torch = functools.partial(load_model, backend="torch")

ROUNDINGS = 2.001  # an 8-bit picture is rounded after each axis
SIZES = [(500, 375), (375, 500), (224, 224), (100, 80), (37, 211), (640, 479), (1000, 31), (256, 300), (3, 2), (1, 1)]


def noise(size: tuple[int, int]) -> Image.Image:
    """Pixels of medium contrast: no overshoot of bicubic is clipped, whichever axis is resampled first."""
    width, height = size
    return Image.fromarray(np.random.default_rng(0).integers(90, 166, (height, width, 3), dtype=np.uint8))


def grey_levels(chain: Preprocessing, found: Any, expected: Any) -> float:
    """The largest difference of two normalised tensors, in 1/255 of the scale."""
    return float((np.abs(np.asarray(found) - np.asarray(expected)) * np.array(chain.std)[:, None, None]).max() * 255)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("crop", "resize"), [(224, 256), (64, 73), (32, 32), ((48, 64), (60, 66))])
def test_resize_and_centre_crop_equal_torchvision_s(
    size: tuple[int, int], interpolation: str, crop: Any, resize: Any
) -> None:
    height, width = crop if isinstance(crop, tuple) else (crop, crop)
    chain = Preprocessing(size=(height, width), resize=resize, interpolation=interpolation)
    image = noise(size)
    reference = transforms.Compose(
        [
            transforms.Resize(resize, transforms.InterpolationMode(interpolation), antialias=True),
            transforms.CenterCrop((height, width)),
            transforms.ToTensor(),
            transforms.Normalize(chain.mean, chain.std),
        ]
    )
    assert grey_levels(chain, chain(image), reference(image)) <= ROUNDINGS


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "mobilenetv3_small_050", "tf_efficientnetv2_b3.in21k_ft_in1k"]
)
def test_timm_models_get_timm_s_own_pipeline(name: str) -> None:
    """The last one squeezes the image and crops the middle of that."""
    chain = load_torch(f"timm:{name}?weights=random").preprocessing
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    reference = timm.data.create_transform(**config, is_training=False)
    for size in SIZES[:4]:
        image = noise(size)
        assert grey_levels(chain, chain(image), reference(image)) <= ROUNDINGS


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small"])
def test_torchvision_models_get_torchvision_s_own_pipeline(name: str) -> None:
    chain = load_torch(f"torchvision:{name}?weights=random").preprocessing
    reference = get_model_weights(name)["DEFAULT"].transforms()
    for size in SIZES[:4]:
        image = noise(size)
        assert grey_levels(chain, chain(image), reference(image)) <= ROUNDINGS


def test_another_size_keeps_the_share_of_the_image_that_is_seen() -> None:
    own = load_torch("timm:test_resnet?weights=random").preprocessing
    larger = load_torch("timm:test_resnet@224?weights=random")
    assert own.size == (160, 160)
    assert larger.input_shape == (3, 224, 224)
    assert isinstance(own.resize, int)
    assert isinstance(larger.preprocessing.resize, int)
    assert larger.preprocessing.resize / 224 == pytest.approx(own.resize / 160, abs=0.01)
