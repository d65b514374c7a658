"""``--help``: quick, complete, and with an example that uses what there is."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pilotfish
from pilotfish.cli.main import app
from support.process import command, environment, process

COMMANDS = [
    *("analyse", "bench", "build", "chains", "demo", "doctor", "evaluate", "export", "import", "inspect", "models"),
    *("predict", "quantise", "record", "report", "savers", "serve", "shortlist", "tune", "tune-runtime", "update"),
]
HEAVY = [
    "torch",
    "timm",
    "torchvision",
    "numpy",
    "pyarrow",
    "PIL",
    "matplotlib",
    "sklearn",
    "onnxruntime",
    "openvino",
    "pandas",
]


def test_the_commands_are_those_of_the_contract(tmp_path: Path) -> None:
    assert sorted(c.name for c in app.registered_commands) == COMMANDS
    shown = command(tmp_path, "--help")
    assert shown.returncode == 0
    assert all(re.search(rf"^  {name} ", shown.stdout, re.MULTILINE) for name in COMMANDS)
    assert "Begin with: pilotfish demo" in shown.stdout


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize("group", [(), ("train",)])
def test_no_summary_is_cut(group: tuple[str, ...], columns: str, tmp_path: Path) -> None:
    listed = command(tmp_path, *group, "--help", COLUMNS=columns).stdout.partition("Commands:\n")[2]
    assert len(listed.splitlines()) >= 4
    assert "..." not in listed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str, tmp_path: Path) -> None:
    shown = command(tmp_path, name, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    text = " ".join(shown.stdout.split())
    assert "--json" in text
    example = re.search(r"Example: (pilotfish .*?) (?:Arguments|Options):", text)
    assert example is not None, text
    words = shlex.split(example[1].replace("\\ ", ""))  # the end of a line
    assert words[:2] == ["pilotfish", name]
    assert {word for word in words if word.startswith("--")} <= set(
        re.findall(r"--[a-z-]+", text.partition("Options:")[2])
    )
    listed = re.findall(r"^  (?:-\w, )?--[a-z-]+ .*$", shown.stdout, re.MULTILINE)
    assert len(listed) >= 2


def test_no_arguments_show_the_help_and_count_as_a_mistake(tmp_path: Path) -> None:
    shown = command(tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith("Usage: pilotfish")
    assert len(shown.stderr.splitlines()) > 10


def test_the_version(tmp_path: Path) -> None:
    shown = process(tmp_path, "--version")
    assert (shown.returncode, shown.stdout) == (0, f"pilotfish {pilotfish.__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["tune", "--help"], ["record", "--nonsense"]])
def test_help_and_refusals_load_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import json, sys\n"
        "from pilotfish.cli.main import run\n"
        "try:\n    run()\n"
        f"except SystemExit:\n    print(json.dumps([m for m in {HEAVY} if m in sys.modules]), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment(), capture_output=True, text=True, check=True
    )
    assert json.loads(ended.stderr.splitlines()[-1]) == []
