"""The core plans, reports and runs what needs no torch, on a machine that has none of the extras."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from support.process import command, refusal

ABSENT = ["torch", "torchvision", "timm", "sklearn", "scipy", "safetensors", "onnx", "onnxruntime", "huggingface_hub"]
BLOCKER = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python in which the extras cannot be imported."""
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(BLOCKER)
    return {"PYTHONPATH": str(tmp_path / "absent")}


def test_planning_and_reporting(imported: Path, tmp_path: Path, bare: dict[str, str]) -> None:
    for arguments in (
        ["import", imported / "small.npz", "--run", "run", "--model", "small", "--macs", "1e8"],
        ["import", imported / "big.npz", "--run", "run", "--model", "big", "--macs", "1e9"],
        ["savers", "run", "--base", "big"],
        ["tune", "run", "--stages", "small,big", "--max-drop", "1%", "--out", "cascade"],
        ["report", "run", "--base", "big", "--out", "savers.html"],
        ["report", "run", "--stages", "small,big", "--out", "pair.html"],
        ["report", "cascade", "--run", "run", "--out", "cascade.html"],
        ["inspect", "run"],
        ["inspect", "cascade"],
    ):
        ended = command(tmp_path, *arguments, **bare)
        assert ended.returncode == 0, ended.stderr
    assert all((tmp_path / f"{page}.html").stat().st_size > 10_000 for page in ("savers", "pair", "cascade"))


def test_models_in_numpy_are_recorded_and_run(pictures: Path, tmp_path: Path, bare: dict[str, str]) -> None:
    shutil.copy(pictures / "cli_pair.py", tmp_path)
    pair = "python:cli_pair:saver,python:cli_pair:base"
    allowed = ["--allow-python", "cli_pair:saver", "--allow-python", "cli_pair:base"]
    bare = {**bare, "PYTHONPATH": os.pathsep.join([bare["PYTHONPATH"], str(tmp_path)])}
    for arguments in (
        ["record", "--data", pictures / "data.npz", "--model", pair, "--run", "run", "--no-timing"],
        ["tune", "run", "--stages", pair, "--max-drop", "5%", "--out", "cascade"],
        ["bench", "cascade", "--data", pictures / "data.npz", "--runs", "1", "--samples", "20", *allowed],
    ):
        ended = command(tmp_path, *arguments, **bare)
        assert ended.returncode == 0, ended.stderr
    ended = command(tmp_path, "predict", "cascade", pictures / "photos", "--json", *allowed, **bare)
    assert len(json.loads(ended.stdout)["answers"]) == 6


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["--data", "data.npz", "--model", "timm:resnet18"], "timm", "torch"),
        (["--data", "data.npz", "--model", "torchvision:resnet18"], "torchvision", "torch"),
        (["--data", "data.npz", "--model", "lite:efficientnet_lite0"], "timm", "torch"),
        (["--data", "data.npz", "--model", "onnx:data.npz"], "onnx", "onnx"),
        (["--data", "data.npz", "--model", "checkpoint:w.pt"], "torch", "torch"),
        (["--data", "digits", "--model", "python:a:b"], "scikit-learn", "torch"),
    ],
    ids=lambda value: value[3] if isinstance(value, list) else "",
)
def test_what_needs_an_extra_says_which(
    arguments: list[str], package: str, extra: str, pictures: Path, tmp_path: Path, bare: dict[str, str]
) -> None:
    shutil.copy(pictures / "data.npz", tmp_path)
    (tmp_path / "w.pt").write_bytes(b"")
    said = refusal(tmp_path, "record", *arguments, "--run", "run", **bare)
    assert f"needs the package {package}, which is not installed: pip install 'pilotfish[{extra}]'" in said


@pytest.mark.parametrize("arguments", [["demo"], ["models"], ["models", "resnet"]])
def test_commands_that_need_an_extra_say_which(arguments: list[str], tmp_path: Path, bare: dict[str, str]) -> None:
    assert "pip install 'pilotfish[torch]'" in refusal(tmp_path, *arguments, **bare)
