"""From raw answers of segmentation networks to masks and scores, beside plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from pilotfish.tasks import mask_scores as scores

RNG = np.random.default_rng(0)


def logits(n: int = 3, classes: int = 5, height: int = 20, width: int = 33) -> np.ndarray:
    return (3 * RNG.standard_normal((n, classes, height, width))).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 21, 255, 256, 300])
def test_peaks_are_argmax_and_max(classes: int) -> None:
    raw = logits(2, classes, 5, 7).round()  # with ties
    label, best = scores.peaks(raw)
    assert (label == raw.argmax(axis=1)).all()
    assert (best == raw.max(axis=1)).all()


@pytest.mark.parametrize("is_soft", [False, True])
def test_doubt_is_what_the_largest_softmax_leaves(is_soft: bool) -> None:
    raw = logits()
    p = softmax(raw.astype(float), axis=1)
    given = p.astype(np.float32) if is_soft else raw
    assert scores.are_probabilities(given).tolist() == [is_soft] * 3
    label, best = scores.peaks(given)
    doubt = scores.doubts(given, label, best, scores.are_probabilities(given))
    assert np.allclose(doubt, 1 - p.max(axis=1), rtol=1e-4, atol=1e-7)


def test_scores_of_certain_images_do_not_tie() -> None:
    raw = np.zeros((3, 4, 8, 8), np.float32)
    raw[:, 0] = np.array([20, 30, 60], np.float32)[:, None, None]  # 1 - p rounds to 0 in each
    label, best = scores.peaks(raw)
    odds = scores.log_odds(scores.mean_doubt(scores.doubts(raw, label, best, np.zeros(3, bool))))
    assert np.allclose(odds, np.array([20, 30, 60]) - np.log(3), atol=1e-3)


def test_the_grid_is_the_mean_over_pieces_of_one_class() -> None:
    raw = logits(2, 3, 24, 40)
    label, best = scores.peaks(raw)
    doubt = scores.doubts(raw, label, best, np.zeros(2, bool))
    found = scores.grid_doubt(doubt, label)
    for i in range(2):
        pieces = [
            part[mask].mean()
            for rows in range(8)
            for columns in range(8)
            for c in range(3)
            for place in [np.s_[rows * 3 : rows * 3 + 3, columns * 5 : columns * 5 + 5]]
            for part, mask in [(doubt[i][place].astype(float), label[i][place] == c)]
            if mask.any()
        ]
        assert found[i] == pytest.approx(np.mean(pieces))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (63, 64), (65, 200), (513, 7)])
def test_points_are_few_and_inside(shape: tuple[int, int]) -> None:
    points = scores.at_points(np.arange(shape[0] * shape[1]).reshape(1, *shape))
    assert all(1 <= found <= 64 for found in points.shape[1:])
    assert points.shape[1:] == shape or max(shape) > 64
    label = np.zeros(points.shape, np.uint8)
    doubt = np.full(points.shape, 0.25, np.float32)
    assert scores.grid_doubt(doubt, label) == pytest.approx(0.25)
    assert np.isfinite(scores.features(doubt, label, 2)).all()


def test_superpixels_weigh_regions_and_not_pixels() -> None:
    pytest.importorskip("skimage")
    image = np.zeros((40, 40, 3), np.float32)
    image[:20] = 1.0
    doubt = np.where(image[..., 0] > 0, 0.5, 0.1).astype(np.float32)
    assert scores.slic_doubt(doubt, image) == pytest.approx(0.3, abs=0.05)
