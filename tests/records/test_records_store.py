"""Records through Parquet and back: every column, every field, any name."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pilotfish.errors import RecordsError, UsageError
from pilotfish.files import decode_name, encode_name
from pilotfish.records import Failure, Records, RecordsMeta, Run, from_logits, import_file, open_run
from pilotfish.records.parquet import META_KEY, decode_meta, encode_meta, read_records
from support.runs import records

ALL = ("id", "label", "prediction", "log_odds", "log_sum_exp", "top_class", "top_logit", "confidence", "logits")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    [
        "..",
        ".",
        "a/b",
        "/",
        "../../etc/passwd",
        "a%2Fb",
        "50%",
        "a.val",
        "café",
        "名前",
        "timm:resnet50.a1_in1k",
        "a\0b",
    ]
)
FULL = RecordsMeta(
    model="timm:resnet50.a1_in1k",
    split="val",
    spec="timm:resnet50.a1_in1k",
    source="recorded",
    n_classes=3,
    class_names=("tench", "crane", "crane"),
    costs={"macs": 4.1e9, "ms@cpu-b8": 1.25},
    weights_hash="ab" * 32,
    preprocessing={"resize": 256, "mean": [0.485, 0.456, 0.406], "nested": {"a": None}},
    preprocessing_hash="cd" * 32,
    data={"spec": "folder:photos", "fingerprint": "ef" * 32, "n": 5, "augment": 7},
    timing={"device": "cpu"},
    versions={"torch": "2.10"},
    failures=(Failure("broken.jpg", "cut off"),),
    store="full",
    created="2026-01-01T00:00:00+00:00",
)


def same(a: Records, b: Records) -> bool:
    columns = {name: (value, getattr(b.outputs, name)) for name, value in vars(a.outputs).items()}
    columns["label"] = (a.label, b.label)
    equal = all(
        (x is None and y is None) or (x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype.kind == "f"))
        for x, y in columns.values()
    )
    return equal and a.ids.equals(b.ids) and a.meta == b.meta


def full_records(meta: RecordsMeta = FULL) -> Records:
    logits = np.array([[1, 2, 3], [9, -np.inf, 0], [0, 0, 0], [1e30, 0, 0], [-50, 50, 1]], np.float32)
    outputs = dataclasses.replace(
        from_logits(logits, top_k=2, keep_all=True), confidence=np.array([1, 2, 3, np.nan, -1])
    )
    return Records(
        records(ids=["b", "a", "ü", "", "0"], prediction=range(5)).ids, np.array([0, -1, 2, 1, -1]), outputs, meta
    )


def test_everything_comes_back(tmp_path: Path) -> None:
    run, written = Run(tmp_path), full_records()
    run.write(written)
    assert same(open_run(tmp_path).read(FULL.model, columns=ALL), written)


def test_full_logits_are_read_only_by_name(tmp_path: Path) -> None:
    run, written = Run(tmp_path), full_records()
    run.write(written)
    planned = run.read(FULL.model)
    assert planned.outputs.logits is None
    assert same(dataclasses.replace(written, outputs=dataclasses.replace(written.outputs, logits=None)), planned)


@given(st.data())
@settings(max_examples=40)
def test_any_records_come_back(data: st.DataObject) -> None:
    ids = data.draw(st.lists(TEXT, min_size=1, max_size=6, unique=True))
    n = len(ids)
    floats = st.lists(st.floats(width=32) | st.floats(), min_size=n, max_size=n)
    names = data.draw(st.sets(st.sampled_from(["log_odds", "log_sum_exp", "confidence"])))
    label = data.draw(st.lists(st.integers(-1, 9), min_size=n, max_size=n))
    meta: dict[str, Any] = {
        "costs": data.draw(st.dictionaries(TEXT, st.floats(0, 1e300), max_size=3)),
        "class_names": data.draw(st.none() | st.tuples(TEXT, TEXT)),
        "spec": data.draw(st.none() | TEXT),
    }
    written = records(
        data.draw(NAME),
        data.draw(st.lists(st.integers(0, 2**40), min_size=n, max_size=n)),
        ids=ids,
        label=label,
        outputs={name: np.array(data.draw(floats)) for name in names},
        split=data.draw(NAME),
        **meta,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        path = run.write(written)
        assert path.parent == Path(folder)
        assert same(run.read(written.meta.model, written.meta.split), written)
        assert run.splits() == [written.meta.split]
        assert run.models(written.meta.split) == [written.meta.model]
        assert run.models(written.meta.split + "x") == []


@pytest.mark.parametrize("ids", [["", "\0"], ["a", "a\0"], ["\0", "\0\0"], ["", " ", "\n"], ["x\0y", "x"]])
def test_ids_that_hardly_differ_come_back(ids: list[str], tmp_path: Path) -> None:
    run, written = Run(tmp_path), records(prediction=range(len(ids)), ids=ids)
    run.write(written)
    assert written.ids.to_pylist() == ids
    assert run.read("m").ids.to_pylist() == ids


@pytest.mark.parametrize("ids", [["a", "a\0"], ["\0", "b"], ["x\0y", "x"]])
@pytest.mark.parametrize("form", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_an_import_keeps_nul_in_ids(ids: list[str], form: str, tmp_path: Path) -> None:
    rows = [{"id": name, "prediction": k} for k, name in enumerate(ids)]
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form in ("csv", "tsv"):
        between = "," if form == "csv" else "\t"
        lines = [between.join(map(str, cells)) for cells in (["id", "prediction"], *(row.values() for row in rows))]
        path.write_text("".join(f"{line}\n" for line in lines))
    else:
        path.write_text(json.dumps(rows) if form == "json" else "".join(f"{json.dumps(row)}\n" for row in rows))
    assert import_file(path, "m").ids.to_pylist() == ids


def test_an_npz_cannot_tell_nul_at_the_end_of_an_id_and_equal_ids_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", id=np.array(["a", "a\0"]), prediction=[0, 1])
    with pytest.raises(RecordsError, match="1 id stands more than once, a for one"):
        import_file(tmp_path / "a.npz", "m")


@given(NAME)
@example("x" * 200)
@example("/" * 66)
def test_names_are_one_safe_file_name_and_back(name: str) -> None:
    encoded = encode_name(name)
    assert decode_name(encoded) == name
    assert encoded.isascii()
    assert not set(encoded) & set('/\\.\0:*?"<>| ')


@pytest.mark.parametrize("name", ["", "x" * 201, "é" * 101, "bad\udcff"])
def test_names_that_cannot_be_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a name"):
        encode_name(name)
    with pytest.raises(UsageError, match="a name"):
        Run(tmp_path).read(name)


@pytest.mark.parametrize(("model", "split"), [("é" * 100, "val"), ("/" * 90, "val"), ("x" * 200, "y" * 200)])
def test_names_too_long_for_a_file_say_so_when_writing_and_reading(tmp_path: Path, model: str, split: str) -> None:
    with pytest.raises(UsageError, match=r"a file name of \d+ characters, 255 at most; give a shorter one with --as"):
        Run(tmp_path).write(records(model, split=split))
    with pytest.raises(UsageError, match="255 at most"):
        Run(tmp_path).read(model, split)


def test_metadata_with_unknown_keys_is_read_and_with_another_version_refused() -> None:
    text = encode_meta(FULL)
    assert decode_meta(text, {}, "f") == FULL
    assert decode_meta(text.replace(b"{", b'{"later": [1], ', 1), {}, "f") == FULL
    with pytest.raises(RecordsError, match="schema version 2, this Pilotfish reads version 1"):
        decode_meta(text.replace(b'"schema_version": 1', b'"schema_version": 2'), {}, "f")
    with pytest.raises(RecordsError, match="schema version None"):
        decode_meta(b"{}", {}, "f")


def test_the_newest_records_of_a_model_replace_the_older(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.write(records("m", [0, 1])) == run.write(records("m", [1, 1, 1]))
    assert len(run.read("m")) == 3


def test_the_file_is_plain_parquet_with_documented_columns(tmp_path: Path) -> None:
    path = Run(tmp_path).write(full_records())
    table = pq.read_table(path)
    assert table.column_names == list(ALL)
    types = [str(table.schema.field(name).type) for name in ALL]
    expected = ["string", "int64", "int64", "double", "double", "int32", "float", "double", "float"]
    assert [t.split("item: ")[-1].split("element: ")[-1].split(">")[0] for t in types] == expected
    assert table.column("label").null_count == 2  # unknown labels are null, not -1
    assert META_KEY in pq.read_metadata(path).metadata


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: records(prediction=[], ids=[]), "no rows"),
        (lambda: records(ids=["a", "b", "a"]), "1 id stands more than once, a for one; ids are unique"),
        (lambda: records(prediction=[0, -1, 2]), "the prediction of row 1 is -1"),
        (lambda: records(label=[0, 1, -2]), "the label of row 2 is -2"),
        (
            lambda: records(prediction=[0, 1, 3], n_classes=3),
            "the prediction of row 2 is 3, but the model has 3 classes",
        ),
        (lambda: records(label=[0, 7, 1], n_classes=3), "are the labels in the model's class order"),
        (lambda: records(ids=["a"]), "1 id, 3 labels and 3 predictions"),
        (lambda: records(outputs={"confidence": [1.0, 2.0]}), r"confidence has shape \(2,\); expected \(3,\)"),
        (lambda: records(outputs={"log_odds": [[1.0]] * 3}), r"log_odds has shape \(3, 1\)"),
        (lambda: records(outputs={"top_logits": np.zeros((3, 0))}), r"top_logits has shape \(3, 0\)"),
        (lambda: records(outputs={"top_classes": [[0, 1], [1, 5], [2, 0]]}, n_classes=3), "top class of row 1 is 5"),
        (lambda: records(outputs={"top_classes": [[0, 1], [1, 2], [2, -1]]}), "top class of row 2 is -1"),
    ],
)
def test_unsound_records_are_never_written(tmp_path: Path, made: Any, message: str) -> None:
    with pytest.raises(RecordsError, match=message):
        Run(tmp_path).write(made())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="no such records file"):
        read_records(tmp_path / "m.val.parquet")
