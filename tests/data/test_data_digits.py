"""digits: the data set that is always there."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pilotfish.data import ArrayDataset, load_digits
from pilotfish.errors import DataError, MissingExtraError


@pytest.fixture(scope="module")
def splits() -> dict[str | None, ArrayDataset]:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return {split: load_digits(split) for split in (None, "train", "val")}


def test_all_digits_with_pixels_from_0_to_255(splits: dict[str | None, ArrayDataset]) -> None:
    from sklearn import datasets

    original = datasets.load_digits()
    data = splits[None]
    assert len(data) == 1797
    assert data.spec == "digits"
    assert data.ids[0] == "digits/0000"
    assert data.ids[-1] == "digits/1796"
    assert data.class_names == tuple("0123456789")
    assert data.labels is not None
    assert np.array_equal(data.labels, original.target)
    for i in (0, 17, 1796):
        assert data.read(i).dtype == np.uint8
        assert np.array_equal(data.read(i), np.rint(original.images[i] * 255 / 16))
    assert data.samples.max() == 255


def test_the_halves_are_disjoint_complete_and_stratified(splits: dict[str | None, ArrayDataset]) -> None:
    train, val, whole = splits["train"], splits["val"], splits[None]
    assert set(train.ids).isdisjoint(val.ids)
    assert set(train.ids) | set(val.ids) == set(whole.ids)
    assert (len(train), len(val)) == (899, 898)
    assert train.labels is not None
    assert val.labels is not None
    assert np.abs(np.bincount(train.labels) - np.bincount(val.labels)).max() <= 1
    assert list(train.ids) == sorted(train.ids)


def test_a_split_keeps_each_samples_pixels_and_label(splits: dict[str | None, ArrayDataset]) -> None:
    whole = splits[None]
    assert whole.labels is not None
    for split in ("train", "val"):
        half = splits[split]
        assert half.spec == f"digits:{split}"
        at = [int(name.removeprefix("digits/")) for name in half.ids]
        assert half.labels is not None
        assert np.array_equal(half.labels, whole.labels[at])
        assert np.array_equal(half.samples, whole.samples[at])


def test_the_splits_are_always_the_same(splits: dict[str | None, ArrayDataset]) -> None:
    prints = {split: data.fingerprint for split, data in splits.items()}
    assert len(set(prints.values())) == 3
    assert {split: load_digits(split).fingerprint for split in splits} == prints
    assert splits["val"].ids[:4] == ("digits/0003", "digits/0005", "digits/0006", "digits/0008")


def test_another_split_is_refused() -> None:
    with pytest.raises(DataError, match="no split 'test'; expected digits, digits:train or digits:val"):
        load_digits("test")


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn.*pip install 'pilotfish\[torch\]'"):
        load_digits()
