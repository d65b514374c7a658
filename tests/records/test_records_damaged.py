"""Files that were cut off, overwritten or made to harm: one clear error each, and nothing lost."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotfish.errors import PilotfishError, RecordsError
from pilotfish.records import Run, from_logits, open_run, parquet
from pilotfish.records import parquet as store
from pilotfish.records.parquet import META_KEY, decode_meta
from support.errors import assert_one_line
from support.runs import records

META = {"schema_version": 1, "model": "m", "split": "val"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    run = Run(tmp_path_factory.mktemp("sound"))
    rng = np.random.default_rng(0)
    outputs = vars(from_logits(rng.normal(size=(200, 7)), top_k=3))
    columns = {k: v for k, v in outputs.items() if v is not None and k != "prediction"}
    return run.write(records("m", outputs["prediction"], outputs=columns, costs={"macs": 5.0})).read_bytes()


def read(folder: Path, content: bytes) -> None:
    (folder / "m.val.parquet").write_bytes(content)
    run = open_run(folder)
    run.metas()
    run.read("m")


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1PAR1", b"\0" * 100, b"PK\3\4 not parquet", b"PAR1" + b"\xff" * 99 + b"PAR1"]
)
def test_garbage_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RecordsError, match=r"m\.val\.parquet: not a readable Parquet file") as caught:
        read(tmp_path, content)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_half_written_file_is_named(tmp_path: Path, sound: bytes, share: float) -> None:
    with pytest.raises(RecordsError, match=r"m\.val\.parquet"):
        read(tmp_path, sound[: int(len(sound) * share)])


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_never_break_the_reader(tmp_path: Path, sound: bytes, data: st.DataObject) -> None:
    """A file with flipped bytes is refused, or read where the bytes did not matter; nothing else escapes."""
    content = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read(tmp_path, bytes(content))
    except PilotfishError as error:
        assert_one_line(error)


def with_meta(folder: Path, meta: bytes) -> Path:
    table = pa.table({"id": ["a"], "prediction": [0]}).replace_schema_metadata({META_KEY: meta})
    pq.write_table(table, folder / "m.val.parquet")
    return folder


def test_metadata_that_another_program_wrote_are_read(tmp_path: Path) -> None:
    text = json.dumps({**META, "costs": {"macs": 3, "usd": 0.5}, "n_classes": 4, "class_names": ["a", "b", "c", "d"]})
    meta = open_run(with_meta(tmp_path, text.encode())).read("m").meta
    assert (meta.costs, meta.n_classes, meta.class_names) == ({"macs": 3.0, "usd": 0.5}, 4, ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": 5},
        {"model": None},
        {"split": ["val"]},
        {"n_classes": "ten"},
        {"n_classes": 1.5},
        {"n_classes": True},
        {"class_names": "abc"},
        {"class_names": {"0": "a"}},
        {"costs": []},
        {"costs": None},
        {"costs": {"macs": "many"}},
        {"costs": {"macs": -1}},
        {"costs": {"macs": float("nan")}},
        {"costs": {"macs": float("inf")}},
        {"data": "photos"},
        {"data": None},
        {"failures": [{"id": "a"}]},
        {"failures": 3},
        {"preprocessing": "none"},
        {"weights_hash": 7},
        {"timing": []},
        {"created": {}},
    ],
)
def test_metadata_of_the_wrong_type_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with_meta(tmp_path, json.dumps({**META, **wrong}).encode())
    with pytest.raises(RecordsError, match=r"m\.val\.parquet: damaged metadata"):
        open_run(tmp_path).read("m")


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"null", b'"x"', b"[" * 100_000])
def test_metadata_that_are_no_object_are_refused(tmp_path: Path, text: bytes) -> None:
    with_meta(tmp_path, text)
    with pytest.raises(RecordsError, match="damaged metadata"):
        open_run(tmp_path).metas()


def test_metadata_beyond_the_limit_are_refused_before_they_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_meta(tmp_path, json.dumps({**META, "spec": "x" * 5000}).encode())
    assert open_run(tmp_path).models() == ["m"]
    monkeypatch.setattr(parquet, "MAX_META_BYTES", 4096)
    with pytest.raises(RecordsError, match=r"bytes of metadata, more than the 4,096 allowed"):
        open_run(tmp_path).models()
    with pytest.raises(RecordsError, match="more than the"):
        decode_meta(b"x" * 4097, {}, "f")


def test_one_broken_file_does_not_harm_the_reading_of_the_others(tmp_path: Path, sound: bytes) -> None:
    read(tmp_path, sound)
    (tmp_path / "broken.val.parquet").write_bytes(sound[:100])
    run = open_run(tmp_path)
    assert len(run.read("m")) == 200
    with pytest.raises(RecordsError, match=r"broken\.val\.parquet"):
        run.models()


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    path = run.write(records("m", [0, 1]))
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise pa.ArrowInvalid("half way")

    monkeypatch.setattr(store.pq.ParquetWriter, "write_table", fail)
    with pytest.raises(pa.ArrowInvalid):
        run.write(records("m", [1, 1, 1]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_and_a_reader_see_whole_files(tmp_path: Path) -> None:
    run, seen = Run(tmp_path), set()
    run.write(records("m", [0] * 10))

    def write(n: int) -> None:
        for _ in range(10):
            run.write(records("m", [n % 10] * n))

    writers = [threading.Thread(target=write, args=(n,)) for n in (1000, 3001)]
    for thread in writers:
        thread.start()
    while any(thread.is_alive() for thread in writers):
        found = run.read("m")
        seen.add(len(found))
        assert (found.outputs.prediction == len(found) % 10).all()
    for thread in writers:
        thread.join()
    assert seen <= {10, 1000, 3001}
    assert [p.name for p in tmp_path.iterdir()] == ["m.val.parquet"]


@pytest.mark.parametrize("made", ["missing", "file", "empty"])
def test_what_is_no_run_says_how_to_make_one(tmp_path: Path, made: str) -> None:
    path = tmp_path / "run"
    if made == "file":
        path.write_text("x")
    elif made == "empty":
        path.mkdir()
    with pytest.raises(RecordsError, match=r"pilotfish record"):
        open_run(path)


def test_an_unfinished_recording_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.file("m").with_suffix(".parts").mkdir()
    with pytest.raises(RecordsError, match=r"unfinished recording .*run the same record command again"):
        open_run(tmp_path)
    run.write(records("other"))
    with pytest.raises(RecordsError, match=r"the recording of m on split val .* is unfinished"):
        open_run(tmp_path).read("m")
