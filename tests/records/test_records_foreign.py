"""Parquet files that another program wrote from the documentation alone, and runs they stand in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish import savers
from pilotfish.errors import RecordsError
from pilotfish.records import Records, Run, from_logits, open_run
from support.runs import records


def foreign(folder: Path, columns: dict[str, Any], name: str = "m.val.parquet") -> Records:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)
    run = open_run(folder)
    return run.read(run.models()[0])


def test_id_and_prediction_are_enough(tmp_path: Path) -> None:
    found = foreign(tmp_path, {"id": ["a", "b"], "prediction": [3, 1]})
    assert found.outputs.prediction.tolist() == [3, 1]
    assert not found.has_labels
    assert (found.meta.model, found.meta.split, found.meta.source) == ("m", "val", "external")
    assert found.meta.costs == {}


@pytest.mark.parametrize("kind", [pa.uint8(), pa.int16(), pa.int32(), pa.uint64(), pa.float32(), pa.float64()])
def test_any_width_of_number(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {
        "id": pa.array([7, 8], pa.int32()),
        "prediction": pa.array([3, 1], kind),
        "label": pa.array([3, None], kind),
    }
    found = foreign(tmp_path, columns)
    assert found.ids.to_pylist() == ["7", "8"]
    assert found.outputs.prediction.tolist() == [3, 1]
    assert found.label.tolist() == [3, -1]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([b"a", b"b"], pa.binary()),
        pa.chunked_array([["a"], ["b"]]),
    ],
)
def test_any_kind_of_text(tmp_path: Path, ids: Any) -> None:
    assert foreign(tmp_path, {"id": ids, "prediction": [0, 1]}).ids.to_pylist() == ["a", "b"]


@pytest.mark.parametrize("name", ["y_true", "truth", "Label"])
def test_columns_that_are_not_of_the_schema_are_named(tmp_path: Path, name: str) -> None:
    found = foreign(tmp_path, {"id": ["a"], "prediction": [0], name: [0]})
    assert found.meta.notes == (f"m.val.parquet: not read: {name} (the names that are read: docs/records.md)",)


def test_labels_of_null_type_are_no_labels(tmp_path: Path) -> None:
    assert not foreign(tmp_path, {"id": ["a"], "prediction": [0], "label": pa.nulls(1)}).has_labels


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2), pa.large_list(pa.float64())])
def test_log_odds_come_from_the_top_logit_and_the_log_sum_exp(tmp_path: Path, kind: pa.DataType) -> None:
    logits = np.array([[2.0, 1.0, 0.5], [0.0, 0.25, 3.0], [1.0, 1.0, 1.0]])
    outputs = from_logits(logits, top_k=2)
    assert outputs.top_logits is not None
    columns = {
        "id": [0, 1, 2],
        "prediction": outputs.prediction,
        "top_logit": pa.array(outputs.top_logits.tolist(), kind),
        "log_sum_exp": outputs.log_sum_exp,
    }
    found = foreign(tmp_path, columns).outputs.log_odds
    assert found == pytest.approx(outputs.log_odds, rel=1e-6, abs=1e-9)


def test_a_log_sum_exp_rounded_below_the_logit_is_confident_and_finite(tmp_path: Path) -> None:
    columns = {"id": [0, 1], "prediction": [0, 0], "top_logit": [[5.0], [5.0]], "log_sum_exp": [4.999, math.nan]}
    found = foreign(tmp_path, columns).outputs.log_odds
    assert found is not None
    assert 600 < found[0] < math.inf
    assert math.isnan(found[1])


@pytest.mark.parametrize(
    ("name", "model", "split"),
    [
        ("resnet50.val.parquet", "resnet50", "val"),
        ("resnet50-v1.5.test.parquet", "resnet50-v1.5", "test"),  # dots that were not encoded
        ("resnet50%2Ea1.val.parquet", "resnet50.a1", "val"),
        ("plain.parquet", "plain", "val"),
    ],
)
def test_what_a_run_lists_can_be_read_by_that_name(tmp_path: Path, name: str, model: str, split: str) -> None:
    found = foreign_names(tmp_path, name)
    assert found.splits() == [split]
    assert found.models(split) == [model]
    assert found.read(model, split).meta.model == model


def foreign_names(folder: Path, *names: str) -> Run:
    for name in names:
        pq.write_table(pa.table({"id": ["a"], "prediction": [0]}), folder / name)
    return open_run(folder)


def test_records_under_the_name_of_another_model_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write(records("a")).rename(run.file("b"))
    with pytest.raises(RecordsError, match="holds the records of a on split val, and is named as those of b"):
        run.read("b")
    assert run.read("a").meta.model == "a"  # as the run lists it


def test_a_saver_and_a_base_of_other_programs_are_ranked(tmp_path: Path) -> None:
    ids, label = [f"{i}.jpg" for i in range(4)], [0, 1, 2, 3]
    for name, prediction in (("saver", [0, 1, 2, 0]), ("base", label)):
        columns = {"id": ids, "prediction": prediction, "label": label, "confidence": [0.9, 0.8, 0.7, 0.6]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.val.parquet")
    found = savers(tmp_path, "base")
    assert [(s.saver, s.exit_ratio) for s in found.savers] == [("saver", 0.75)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"]}, "no column 'prediction' among id"),
        ({"prediction": [1]}, "no column 'id' among prediction"),
        ({"id": ["a", None], "prediction": [1, 2]}, "1 of 2 ids are missing"),
        ({"id": ["a", "a"], "prediction": [1, 2]}, "ids are unique"),
        ({"id": [["a"]], "prediction": [1]}, "the ids cannot be read as text"),
        ({"id": pa.array([b"\xff"]), "prediction": [1]}, "the ids cannot be read as text"),
        ({"id": ["a", "b"], "prediction": [1, None]}, "'prediction' has 1 missing values"),
        ({"id": ["a"], "prediction": [1.5]}, "'prediction': expected whole numbers"),
        ({"id": ["a"], "prediction": [math.inf]}, "'prediction': expected whole numbers"),
        ({"id": ["a"], "prediction": ["cat"]}, "'prediction': expected whole numbers"),
        ({"id": ["a"], "prediction": [True]}, "'prediction': expected whole numbers"),
        ({"id": ["a"], "prediction": [{"x": 1}]}, "'prediction': expected whole numbers"),
        ({"id": ["a"], "prediction": [[1]]}, "prediction has shape"),
        ({"id": ["a"], "prediction": [1], "label": ["cat"]}, "column 'label' holds string; expected class numbers"),
        ({"id": ["a"], "prediction": [1], "label": [[1]]}, "column 'label' holds list"),
        ({"id": ["a"], "prediction": [1], "label": [0.5]}, "'label': expected whole numbers"),
        ({"id": ["a"], "prediction": [1], "confidence": ["high"]}, "'confidence': expected numbers"),
        ({"id": ["a"], "prediction": [1], "log_odds": [[1.0]]}, "log_odds has shape"),
        ({"id": ["a", "b"], "prediction": [1, 2], "top_class": [[1], [2, 1]]}, "lists of different lengths"),
        ({"id": ["a"], "prediction": [1], "top_class": [[1, None]]}, "1 value inside its lists is missing"),
        ({"id": ["a"], "prediction": [1], "top_class": [["x"]]}, "'top_class': expected whole numbers"),
        (
            {"id": ["a"], "prediction": [1], "top_logit": [[[1.0]]], "log_sum_exp": [2.0]},
            "'top_logit': expected numbers",
        ),
        ({"id": ["a"], "prediction": [1], "top_logit": [1.0], "log_sum_exp": [2.0]}, "top_logits has shape"),
        (
            {"id": ["a"], "prediction": [1], "top_logit": pa.array([[]], pa.list_(pa.float32())), "log_sum_exp": [2.0]},
            "top_logits has shape",
        ),
    ],
)
def test_columns_that_cannot_be_are_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordsError, match=message) as caught:
        foreign(tmp_path, columns)
    assert len(str(caught.value).splitlines()) == 1


def test_a_column_that_stands_twice_is_named(tmp_path: Path) -> None:
    table = pa.Table.from_arrays(
        [pa.array(["a"]), pa.array([1]), pa.array([2])], names=["id", "prediction", "prediction"]
    )
    pq.write_table(table, tmp_path / "m.val.parquet")
    with pytest.raises(RecordsError, match=r"prediction"):
        open_run(tmp_path).read("m")
