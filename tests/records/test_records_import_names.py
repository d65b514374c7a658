"""What other programs call their arrays and columns: read under the usual names, and named where it is not read."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish import savers
from pilotfish.errors import RecordsError
from pilotfish.reading.columns import ROLES, find
from pilotfish.records import Records, Run, import_file

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])
MANY = np.random.default_rng(0).dirichlet([1, 1, 1], 40)


def npz(folder: Path, **arrays: Any) -> Records:
    np.savez(folder / "made.npz", **arrays)
    return import_file(folder / "made.npz", "m")


def text(folder: Path, content: str, name: str = "made.csv", **options: Any) -> Records:
    (folder / name).write_text(content, encoding="utf-8")
    return import_file(folder / name, "m", **options)


def rows(found: Records) -> tuple[list[str], list[int], list[int], list[float] | None]:
    out = found.outputs
    return (
        found.ids.to_pylist(),
        out.prediction.tolist(),
        found.label.tolist(),
        None if out.confidence is None else out.confidence.tolist(),
    )


EXPECTED = (["007", "7"], [3, 1], [3, -1], [0.9, 0.25])
TABLES = [
    pytest.param("id, prediction, confidence, label\n007, 3, 0.9, 3\n7, 1, 0.25, \n", id="spaces"),
    pytest.param("Id,Prediction,CONFIDENCE,Label\n007,3,0.9,3\n7,1,0.25,NaN\n", id="capitals and NaN"),
    pytest.param("\ufeffid;prediction;confidence;label\n007;3;0,9;3\n7;1;0,25;\n", id="semicolons, decimal commas"),
    pytest.param("id\tprediction\tconfidence\tlabel\n007\t3\t.9\t3.0\n7\t1\t.25\tnan\n", id="tabs, float labels"),
    pytest.param("id|prediction|confidence|label\n007|3|0.9|3\n7|1|0.25|None\n", id="bars"),
    pytest.param('"sample id","pred","conf","y true"\n"007","3","0.9","3"\n"7","1","0.25",""\n', id="quoted"),
    pytest.param(
        '"id", "prediction", "confidence", "label"\n"007", "3", "0.9", "3"\n7, 1, 0.25, NA\n', id="late quotes"
    ),
    pytest.param("filename,y_pred,score,ground_truth\n007,3,0.9,3\n7,1,0.25,<NA>\n", id="names of sklearn"),
    pytest.param("image,predicted,prob,species\n007,+3,9e-1,3\n7,1,.25,\n", id="names of biologists"),
    pytest.param("path,argmax,max_prob,target\n007,3,0.9,3\n7,1,0.25,null\n", id="names of torch"),
    pytest.param("Unnamed: 0,predicted_class,conf,trueLabel\n007,3,0.9,3\n7,1,0.25,\n", id="index column of pandas"),
    pytest.param(",prediction,confidence,class\n007,3,0.9,3\n7,1,0.25,\n", id="a column without a name"),
]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ["made.csv", "MADE.CSV", "made.tsv"])
def test_a_table_of_another_program(tmp_path: Path, table: str, name: str) -> None:
    found = text(tmp_path, table, name)
    assert rows(found) == EXPECTED
    assert any("1 of 2 samples: no label" in note for note in found.meta.notes)
    assert not any("not read" in note for note in found.meta.notes)


DOCUMENT = {"id": ["007", "7"], "pred": [3, 1], "conf": [0.9, 0.25], "gt": [3, None]}
BY_ROW = [dict(zip(DOCUMENT, row, strict=True)) for row in zip(*DOCUMENT.values(), strict=True)]
DOCUMENTS = {
    "rows": json.dumps(BY_ROW),
    "rows in an object": json.dumps({"results": BY_ROW}),
    "columns": json.dumps(DOCUMENT),
    "lines": "\n".join(json.dumps(row) for row in BY_ROW),
    "pandas split": json.dumps({"columns": list(DOCUMENT), "data": [list(row.values()) for row in BY_ROW]}),
    "pandas index": json.dumps({row["id"]: {k: v for k, v in row.items() if k != "id"} for row in BY_ROW}),
    "pandas columns": json.dumps({k: dict(enumerate(v)) for k, v in DOCUMENT.items()}),
    "NaN": json.dumps([{**row, "gt": row["gt"] or float("nan")} for row in BY_ROW]),
}


@pytest.mark.parametrize("form", DOCUMENTS)
def test_json_in_every_form(tmp_path: Path, form: str) -> None:
    assert rows(text(tmp_path, DOCUMENTS[form], "made.json")) == EXPECTED


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"label": pa.array([3, None]).dictionary_encode()}, "dictionary of numbers"),
        ({"label": pa.array(["3", None]).dictionary_encode()}, "dictionary of texts"),
        ({"label": pa.array([Decimal("3.00"), None])}, "decimal"),
        ({"label": pa.array([3.0, float("nan")], pa.float32())}, "float and NaN"),
        ({"Y_true": pa.array(["3", None], pa.large_string())}, "large text"),
    ],
)
def test_parquet_of_any_type(tmp_path: Path, columns: dict[str, Any], kind: str) -> None:
    table = {"ID": ["007", "7"], "Pred": pa.array([3, 1], pa.uint8()), "conf": [0.9, 0.25], **columns}
    pq.write_table(pa.table(table), tmp_path / "MADE.PARQUET")
    assert rows(import_file(tmp_path / "MADE.PARQUET", "m")) == EXPECTED


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet", "json"])
def test_what_is_not_read_is_named(tmp_path: Path, kind: str) -> None:
    columns: dict[str, Any] = {"id": ["a", "b"], "prediction": [0, 1], "entropy": [0.5, 0.25], "remark": ["x", "y"]}
    path = tmp_path / f"made.{kind}"
    if kind == "npz":
        np.savez(path, **columns)
    elif kind == "parquet":
        pq.write_table(pa.table(columns), path)
    elif kind == "json":
        path.write_text(json.dumps(columns))
    else:
        path.write_text("id,prediction,entropy,remark\na,0,.5,x\nb,1,.25,y\n")
    notes = import_file(path, "m").meta.notes
    assert [note for note in notes if "not read" in note] == [
        f"made.{kind}: not read: entropy, remark (the names that are read: docs/records.md)"
    ]
    Run(tmp_path / "run").write(import_file(path, "m"))
    assert Run(tmp_path / "run").metas()[0].notes == notes  # and inspect says it


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("id,prediction,y_true,target\na,0,1,1\nb,1,0,1\n", "y_true, target mean the same .label. and differ"),
        ("id,prediction,Label,label\na,0,1,0\n", "mean the same .label. and differ"),
        ("id,pred,prediction\na,0,1\n", "prediction, pred mean the same .prediction. and differ"),
        ("id,prediction,conf,confidence\na,0,.5,.25\n", "confidence, conf mean the same .confidence. and differ"),
        ("image_id,sample_id,prediction\na,b,0\n", "sample_id, image_id mean the same .id."),
    ],
)
def test_two_names_of_one_thing_are_refused_where_they_differ(tmp_path: Path, columns: str, message: str) -> None:
    with pytest.raises(RecordsError, match=message):
        text(tmp_path, columns)


@pytest.mark.parametrize(
    ("columns", "unread"),
    [
        ("id,filename,prediction,label\na,x.jpg,0,1\n", "filename"),
        ("id,prediction,label,class\na,0,1,cat\n", "class"),
        ("id,prediction,confidence,score\na,0,.5,3\n", "score"),
        ("id,prediction,label,y\na,0,1,1\n", "y"),  # the same values
    ],
)
def test_the_plainer_name_is_read_and_the_other_is_named(tmp_path: Path, columns: str, unread: str) -> None:
    found = text(tmp_path, columns)
    assert found.ids.to_pylist() == ["a"]
    assert f"not read: {unread} (" in " ".join(found.meta.notes)


def test_no_two_names_of_a_role_are_alike() -> None:
    for role, groups in ROLES.items():
        names = list(itertools.chain.from_iterable(groups))
        assert len(names) == len(set(names)), role
        assert all(find("f", [name], role, RecordsError) == name for name in names)


def test_rows_are_the_ids_of_a_table_without_any_and_that_is_said(tmp_path: Path) -> None:
    found = text(tmp_path, "prediction,label\n2,2\n0,1\n")
    assert found.ids.to_pylist() == ["0", "1"]
    assert "has no column id: samples are called by their row" in found.meta.notes[0]


# ---- labels and predictions


LABELS = [
    ([0, 1, np.nan], [0, 1, -1], "'label' is empty or NaN for 1 of 3 samples"),
    ([True, False, True], [1, 0, 1], "true and false"),
    ([0.0, 2.0, 1.0], [0, 2, 1], None),
    (np.array([0, 2, 1], np.uint64), [0, 2, 1], None),
    ([[0], [2], [1]], [0, 2, 1], None),
    (np.eye(3)[[0, 2, 1]], [0, 2, 1], "one 1 in each row"),
    (np.eye(3, dtype=bool)[[0, 2, 1]], [0, 2, 1], "one 1 in each row"),
    (["0", "2", "1"], [0, 2, 1], None),
    (np.array([b"0", b"2", b"1"]), [0, 2, 1], None),
]


@pytest.mark.parametrize(("label", "expected", "note"), LABELS)
@pytest.mark.parametrize("name", ["label", "labels", "y", "y_true", "targets", "class_id"])
def test_labels_of_an_npz(tmp_path: Path, label: Any, expected: list[int], note: str | None, name: str) -> None:
    found = npz(tmp_path, probs=P, **{name: label})
    assert found.label.tolist() == expected
    assert (found.meta.notes == ()) if note is None else (note.replace("'label'", repr(name)) in found.meta.notes[0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"label": [0, 1, np.inf]}, "row 2 is inf"),
        ({"label": [0, 1, 1e300]}, "row 2 is 1e"),
        ({"label": np.array([0, 1, 2**64 - 1], np.uint64)}, "row 2 is 18446744073709551615"),
        ({"label": [[1, 1, 0], [0, 1, 0], [0, 0, 2]]}, "'label' of row 2 is 2; expected 0 or 1 for each class"),
        ({"label": np.eye(4)[:3]}, "'label' has 4 columns, and the model has 3 classes"),
        ({"label": ["cat", "dog", "emu"]}, "in which order the 3 outputs stand is not known; add an array class_names"),
        ({"label": ["cat", "dog", "yak"], "class_names": ["cat", "dog", "emu"]}, "'yak', which is none of the 3 class"),
        ({"label": [0, 1, 2], "class_names": ["cat", "dog"]}, "2 class names for 3 classes"),
    ],
)
def test_labels_that_cannot_be_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordsError, match=message):
        npz(tmp_path, probs=P, **arrays)


@pytest.mark.parametrize("names", ["class_names", "classes", "categories"])
def test_names_are_numbered_by_the_array_of_names(tmp_path: Path, names: str) -> None:
    found = npz(tmp_path, probs=P, y=["emu", "cat", "dog"], **{names: ["dog", "emu", "cat"]})
    assert found.label.tolist() == [1, 2, 0]
    assert found.meta.class_names == ("dog", "emu", "cat")


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_predictions_and_labels_by_name_are_numbered_together(tmp_path: Path, kind: str) -> None:
    if kind == "npz":
        found = npz(tmp_path, prediction=["emu", "cat", "dog"], label=["emu", "fox", "dog"])
    else:
        found = text(tmp_path, "prediction,label\nemu,emu\ncat,fox\ndog,dog\n")
    assert found.outputs.prediction.tolist() == [2, 0, 1]
    assert found.label.tolist() == [2, 3, 1]
    assert found.meta.class_names == ("cat", "dog", "emu", "fox")
    assert any("numbered by their sorted names, 4 in all, from 0: cat, dog, emu" in note for note in found.meta.notes)


@pytest.mark.parametrize(
    "table", ["prediction,label\n1,cat\n", "prediction,label\ncat,1\n", "y_pred,species\n0,Puffinus\n"]
)
def test_names_beside_numbers_are_refused(tmp_path: Path, table: str) -> None:
    with pytest.raises(RecordsError, match=r"holds class names \('(cat|Puffinus)'\) and '.*' numbers"):
        text(tmp_path, table)


@pytest.mark.parametrize(("cells", "expected"), [("true false", [1, 0]), ("True False", [1, 0]), ("TRUE ", [1, -1])])
def test_truth_values_are_two_classes(tmp_path: Path, cells: str, expected: list[int]) -> None:
    a, b = cells.split(" ")
    found = text(tmp_path, f"id,prediction,label\nx,1,{a}\ny,0,{b}\n")
    assert found.label.tolist() == expected


# ---- outputs


def test_one_number_is_two_classes(tmp_path: Path) -> None:
    z = np.array([-2.0, 0.5, 20.0])
    p = 1 / (1 + np.exp(-z))
    for arrays in ({"logits": z[:, None]}, {"logits": z}, {"logit": z}, {"probs": p[:, None]}):
        found = npz(tmp_path, **arrays)
        assert found.outputs.prediction.tolist() == [0, 1, 1]
        assert found.outputs.log_odds == pytest.approx(abs(z), rel=1e-6)
        assert found.meta.n_classes == 2
        assert "class 1 of two" in found.meta.notes[0]


@pytest.mark.parametrize("name", ["logits", "logit", "outputs", "scores", "predictions"])
def test_probabilities_are_known_by_their_values(tmp_path: Path, name: str) -> None:
    found = npz(tmp_path, **{name: MANY.astype(np.float32)})
    direct = npz(tmp_path, probs=MANY.astype(np.float32))
    assert np.array_equal(found.outputs.log_odds, direct.outputs.log_odds)  # type: ignore[arg-type]
    assert "read as probabilities" in found.meta.notes[0]
    assert direct.meta.notes == ()


@pytest.mark.parametrize("name", ["outputs", "scores", "preds"])
def test_other_outputs_are_logits_and_that_is_said(tmp_path: Path, name: str) -> None:
    logits = np.random.default_rng(0).normal(size=(40, 3))
    found, direct = npz(tmp_path, **{name: logits}), npz(tmp_path, logits=logits)
    assert np.array_equal(found.outputs.log_odds, direct.outputs.log_odds)  # type: ignore[arg-type]
    assert "read as logits; name it logits" in found.meta.notes[0]
    assert direct.meta.notes == ()


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        (np.full((6, 3), 0.9), "row 0 is not a probability vector. Sigmoids of several labels"),
        (np.random.default_rng(0).random((9, 4)), "Sigmoids of several labels"),
        (P * 100, "holds percents"),
        (np.round(P * 100).astype(int), "holds percents"),
        (np.log(P), "if these are logits"),
        (P * np.nan, "not a probability vector"),
        (np.array([[0.5], [1.5]]), "of row 1 is 1.5; expected probabilities"),
    ],
)
def test_what_is_no_probability_is_refused_with_the_reason(tmp_path: Path, probs: Any, message: str) -> None:
    with pytest.raises(RecordsError, match=message):
        npz(tmp_path, probs=probs)


def test_rows_that_tie_at_certainty_are_said(tmp_path: Path) -> None:
    assert "50% of the rows give one class 1" in npz(tmp_path, probs=np.vstack([np.eye(3), P])).meta.notes[0]
    assert npz(tmp_path, probs=P).meta.notes == ()


def test_a_prediction_that_is_not_the_largest_output_is_said(tmp_path: Path) -> None:
    assert "'prediction' differs from the largest of 'probs' in 2 of 3 rows" in " ".join(
        npz(tmp_path, probs=P, prediction=[0, 0, 0]).meta.notes
    )


@pytest.mark.parametrize("prefix", ["prob_", "Prob", "p", "probability_"])
def test_a_column_for_each_class(tmp_path: Path, prefix: str) -> None:
    head = ",".join(f"{prefix}{k}" for k in (0, 2, 1))
    found = text(tmp_path, f"id,{head},label\na,.7,.1,.2,0\nb,.1,.8,.1,2\n")
    assert found.outputs.prediction.tolist() == [0, 2]
    assert found.outputs.log_odds == pytest.approx(np.log([7 / 3, 4]))
    assert found.meta.notes == ()


def test_lists_of_parquet_and_json_are_outputs(tmp_path: Path) -> None:
    columns = {"id": ["a", "b", "c"], "logits": np.log(P).tolist(), "label": [0, 2, 1]}
    (tmp_path / "made.json").write_text(json.dumps(columns))
    pq.write_table(pa.table(columns), tmp_path / "made.parquet")
    for name in ("made.json", "made.parquet"):
        assert import_file(tmp_path / name, "m").outputs.prediction.tolist() == [0, 2, 1]


# ---- numbers that do not fit


def test_nothing_wraps_around(tmp_path: Path) -> None:
    assert npz(tmp_path, probs=P, id=np.array([2**63, 2**64 - 1, 1], np.uint64)).ids.to_pylist() == [
        "9223372036854775808",
        "18446744073709551615",
        "1",
    ]
    with pytest.raises(RecordsError, match=r"'ranked' of row 1 has class 4294967301; classes up to 2\^31 - 1"):
        npz(tmp_path, ranked=np.array([[1, 2], [3, 2**32 + 5]]))
    columns = {"id": ["a"], "prediction": [1], "top_class": [[2**32 + 1]]}
    (tmp_path / "run").mkdir()
    for name, wrong in (("top_class", [[2**32 + 1]]), ("prediction", pa.array([2**64 - 1], pa.uint64()))):
        pq.write_table(pa.table({**columns, "top_class": [[1]], name: wrong}), tmp_path / "run/m.val.parquet")
        with pytest.raises(RecordsError, match=rf"'{name}': .* is beyond int(32|64)"):
            Run(tmp_path / "run").read("m")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('[{"id": 1, "prediction": 1e400}]', "row 0 is inf"),
        ('[{"id": 1, "prediction": ' + "9" * 5000 + "}]", "not valid JSON"),
        ('[{"id": 1, "prediction": ' + "9" * 30 + "}]", "column 'prediction' holds values of several kinds"),
        ('[{"' + "9" * 5000 + '": 1}]', "expected id, prediction"),
        ('[{"id": 1, "id": 2, "prediction": 0}]', "a key stands twice"),
        ('[{"id": 1, "prediction": {"class": 3}}]', "holds struct"),
        ('[{"id": [1], "prediction": 0}]', "ids cannot be read as text"),
        ('{"id": [1, 2], "prediction": [0]}', "columns of different lengths"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": 1}', "expected a list of objects"),
        ("[1, 2]", "expected a list of objects"),
        ("", "not valid JSON"),
        ('[{"id": "a", "prediction": "cat"}, {"id": "b", "prediction": 1}]', "values of several kinds"),
    ],
)
def test_damaged_json_is_one_named_line(tmp_path: Path, document: str, message: str) -> None:
    with pytest.raises(RecordsError, match=message) as caught:
        text(tmp_path, document, "made.json")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


# ---- timm and the truth


TIMM_ROWS = [{"filename": f"/data/val/n0{i % 3}/{i:03d}.jpg", "index": i % 3, "prob": 0.5 + i / 100} for i in range(9)]
TIMM_FORMS = {
    "index": json.dumps({row["filename"]: {"index": row["index"], "prob": row["prob"]} for row in TIMM_ROWS}),
    "rows": json.dumps(TIMM_ROWS),
    "lines": "\n".join(json.dumps(row) for row in TIMM_ROWS),
    "split": json.dumps({"columns": list(TIMM_ROWS[0]), "data": [list(row.values()) for row in TIMM_ROWS]}),
    "csv": "filename,index,prob\n" + "".join(f"{r['filename']},{r['index']},{r['prob']}\n" for r in TIMM_ROWS),
}
TRUTHS = {
    "as they are": [row["filename"] for row in TIMM_ROWS],
    "base names": [str(row["filename"]).rpartition("/")[2] for row in TIMM_ROWS],
    "class folders": [str(row["filename"]).removeprefix("/data/val/") for row in TIMM_ROWS],
    "backslashes": [str(row["filename"]).removeprefix("/data/").replace("/", "\\") for row in TIMM_ROWS],
    "no suffixes": [str(row["filename"]).rpartition("/")[2].removesuffix(".jpg") for row in TIMM_ROWS],
}


@pytest.mark.parametrize("form", TIMM_FORMS)
@pytest.mark.parametrize("truth", TRUTHS)
def test_timm_files_and_truths_in_every_form(tmp_path: Path, form: str, truth: str) -> None:
    labels = tmp_path / "truth.csv"
    labels.write_text("image,class\n" + "".join(f"{name},{i % 3}\n" for i, name in enumerate(TRUTHS[truth])))
    name = "made.csv" if form == "csv" else "made.json"
    found = text(tmp_path, TIMM_FORMS[form], name, format="timm", labels=labels)
    assert found.label.tolist() == found.outputs.prediction.tolist() == [i % 3 for i in range(9)]
    assert found.outputs.confidence is not None
    assert found.outputs.confidence.tolist() == [row["prob"] for row in TIMM_ROWS]
    assert len([note for note in found.meta.notes if "joined by" in note]) == (truth != "as they are")


def test_base_names_that_stand_twice_join_nothing(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("file,label\n1.jpg,0\n")
    with pytest.raises(RecordsError, match="names none of the 2 samples"):
        text(tmp_path, "id,prediction\na/1.jpg,0\nb/1.jpg,1\n", labels=tmp_path / "truth.csv")


def test_samples_and_labels_that_find_no_partner_are_counted(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("file,label,remark\n1.jpg,0,x\n8.jpg,1,y\n9.jpg,1,z\n")
    notes = text(
        tmp_path, "id,prediction,label\n1.jpg,0,4\n2.jpg,1,4\n3.jpg,1,4\n", labels=tmp_path / "truth.csv"
    ).meta.notes
    assert "truth.csv: not read: remark" in notes[1]
    assert "truth.csv has no label for 2 of 3 samples, 2.jpg the first" in notes[2]
    assert "2 of the 3 rows of truth.csv name no sample" in notes[3]
    assert "column 'label' of made.csv is not read: the truth comes from --labels" in notes[0]


def test_models_of_other_programs_by_name_are_planned_with(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    (tmp_path / "small.csv").write_text("id,pred,prob,species\na,emu,.9,emu\nb,cat,.8,cat\nc,cat,.2,emu\n")
    (tmp_path / "big.csv").write_text("id,pred,species\nc,emu,emu\na,emu,emu\nb,cat,cat\n")
    for name in ("small", "big"):
        run.write(import_file(tmp_path / f"{name}.csv", name))
    assert [round(s.exit_ratio, 3) for s in savers(run, "big").savers] == [0.667]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,class,confidence\na,1,.5\n", "if 'class' is what the model answered, call it prediction"),
        ("id,prob_1,prob_2\na,.5,.5\n", "columns id, prob_1, prob_2; expected id, prediction"),
        ("id,prediction,label\na,1,1\nb,2,x\n", r"'label' holds class names \('x'\)"),
        ("id,prediction,confidence\na,1,93%\n", "holds text, such as '93%'"),
        ('id,probs\na,"[0.1, 0.9]"\nb,"[1]"\n', "lists of different lengths"),
        ('id,probs\na,"[much, 0.9]"\n', "lists that are not numbers"),
    ],
)
def test_tables_that_only_seem_to_be_right(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(RecordsError, match=message):
        text(tmp_path, content)


@pytest.mark.parametrize("cell", ["[0.1 0.9]", "[0.1, 0.9]", "(0.1,0.9)", "[1e-1\n 9e-01]"])
def test_lists_that_pandas_wrote_as_text_are_read(tmp_path: Path, cell: str) -> None:
    found = text(tmp_path, f'id,probs\na,"{cell}"\nb,"[0.8 0.2]"\n')
    assert found.outputs.prediction.tolist() == [1, 0]
    assert found.outputs.log_odds == pytest.approx([np.log(9), np.log(4)])


def test_ids_that_are_no_number_and_names_of_two_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="1 of 3 ids are missing"):
        npz(tmp_path, probs=P, id=[1.0, np.nan, 3.0])
    with pytest.raises(RecordsError, match="'crane', the name of 2 classes"):
        npz(tmp_path, probs=P, label=["crane", "cat", "cat"], class_names=["crane", "crane", "cat"])
