"""Records and cascades of an earlier Pilotfish load, align, plan and run as they did then (see make.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pilotfish
from pilotfish.recording import RecordOptions, record

KEPT = Path(__file__).parent
EXPECTED: dict[str, Any] = json.loads((KEPT / "expected.json").read_text())
TUNED = {
    "small": {"max_drop": 0.02},
    "soft": {"max_drop": 0.05},
    "learned": {"max_drop": 0.02, "score": "learned_right"},
    "pcee": {"max_drop": "20%", "method": "pcee"},
    "certified": {"max_drop": 0.08, "guarantee": 0.9},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since loading may write beside what it loads."""
    return Path(shutil.copytree(KEPT, tmp_path_factory.mktemp("kept") / "kept"))


def without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def same(found: Any, expected: Any) -> None:
    """Everything that was said then is said now; more may be said."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):  # processors sum in different orders
        assert found == pytest.approx(expected, rel=1e-12, abs=0, nan_ok=True)
    else:
        assert found == expected


@pytest.mark.parametrize("name", TUNED)
def test_plans_of_kept_records_are_the_same(kept: Path, name: str) -> None:
    expected = EXPECTED[name]["tune"]
    stages = expected["stages"]
    tuning = pilotfish.tune(kept / "run", stages, **TUNED[name])
    same(without(tuning.to_json(), "notes"), without(expected, "notes"))


def test_savers_of_kept_records_are_the_same(kept: Path) -> None:
    found = pilotfish.savers(kept / "run", "onnx:big.onnx").to_json()
    same(without(found, "notes"), without(EXPECTED["savers"], "notes"))


@pytest.mark.parametrize("name", [*TUNED, "embedded"])
def test_kept_cascades_answer_as_they_did(kept: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(kept)
    x = np.load("data.npz")["x"][:40]
    found = pilotfish.Cascade.load(f"cascades/{name}").predict(x)
    expected = EXPECTED["small" if name == "embedded" else name]["answers"]
    for one, other in zip(found, expected, strict=True):
        assert (one.prediction, one.stage, one.error) == (other["prediction"], other["stage"], other["error"])
        assert one.confidence == pytest.approx(other["confidence"], abs=5e-4)


@pytest.mark.parametrize(
    ("data", "model", "run"),
    [
        ("arrays:data.npz", "onnx:small.onnx", "run"),
        ("arrays:data.npz", "onnx:big.onnx", "run"),
        ("folder:photos", "onnx:image.onnx", "run-photos"),
    ],
)
def test_kept_records_are_those_of_the_same_model_and_data(
    kept: Path, data: str, model: str, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recording them again finds the weights, preprocessing and data unchanged, and so leaves them alone."""
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(kept)
    (result,) = record(data, model, run, options=RecordOptions(timing=False))
    assert result.skipped
