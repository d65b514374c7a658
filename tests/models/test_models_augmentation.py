"""Augmented views: the same part of a picture for every model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pilotfish.models import Preprocessing
from pilotfish.models.augmentation import View, draw_view

LENGTHS = st.integers(1, 65535)


def position_image(width: int, height: int) -> Image.Image:
    """Red grows with x, green with y: a crop's colours tell where it was taken."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=2).round().astype(np.uint8))


def chain(side: int) -> Preprocessing:
    return Preprocessing(size=(side, side), resize=side + 32, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)


def seen(image: Image.Image, side: int, view: View) -> np.ndarray:
    """Fractions (left, right, top, bottom) of the image that the corners of the tensor come from."""
    red, green, _ = chain(side)(image, view)
    return np.array([red[:, 0].mean(), red[:, -1].mean(), green[0].mean(), green[-1].mean()])


@given(seed=st.integers(0, 2**63), name=st.text(max_size=20), width=LENGTHS, height=LENGTHS)
def test_a_view_is_a_part_of_the_image(seed: int, name: str, width: int, height: int) -> None:
    view = draw_view(seed, name, (width, height))
    left, top, right, bottom = view.box((width, height))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    aspect = (right - left) / (bottom - top)
    assert 3 / 4 - 1e-9 <= aspect <= 4 / 3 + 1e-9
    assert view == draw_view(seed, name, (width, height))


@pytest.mark.parametrize("name", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
def test_models_of_any_input_size_look_at_the_same_part(name: str) -> None:
    image = position_image(400, 300)
    view = draw_view(7, name, image.size)
    small, large = seen(image, 32, view), seen(image, 128, view)
    horizontal = (view.right, view.left) if view.flip else (view.left, view.right)
    np.testing.assert_allclose(small, [*horizontal, view.top, view.bottom], atol=0.03)
    np.testing.assert_allclose(large, small, atol=0.02)


def test_seeds_and_samples_have_views_of_their_own() -> None:
    size = (400, 300)
    drawn = [draw_view(seed, name, size) for seed in (0, 1, 2) for name in ("a", "b", "c")]
    assert len(set(drawn)) == 9
    assert {view.flip for view in (draw_view(0, str(i), size) for i in range(50))} == {True, False}


def test_views_have_the_areas_of_the_recipe() -> None:
    views = [draw_view(3, str(i), (300, 300)) for i in range(2000)]
    areas = np.array([(v.right - v.left) * (v.bottom - v.top) for v in views])
    assert areas.min() >= 0.08 - 1e-9
    assert areas.max() <= 1
    assert 0.45 < areas.mean() < 0.58  # uniform from 0.08 to 1 would be 0.54; large long parts do not fit


def test_without_a_size_a_view_fills_the_image_s_own() -> None:
    own = Preprocessing(size=None, resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    image = position_image(40, 30)
    assert own(image, View(0.1, 0.1, 0.6, 0.6, False)).shape == (3, 30, 40)
    whole = View(0.0, 0.0, 1.0, 1.0, True)
    assert np.array_equal(own(image, whole), own(image)[:, :, ::-1])
