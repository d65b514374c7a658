"""The commands of the examples run as they are written, on fewer scenes."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from support.process import command
from support.quick import briefly

EXAMPLES = Path(__file__).parents[2] / "examples"
FEWER = (("scenes:val?task=", "scenes:val?n=210&task="), ("scenes:val", "scenes:val?n=210"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("sklearn", "onnxruntime", "torch", "supervision"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    return shutil.copytree(EXAMPLES / "scenes", tmp_path_factory.mktemp("examples") / "scenes")


def commands(page: str) -> list[str]:
    """The lines of a page's blocks that are commands."""
    blocks = re.findall(r"```\n(.*?)```", (EXAMPLES / page / "README.md").read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("pilotfish ", "python ", "PYTHONPATH=. "))]


def fewer(line: str) -> str:
    for all_of_them, some in FEWER:
        if some not in line and all_of_them in line:
            return line.replace(all_of_them, some)
    return line


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("detection", ["det/report.html", "det/drawn/0004.png", "det/cascade/cascade.json"]),
        ("segmentation", ["seg/report.html", "seg/drawn/0003.png", "seg/cascade/cascade.json"]),
        ("labels", ["lab/report.html", "lab/drawn/0003.png", "lab/cascade/cascade.json"]),
    ],
)
def test_the_commands_of_a_page_run(
    page: str, written: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = commands(page)
    assert len(lines) >= 5
    for line in lines:
        if line.startswith("python "):
            monkeypatch.syspath_prepend(str(EXAMPLES / page))
            sys.modules.pop("make_results", None)
            import make_results

            make_results.main(folder / "det", 210)
            continue
        words = shlex.split(fewer(line).removeprefix("PYTHONPATH=. ").removeprefix("pilotfish "))
        if words[0] == "record":
            words.append("--no-timing")
        if "--guarantee" in words:  # few scenes certify little
            words[words.index("--max-drop") + 1] = "60%"
            words += ["--holdout", "0"]
        ended = command(folder, *words, PYTHONPATH=str(folder))
        assert ended.returncode == 0, f"{line}\n{ended.stderr}"
    for name in written:
        assert (folder / name).is_file(), name


def test_the_same_from_python(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    briefly(monkeypatch)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(EXAMPLES / "segmentation"))
    import scenes

    scenes.main(tmp_path, 60)
    assert capsys.readouterr().out.count("scenes/train/") == 4
    assert (tmp_path / "report.html").is_file()
