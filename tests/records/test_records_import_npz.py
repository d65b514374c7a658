"""pilotfish import FILE.npz: every form it takes, and every file that must be refused."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish import import_predictions, open_run
from pilotfish.errors import RecordsError, UsageError
from pilotfish.records import Records, from_logits, from_probabilities, import_file
from support.errors import assert_one_line

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])


def load(tmp_path: Path, **arrays: Any) -> Records:
    np.savez(tmp_path / "made.npz", **arrays)
    return import_file(tmp_path / "made.npz", "m", costs={"macs": 5})


def refusal(path: Path) -> str:
    with pytest.raises(RecordsError) as caught:
        import_file(path, "m")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_and_logits(tmp_path: Path, dtype: type) -> None:
    probs, logits = load(tmp_path, probs=P.astype(dtype)), load(tmp_path, logits=np.log(P).astype(dtype))
    assert probs.outputs.prediction.tolist() == [0, 2, 1]
    assert np.array_equal(probs.outputs.log_odds, from_probabilities(P.astype(dtype)).log_odds)  # type: ignore[arg-type]
    assert np.array_equal(logits.outputs.log_odds, from_logits(np.log(P).astype(dtype)).log_odds)  # type: ignore[arg-type]
    assert probs.outputs.log_odds == pytest.approx(logits.outputs.log_odds, abs=0.02)
    assert (probs.meta.n_classes, probs.meta.costs, probs.meta.source) == (3, {"macs": 5.0}, "imported:made.npz")
    assert probs.ids.to_pylist() == ["0", "1", "2"]
    assert not probs.has_labels


def test_predictions_with_and_without_confidence(tmp_path: Path) -> None:
    alone = load(tmp_path, prediction=np.array([3, 1], np.uint8))
    assert alone.outputs.prediction.tolist() == [3, 1]
    assert alone.outputs.confidence is None
    sure = load(tmp_path, prediction=np.array([3.0, 1.0]), confidence=np.array([17, -2], np.float32))
    assert sure.outputs.confidence is not None
    assert sure.outputs.confidence.tolist() == [17, -2]


def test_ranked_classes(tmp_path: Path) -> None:
    found = load(tmp_path, ranked=np.array([[3, 1], [0, 2]]))
    assert found.outputs.prediction.tolist() == [3, 0]
    assert found.outputs.top_classes is not None
    assert found.outputs.top_classes.tolist() == [[3, 1], [0, 2]]


@pytest.mark.parametrize("ids", [np.array(["b", "ü"]), np.array([7, 2**62]), np.array([b"x", b"y"])])
def test_labels_and_ids(tmp_path: Path, ids: np.ndarray) -> None:
    found = load(tmp_path, prediction=np.array([0, 1]), label=np.array([1, -1], np.int8), id=ids)
    assert found.label.tolist() == [1, -1]
    assert found.ids.to_pylist() == [x.decode() if isinstance(x, bytes) else str(x) for x in ids.tolist()]


def test_import_goes_into_the_run_and_comes_back(tmp_path: Path) -> None:
    np.savez(tmp_path / "made.npz", probs=P, label=[0, 2, 2], other=np.ones(99))
    path = import_predictions(tmp_path / "made.npz", tmp_path / "run", "my/model", split="test", costs={"usd": 0.5})
    found = open_run(tmp_path / "run").read("my/model", "test")
    assert path.is_file()
    assert found.label.tolist() == [0, 2, 2]
    assert found.meta.costs == {"usd": 0.5}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": P}, "arrays x; expected one of probs, logits, prediction, ranked"),
        ({"probs": P * 3}, "not a probability vector"),
        ({"probs": P[0]}, "shape"),
        ({"probs": P[:0]}, "no rows"),
        ({"probs": P.astype(complex)}, "holds complex128"),
        ({"probs": np.array([["much", "little"]])}, "expected floating-point numbers"),
        ({"logits": P > 0.2}, "dtype bool"),
        ({"logits": np.array([[1, math.inf], [0, 1]])}, "1 row of logits is not finite, row 0"),
        ({"logits": np.array([[1, 2], [math.nan, 1]])}, "1 row of logits is not finite, row 1"),
        ({"prediction": np.array([1.5])}, "expected whole numbers"),
        ({"prediction": np.array([math.nan])}, "has 1 missing values, row 0 the first"),
        ({"prediction": np.array([1e30])}, "expected whole numbers"),
        ({"prediction": np.array([-1])}, "the prediction of row 0 is -1"),
        ({"prediction": np.array([2**64 - 1], np.uint64)}, "expected whole numbers"),
        ({"prediction": np.ones((2, 2), int)}, r"shape \(2, 2\)"),
        ({"prediction": np.array(3)}, "not an array whose first axis is the samples"),
        ({"ranked": np.array([1, 2])}, r"'ranked' has shape \(2,\)"),
        ({"ranked": np.zeros((2, 0), int)}, r"'ranked' has shape \(2, 0\)"),
        ({"ranked": np.array([[1, -2]])}, "top class of row 0 is -2"),
        ({"prediction": np.array([1, 2]), "confidence": np.array([1, math.nan])}, "confidence of row 1 is nan"),
        ({"prediction": np.array([1, 2]), "confidence": np.array([1, math.inf])}, "confidence of row 1 is inf"),
        ({"prediction": np.array([1, 2]), "confidence": np.array([1.0])}, "confidence has shape"),
        ({"prediction": np.array([1, 2]), "confidence": np.array(["x", "y"])}, "'confidence' holds text, such as 'x'"),
        ({"probs": P, "label": np.array([0, 1, -2])}, "the label of row 2 is -2"),
        ({"probs": P, "label": np.array([0, 1, 3])}, "the label of row 2 is 3, but the model has 3 classes"),
        ({"probs": P, "label": np.array([0, 1])}, "3 ids, 2 labels and 3 predictions"),
        (
            {"probs": P, "label": np.ones((3, 2), int)},
            "labels of 2 classes for probabilities of 3; expected one for each",
        ),
        ({"probs": P, "label": np.array([0, 1, 0.5])}, "'label' holds float64; expected whole numbers"),
        ({"probs": P, "id": np.array(["a", "b", "a"])}, "1 id stands more than once, a for one"),
        ({"probs": P, "id": np.array(["a", "b"])}, "2 ids, 3 labels"),
        ({"probs": P, "id": np.array([["a"]] * 3)}, "ids cannot be read as text"),
        ({"probs": P, "id": np.array([b"a", b"b", b"\xff"])}, "ids cannot be read as text"),
        ({"probs": P, "id": np.array(["a", "b", "\ud800"])}, "ids cannot be read as text"),
    ],
)
def test_arrays_that_cannot_be_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "made.npz", **arrays)
    with pytest.raises(RecordsError, match=message) as caught:
        import_file(tmp_path / "made.npz", "m")
    assert len(str(caught.value).splitlines()) == 1


class Bomb:
    fired = False

    def __reduce__(self) -> Any:
        return (setattr, (Bomb, "fired", True))


def test_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", prediction=np.array([Bomb(), None], dtype=object))
    np.savez(tmp_path / "b.npz", prediction=np.array([0]), label=np.array([Bomb()], dtype=object))
    (tmp_path / "c.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("a", "b", "c"):
        said = refusal(tmp_path / f"{name}.npz")
        assert "as Python objects (pickle), which are never loaded" in said or "is not a whole .npz file" in said
    assert not Bomb.fired


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "made.npz"
    np.savez_compressed(path, probs=np.random.default_rng(0).dirichlet([1, 1], 500))
    whole = path.read_bytes()
    for end in (0, 4, 50, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:end])
        assert "is not a whole .npz file" in refusal(path)
    for place in range(30, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            import_file(path, "m")
        except RecordsError as error:
            assert_one_line(error)


def zipped(path: Path, name: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


def test_archives_that_are_no_arrays(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 2)})
    assert "damaged: probs cannot be read" in refusal(zipped(tmp_path / "a.npz", "probs.npy", b"garbage"))
    assert "expected one of probs" in refusal(zipped(tmp_path / "b.npz", "probs", b"garbage"))
    assert "and holds 3 bytes" in refusal(zipped(tmp_path / "c.npz", "probs.npy", header.getvalue() + b"xyz"))
    np.save(tmp_path / "e.npy", P)
    (tmp_path / "e.npy").rename(tmp_path / "e.npz")
    assert "one array without a name" in refusal(tmp_path / "e.npz")


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_text("{}")
    assert "no such file" in refusal(tmp_path / "none.npz")
    assert "no such file" in refusal(tmp_path)
    assert "unknown file type .pkl" in refusal(tmp_path / "x.pkl")


@pytest.mark.parametrize("cost", [{"macs": -1.0}, {"macs": math.nan}, {"": 1.0}, {"ms": math.inf}])
def test_costs_that_cannot_be_are_refused(tmp_path: Path, cost: dict[str, float]) -> None:
    np.savez(tmp_path / "made.npz", probs=P)
    with pytest.raises(UsageError, match="a cost is a finite number of at least 0"):
        import_file(tmp_path / "made.npz", "m", costs=cost)
    with pytest.raises(UsageError, match="unknown format 'tim'; formats: auto, timm"):
        import_file(tmp_path / "made.npz", "m", format="tim")
