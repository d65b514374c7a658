"""Models that do not repeat themselves are named; those that do are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.data import Dataset
from pilotfish.models import Model
from pilotfish.models.names.python_model import AS_IT_IS, PythonBackend
from pilotfish.models.preprocessing import draw_rows
from pilotfish.recording import RecordOptions, record_model
from pilotfish.recording.repeat import repeat_notes
from pilotfish.records import Run

RNG = np.random.default_rng(0)
WEIGHTS = 3 * RNG.standard_normal((6, 5)).astype(np.float32)
X = RNG.standard_normal((200, 6)).astype(np.float32)
Arrays = Callable[..., Dataset]


def model_that(answer: Callable[[np.ndarray], Any]) -> Model:
    return Model("odd", PythonBackend(answer, "odd"), AS_IT_IS, "w")


def dropout(batch: np.ndarray) -> np.ndarray:
    return (batch * (RNG.random(batch.shape) > 0.3)) @ WEIGHTS


def noise(batch: np.ndarray) -> np.ndarray:
    return batch @ WEIGHTS + 0.3 * RNG.standard_normal((len(batch), 5))


def counter(batch: np.ndarray) -> np.ndarray:
    counter.calls = getattr(counter, "calls", 0) + 1  # type: ignore[attr-defined]
    return batch @ WEIGHTS * counter.calls  # type: ignore[attr-defined, no-any-return]


def batch_norm(batch: np.ndarray) -> np.ndarray:
    return (batch - batch.mean(0)) / (batch.std(0) + 1e-3) @ WEIGHTS


def of_the_size(batch: np.ndarray) -> np.ndarray:
    return batch @ WEIGHTS / len(batch)


def of_the_place(batch: np.ndarray) -> np.ndarray:
    return batch @ WEIGHTS + 4 * (np.arange(len(batch))[:, None] == 0) * np.arange(5)


def of_the_neighbour(batch: np.ndarray) -> np.ndarray:
    return (batch + 0.5 * np.roll(batch, 1, axis=0)) @ WEIGHTS


@pytest.mark.parametrize("answer", [dropout, noise, counter])
def test_answers_that_change_from_run_to_run_are_named(answer: Callable[..., Any], arrays: Arrays) -> None:
    (note,) = repeat_notes(arrays(x=X), model_that(answer))
    assert note.startswith("it does not repeat itself: run twice on the same 8 samples, ")
    assert note.endswith("is dropout or batch norm in training mode? put the model in evaluation mode and record again")


@pytest.mark.parametrize("answer", [batch_norm, of_the_size, of_the_place, of_the_neighbour])
def test_answers_that_depend_on_the_batch_are_named(answer: Callable[..., Any], arrays: Arrays) -> None:
    (note,) = repeat_notes(arrays(x=X), model_that(answer))
    assert note.startswith("its answers depend on the rest of the batch: in another order and size ")


def smaller_alone(batch: np.ndarray) -> np.ndarray:
    return batch @ WEIGHTS * (0.1 if len(batch) == 1 else 1)


def other_alone(batch: np.ndarray) -> np.ndarray:
    return (batch @ WEIGHTS)[:, :: -1 if len(batch) == 1 else 1]


def fails_alone(batch: np.ndarray) -> np.ndarray:
    if len(batch) == 1:
        raise ValueError("expected more than 1 value per channel")
    return batch @ WEIGHTS


@pytest.mark.parametrize("answer", [smaller_alone, other_alone, fails_alone])
def test_answers_that_differ_for_a_sample_that_comes_alone_are_named(
    answer: Callable[..., Any], arrays: Arrays
) -> None:
    (note,) = repeat_notes(arrays(x=X), model_that(answer))
    assert "comes alone" in note


@pytest.mark.parametrize("limit", [200, 5, 1])
def test_a_callable_may_fill_the_same_buffer_again(limit: int, arrays: Arrays, tmp_path: Path) -> None:
    buffer = np.zeros((limit, 5))

    def answer(batch: np.ndarray) -> np.ndarray:
        return np.matmul(batch, WEIGHTS, out=buffer[: len(batch)])  # fails for more samples: halves are tried

    data, run = arrays(x=X), Run(tmp_path / "run")
    if limit == 200:
        assert repeat_notes(data, model_that(answer)) == ()
    record_model(data, model_that(answer), run, "m", RecordOptions(timing=False, batch_size=16))
    assert np.array_equal(run.read("m").outputs.prediction, (X @ WEIGHTS).argmax(axis=1))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("jitter", [0.0, 1e-5])
def test_models_that_repeat_themselves_are_not_named(scale: float, jitter: float, arrays: Arrays) -> None:
    def answer(batch: np.ndarray) -> np.ndarray:
        z = scale * batch @ WEIGHTS
        return z * (1 + jitter * RNG.standard_normal(z.shape))  # rounding that differs between batches

    assert repeat_notes(arrays(x=X), model_that(answer)) == ()


def test_ties_and_outputs_that_are_not_finite_are_no_alarm(arrays: Arrays) -> None:
    def answer(batch: np.ndarray) -> np.ndarray:
        z = np.zeros((len(batch), 5))
        z[:, :2] += 1e-4 * RNG.standard_normal((len(batch), 2))  # which of two equals leads is a throw of the dice
        z[batch[:, 0] > 1] = np.nan
        return z

    assert repeat_notes(arrays(x=X), model_that(answer)) == ()


def test_a_callable_is_asked_about_eight_samples_drawn_over_the_data(arrays: Arrays) -> None:
    seen: list[np.ndarray] = []

    def answer(batch: np.ndarray) -> np.ndarray:
        seen.append(batch[:, 0].copy())
        return batch @ WEIGHTS

    x = X.copy()
    x[:, 0] = np.arange(len(x))
    repeat_notes(arrays(x=x), model_that(answer))
    asked = set(np.concatenate(seen).astype(int).tolist())
    assert len(asked) == 8
    assert max(asked) > 100  # not the first batch
    assert max(map(len, seen)) == 8
    assert draw_rows(200, 8).tolist() == draw_rows(200, 8).tolist()


def test_the_note_is_kept_with_the_records(arrays: Arrays, tmp_path: Path) -> None:
    data = arrays(x=X)
    options = RecordOptions(timing=False, batch_size=16)
    result = record_model(data, model_that(batch_norm), Run(tmp_path / "run"), "m", options)
    assert any("depend on the rest of the batch" in note for note in result.to_json()["notes"])
    assert Run(tmp_path / "run").metas()[0].notes == result.notes
    again = record_model(data, model_that(batch_norm), Run(tmp_path / "run"), "m", options)
    assert again.skipped
    assert again.notes == result.notes
