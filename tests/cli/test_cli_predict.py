"""``pilotfish predict``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.process import command, refusal

ALLOWED = ("--allow-python", "cli_pair:saver", "--allow-python", "cli_pair:base")
KEYS = {"input", "prediction", "name", "confidence", "stage", "error"}


def predict(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return command(folder, "predict", "cascade", *arguments, *ALLOWED, PYTHONPATH=".")


def refused(folder: Path, *arguments: object) -> str:
    return refusal(folder, "predict", "cascade", *arguments, *ALLOWED, PYTHONPATH=".")


def answers(folder: Path, *arguments: object) -> list[dict[str, Any]]:
    ended = predict(folder, *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)["answers"]
    assert all(set(answer) == KEYS for answer in found)
    return found


def test_files_folders_and_arrays(pictures: Path, tmp_path: Path) -> None:
    folder = answers(pictures, "photos")
    assert [a["input"] for a in folder] == [f"photos/{i}.png" for i in range(6)]
    for answer in folder:
        assert answer["name"] == "abcde"[answer["prediction"]]
        assert 0 < answer["confidence"] <= 1
        assert answer["stage"] in (0, 1)
        assert answer["error"] is None
    files = answers(pictures, "photos/5.png", "photos/0.png")
    assert [(a["input"], a["prediction"]) for a in files] == [
        ("photos/5.png", folder[5]["prediction"]),
        ("photos/0.png", folder[0]["prediction"]),
    ]
    assert [a["prediction"] for a in answers(pictures, "folder:photos")] == [a["prediction"] for a in folder]
    arrays = answers(pictures, "data.npz")
    assert [a["input"] for a in arrays] == [str(i) for i in range(200)]
    assert [a["prediction"] for a in arrays[:6]] == [a["prediction"] for a in folder]


def test_any_answer_is_success_and_the_rest_have_errors(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff garbage")
    found = answers(pictures, tmp_path / "broken.jpg", "photos/1.png", tmp_path / "gone.png")
    assert [a["error"] is None for a in found] == [False, True, False]
    assert "there is no such file" in found[2]["error"]
    table = predict(pictures, tmp_path / "gone.png", "photos/1.png")
    assert table.returncode == 0
    assert "there is no such file" in table.stdout


def test_no_answer_at_all_is_an_error(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"")
    said = refused(pictures, tmp_path / "broken.jpg", tmp_path / "gone.png", "--json")
    assert said.startswith("none of the 2 inputs could be answered; ")
    assert "it is empty (0 bytes)" in said
    (tmp_path / "nothing").mkdir()
    assert "nothing holds no images" in refused(pictures, tmp_path / "nothing")


@pytest.mark.parametrize("floats", [False, True])
def test_arrays_that_are_no_images(floats: bool, pictures: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", x=np.zeros((3, 8, 8, 3) if floats else (3, 7), np.float32))
    said = refused(pictures, tmp_path / "odd.npz")
    assert "is not an image; expected uint8 (H, W) or (H, W, 3)" in said
    said = refused(pictures, tmp_path / "odd.npz", "photos/1.png")
    assert "holds many samples; give one .npz file alone, or image files" in said


def test_another_operating_point(pictures: Path) -> None:
    everything = answers(pictures, "data.npz", "--max-drop", "100%")
    assert {a["stage"] for a in everything} == {0}
    assert {a["stage"] for a in answers(pictures, "data.npz", "--max-drop", "0")} == {0, 1}
    assert {a["stage"] for a in answers(pictures, "data.npz", "--min-metric", "0%")} == {0}
    assert "best accuracy that can be reached" in refused(pictures, "photos", "--min-accuracy", "100%")
    assert "write 50%" not in refused(pictures, "photos", "--max-drop", "-90%")
    assert "no such cost" in refused(pictures, "photos", "--max-cost", "100")
    assert "exactly one of" in refused(pictures, "photos", "--max-drop", "1%", "--max-cost", "9")


@pytest.mark.parametrize("way", [(), ("--low-memory",), ("--max-drop", "0")], ids=lambda way: "".join(way) or "plain")
def test_a_summary_says_what_went_to_the_base(way: tuple[str, ...], pictures: Path, tmp_path: Path) -> None:
    given = ("photos", tmp_path / "gone.png", *way)
    ended = predict(pictures, *given, "--summary", "--json")
    document = json.loads(ended.stdout)
    assert document["answers"] == answers(pictures, *given)
    found, names = document["summary"], ["python:cli_pair:saver", "python:cli_pair:base"]
    assert (found["n"], found["errors"]) == (7, 1)
    assert [one["name"] for one in found["stages"]] == names
    for k, one in enumerate(found["stages"]):
        own = [a["confidence"] for a in document["answers"] if a["stage"] == k]
        assert (one["stage"], one["n"], one["share"]) == (k, len(own), len(own) / 6)
        assert one["confidence"] == (pytest.approx(np.mean(own)) if own else None)
    assert "7 inputs, 1 without an answer" in ended.stderr
    shown = predict(pictures, *given, "--summary")
    assert "7 inputs, 1 without an answer" in shown.stderr
    assert "mean confidence" not in shown.stdout
    for one in found["stages"]:
        assert ("answered by" in shown.stderr, f"{one['stage']} {one['name']}" in shown.stderr) == (True, True)
        assert (f"{one['stage']} {one['name']}" in shown.stdout) == (one["n"] > 0)
    assert "summary" not in json.loads(predict(pictures, *given, "--json").stdout)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are always valid Unicode")
def test_a_file_name_that_is_no_unicode(pictures: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    shutil.copyfile(pictures / "photos" / "0.png", odd)
    assert answers(pictures, odd)[0]["prediction"] == answers(pictures, "photos/0.png")[0]["prediction"]
    assert predict(pictures, odd).returncode == 0


def test_a_cascade_of_other_weights_is_refused(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "cascade", tmp_path / "cascade")
    source = (pictures / "cli_pair.py").read_text()
    (tmp_path / "cli_pair.py").write_text(source.replace('"b" * 64', '"c" * 64'))
    said = refused(tmp_path, pictures / "photos")
    assert "the thresholds were made for weights bbbbbbbbbbbb" in said
    assert "record the model again and tune again" in said
