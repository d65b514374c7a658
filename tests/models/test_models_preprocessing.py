"""From a sample to a tensor: what the numbers are, what is refused, and what identifies the chain."""

from __future__ import annotations

import dataclasses
import json
import resource
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.errors import ArtefactError, UnreadableSample
from pilotfish.models import Preprocessing

RNG = np.random.default_rng(0)
PLAIN = Preprocessing(size=None, resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)
GREY = Preprocessing(size=None, resize=None, mean=(0.0,), std=(1.0,))
TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
OTHER: dict[str, Any] = {
    "kind": "tensor",
    "size": (224, 225),
    "resize": 257,
    "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.407),
    "std": (0.229, 0.224, 0.226),
    "dtype": "float16",
    "decoder": "another",
    "backend": "openvino",
    "order": "bgr",
    "layout": "nhwc",
    "resizer": "torchvision",
    "processor": "{}",
}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Preprocessing)])
def test_the_hash_changes_with_every_field(field: str) -> None:
    other = dataclasses.replace(Preprocessing(), **{field: OTHER[field]})
    assert other.hash != Preprocessing().hash


@pytest.mark.parametrize("chain", [Preprocessing(), PLAIN, GREY, TENSOR, Preprocessing(size=(8, 9), resize=None)])
def test_json_gives_the_same_chain_back(chain: Preprocessing) -> None:
    again = Preprocessing.from_json(json.loads(json.dumps(chain.to_json())))
    assert again == chain
    assert again.hash == chain.hash


@pytest.mark.parametrize(
    "change",
    [
        {"gamma": 2},
        {"kind": "sound"},
        {"interpolation": "magic"},
        {"mean": [0.5, 0.5]},
        {"std": [0.5]},
        {"size": [224]},
        {"size": [0, 224]},
        {"size": ["a", "b"]},
        {"resize": -1},
        {"resize": "large"},
        {"mean": 0.5},
    ],
)
def test_a_chain_that_cannot_be_carried_out_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError, match="preprocessing"):
        Preprocessing.from_json({**Preprocessing().to_json(), **change})


def test_pixels_are_scaled_and_normalised_per_channel() -> None:
    chain = Preprocessing(size=None, resize=None, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    pixels = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = (pixels.transpose(2, 0, 1) / 255 - np.array(chain.mean)[:, None, None]) / np.array(chain.std)[
        :, None, None
    ]
    found = chain(Image.fromarray(pixels))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_grey_network_sees_luma_and_a_colour_network_sees_three_equal_planes() -> None:
    colours = Image.fromarray(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    np.testing.assert_allclose(GREY(colours), np.asarray(colours.convert("L"))[None] / 255, atol=1e-6)
    grey = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
    assert np.array_equal(PLAIN(grey), np.repeat(GREY(grey), 3, axis=0))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (8, 6, 3)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_an_array_of_the_right_size_gives_what_its_image_gives(
    shape: tuple[int, ...], channels: int, order: str
) -> None:
    chain = Preprocessing(size=(8, 8), resize=None, mean=(0.3,) * channels, std=(0.35,) * channels, order=order)
    array = RNG.integers(0, 256, shape, np.uint8)
    before = array.copy()
    np.testing.assert_array_equal(chain(array), chain(Image.fromarray(array)))
    np.testing.assert_array_equal(array, before)


def test_arrays_are_images_with_or_without_a_channel_axis() -> None:
    grey = RNG.integers(0, 256, (8, 9), dtype=np.uint8)
    assert np.array_equal(GREY(grey), GREY(grey[..., None]))
    assert GREY(grey).shape == (1, 8, 9)
    colours = RNG.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    assert np.array_equal(PLAIN(colours), PLAIN(Image.fromarray(colours)))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8), np.int64),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8,), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_other_arrays_are_no_images(array: np.ndarray) -> None:
    with pytest.raises(UnreadableSample, match="is not an image; expected uint8"):
        Preprocessing()(array)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8, bool])
def test_a_tensor_is_taken_as_it_is(dtype: Any) -> None:
    array = RNG.integers(0, 2, (3, 5)).astype(dtype)
    found = TENSOR(array)
    assert found.dtype == np.float32
    assert np.array_equal(found, array.astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_tensor_with_what_float32_cannot_hold_is_an_unreadable_sample(value: float) -> None:
    array = np.zeros((2, 3))
    array[1, 2] = value
    with pytest.raises(UnreadableSample, match="NaN or infinities"):
        TENSOR(array)


def test_denormals_are_numbers() -> None:
    array = np.full((2, 2), np.float32(1e-42))
    assert np.array_equal(TENSOR(array), array)


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None])], ids=lambda a: str(a.dtype))
def test_a_tensor_that_holds_no_real_numbers_is_refused(array: np.ndarray) -> None:
    with pytest.raises(UnreadableSample, match="expected numbers"):
        TENSOR(array)


@pytest.mark.parametrize("size", [(1, 1), (1, 65535), (65535, 1), (2, 40000)])
@pytest.mark.parametrize("resize", [256, None])
def test_extreme_images_cost_no_memory(size: tuple[int, int], resize: int | None) -> None:
    """1 x 65535 resized to a shorter side of 256 would be an image of 12 GB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    colour = (10, 200, 90)
    chain = dataclasses.replace(Preprocessing(), resize=resize)
    found = chain(Image.new("RGB", size, colour))
    assert found.shape == (3, 224, 224)
    expected = (np.array(colour) / 255 - chain.mean) / chain.std
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None, None], found.shape), atol=1e-5)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
