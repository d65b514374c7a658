"""pilotfish import of .csv and .parquet tables, and of what timm's inference script writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish.errors import RecordsError
from pilotfish.records import Records, import_file


def csv(folder: Path, text: str | bytes, name: str = "made.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def timm(folder: Path, text: str, labels: str | None = None) -> Records:
    truth = None if labels is None else csv(folder, labels, "truth.csv")
    return import_file(csv(folder, text), "m", format="timm", labels=truth)


def confidence(records: Records) -> list[float]:
    assert records.outputs.confidence is not None
    return records.outputs.confidence.tolist()


def test_a_table_with_everything(tmp_path: Path) -> None:
    text = "id,prediction,confidence,label,remark\n007,3,0.9,3,x\n7,1,0.25,,y\n"
    columns = {"id": ["007", "7"], "prediction": [3, 1], "confidence": [0.9, 0.25], "label": [3, None]}
    pq.write_table(pa.table(columns), tmp_path / "made.parquet")
    for path in (csv(tmp_path, text), tmp_path / "made.parquet", csv(tmp_path, "\ufeff" + text, "bom.csv")):
        found = import_file(path, "m")
        assert found.ids.to_pylist() == ["007", "7"]  # ids are text, not numbers
        assert found.outputs.prediction.tolist() == [3, 1]
        assert confidence(found) == [0.9, 0.25]
        assert found.label.tolist() == [3, -1]


@pytest.mark.parametrize("text", ["id,prediction\na,1\n", "prediction,id\n1,a", 'id,prediction\r\n"a",1.0\r\n'])
def test_the_least_a_table_may_hold(tmp_path: Path, text: str) -> None:
    found = import_file(csv(tmp_path, text), "m")
    assert (found.ids.to_pylist(), found.outputs.prediction.tolist()) == (["a"], [1])
    assert found.outputs.confidence is None
    assert not found.has_labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("id,prediction\n", "no rows"),
        ("id,answer\na,1\n", "columns id, answer; expected id, prediction"),
        ("filename,index,prob\na,1,0.5\n", "timm's own files are read with --format timm"),
        ("id:prediction\na:1\n", "columns id:prediction; expected id, prediction"),
        ("id,prediction\na,1\na,2\n", "ids are unique"),
        ("id,prediction\na,-1\n", "the prediction of row 0 is -1"),
        ("id,prediction\na,1.5\n", "expected whole numbers"),
        ("id,prediction\na,cat\n,1\n", "1 id is empty, row 1 the first"),
        ("id,prediction\na,99999999999999999999\n", "expected whole numbers"),
        ("id,prediction\na,1e400\n", "expected whole numbers"),
        ("id,prediction\na,\nb,1\n", "'prediction' has 1 missing values"),
        ("id,prediction,confidence\na,1,\nb,1,0.5\n", "confidence of row 0 is nan"),
        ("id,prediction,confidence\na,1,inf\n", "confidence of row 0 is inf"),
        ("id,prediction,confidence\na,1,high\n", "'confidence' holds"),
        ("id,prediction,label\na,1,cat\n", r"'label' holds class names \('cat'\) and 'prediction' numbers"),
        ("id,prediction,label\na,1,-2\n", "the label of row 0 is -2"),
        ("id,prediction,label\na,1,0.5\n", "'label' holds double|expected whole numbers"),
        ("id,id,prediction\na,b,1\n", "column 'id' stands more than once"),
        ("id,prediction,prediction\na,1,2\n", "column 'prediction' stands more than once"),
        ("id,prediction\na,1\nb\n", "Expected 2 columns, got 1"),
        ("id,prediction\né,1\n".encode("latin1"), "invalid UTF8"),
        ("id,prediction\na,1\n".encode("utf-16"), "cannot be read|columns"),
        (b"\0\0\0\0", "columns|cannot be read"),
    ],
)
def test_tables_that_cannot_be_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(RecordsError, match=message) as caught:
        import_file(path, "m")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"PAR1", b"id,prediction\na,1\n"])
def test_a_broken_parquet_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "made.parquet").write_bytes(content)
    with pytest.raises(RecordsError, match=r"made\.parquet: cannot be read"):
        import_file(tmp_path / "made.parquet", "m")


TIMM = [
    pytest.param("filename,index,prob\na.jpg,281,0.9\nb.jpg,3,0.2\n", id="plain"),
    pytest.param("filename,label,index,prob\na.jpg,tabby cat,281,0.9\nb.jpg,dog,3,0.2\n", id="predicted names"),
    pytest.param("filename,label,index,prob\na.jpg,281,281,0.9\nb.jpg,3,3,0.2\n", id="names that look like the truth"),
    pytest.param(
        'filename,index,prob\na.jpg,[281 282],[0.9 0.05]\nb.jpg,"[3, 4]","[0.2, 0.1]"\n', id="top-k as text of lists"
    ),
    pytest.param('filename,index,prob\na.jpg,"[281\n 282]","[9.0e-01\n 5e-02]"\nb.jpg,3,+.2\n', id="lists over lines"),
    pytest.param(
        "filename,label_0,label_1,index_0,index_1,prob_0,prob_1\na.jpg,x,y,281,282,0.9,0.05\nb.jpg,x,y,3,4,0.2,0.1\n",
        id="top-k in columns",
    ),
]


@pytest.mark.parametrize("text", TIMM)
def test_what_timm_writes(tmp_path: Path, text: str) -> None:
    found = timm(tmp_path, text)
    assert found.ids.to_pylist() == ["a.jpg", "b.jpg"]
    assert found.outputs.prediction.tolist() == [281, 3]
    assert confidence(found) == [0.9, 0.2]
    assert not found.has_labels  # its label column is a prediction


@pytest.mark.parametrize("kind", [None, pa.list_, pa.large_list, lambda inner: pa.list_(inner, 2)])
def test_timm_parquet_with_numbers_or_lists(tmp_path: Path, kind: Any) -> None:
    index, prob = ([281, 3], [0.9, 0.2]) if kind is None else ([[281, 282], [3, 4]], [[0.9, 0.05], [0.2, 0.1]])
    types = (None, None) if kind is None else (kind(pa.int64()), kind(pa.float64()))
    table = pa.table({"filename": ["a", "b"], "index": pa.array(index, types[0]), "prob": pa.array(prob, types[1])})
    pq.write_table(table, tmp_path / "made.parquet")
    found = import_file(tmp_path / "made.parquet", "m", format="timm")
    assert found.outputs.prediction.tolist() == [281, 3]
    assert confidence(found) == [0.9, 0.2]


@pytest.mark.parametrize("text", ["index,logit\na.jpg,3,12.5", "index_0,index_1,logit_0,logit_1\na.jpg,3,4,12.5,1"])
def test_timm_logits_are_a_confidence_of_unknown_scale_and_that_is_said(tmp_path: Path, text: str) -> None:
    found = timm(tmp_path, f"filename,{text}\n")
    assert found.outputs.prediction.tolist() == [3]
    assert confidence(found) == [12.5]
    assert "kept as a confidence of unknown scale" in found.meta.notes[0]


@pytest.mark.parametrize(
    "labels",
    [
        "filename,label\na.jpg,281\nb.jpg,4\n",
        "id,label,name\nb.jpg,4,dog\na.jpg,281,cat\nc.jpg,9,fox\n",
        "file,label\nval/n01/a.jpg,281\nval/n02/b.jpg,4\n",  # timm writes base names
    ],
)
def test_the_truth_comes_from_a_file_of_labels(tmp_path: Path, labels: str) -> None:
    assert timm(tmp_path, "filename,index,prob\na.jpg,281,0.9\nb.jpg,3,0.2\n", labels).label.tolist() == [281, 4]


def test_samples_without_a_label_have_none(tmp_path: Path) -> None:
    assert timm(tmp_path, "filename,index,prob\na.jpg,1,0.9\nb.jpg,3,0.2\n", "id,label\nb.jpg,4\n").label.tolist() == [
        -1,
        4,
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("filename,label\nx.jpg,1\n", r"names none of the 2 samples \(a\.jpg, …\); its ids are x\.jpg"),
        ("filename,label\nv/a.jpg,1\nw/a.jpg,2\n", "names none of the 2 samples"),  # base names would be ambiguous
        ("filename,label\na.jpg,1\na.jpg,2\n", "1 id stands more than once in column 'filename'"),
        ("filename,label\na.jpg,cat\n", "'label' holds class names"),
        ("filename,label\na.jpg,-3\n", "the label of row 0 is -3"),
        ("filename,answer\na.jpg,1\n", r"columns filename, answer; expected id \(or filename, file\) and label"),
        ("label\n1\n", "expected id"),
        ("", "cannot be read"),
    ],
)
def test_labels_that_cannot_be_are_named(tmp_path: Path, labels: str, message: str) -> None:
    with pytest.raises(RecordsError, match=message):
        timm(tmp_path, "filename,index,prob\na.jpg,281,0.9\nb.jpg,3,0.2\n", labels)
    with pytest.raises(RecordsError, match="no such file; --labels takes"):
        import_file(tmp_path / "made.csv", "m", format="timm", labels=tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,label,prob\na,cat,0.5\n", "timm's inference script writes with --include-index"),
        ("index,prob\n1,0.5\n", "expected filename, index and prob"),
        ("filename,index,prob\na,[],[]\n", r"column 'index' of row 0 does not begin with a number: '\[\]'"),
        ("filename,index,prob\na,...,0.5\n", "does not begin with a number"),
        ("filename,index,prob\na,281,[nan 0.5]\n", "confidence of row 0 is nan"),
        ("filename,index,prob\na,281,high\n", "column 'prob' of row 0 does not begin with a number: 'high'"),
        ("filename,index,prob\na,1.5,0.5\n", "expected whole numbers"),
        ("filename,index,prob\na,1,0.5\na,2,0.5\n", "ids are unique"),
        ("filename,index,prob\na,,0.5\nb,1,0.5\n", "missing values"),
    ],
)
def test_timm_files_that_cannot_be_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecordsError, match=message) as caught:
        timm(tmp_path, text)
    assert len(str(caught.value).splitlines()) == 1


ROWS = "id;label;prediction;confidence\n0;1;1;0,5\n1;0;1;0,25\n"


@pytest.mark.parametrize("text", [f"sep=;\n{ROWS}", f'\ufeff"sep=;"\r\n{ROWS}', f"SEP=;\r\n{ROWS}"])
def test_the_line_that_excel_writes_first_is_passed_over(tmp_path: Path, text: str) -> None:
    found = import_file(csv(tmp_path, text), "m")
    assert (found.ids.to_pylist(), found.label.tolist(), confidence(found)) == (["0", "1"], [1, 0], [0.5, 0.25])


@pytest.mark.parametrize("text", ["0,1,1\n1,1,0\n", "a.jpg,1,1\nb.jpg,0,1\n", "12,0.5\n13,0.7\n"])
def test_a_table_without_a_header_is_called_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecordsError, match=r"its first row .* is not a header"):
        import_file(csv(tmp_path, text), "m")


@pytest.mark.parametrize("cell", ['"[0.25, 0.75]"', "[0.25 0.75]", '"(0.25, 0.75)"'])
def test_lists_as_text_beside_a_prediction_are_its_probabilities(tmp_path: Path, cell: str) -> None:
    found = import_file(csv(tmp_path, f"id,prediction,probs,label\na,1,{cell},1\nb,1,{cell},0\n"), "m")
    assert found.outputs.log_odds is not None
    assert found.outputs.prediction.tolist() == [1, 1]


@pytest.mark.parametrize("names", ["cat,dog", "prob_1,prob_2", "class_0,class_1"])
def test_a_column_for_each_class_under_other_names_is_told_what_to_write(tmp_path: Path, names: str) -> None:
    with pytest.raises(RecordsError, match="a column for each class is called prob_0, prob_1"):
        import_file(csv(tmp_path, f"id,{names},label\na,0.5,0.5,1\n"), "m")


def test_the_index_that_pandas_keeps_is_an_id(tmp_path: Path) -> None:
    pq.write_table(pa.table({"__index_level_0__": [7, 9], "label": [0, 1], "pred": [0, 0]}), tmp_path / "t.parquet")
    found = import_file(tmp_path / "t.parquet", "m")
    assert found.ids.to_pylist() == ["7", "9"]
    assert any("__index_level_0__ is read as the column id" in note for note in found.meta.notes)
