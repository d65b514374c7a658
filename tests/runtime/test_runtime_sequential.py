"""One model in memory at a time: the engine's answers, whatever the rule, also after a kill."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pilotfish.cascade import load_artefact
from pilotfish.errors import ArtefactError
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.runtime import Cascade, predict_sequentially, sequential

if TYPE_CHECKING:
    from conftest import Pair

OPTIONS = RecordOptions(timing=False, batch_size=16, workers=1)


def answers(found: list[Any]) -> list[tuple[Any, ...]]:
    return [(a.input, a.prediction, a.stage, a.error) for a in found]


@pytest.mark.parametrize("method", ["sweep", "ensemble", "average", "agreement", "patience"])
def test_the_answers_are_those_of_the_engine(method: str, pair: Pair) -> None:
    third = f"python:{pair.module.__name__}:third"
    pair.module.third = lambda batch: pair.module.saver(batch) * 0.5 + pair.module.base(batch) * 0.5  # type: ignore[attr-defined]
    pair.module.third.preprocessing = pair.module.base.preprocessing
    pair.module.third.weights_hash = "t" * 64
    record(pair.data, third, pair.run, options=OPTIONS)
    stages = [pair.stages[0], third, pair.stages[1]]
    folder = tune(pair.run, stages, max_drop=0.2, holdout=0, method=method).save(pair.folder / method)
    cascade = Cascade.load(folder, allow_python=pair.allowed)
    for one, other in zip(
        predict_sequentially(folder, pair.data, allow_python=pair.allowed), cascade.predict(pair.data), strict=True
    ):
        if one.stage == other.stage:
            assert (one.input, one.prediction, one.error) == (other.input, other.prediction, None)
            assert one.confidence == pytest.approx(other.confidence)
        else:  # other batch sizes, other last bits: only at the threshold itself
            first = min(one, other, key=lambda a: a.stage or 0)
            assert first.confidence == pytest.approx(cascade.thresholds[first.stage or 0], abs=5e-4)


def test_one_model_is_held_at_a_time(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[Any] = []
    loaded: list[str] = []
    load = sequential.load_stage

    def watched(stage: Any, *arguments: Any) -> Any:
        gc.collect()
        assert [w() for w in alive if w() is not None] == []
        model = load(stage, *arguments)
        loaded.append(stage.name)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(sequential, "load_stage", watched)
    predict_sequentially(pair.cascade, pair.data, allow_python=pair.allowed)
    assert loaded == list(pair.stages)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_run_that_was_killed_resumes(after: int, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequential, "STRETCH", 70)
    monkeypatch.setattr(sequential, "SECONDS", 0.0)
    folder, state = pair.cascade, pair.folder / "state.npz"
    expected = answers(predict_sequentially(folder, pair.data, allow_python=pair.allowed))
    asked: list[int] = []

    def kill(what: str, done: int, of: int) -> None:
        asked.append(done)
        if len(asked) > after:
            raise Killed

    with pytest.raises(Killed):
        predict_sequentially(folder, pair.data, state=state, progress=kill, allow_python=pair.allowed)
    seen: list[int] = []
    own = pair.module.saver

    def counted(batch: np.ndarray) -> np.ndarray:
        seen.append(len(batch))
        return own(batch)  # type: ignore[no-any-return]

    counted.preprocessing, counted.weights_hash = own.preprocessing, own.weights_hash  # type: ignore[attr-defined]
    monkeypatch.setattr(pair.module, "saver", counted)
    assert answers(predict_sequentially(folder, pair.data, state=state, allow_python=pair.allowed)) == expected
    assert sum(seen) == max(0, 300 - 70 * after)  # nothing is computed twice
    assert (
        answers(predict_sequentially(folder, pair.data, state=state, allow_python=pair.allowed)) == expected
    )  # all is known


def test_a_state_of_something_else_is_refused(pair: Pair, photos: list[Path]) -> None:
    folder, state = pair.cascade, pair.folder / "state.npz"
    predict_sequentially(folder, photos, state=state, allow_python=pair.allowed)
    with pytest.raises(ArtefactError, match="is the state of another cascade, operating point or list of inputs"):
        predict_sequentially(folder, photos[:-1], state=state, allow_python=pair.allowed)
    moved = load_artefact(folder).at(max_cost="100%") if load_artefact(folder).cost_key else None
    if moved is not None and moved.operating_point != load_artefact(folder).operating_point:
        with pytest.raises(ArtefactError, match="is the state of another cascade"):
            predict_sequentially(folder, photos, artefact=moved, state=state, allow_python=pair.allowed)
    for content in (b"", b"junk", state.read_bytes()[:200]):
        state.write_bytes(content)
        with pytest.raises(ArtefactError, match="not a state that can be resumed"):
            predict_sequentially(folder, photos, state=state, allow_python=pair.allowed)


def test_broken_inputs_have_errors_of_their_own(pair: Pair, photos: list[Path]) -> None:
    photos[3].write_bytes(b"\x89PNG\r\n\x1a\n broken")
    missing = photos[0].parent / "missing.png"
    found = predict_sequentially(pair.cascade, [*photos, missing], allow_python=pair.allowed)
    assert answers(found) == answers(Cascade.load(pair.cascade, allow_python=pair.allowed).predict([*photos, missing]))
    assert [i for i, a in enumerate(found) if a.error] == [3, len(photos)]


def test_no_inputs_have_no_answers(pair: Pair) -> None:
    assert predict_sequentially(pair.cascade, [], allow_python=pair.allowed) == []
    assert Run(pair.run.path).models()
