"""How commands fail: the exit code, nothing on stdout, one line on stderr."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pilotfish.records
from support.process import command, environment, process, refusal, refused

TUNE = ["tune", "run", "--stages", "small,big"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly"], "No such command 'fly'"),
        (["savers", "run"], "Missing option '--base'"),
        (["savers", "--base", "b"], "Missing argument 'RUN'"),
        (["savers", "run", "--base", "b", "--bsae", "c"], "No such option: --bsae"),
        (["record", "--data", "digits", "--model", "x", "--run", "r", "--batch-size", "abc"], "--batch-size"),
        (["record", "--data", "digits", "--model", "x", "--run", "r", "--workers", "0"], "--workers"),
        (["savers", "run", "--base", "b", "--holdout", "half"], "--holdout"),
        ([*TUNE, "--max-drop", "0.5"], "write 0.5%"),
        ([*TUNE, "--max-drop", "half"], "'half' is not a number"),
        ([*TUNE, "--max-cost", "cheap"], "'cheap' is not a number"),
        (TUNE, "give exactly one of --max-drop, --max-cost, --min-metric"),
        ([*TUNE, "--max-drop", "1%", "--max-cost", "40%"], "give exactly one of"),
        ([*TUNE, "--max-drop", "1%", "--embed"], "give it with --out"),
        (["import", "small.npz", "--run", "r", "--model", "m", "--cost", "usd"], "expected KEY=NUMBER"),
        (["predict", "cascade"], "Missing argument"),
        (["build", "--data", "digits", "--model", "a,b", "--out", "o"], "give exactly one of --max-drop, --max-cost"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_parser_refuses_is_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, *arguments, code=2)
    assert said in message
    assert "--help)" in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["savers", "nowhere", "--base", "b"], "nowhere does not exist; expected a run folder"),
        (["savers", "run", "--base", "bog"], "run has no records of model 'bog' on split 'val'; nearest names: big"),
        (["savers", "run", "--base", "big", "--split", "test"], "no records on split 'test'; it has split val"),
        (["savers", "run", "--base", "big", "--cost", "joules"], "big has no cost 'joules'"),
        (["savers", "run", "--base", "big", "--score", "entrpy"], "unknown score 'entrpy'"),
        ([*TUNE, "--max-drop", "1%", "--method", "magic"], "magic"),
        ([*TUNE, "--min-accuracy", "100%"], "the best accuracy that can be reached is"),
        ([*TUNE, "--max-cost", "1%"], "has cost at most 10,000,000; the cheapest costs 100,000,000"),
        ([*TUNE, "--max-drop=-20%"], "the smallest drop that can be reached is"),
        (["serve", "imported-cascade", "imported-cascade"], "give one of them another name, NAME=imported-cascade"),
        (["serve", "a=imported-cascade", "a=run"], "two cascades are called 'a'; give one of them another name"),
        (["serve", "a="], "a= names no folder; write NAME=FOLDER"),
        ([*TUNE, "--max-drop", "1%", "--holdout", "1"], "holdout is a share from 0 to below 1"),
        (["tune", "run", "--stages", "small", "--max-drop", "1%"], "two different stages are needed"),
        (["import", "absent.npz", "--run", "r", "--model", "m"], "absent.npz: no such file"),
        (
            ["import", "small.npz", "--run", "r", "--model", "m", "--macs", "-1"],
            "a cost is a finite number of at least 0",
        ),
        (["inspect", "nowhere"], "expected a run folder (*.parquet) or a cascade folder"),
        (["report", "run", "--out", "r.html"], "give --base NAME or --stages SAVER,BASE"),
        (["predict", "run", "cat.jpg"], "expected a cascade folder"),
        (["predict", "imported-cascade", "cat.jpg"], "stage small was planned from imported predictions"),
        (["record", "--data", "nowhere", "--model", "python:a:b", "--run", "r"], "the data 'nowhere'"),
        (["record", "--data", "small.npz", "--model", "tim:a", "--run", "r"], "small.npz has no samples: found probs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_other_error_is_1_and_says_what_to_do(arguments: list[str], said: str, imported: Path) -> None:
    assert said in refusal(imported, *arguments)


def test_an_unexpected_error_is_one_line_and_asks_for_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("two\nlines")

    monkeypatch.setattr(pilotfish.records, "open_run", fail)
    said = refusal(tmp_path, "savers", "run", "--base", "b")
    assert said.startswith("KeyError: ")
    assert "(this is a bug; " in said
    assert "PILOTFISH_DEBUG=1 shows where" in said
    with pytest.raises(KeyError):  # Python shows where
        command(tmp_path, "savers", "run", "--base", "b", PILOTFISH_DEBUG="1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(imported: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    said = refusal(tmp_path, "import", imported / "small.npz", "--run", "locked/run", "--model", "m")
    assert "permission denied; name a folder that can be written" in said


def test_a_file_where_a_folder_is_needed(imported: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    said = refusal(tmp_path, "import", imported / "small.npz", "--run", "run", "--model", "m")
    assert "cannot write run/m.val.parquet: a file stands where a folder is needed" in said


def test_an_interrupt_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, signal\ndef f(b):\n    os.kill(os.getpid(), signal.SIGINT)\n    return b\n"
    )
    np.savez(tmp_path / "data.npz", x=np.zeros((50, 3), np.float32))
    said = refusal(
        tmp_path, "record", "--data", "data.npz", "--model", "python:slow:f", "--run", "run", "--no-timing", by=process
    )
    assert said.startswith("interrupted; a recording or a training resumes")


def test_a_reader_that_leaves_early_is_no_error(imported: Path) -> None:
    program = [sys.executable, "-m", "pilotfish.cli", "inspect", "run"]
    with subprocess.Popen(
        program, cwd=imported, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune", "run", "--stages", "a,b", "--max-drop", "1%", "--out", ""], "--out is an empty text"),
        (["tune", "run", "--stages", "a,b", "--max-drop", "1%", "--out="], "--out is an empty text"),
        (["record", "--data", "digits", "--model", "a", "--run", ""], "--run is an empty text"),
        (["inspect", ""], "an argument is an empty text"),
    ],
)
def test_an_empty_text_is_not_the_working_folder(arguments: list[str], said: str, tmp_path: Path) -> None:
    assert f"{said}; give it a value (the working folder is .)" in refusal(tmp_path, *arguments, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["pilotfish", "pilotfish.cli"])
def test_the_package_is_the_command(module: str, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise RuntimeError('nobody named this module')")
    ended = subprocess.run(
        [sys.executable, "-m", module, "--version"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"pilotfish {pilotfish.__version__}\n"


@pytest.mark.parametrize("module", ["pilotfish", "pilotfish.cli"])
def test_a_working_folder_that_was_deleted_is_one_line(module: str, tmp_path: Path) -> None:
    program = f'mkdir gone && cd gone && rmdir ../gone && exec "{sys.executable}" -m {module} inspect run'
    ended = subprocess.run(
        ["sh", "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert refused(ended) == "the working folder was deleted; change to another one"


def test_importing_the_command_runs_nothing() -> None:
    assert importlib.import_module("pilotfish.__main__")
