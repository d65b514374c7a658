"""Variations of training pictures: each by its own draw, the same from the same seed, labels in step."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from pilotfish.models import Preprocessing  # noqa: E402
from pilotfish.train import Recipe  # noqa: E402
from pilotfish.train.augment import mixed, varied  # noqa: E402
from pilotfish.train.augment import moved as varied_places  # noqa: E402

CHAIN = Preprocessing(size=(12, 12), resize=None, mean=(0.5,), std=(0.25,))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_variations_move_and_mirror_each_picture_by_itself() -> None:
    pictures = torch.arange(2 * 16, dtype=torch.float32).reshape(2, 1, 4, 4) + 1
    seen = set()
    for seed in range(60):
        moved = varied_places(pictures, 1, True, generator(seed))
        for one, of in zip(moved, pictures, strict=True):
            options = []
            padded = torch.nn.functional.pad(of, (1,) * 4)
            for dy in range(3):
                for dx in range(3):
                    cut = padded[:, dy : dy + 4, dx : dx + 4]
                    options += [cut, cut.flip(2)]
            place = [torch.equal(one, option) for option in options]
            assert any(place)
            seen.add(place.index(True))
    assert len(seen) > 12


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_labels_are_mixed_as_the_pictures_are(mixup: float, cutmix: float) -> None:
    n, recipe = 6, Recipe(mixup=mixup, cutmix=cutmix)
    pictures = torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 1, 12, 12)  # picture i is all i
    seen = set()
    for seed in range(40):
        inputs, targets = mixed(pictures, torch.arange(n), n, recipe, generator(seed))
        torch.testing.assert_close(targets.sum(1), torch.ones(n))
        own = inputs.mean(dim=(1, 2, 3))  # picture i mixed with picture n - 1 - i in the labels' proportion
        torch.testing.assert_close(own, targets @ torch.arange(n, dtype=torch.float32))
        seen.add(bool((inputs[0] == inputs[0, 0, 0, 0]).all()))
    assert (False in seen) == (cutmix > 0), "mixup changes a whole picture alike, cutmix a part of it"
    inputs, targets = mixed(pictures, torch.arange(n), n, Recipe(), generator(0))
    assert inputs is pictures
    assert targets.dtype == torch.int64


def test_auto_augment_varies_pixels_within_their_range() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(8, 1, 12, 12) * 4 - 2  # 0 to 255 before normalisation
    torch.manual_seed(1)
    first = varied(pictures, Recipe(auto_augment=True), CHAIN, generator(0))
    torch.manual_seed(1)
    again = varied(pictures, Recipe(auto_augment=True), CHAIN, generator(0))
    assert torch.equal(first, again)
    assert first.shape == pictures.shape
    assert first.min() >= -2.01
    assert first.max() <= 2.01
    assert (first - pictures).abs().amax(dim=(1, 2, 3)).max() > 0.1
