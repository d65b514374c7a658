"""Answers and truths of any length: records, alignment, planning and running know no task by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.cascade import load_artefact, save_artefact
from pilotfish.errors import AlignmentError, RecordsError, UsageError
from pilotfish.plan import find_chains, rank_savers, tune
from pilotfish.plan.holdout import split_rows
from pilotfish.records import Records, RecordsMeta, Run, open_run
from pilotfish.records.align import align
from pilotfish.records.parquet import read_records, write_records
from pilotfish.records.records import check, string_ids
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.single import answer_one
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import TensorSupply
from pilotfish.scores.outputs import choose_rows, join_outputs, rows_differ
from pilotfish.scores.ragged import Ragged
from tasks.spans import SPANS, Spans, TrueSpans, careful, f1, fit_least, hits, least, quick, reduce, said, texts

LISTS = st.lists(st.lists(st.integers(-5, 5), max_size=4), max_size=8)


@given(LISTS, st.data())
def test_lists_are_taken_as_lists_are(lists: list[list[int]], data: st.DataObject) -> None:
    ragged = Ragged.of([np.array(one) for one in lists], np.int64)
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10)) if lists else []
    taken = ragged[np.array(rows, np.intp)]
    found = [part.tolist() for part in np.split(taken.values, taken.offsets[1:-1])] if rows else []
    assert found == [lists[i] for i in rows]
    assert Ragged.join([ragged, ragged[::2]]) == ragged[np.r_[np.arange(len(lists)), np.arange(0, len(lists), 2)]]
    even = np.arange(len(lists)) % 2 == 0
    assert ragged[even] == ragged[::2]
    assert ragged.all_true(ragged.values > 0).tolist() == [all(v > 0 for v in one) for one in lists]


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 1, 3], []])
def test_offsets_that_do_not_fit(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="rise from 0 to 3"):
        Ragged(np.arange(3), np.array(offsets, np.int64))


def records_of(name: str, model: object, n: int = 40) -> Records:
    inputs, truth = texts(n)
    outputs = reduce(model(inputs), n, name, 1)  # type: ignore[operator]
    return Records(
        string_ids(np.arange(n)), truth, outputs, RecordsMeta(name, "val", task="spans", costs={"macs": 1.0})
    )


def test_records_come_back_from_their_file(tmp_path) -> None:
    written = records_of("quick", quick)
    write_records(written, tmp_path / "quick.val.parquet")
    found = read_records(tmp_path / "quick.val.parquet")
    assert not rows_differ(found.outputs, written.outputs).any()
    assert not rows_differ(found.label, written.label).any()
    assert found.value == written.value


def test_records_without_a_truth(tmp_path) -> None:
    written = records_of("quick", quick)
    blank = Records(written.ids, SPANS.unknown(40), written.outputs, written.meta)
    write_records(blank, tmp_path / "quick.val.parquet")
    found = read_records(tmp_path / "quick.val.parquet")
    assert not found.has_labels
    table = align([found], blank)
    assert (table.reference_kind, table.value("quick")) == ("base", 1.0)


def test_lists_of_another_length_are_refused() -> None:
    sound = records_of("quick", quick)
    with pytest.raises(RecordsError, match="equally many"):
        check(Records(sound.ids, sound.label[:39], sound.outputs, sound.meta))


def test_a_truth_that_differs_is_seen_and_one_that_lacks_is_filled() -> None:
    base, saver = records_of("careful", careful), records_of("quick", quick)
    half = TrueSpans(saver.label.start, np.arange(40) < 20)
    filled = align([saver], Records(base.ids, half, base.outputs, base.meta))
    assert len(filled) == 40
    assert not rows_differ(filled.reference, base.label).any()
    moved = TrueSpans(Ragged(saver.label.start.values + 1, saver.label.start.offsets), saver.label.known)
    with pytest.raises(AlignmentError, match="the labels of quick and careful differ"):
        align([Records(saver.ids, moved, saver.outputs, saver.meta)], base)


def test_outputs_are_joined_and_chosen_row_by_row() -> None:
    one, other = records_of("a", quick).outputs, records_of("b", careful).outputs
    both: Spans = join_outputs([one, other])
    which = np.arange(40) % 2
    chosen = choose_rows([one, other], which)
    assert not rows_differ(chosen, both.take(which * 40 + np.arange(40))).any()


def test_metrics_by_name() -> None:
    records = records_of("quick", quick)
    mean = SPANS.by_metric("text_f1")
    assert SPANS.by_metric("text_f1") is mean
    assert mean.by_metric("span_f1").metric is SPANS.metric
    assert mean.by_metric("span_f1") is SPANS
    per_text = SPANS.quality(records.outputs, records.label)
    assert mean.value(records.outputs, records.label) == pytest.approx(per_text.mean(), abs=1e-12)
    with pytest.raises(UsageError, match="text_f1"):
        SPANS.by_metric("accuracy")


def test_what_is_not_finite_is_not_usable() -> None:
    outputs = records_of("quick", quick).outputs
    first = int(np.flatnonzero(outputs.sure.counts)[0])
    sure = outputs.sure.values.copy()
    sure[outputs.sure.offsets[first]] = np.nan
    bad = Spans(outputs.start, Ragged(sure, outputs.sure.offsets), outputs.ends)
    assert np.flatnonzero(~SPANS.usable(bad)).tolist() == [first]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both models, on 400 texts."""
    run = tmp_path_factory.mktemp("spans") / "run"
    for name, model, macs in (("quick", quick, 1.0), ("careful", careful, 10.0)):
        found = records_of(name, model, 400)
        costs = replace(found.meta, costs={"macs": macs}, spec=f"python:tasks.spans:{name}")
        write_records(replace(found, meta=costs), Run(run).file(name, "val"))
    return run


def test_what_is_fitted_to_answers_is_fitted_on_the_fit_part_and_kept(recorded: Path, tmp_path: Path) -> None:
    run = open_run(recorded)
    tuned = tune(run, ["quick", "careful"], max_drop=0.03)
    parts = split_rows(400, 0.5, 0)
    table = align([run.read("quick", "val")], run.read("careful", "val"))
    for stage in tuned.artefact.stages:
        own = fit_least(table.outputs[stage.name].take(parts.fit), table.reference[parts.fit])
        assert stage.adjustment == {"least": tuple(own["least"])}
    base = least(table.outputs["careful"], {"least": np.array(tuned.artefact.stages[1].adjustment["least"])})
    held = parts.evaluation
    assert tuned.evaluation is not None
    assert tuned.evaluation.base_value == pytest.approx(f1(hits(base.take(held), table.reference[held]).sum(axis=0)))
    save_artefact(tuned.artefact, tmp_path / "c")
    assert load_artefact(tmp_path / "c").stages == tuned.artefact.stages


def test_another_metric_is_kept_by_the_cascade(recorded: Path, tmp_path: Path) -> None:
    tuned = tune(open_run(recorded), ["quick", "careful"], max_drop=0.03, metric="text_f1")
    assert tuned.calibration.metric == "text_f1"
    save_artefact(tuned.artefact, tmp_path / "c")
    assert load_artefact(tmp_path / "c").task is SPANS.by_metric("text_f1")
    ranking = rank_savers(open_run(recorded), "careful", metric="text_f1")
    assert ranking.metric == "text_f1"
    found = find_chains(open_run(recorded), "careful", max_drop=0.03, metric="text_f1")
    assert found.metric == "text_f1"


def test_chains_of_a_ratio_lose_what_they_are_said_to_lose(recorded: Path) -> None:
    """Searched to first order: a mean of F1 per text would say 1.5 points where F1 over all loses another number."""
    run = open_run(recorded)
    found = find_chains(run, "careful", max_drop=0.03, holdout=0)
    chain = next(one for one in found.search.chains if len(one.stages) == 2)
    tuned = tune(run, ["quick", "careful"], max_drop=0.03, holdout=0)
    assert chain.drop == pytest.approx(tuned.calibration.drop, abs=0.004)
    assert chain.exit_ratio == pytest.approx(tuned.calibration.exit_ratio, abs=0.05)


def test_the_engine_answers_with_objects_as_adjusted(recorded: Path, tmp_path: Path) -> None:
    tuned = tune(open_run(recorded), ["quick", "careful"], max_drop=0.03, holdout=0)
    artefact = tuned.artefact
    runners = [(Listed(quick), False), (Listed(careful), False)]
    stages = [
        EngineStage(stage.name, runner, 7, adjust=adjust)
        for stage, (runner, _), adjust in zip(artefact.stages, runners, artefact.adjusters(), strict=True)
    ]
    inputs, _ = texts(400)
    with Engine(stages, artefact.in_force) as engine:
        found = engine.run(TensorSupply([inputs, inputs]))
    expected = [
        least(reduce(model(inputs), 400, "m", 1), {"least": np.array(stage.adjustment["least"])})
        for model, stage in zip((quick, careful), artefact.stages, strict=True)
    ]
    answers = [said(outputs) for outputs in expected]
    for row in range(400):
        assert found.prediction[row].tolist() == answers[found.stage[row]][row].tolist()
    assert np.bincount(found.stage, minlength=2) / 400 == pytest.approx(artefact.calibration.exit_ratio)
    alone = answer_one(stages, artefact.in_force, lambda _: inputs[3])
    assert (alone.prediction.tolist(), alone.stage) == (found.prediction[3].tolist(), found.stage[3])


class Listed:
    """A backend of a function that returns lists."""

    name = "python"

    def __init__(self, function: Any) -> None:
        self.function = function

    def step(self, inputs: Any, carry: Any = None) -> tuple[Any, None]:
        return self.function(inputs), None
