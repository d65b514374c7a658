"""``pilotfish demo``, from nothing to a cascade that answers alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.cascade import load_artefact
from pilotfish.data import load_data
from support.process import command
from support.quick import briefly

pytest.importorskip("torch")
pytest.importorskip("sklearn")


def test_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    briefly(monkeypatch)
    ended = command(tmp_path, "demo", "--json")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document.keys() == {"cascade", "report", "run", "records", "tune", "bench", "notes"}

    tuned, timed = document["tune"], document["bench"]
    saver, base = tuned["stages"]
    calibration = tuned["calibration"]
    assert calibration["drop"] <= 0.005
    assert calibration["base_accuracy"] > 0.95
    assert 0.3 < calibration["exit_ratio"][0] < 1
    assert calibration["cost"] < 0.7 * calibration["base_cost"]
    assert tuned["split"]["fit"] + tuned["split"]["evaluation"] == 898
    assert [entry["n"] for entry in document["records"]] == [898, 898]
    assert timed["stages"] == [saver, base]

    shown = ended.stderr
    for heading in ("model", "accuracy", "drop (points)", "cost per sample", "exit ratio", "ms per sample", "speed-up"):
        assert heading in shown
    assert f"cascade {saver} → {base}" in shown
    assert "would be ideal" in shown
    assert (tmp_path / document["report"]).stat().st_size > 10_000
    assert "<svg" in (tmp_path / document["report"]).read_text()

    cascade = tmp_path / document["cascade"]
    assert all(stage.weights_file for stage in load_artefact(cascade).stages)
    shutil.move(cascade, tmp_path / "deployed")
    shutil.rmtree(tmp_path / "demo")  # the models, the records, everything else
    digits = load_data("digits:val")
    files = []
    for i in range(40):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(np.asarray(digits.read(i))).save(files[-1])
    answered = command(tmp_path, "predict", "deployed", *files, "--json")
    answers = json.loads(answered.stdout)["answers"]
    assert digits.labels is not None
    right = [answer["prediction"] == label for answer, label in zip(answers, digits.labels, strict=False)]
    assert sum(right) >= 36
    assert all(answer["name"] == str(answer["prediction"]) for answer in answers)
