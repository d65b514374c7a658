"""Answers and truths of any length: records, alignment, planning and running know no task by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import AlignmentError, RecordsError, UsageError
from pilotfish.records import Records, RecordsMeta
from pilotfish.records.align import align
from pilotfish.records.parquet import read_records, write_records
from pilotfish.records.records import check, string_ids
from pilotfish.scores.outputs import choose_rows, join_outputs, rows_differ
from pilotfish.scores.ragged import Ragged
from tasks.spans import SPANS, Spans, TrueSpans, careful, quick, reduce, texts

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
