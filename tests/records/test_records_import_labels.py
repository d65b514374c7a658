"""Many labels per sample that other programs wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import RecordsError
from pilotfish.records import Records, Run, import_file
from support.process import command

P = np.array([[0.9, 0.8, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.2], [0.6, 0.1, 0.9]])
Y = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]])
NAMES = np.array(["cat", "dog", "emu"])


def npz(folder: Path, labels: Path | None = None, **arrays: Any) -> Records:
    np.savez(folder / "m.npz", **arrays)
    return import_file(folder / "m.npz", "m", labels=labels)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32, np.uint8])
def test_a_label_for_each_class_implies_the_task(tmp_path: Path, dtype: Any) -> None:
    found = npz(tmp_path, probs=P, label=Y.astype(dtype), classes=NAMES, id=np.array(["a", "b", "c", "d"]))
    assert found.meta.task == "labels"
    assert any("read as several labels for a sample" in note for note in found.meta.notes)
    assert (found.meta.class_names, found.meta.n_classes) == (("cat", "dog", "emu"), 3)
    assert found.label.tolist() == Y.tolist()
    assert found.outputs.probs == pytest.approx(P, abs=1e-7)
    assert found.ids.to_pylist() == ["a", "b", "c", "d"]
    assert Run(tmp_path / "run").write(found).is_file()
    again = Run(tmp_path / "run").read("m")
    assert again.label.tolist() == Y.tolist()
    assert again.value == found.value


@pytest.mark.parametrize("probs", ["softmax", "logits"])
def test_one_label_beside_probabilities_of_one_class_stays_a_class(tmp_path: Path, probs: str) -> None:
    one = np.eye(3)[[0, 1, 2, 0]]
    arrays = {"probs": P / P.sum(axis=1, keepdims=True)} if probs == "softmax" else {"logits": 9 * P - 4}
    assert npz(tmp_path, label=one, **arrays).meta.task == "classes"


def test_one_label_each_beside_sigmoids_is_labels(tmp_path: Path) -> None:
    assert npz(tmp_path, probs=P, label=np.eye(3)[[0, 1, 2, 0]]).meta.task == "labels"


def test_logits_become_probabilities(tmp_path: Path) -> None:
    found = npz(tmp_path, logits=np.log(P / (1 - P)), label=Y)
    assert found.outputs.probs == pytest.approx(P, abs=1e-6)


@pytest.mark.parametrize("blank", [-1, np.nan])
def test_rows_without_labels_are_unknown(tmp_path: Path, blank: float) -> None:
    labels = Y.astype(np.float64)
    labels[2] = blank
    found = npz(tmp_path, probs=P, label=labels)
    assert found.label[2].tolist() == [-1, -1, -1]
    assert found.task.known(found.label).tolist() == [True, True, False, True]


@pytest.mark.parametrize("labels", [{"label": np.full((4, 3), -1)}, {}])
def test_no_labels_at_all(tmp_path: Path, labels: dict[str, Any]) -> None:
    np.savez(tmp_path / "m.npz", probs=P, **labels)
    assert not import_file(tmp_path / "m.npz", "m", task="labels").has_labels


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"probs": P + 0.2}, "'probs' of row 0 is 1.1; expected probabilities, 0 to 1: if these are logits, name"),
        ({"probs": -P}, "'probs' of row 0 is -0.9"),
        ({"probs": 100 * P}, "'probs' of row 0 is 90; .* if these are percents, divide by 100"),
        ({"probs": np.where(P == 0.9, np.nan, P)}, "'probs' of row 0 holds NaN or infinity"),
        ({"probs": np.where(P == 0.7, np.inf, P)}, "'probs' of row 1 holds NaN or infinity"),
        ({"label": 2 * Y}, "'label' of row 0 is 2; expected 0 or 1 for each class"),
        ({"label": np.where(Y == 1, 0.5, 0)}, "'label' of row 0 is 0.5"),
        ({"label": np.array([[1, -1, 0], *Y[1:]])}, "'label' of row 0 is -1; expected 0 or 1 .* or -1 for all of them"),
        ({"label": Y[:, :2]}, "labels of 2 classes for probabilities of 3"),
        ({"label": Y[:3]}, r"'label' has shape \(3, 3\)"),
        ({"classes": NAMES[:2]}, "2 class names for 3 classes"),
        ({"id": np.array(["a", "b", "a", "c"])}, "1 id stands more than once"),
    ],
)
def test_arrays_that_cannot_be_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordsError, match=message) as caught:
        npz(tmp_path, **{"probs": P, "label": Y, **arrays})
    assert len(str(caught.value).splitlines()) == 1


LISTS = "id,label\n0,dog;cat\n1,dog\n2,\n3,emu;cat\n"
COLUMNS = "id,emu,cat,dog\n3,1,1,0\n1,0,0,1\n2,0,0,0\n0,0,1,1\n"


@pytest.mark.parametrize("text", [LISTS, COLUMNS, LISTS.replace(";", "|")])
def test_the_truth_of_another_file_is_joined_by_id_and_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth.csv").write_text(text)
    np.savez(tmp_path / "m.npz", probs=P, class_names=NAMES)
    found = import_file(tmp_path / "m.npz", "m", labels=tmp_path / "truth.csv", task="labels")
    assert found.label.tolist() == Y.tolist()


def test_a_truth_that_names_other_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", probs=P, class_names=NAMES)
    (tmp_path / "truth.csv").write_text(LISTS.replace("emu", "ewe"))
    with pytest.raises(RecordsError, match=r"'ewe', true in row 3, is none of the 3 classes"):
        import_file(tmp_path / "m.npz", "m", labels=tmp_path / "truth.csv", task="labels")
    (tmp_path / "truth.csv").write_text(COLUMNS.replace("3,1,1,0", "3,1,1,2"))
    with pytest.raises(RecordsError, match="'dog' of row 0 is '2', and others are 0 and 1"):
        import_file(tmp_path / "m.npz", "m", labels=tmp_path / "truth.csv", task="labels")
    (tmp_path / "truth.csv").write_text(COLUMNS.replace("3,1,1,0", "3,1,1,"))
    with pytest.raises(RecordsError, match="row 0 has no value for 'dog'"):
        import_file(tmp_path / "m.npz", "m", labels=tmp_path / "truth.csv", task="labels")


def test_a_table_with_a_column_for_each_class(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        "id,prob_cat,prob_dog,label_cat,label_dog\na,0.9,0.2,1,0\nb,0.1,0.8,1,1\nc,0.4,0.3,0,0\n"
    )
    found = import_file(tmp_path / "m.csv", "m", task="labels")
    assert found.meta.class_names == ("cat", "dog")
    assert found.label.tolist() == [[1, 0], [1, 1], [0, 0]]
    assert found.outputs.probs[:, 1] == pytest.approx([0.2, 0.8, 0.3])


def test_sigmoids_without_labels_are_told_the_task(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", probs=P)
    done = command(tmp_path, "import", "m.npz", "--run", "run", "--model", "m")
    assert done.returncode == 1
    assert "are read with --task labels" in done.stderr
    done = command(tmp_path, "import", "m.npz", "--run", "run", "--model", "m", "--task", "labels")
    assert done.returncode == 0, done.stderr
