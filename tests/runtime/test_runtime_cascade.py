"""A loaded cascade: what it answers, what it refuses to load, and moving along its frontier."""

from __future__ import annotations

import dataclasses
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pilotfish.cascade import OperatingPoint, load_artefact, save_artefact
from pilotfish.errors import ArtefactError, BudgetError, DataError, ModelError, UsageError
from pilotfish.plan import tune
from pilotfish.records import Run, import_file
from pilotfish.runtime import Cascade
from pilotfish.runtime.choice import best_batch
from pilotfish.scores import score

if TYPE_CHECKING:
    from conftest import Pair


def test_answers_are_those_that_planning_counted_on(pair: Pair) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    saver, base = (pair.run.read(name).outputs for name in pair.stages)
    scores = score("max_prob", saver).values
    threshold = cascade.artefact.operating_point.thresholds[0]
    assert np.abs(scores - threshold).min() == 0  # a threshold is a sample's own score
    planned = np.where(scores >= threshold, 0, 1)
    answers = cascade.predict(pair.data)
    decided = np.abs(scores - threshold) > 1e-5  # batches differ, and with them the last bits of a product
    for i in np.flatnonzero(decided):
        stage = int(planned[i])
        assert (answers[i].stage, answers[i].input, answers[i].error) == (stage, str(i), None)
        assert answers[i].prediction == (saver, base)[stage].prediction[i]
        assert answers[i].name == ("ant", "bee", "cat", "dog", "eel")[answers[i].prediction]
        assert 0 < answers[i].confidence <= 1
    assert 0 < pair.tuning.calibration.exit_ratio[0] < 1


def test_files_arrays_and_data_sets_have_the_same_answers(pair: Pair, photos: list[Path]) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    by_file = cascade.predict(photos)
    assert [a.input for a in by_file] == [str(p) for p in photos]
    for other in (
        cascade.predict(pair.images[:20]),
        cascade.predict([photos[0].parent]),
        cascade.predict([str(p) for p in photos], workers=1),
        cascade.predict(pair.data)[:20],
    ):
        assert [(a.prediction, a.stage) for a in other] == [(a.prediction, a.stage) for a in by_file]
        assert [a.confidence for a in other] == pytest.approx([a.confidence for a in by_file], abs=1e-5)


def test_order_and_identity_hold_for_any_order_of_inputs(pair: Pair, photos: list[Path]) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    found = {a.input: (a.prediction, a.stage) for a in cascade.predict(photos)}
    shuffled = [photos[i] for i in np.random.default_rng(0).permutation(20)]
    again = cascade.predict([*shuffled, *shuffled])
    assert [(a.input, (a.prediction, a.stage)) for a in again] == [
        (str(p), found[str(p)]) for p in (*shuffled, *shuffled)
    ]


def test_a_broken_input_has_an_error_of_its_own(pair: Pair, photos: list[Path]) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    expected = cascade.predict(photos)
    broken = pair.folder / "broken.png"
    broken.write_bytes(photos[0].read_bytes()[:60])
    answers = cascade.predict([broken, *photos[:10], pair.folder / "gone.png", *photos[10:], broken])
    errors = [answers.pop(21 + 1), answers.pop(11), answers.pop(0)]
    assert answers == expected
    for answer in errors:
        assert answer.error is not None
        assert (answer.prediction, answer.name, answer.confidence, answer.stage) == (None, None, None, None)
    assert "there is no such file" in str(errors[1].error)
    floats = cascade.predict(pair.images[:2].astype(np.float32))
    assert all("is not an image; expected uint8" in str(a.error) for a in floats)


@pytest.mark.parametrize(
    ("inputs", "error", "said"),
    [
        (np.zeros(3), UsageError, r"has its samples along the first axis; found shape \(3,\)"),
        (np.zeros(()), UsageError, r"has its samples along the first axis; found shape \(\)"),
        (5, UsageError, r"takes a path, bytes, an image or an array, or a list of them; found int"),
        ({"a": 1}, UsageError, r"or a list of them; found dict"),
        (iter(["a.jpg"]), UsageError, r"found list_iterator \(for inputs that arrive one by one, use stream\)"),
        (
            np.zeros((3, 9, 9), np.uint8),
            UsageError,
            r"image with its channels first or 3 grey ones; .*\(1, 2, 0\)",
        ),
        (np.zeros((7, 9, 4), np.uint8), UsageError, r"one image with transparency or 7 grey ones; write .*:3\]"),
    ],
)
def test_inputs_that_are_none(pair: Pair, inputs: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Cascade.load(pair.cascade, allow_python=pair.allowed).predict(inputs)


def test_a_folder_without_images_is_an_error(pair: Pair) -> None:
    (pair.folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no images"):
        Cascade.load(pair.cascade, allow_python=pair.allowed).predict([pair.folder / "empty"])


def test_no_inputs_have_no_answers(pair: Pair) -> None:
    assert Cascade.load(pair.cascade, allow_python=pair.allowed).predict([]) == []


def test_other_weights_and_other_preprocessing_are_refused(pair: Pair) -> None:
    pair.module.saver.weights_hash = "x" * 64
    with pytest.raises(ArtefactError, match=r"thresholds were made for weights ssssssssssss, python:.*:saver has xxxx"):
        Cascade.load(pair.cascade, allow_python=pair.allowed)
    pair.module.saver.weights_hash = "s" * 64
    assert Cascade.load(pair.cascade, allow_python=pair.allowed)
    chain = pair.module.base.preprocessing
    pair.module.base.preprocessing = dataclasses.replace(chain, interpolation="bilinear", mean=(0.4,) * 3)
    with pytest.raises(ArtefactError, match=r"made for other preprocessing \(interpolation, mean differ\)"):
        Cascade.load(pair.cascade, allow_python=pair.allowed)


def test_a_model_that_is_gone_is_named(pair: Pair) -> None:
    del pair.module.base
    with pytest.raises(ModelError, match="has no 'base'"):
        Cascade.load(pair.cascade, allow_python=pair.allowed)


def test_imported_predictions_plan_and_do_not_run(pair: Pair) -> None:
    records = pair.run.read(pair.stages[1])
    ids = records.ids.to_numpy(zero_copy_only=False).astype(str)
    np.savez(pair.folder / "api.npz", prediction=records.outputs.prediction, label=records.label, id=ids)
    run = Run(pair.run.path)
    run.write(import_file(pair.folder / "api.npz", "somebody's API"))
    folder = tune(run, (pair.stages[0], "somebody's API"), max_drop=0.05).save(pair.folder / "imported")
    with pytest.raises(ArtefactError, match="stage somebody's API was planned from imported predictions"):
        Cascade.load(folder, allow_python=pair.allowed)


def test_the_operating_point_moves_along_the_frontier(pair: Pair) -> None:
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)
    tuned = cascade.artefact
    with pytest.raises(BudgetError, match="the best accuracy that can be reached is"):
        cascade.set_operating_point(min_accuracy=1.0)
    with pytest.raises(UsageError, match="exactly one of"):
        cascade.set_operating_point()
    assert cascade.artefact is tuned  # what failed changed nothing
    ratios = []
    for too_large in (1, 0.5, "2"):  # read as fractions, and meant as percent
        with pytest.raises(UsageError, match="is read as a fraction"):
            cascade.set_operating_point(max_drop=too_large)
    for max_drop in (0.0, "2%", 0.05, "20%", "100%"):
        cascade.set_operating_point(max_drop=max_drop)
        ratios.append(np.mean([a.stage == 0 for a in cascade.predict(pair.data)]))
    assert ratios == sorted(ratios)
    assert ratios[-1] == 1.0
    assert ratios[0] < ratios[2]
    cascade.set_operating_point(max_drop=0.02)
    assert cascade.artefact.operating_point == tuned.operating_point
    assert cascade.thresholds == tuned.shown_thresholds


@pytest.mark.parametrize("workers", [0, -1, -8])
def test_an_engine_needs_somebody_to_read(pair: Pair, workers: int) -> None:
    with pytest.raises(UsageError, match=f"1 or more; found {workers}"):
        Cascade.load(pair.cascade, allow_python=pair.allowed).engine(workers=workers)


def test_a_run_in_progress_keeps_the_point_it_began_with(pair: Pair) -> None:
    everybody = dataclasses.replace(pair.tuning.artefact, operating_point=OperatingPoint((-math.inf,)))
    cascade = Cascade.load(save_artefact(everybody, pair.folder / "everybody"), allow_python=pair.allowed)
    begun, moved, found = threading.Event(), threading.Event(), []

    class Watched:
        """The data, which waits at sample 20 until the operating point has moved."""

        ids, __len__ = pair.data.ids, pair.data.__len__

        def read(self, i: int) -> Any:
            if i == 20:
                begun.set()
                assert moved.wait(60)
            return pair.data.read(i)

    worker = threading.Thread(target=lambda: found.extend(cascade.predict(Watched())))  # type: ignore[arg-type]
    worker.start()
    assert begun.wait(60)
    cascade.artefact = dataclasses.replace(everybody, operating_point=OperatingPoint((math.inf,)))
    moved.set()
    worker.join(60)
    assert [a.stage for a in found] == [0] * 300
    assert [a.stage for a in cascade.predict(pair.data)] == [1] * 300


def test_the_batch_size_is_the_fastest_recorded(pair: Pair) -> None:
    stage = load_artefact(pair.cascade).stages[0]
    assert best_batch(stage) == 8
    timed = {"ms": 1.0, "ms@cpu-b4": 2.0, "ms@cpu-b16": 1.0, "ms@cpu-b64": 1.5, "ms@cpu": 0.1}
    assert best_batch(dataclasses.replace(stage, costs=timed)) == 16
