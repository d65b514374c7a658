"""Samples that were trained on are found by their content, whatever they are called."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pilotfish.api import check_trained_on
from pilotfish.data import content_hash, load_data, refuse_trained_on, sample_reader
from pilotfish.errors import DataError
from pilotfish.records import Records, Run
from support.errors import assert_one_line
from support.runs import records

Make = Callable[[Path, range], str]
rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)


def folder(path: Path, rows: range, name: str = "{}.png") -> str:
    path.mkdir(parents=True)
    for i in rows:
        Image.fromarray(PIXELS[i]).save(path / name.format(i))
    return f"folder:{path}"


def classes(path: Path, rows: range) -> str:
    """The same files under other names, in class folders."""
    folder(path / "cat", rows, "renamed-{}.png")
    folder(path / "dog", range(0), "")
    shutil.copy(path / "cat" / f"renamed-{rows[0]}.png", path / "dog" / "again.png")
    return f"folder:{path}"


def arrays(path: Path, rows: range) -> str:
    path.mkdir(parents=True)
    np.savez(path / "data.npz", x=PIXELS[list(rows)], id=[f"{path.name}{i}" for i in rows])
    return f"arrays:{path / 'data.npz'}"


def floats(path: Path, rows: range) -> str:
    path.mkdir(parents=True)
    np.savez_compressed(path / "data.npz", x=PIXELS[list(rows)].astype(np.float32))
    return f"arrays:{path / 'data.npz'}"


KINDS: dict[str, tuple[Make, Make]] = {
    "folders": (folder, folder),
    "renamed and in classes": (folder, classes),
    "arrays": (arrays, arrays),
    "float arrays": (floats, floats),
}


def recorded(spec: str, content: bool = True) -> Records:
    """Records as a recording makes them: with the hash of each sample as it is read."""
    data = load_data(spec)
    read = sample_reader(data, True)
    hashes = pa.array([content_hash(read(i)) for i in range(len(data))]) if content else None
    meta: dict[str, Any] = {"data": {"spec": spec, "fingerprint": data.fingerprint, "n": len(data)}}
    made = records("m", [0] * len(data), ids=list(data.ids), **meta)
    return Records(made.ids, made.label, made.outputs, made.meta, hashes)


@pytest.mark.parametrize(("calibration", "training"), KINDS.values(), ids=KINDS)
def test_overlap_is_refused(calibration: Make, training: Make, tmp_path: Path) -> None:
    spec = calibration(tmp_path / "val", range(6))
    trained = training(tmp_path / "train", range(4, 12))
    for samples in (load_data(spec), recorded(spec)):
        with pytest.raises(DataError) as error:
            refuse_trained_on(trained, samples)
        assert_one_line(error.value, "2 of 6 samples are in the training data", trained, "leave these samples out")


@pytest.mark.parametrize(("calibration", "training"), KINDS.values(), ids=KINDS)
def test_other_samples_pass(calibration: Make, training: Make, tmp_path: Path) -> None:
    spec = calibration(tmp_path / "val", range(6))
    trained = training(tmp_path / "train", range(6, 12))
    for samples in (load_data(spec), recorded(spec)):
        refuse_trained_on(trained, samples)


@pytest.mark.parametrize("make", [folder, arrays, floats])
def test_the_same_data_is_refused_even_by_its_fingerprint(make: Make, tmp_path: Path) -> None:
    spec = make(tmp_path / "val", range(6))
    for samples in (load_data(spec), recorded(spec), recorded(spec, content=False)):
        with pytest.raises(DataError, match="6 of 6 samples are in the training data"):
            refuse_trained_on(spec, samples)


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    spec, trained = folder(tmp_path / "val", range(6)), folder(tmp_path / "train", range(6, 12))
    with pytest.raises(DataError, match="its records hold no hashes of the samples; record it again"):
        refuse_trained_on(trained, recorded(spec, content=False))
    others = arrays(tmp_path / "arrays", range(6))
    for samples in (load_data(spec), recorded(spec)):
        with pytest.raises(DataError, match="the first are image files, the others arrays"):
            refuse_trained_on(others, samples)
    with pytest.raises(DataError, match=r"the first are arrays of uint8 \(6, 6, 3\), the others image files"):
        refuse_trained_on(spec, load_data(others))
    with pytest.raises(DataError, match=r"arrays of uint8 \(6, 6, 3\), the others arrays of float32 \(6, 6, 3\)"):
        refuse_trained_on(floats(tmp_path / "floats", range(6)), load_data(others))


def test_the_halves_of_the_digits_share_nothing() -> None:
    pytest.importorskip("sklearn")
    refuse_trained_on("digits:train", load_data("digits:val"))
    with pytest.raises(DataError, match=r"899 of 899|898 of 898"):
        refuse_trained_on("digits", load_data("digits:val"))


def test_an_unreadable_file_is_no_copy(tmp_path: Path) -> None:
    spec, trained = folder(tmp_path / "val", range(3)), folder(tmp_path / "train", range(6, 9))
    for path in (tmp_path / "val" / "broken.png", tmp_path / "train" / "broken.png"):
        path.write_bytes(b"")
    refuse_trained_on(trained, load_data(spec))


def test_tune_asks_the_records_of_the_base(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.write(recorded(arrays(tmp_path / "val", range(6))))
    with pytest.raises(DataError, match=r"1 of 6 samples .* val5 \(train5 there\)"):
        check_trained_on(run, ["saver", "m"], arrays(tmp_path / "train", range(5, 9)))
    check_trained_on(run.path, ["saver", "m"], arrays(tmp_path / "other", range(6, 9)))
