"""Answers drawn on images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.tasks.drawing import SMALLEST, draw_boxes, draw_mask, enlarged, with_caption


def grey(width: int = 40, height: int = 30) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def box(score: float, at: list[float], name: str | None = "cat") -> dict[str, Any]:
    return {"label": 3, "name": name, "score": score, "box": at}


@pytest.mark.parametrize(("size", "times"), [((40, 30), 11), ((1, 1), 320), ((400, 320), 1), ((2000, 1000), 1)])
def test_a_small_image_is_enlarged_by_a_whole_number(size: tuple[int, int], times: int) -> None:
    picture, found = enlarged(Image.new("RGB", size))
    assert found == times
    assert picture.shape == (size[1] * times, size[0] * times, 3)
    assert min(picture.shape[:2]) >= SMALLEST


def test_a_box_is_drawn_where_it_is() -> None:
    pytest.importorskip("supervision", reason="supervision is not installed")
    plain = enlarged(grey())[0]
    drawn = draw_boxes(grey(), [box(0.9, [10, 12, 20, 10], name="")])
    changed = (drawn != plain).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert abs(int(columns[0]) - 110) <= 4
    assert abs(int(columns[-1]) - 330) <= 40  # the score may stand out
    assert abs(int(rows[-1]) - 242) <= 4


@pytest.mark.parametrize("boxes", [[], [box(0.1, [1, 1, 5, 5])]])
def test_nothing_to_draw_leaves_the_image(boxes: list[dict[str, Any]]) -> None:
    assert np.array_equal(draw_boxes(grey(), boxes), enlarged(grey())[0])


@pytest.mark.parametrize(
    "at", [[-10.0, -10.0, 500.0, 500.0], [5.0, 5.0, 0.0, 0.0], [1e6, 1e6, 3.0, 3.0]], ids=["larger", "empty", "outside"]
)
def test_boxes_of_any_kind_are_drawn(at: list[float]) -> None:
    pytest.importorskip("supervision", reason="supervision is not installed")
    drawn = draw_boxes(grey(), [box(0.9, at, "naïve\x1b[31m \N{CJK UNIFIED IDEOGRAPH-5B57}")])
    assert drawn.shape == enlarged(grey())[0].shape


def test_classes_of_a_mask_are_coloured_and_the_background_is_not() -> None:
    pytest.importorskip("supervision", reason="supervision is not installed")
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 5:35] = 2
    plain, drawn = enlarged(grey())[0], draw_mask(grey(), mask, ("background", "a", "b"))
    changed = (drawn != plain).any(axis=2)
    assert changed[110:220, 55:385].all()
    assert changed.mean() < 0.5
    assert np.array_equal(draw_mask(grey(), mask * 0, ("background", "a", "b")), plain)
    assert (draw_mask(grey(), mask, ("a", "b", "c")) != plain).any(axis=2).mean() > 0.9  # there is no background


def test_a_caption_stands_below_the_image_in_as_many_lines_as_it_needs() -> None:
    picture = enlarged(grey())[0]
    short, long = with_caption(picture, "a cat"), with_caption(picture, "a cat and a dog " * 12)
    assert np.array_equal(np.asarray(short)[: len(picture)], picture)
    assert long.height > short.height > len(picture)
