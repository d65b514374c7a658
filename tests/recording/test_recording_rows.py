"""The rows of a recording against a plain loop over the same model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import Dataset, load_data
from pilotfish.errors import PilotfishError, UsageError
from pilotfish.models import Model, Preprocessing
from pilotfish.models.augmentation import draw_view
from pilotfish.recording import RecordOptions, record, record_model
from pilotfish.records import Records, Run, from_logits
from pilotfish.records.parquet import record_columns
from pilotfish.scores import score
from pilotfish.tasks import CLASSES

RNG = np.random.default_rng(0)
ALL = record_columns(CLASSES, everything=True)
Arrays = Callable[..., Dataset]
MatrixModel = Callable[..., Model]


def recorded(data: Dataset, model: Model, folder: Path, **options: object) -> Records:
    run = Run(folder)
    record_model(data, model, run, "m", RecordOptions(timing=False, **options))
    return run.read("m", columns=ALL)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200])
@pytest.mark.parametrize("workers", [1, 3])
def test_rows_equal_a_plain_loop_over_the_same_batches(
    arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path, batch_size: int, workers: int
) -> None:
    x = RNG.standard_normal((100, 6)).astype(np.float32)
    labels = RNG.integers(-1, 20, 100)
    weights = RNG.standard_normal((6, 20)).astype(np.float32)
    data, model = arrays(x=x, label=labels), matrix_model(weights, n_classes=20)
    found = recorded(data, model, tmp_path / "run", batch_size=batch_size, workers=workers)
    logits = np.concatenate([x[i : i + batch_size] @ weights for i in range(0, 100, batch_size)])
    expected = from_logits(logits, top_k=10, keep_all=True)
    assert found.ids.to_pylist() == [str(i) for i in range(100)]
    assert np.array_equal(found.label, labels)
    for column in ("prediction", "log_odds", "log_sum_exp", "top_classes", "top_logits", "logits"):
        assert np.array_equal(getattr(found.outputs, column), getattr(expected, column)), column
    assert np.array_equal(score("max_prob", found.outputs).values, score("max_prob", expected).values)


@pytest.mark.parametrize(
    ("store", "classes", "kept", "whole"),
    [
        (None, 128, 10, True),
        (None, 129, 10, False),
        ("full", 300, 10, True),
        ("top3", 20, 3, False),
        ("top50", 20, 20, False),
    ],
)
def test_what_is_kept_of_the_logits(
    arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path, store: str | None, classes: int, kept: int, whole: bool
) -> None:
    data = arrays(x=RNG.standard_normal((9, 4)).astype(np.float32))
    model = matrix_model(RNG.standard_normal((4, classes)).astype(np.float32))
    outputs = recorded(data, model, tmp_path / "run", store=store).outputs
    assert outputs.top_classes is not None
    assert outputs.top_classes.shape == (9, kept)
    assert (outputs.logits is not None) == whole
    assert outputs.log_odds is not None
    assert outputs.log_odds.dtype == np.float64


def test_metadata_say_what_was_recorded(arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path) -> None:
    data = arrays(x=np.zeros((5, 4), np.float32), label=np.arange(5), class_names=list("abcde"))
    model = matrix_model(np.eye(4, 5, dtype=np.float32), weights_hash="abc", n_classes=5)
    run = Run(tmp_path / "run")
    result = record_model(data, model, run, "a/b: c", RecordOptions(split="test", batch_size=2))
    meta = run.read("a/b: c", "test").meta
    assert result.path.name == "a%2Fb%3A%20c.test.parquet"
    assert (meta.model, meta.split, meta.spec, meta.weights_hash) == ("a/b: c", "test", "matrix", "abc")
    assert (meta.n_classes, meta.class_names, meta.store) == (5, tuple("abcde"), "auto")
    assert meta.preprocessing_hash == model.preprocessing.hash == Preprocessing.from_json(meta.preprocessing).hash
    assert meta.data["fingerprint"] == data.fingerprint
    assert (meta.data["spec"], meta.data["n"], meta.data["batch_size"]) == (data.spec, 5, 2)
    assert {"python", "pilotfish", "numpy", "pillow"} <= meta.versions.keys()
    assert meta.costs["ms"] == min(ms for key, ms in meta.costs.items() if key.startswith("ms@cpu-b")) > 0
    assert meta.timing["unit"] == "milliseconds per sample"
    assert (result.n, result.started, result.skipped, result.failures) == (5, 0, False, ())
    assert not list(tmp_path.rglob("*.parts"))


def test_costs_that_cannot_be_counted_are_a_note(arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path) -> None:
    def count() -> None:
        raise PilotfishError("no formula for this")

    data = arrays(x=np.zeros((3, 4), np.float32))
    model = matrix_model(np.eye(4, 5, dtype=np.float32), count=count)
    meta = recorded(data, model, tmp_path / "run").meta
    assert meta.costs == {}
    assert meta.timing["notes"] == ["no formula for this"]


def test_progress_counts_samples(arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    data, model = arrays(x=np.zeros((5, 4), np.float32)), matrix_model(np.eye(4, 5, dtype=np.float32))
    options = RecordOptions(timing=False, batch_size=2)
    record_model(data, model, Run(tmp_path / "run"), "m", options, lambda *call: calls.append(call))
    assert calls == [("m", 0, 5), ("m", 2, 5), ("m", 4, 5), ("m", 5, 5)]


def test_augmented_views_are_those_of_the_recipe_for_every_model(matrix_model: MatrixModel, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(6):
        pixels = RNG.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    data = load_data(f"folder:{tmp_path / 'photos'}")
    for side in (4, 8):
        chain = Preprocessing(size=(side, side), resize=side, mean=(0.0,) * 3, std=(1.0,) * 3)
        weights = RNG.standard_normal((3 * side * side, 5)).astype(np.float32)
        run = tmp_path / f"run{side}"
        found = recorded(data, matrix_model(weights, chain), run, augment=11, batch_size=6)
        inputs = [chain(data.read(i), draw_view(11, data.ids[i], data.read(i).size)) for i in range(6)]
        assert np.array_equal(found.outputs.logits, np.stack(inputs).reshape(6, -1) @ weights)
        assert found.meta.data["augment"] == 11
        assert str(found.meta.fingerprint).endswith("+augment:11")
    arrays_model = matrix_model(np.eye(4, 5, dtype=np.float32))
    with pytest.raises(UsageError, match="--augment cuts views out of images"):
        recorded(data, arrays_model, tmp_path / "run", augment=11)


@pytest.mark.parametrize(
    ("models", "alias", "options", "said"),
    [
        ([], None, {}, "no model was named"),
        (["python:a:b", "python:a:b"], None, {}, "a model is named twice"),
        (["python:a:b", "python:a:c"], "x", {}, "--as names one model's records, but 2 models were given"),
        (["python:a:b"], None, {"store": "top0"}, "store is full or topK"),
        (["python:a:b"], None, {"store": "half"}, "store is full or topK"),
        (["python:a:b"], None, {"batch_size": 0}, "batch size must be from 1 to 65536, found 0"),
        (["python:a:b"], None, {"workers": 10**6}, "workers must be from 1 to 65536"),
    ],
)
def test_settings_that_make_no_sense(
    models: list[str], alias: str | None, options: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        record("digits", models, tmp_path / "run", alias=alias, options=RecordOptions(**options))
    assert not (tmp_path / "run").exists()
