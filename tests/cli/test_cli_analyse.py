"""``pilotfish analyse``: tables, one JSON document, a picture."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from support.process import command, refusal

RUN = Path(__file__).resolve().parents[2] / "examples" / "imagenet_lite"
BASE, SAVER = "lite:efficientnet_lite2@300", "lite:efficientnet_lite0@224"


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return command(Path.cwd(), "analyse", *arguments)


def test_tables_and_notes() -> None:
    result = call(RUN, "--base", BASE, "--saver", f"{SAVER},lite:efficientnet_lite1@176", "--draws", 5)
    assert result.returncode == 0
    for title in (
        "Failure ranking",
        "The saver's mistakes",
        "Break-even",
        "Noise of tuning: 5 draws",
        "Choosing a saver",
    ):
        assert title in result.stdout
    assert "regret" in result.stdout
    assert "Transfer" not in result.stdout  # the run has one split
    assert "halved by --seed" in result.stderr


def test_json_is_one_document_and_the_plot_is_written(tmp_path: Path) -> None:
    options = ("--base", BASE, "--saver", SAVER, "--draws", 5, "--json")
    result = call(RUN, *options, "--plot", tmp_path / "p.png")
    found = json.loads(result.stdout)
    assert found["base"] == BASE
    (saver,) = found["savers"]
    assert {"ranking", "mistakes", "break_even", "noise", "references", "curve", "curves", "transfers"} <= saver.keys()
    assert saver["break_even"]["exit_ratio"] == pytest.approx(0.956)
    assert found["max_drop"] == 0.005
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (1400, 660)
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 50
    call(RUN, *options, "--plot", tmp_path / "p.svg")
    call(RUN, *options, "--plot", tmp_path / "again.svg")
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "p.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.svg", "p.png", "p.svg"]


def test_without_costs_it_is_drawn_by_share(tmp_path: Path) -> None:
    from pilotfish.records import Run
    from support.runs import records

    run = Run(tmp_path / "run")
    for split in ("val", "train", "v2"):
        run.write(records("s", [0, 0, 1, 1], label=[0] * 4, split=split, outputs={"confidence": [0.9, 0.8, 0.3, 0.2]}))
        run.write(records("b$x$", [0, 0, 0, 1], label=[0] * 4, split=split))
    result = call(run.path, "--base", "b$x$", "--draws", 3, "--plot", tmp_path / "p.svg")
    assert "Break-even" not in result.stdout
    assert "v2 → train" in result.stdout
    drawn = (tmp_path / "p.svg").read_text()
    assert "b$x$" in drawn  # text as it is, no formula
    assert "share that reaches the base" in drawn


def test_a_plot_that_cannot_be_drawn_is_refused_before_the_work(tmp_path: Path) -> None:
    said = refusal(tmp_path, "analyse", "no-run", "--base", BASE, "--plot", "p.gif")
    assert "written as .png or .svg, found 'p.gif'" in said


def test_a_bare_drop_is_refused() -> None:
    assert "write 0.5%" in refusal(Path.cwd(), "analyse", RUN, "--base", BASE, "--max-drop", "0.5", code=2)
