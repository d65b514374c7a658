"""``--group-by`` on the command line: what is said, what is in the documents, what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pilotfish.records import Run
from support.process import command, refusal
from support.runs import records

GROUP = r"^(\d+)_"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saver and a base on 200 samples, each three times."""
    folder = tmp_path_factory.mktemp("copied")
    ids = pa.array([f"{i}_{k}" for i in range(200) for k in range(3)])
    label = [i % 4 for i in range(200) for _ in range(3)]
    confidence = [i / 200 for i in range(200) for _ in range(3)]
    answer = [(c + (q < 0.3)) % 4 for c, q in zip(label, confidence, strict=True)]
    run = Run(folder / "run")
    run.write(records("s", answer, ids=ids, label=label, outputs={"confidence": confidence}, costs={"macs": 1.0}))
    run.write(dataclasses.replace(records("b", label, ids=ids, label=label, costs={"macs": 9.0})))
    return folder


def document(*arguments: object) -> Any:
    ended = command(Path.cwd(), *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize(
    "asked",
    [
        ["tune", "--stages", "s,b", "--max-drop", "2%"],
        ["savers", "--base", "b", "--holdout", "0.5"],
        ["chains", "--base", "b", "--max-drop", "2%"],
        ["analyse", "--base", "b", "--draws", "3"],
    ],
    ids=lambda c: c[0],
)
def test_commands_that_plan_count_groups(asked: list[str], copied: Path) -> None:
    said = "600 samples in 200 groups (at most 3 each): intervals and certificates count groups"
    arguments = [asked[0], copied / "run", *asked[1:]]
    assert said in document(*arguments, "--group-by", GROUP)["notes"]
    assert said not in document(*arguments)["notes"]
    said = refusal(copied, *arguments, "--group-by", "(x)")
    assert "finds a group in none of 600 ids, such as 0_0" in said


def test_a_guarantee_says_groups(copied: Path) -> None:
    arguments = ["tune", copied / "run", "--stages", "s,b", "--max-drop", "5%", "--guarantee", "90%"]
    found = document(*arguments, "--group-by", GROUP)
    assert found["guarantee"]["groups"] == found["calibration"]["groups"] == 100
    shown = command(copied, *arguments, "--group-by", GROUP, "--out", "cascade")
    assert "certified on 300 samples in 100 groups." in shown.stdout
    inspected = command(copied, "inspect", "cascade")
    assert "certified on 300 samples in 100 groups." in inspected.stdout
    said = refusal(copied, *arguments[:5], "0.5%", *arguments[6:], "--group-by", GROUP)
    assert re.search(r"100 groups .* cannot certify a drop of 0.5 points .* about \d+ such", said)


def test_import_keeps_groups(tmp_path: Path) -> None:
    rows = [f"{i},{i % 2},{i % 2},p{i // 3}" for i in range(12)]
    (tmp_path / "p.csv").write_text("\n".join(["id,prediction,label,product", *rows]))
    arguments = ["import", tmp_path / "p.csv", "--run", tmp_path / "run", "--model", "m"]
    document(*arguments, "--group-by", "product")
    assert Run(tmp_path / "run").read("m").group.to_pylist() == [f"p{i // 3}" for i in range(12)]
