"""load_data: from a name to a data set, or to the names that would do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import DATA_FORMS, Dataset, load_data
from pilotfish.errors import DataError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    Image.new("RGB", (3, 2)).save(tmp_path / "pets" / "cat" / "a.png")
    np.savez(tmp_path / "rows.npz", x=np.zeros((2, 3), np.float32))
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


@pytest.mark.parametrize("spec", ["folder:pets", "pets", "folder:~/pets"])
def test_a_folder_with_and_without_its_prefix(here: Path, spec: str) -> None:
    data: Dataset = load_data(spec)
    assert list(data.ids) == ["cat/a.png"]
    assert load_data(data.spec).fingerprint == data.fingerprint


@pytest.mark.parametrize("spec", ["arrays:rows.npz", "rows.npz", "arrays:~/rows.npz"])
def test_arrays_with_and_without_their_prefix(here: Path, spec: str) -> None:
    data: Dataset = load_data(spec)
    assert len(data) == 2
    assert load_data(data.spec).fingerprint == data.fingerprint


@pytest.mark.parametrize("spec", ["digits", "digits:train", "digits:val"])
def test_digits(spec: str) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    assert load_data(spec).spec == spec


@pytest.mark.parametrize(
    ("spec", "clause"),
    [
        ("foldr:pets", "nearest names: folder:PATH"),
        ("array:rows.npz", "nearest names: arrays:FILE.npz"),
        ("digit", "nearest names: digits"),
        ("digits:test", "digits:train"),
        ("folder:", "folder:PATH"),
        ("", "valid names: folder:PATH, arrays:FILE.npz, idx:FILE, digits"),
        ("no/such/path", "no existing path"),
        ("notes.txt", "is a file, but no .npz"),
        ("two\nlines", r"two\nlines"),
        ("x" * 5000, "no existing path"),
        ("nul\0", "no existing path"),
    ],
)
def test_an_unknown_form_gets_the_nearest_ones(here: Path, spec: str, clause: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(spec)
    assert clause in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_form_is_described() -> None:
    assert [form for form, _ in DATA_FORMS] == [
        "folder:PATH",
        "arrays:FILE.npz",
        "idx:FILE",
        "digits",
        "digits:train",
        "digits:val",
        "scenes:val",
        "scenes:train?task=T&n=N",
        "masks:IMAGES,MASKS",
        "coco:ANNOTATIONS.json[,IMAGES]",
        "labels:PATH",
    ]
    assert all(description for _, description in DATA_FORMS)


def test_importing_the_room_is_light() -> None:
    heavy = "torch", "sklearn", "onnx", "matplotlib", "scipy", "pyarrow"
    code = f"import sys, pilotfish.data; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
