"""Models joined by sample id: what fits, what is left out, and what must not be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import AlignmentError
from pilotfish.records import Failure, Run, align, read_table
from support.runs import records

IDS = st.lists(st.integers(0, 15).map(str), min_size=1, max_size=10, unique=True)


@given(st.data())
def test_alignment_is_a_lookup_by_id(data: st.DataObject) -> None:
    """Shuffled, partly overlapping ids; labels known to some, or to nobody."""
    truth = {str(i): i % 3 for i in range(16)}
    everyone = []
    for name in ("a", "b", "base"):
        ids = data.draw(IDS)
        label = [truth[i] if data.draw(st.booleans()) else -1 for i in ids]
        answers = data.draw(st.lists(st.integers(0, 2), min_size=len(ids), max_size=len(ids)))
        everyone.append(records(name, answers, ids=ids, label=label, outputs={"confidence": np.arange(len(ids)) / 7}))
    rows = [{i: k for k, i in enumerate(r.ids.to_pylist())} for r in everyone]
    shared = [i for i in everyone[-1].ids.to_pylist() if all(i in r for r in rows)]
    known = {i for r, row in zip(everyone, rows, strict=True) for i in shared if r.label[row[i]] >= 0}
    kept = [i for i in shared if i in known] or shared
    if not shared:
        with pytest.raises(AlignmentError, match=r"share no sample ids|no sample is in the records of all"):
            align(everyone[:2], everyone[2])
        return
    table = align(everyone[:2], everyone[2])
    assert table.ids.to_pylist() == kept
    assert table.models == ("a", "b", "base")
    assert len(table) == len(kept)
    for r, row in zip(everyone, rows, strict=True):
        assert table.outputs[r.meta.model].prediction.tolist() == [r.outputs.prediction[row[i]] for i in kept]
        assert table.outputs[r.meta.model].confidence.tolist() == [row[i] / 7 for i in kept]  # type: ignore[union-attr]
    if known:
        assert (table.reference_kind, table.reference.tolist()) == ("label", [truth[i] for i in kept])
    else:
        assert (table.reference_kind, table.reference.tolist()) == ("base", table.outputs["base"].prediction.tolist())
        assert table.quality("base").all()
    assert any("left out" in note for note in table.notes) == (len(kept) < max(len(r) for r in everyone))


def test_same_samples_in_another_order_are_the_same_samples() -> None:
    saver = records("s", [2, 1, 0], ids=["c", "b", "a"], label=[2, 1, 0])
    table = align([saver], records("b", [0, 1, 1], ids=["a", "b", "c"]))
    assert table.outputs["s"].prediction.tolist() == [0, 1, 2]
    assert table.reference.tolist() == [0, 1, 2]
    assert table.quality("b").tolist() == [True, True, False]
    assert table.notes == ()


def test_partly_overlapping_samples_are_counted() -> None:
    base = records("b", [0, 1], ids=["b", "c"])
    table = align([records("s", ids=["a", "b", "c"])], base)
    assert len(table) == 2
    rest = "these figures are of the 2 that all have, the others were left out"
    assert table.notes == (f"b has 2 samples, and others up to 3: {rest}",)
    failed = records("t", [0, 1], ids=["b", "a"], failures=(Failure("c", "unreadable"),))
    wide = records("w", ids=["a", "b", "c"])
    told = f"t has 2 of the 3 samples of w (1 could not be read or answered): {rest}"
    assert align([failed, records("s", ids=["c", "b", "a"])], wide).notes == (told,)


def test_half_labelled_samples_are_left_out_and_counted() -> None:
    table = align([records("s", label=[0, -1, -1])], records("b", [0, 1, 2], label=[-1, 1, -1]))
    assert table.reference.tolist() == [0, 1]
    assert table.reference_kind == "label"
    assert table.notes == ("1 sample without a label was left out",)


def test_the_base_alone_is_a_table() -> None:
    table = align([], records("b", label=[0, 1, 1]))
    assert table.models == ("b",)
    assert table.quality("b").tolist() == [True, True, False]


def test_read_table_names_the_base_once(tmp_path: Any) -> None:
    run = Run(tmp_path)
    for name in ("s", "b"):
        run.write(records(name))
    assert read_table(run, ["s", "b", "s"], "b").models == ("s", "b")


NAMES = ("tench", "goldfish", "shark")


@pytest.mark.parametrize(
    ("saver", "base", "message"),
    [
        ({"ids": ["x", "y", "z"]}, {}, r"s and b share no sample ids \(x, … and 0, …\)"),
        ({"label": [0, 1, 2]}, {"label": [0, 2, 1]}, "labels of s and b differ for 2 of 3 shared samples"),
        ({"split": "test"}, {}, "s was recorded on split test, b on split val"),
        ({"n_classes": 10}, {"n_classes": 3}, "s has 10 classes, b has 3; a cascade needs models of one task"),
        ({"n_classes": 3}, {"prediction": [0, 1, 57]}, "b predicts class 57, and s has 3 classes"),
        ({"prediction": [0, 9, 1]}, {"n_classes": 3}, "s predicts class 9, and b has 3 classes"),
        (
            {"class_names": NAMES},
            {"class_names": (NAMES[1], NAMES[0], NAMES[2])},
            "the class order of s and b differs: '(tench|goldfish)' is class",
        ),
        (
            {"data": {"fingerprint": "a" * 64}},
            {"data": {"fingerprint": "b" * 64}},
            "fingerprints aaaaaaaaaaaa and bbbb",
        ),
        (
            {"data": {"fingerprint": "a" * 64, "augment": 1}},
            {"data": {"fingerprint": "a" * 64, "augment": 2}},
            r"saw different data \(fingerprints a{12}\+augment:1 and a{12}\+augment:2\).* same --augment",
        ),
        (
            {"data": {"fingerprint": "a" * 64, "augment": 0}},
            {"data": {"fingerprint": "a" * 64}},
            r"a{12}\+augment:0 and a{12}\)",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(saver: dict[str, Any], base: dict[str, Any], message: str) -> None:
    with pytest.raises(AlignmentError, match=message) as caught:
        align([records("s", **saver)], records("b", **base))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (("crane", "ox", "crane"), ("crane", "ox", "crane")),  # ImageNet has the bird and the machine
        (("crane", "ox", "crane"), ("Crane", "ox", "crane")),  # names that only one of them uses say nothing
        (NAMES, None),
        (("n01440764", "n01443537", "n01484850"), NAMES),
    ],
)
def test_class_names_that_do_not_contradict_each_other(mine: tuple[str, ...], theirs: tuple[str, ...] | None) -> None:
    assert len(align([records("s", class_names=mine)], records("b", class_names=theirs))) == 3


def test_one_of_several_savers_is_named_as_the_culprit() -> None:
    with pytest.raises(AlignmentError, match=r"^odd has 4 classes"):
        align([records("fine", n_classes=3), records("odd", n_classes=4)], records("b", n_classes=3))


def test_three_models_without_a_common_sample() -> None:
    two = [records("a", [0], ids=["1"]), records("b", [0], ids=["2"])]
    with pytest.raises(AlignmentError, match="no sample is in the records of all the models"):
        align(two, records("c", [0, 0], ids=["1", "2"]))
