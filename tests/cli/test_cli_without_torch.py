"""The core plans, reports and runs what needs no torch, on a machine that has none of the extras."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from support.absent import without
from support.process import refused

ABSENT = [
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "scipy",
    "safetensors",
    "onnx",
    "onnxruntime",
    "openvino",
    "huggingface_hub",
]


def test_planning_and_reporting(imported: Path, tmp_path: Path) -> None:
    for ended in without(
        ABSENT,
        tmp_path,
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
        assert ended.returncode == 0, ended.stderr
    assert all((tmp_path / f"{page}.html").stat().st_size > 10_000 for page in ("savers", "pair", "cascade"))


def test_models_in_numpy_are_recorded_and_run(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "cli_pair.py", tmp_path)
    pair = "python:cli_pair:saver,python:cli_pair:base"
    allowed = ["--allow-python", "cli_pair:saver", "--allow-python", "cli_pair:base"]
    data = pictures / "data.npz"
    ended = without(
        ABSENT,
        tmp_path,
        ["record", "--data", data, "--model", pair, "--run", "run", "--no-timing"],
        ["tune", "run", "--stages", pair, "--max-drop", "5%", "--out", "cascade"],
        ["bench", "cascade", "--data", data, "--runs", "1", "--samples", "20", *allowed],
        ["predict", "cascade", pictures / "photos", "--json", *allowed],
    )
    assert [one.returncode for one in ended] == [0] * 4, ended
    assert len(json.loads(ended[-1].stdout)["answers"]) == 6


def test_what_needs_an_extra_says_which(pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "data.npz", tmp_path)
    (tmp_path / "w.pt").write_bytes(b"")
    needed = {
        ("data.npz", "timm:resnet18"): ("timm", "torch"),
        ("data.npz", "torchvision:resnet18"): ("torchvision", "torch"),
        ("data.npz", "lite:efficientnet_lite0"): ("timm", "torch"),
        ("data.npz", "onnx:data.npz"): ("onnx", "onnx"),
        ("data.npz", "checkpoint:w.pt"): ("torch", "torch"),
        ("digits", "python:a:b"): ("scikit-learn", "torch"),
    }
    commands = [["record", "--data", data, "--model", model, "--run", "run"] for data, model in needed]
    for (package, extra), ended in zip(needed.values(), without(ABSENT, tmp_path, *commands), strict=True):
        said = refused(ended)
        assert f"needs the package {package}, which is not installed: pip install 'pilotfish[{extra}]'" in said
    for ended in without(ABSENT, tmp_path, ["demo"], ["models", "resnet"]):
        assert "pip install 'pilotfish[torch]'" in refused(ended)
    [listed] = without(ABSENT, tmp_path, ["models"])  # the forms are known all the same
    assert (listed.returncode, "onnx:FILE" in listed.stdout) == (0, True)
    assert "note: listing models needs the package timm" in listed.stderr
