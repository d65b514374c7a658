"""Names, ids, specs, class names and file names held escape sequences (clear the screen, set the title, write over the
verdict), C1 controls, line ends that made lines of their own, and overrides of the text's direction.

Taught: text of others is cleaned where it leaves, in one place per exit: tables, lines, notes, progress, errors, JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.cli import progress
from pilotfish.plan import tune
from pilotfish.records import Failure, Run
from pilotfish.text import json_line, one_line

EVIL = (
    "\x1b[2J\x1b]0;owned\x07",
    "a\x9b31mb",
    "a\x85b\x90c",
    "safe\u202egnp.exe\u202c",
    "\u2066x\u2069\u200f\u061c",
    "ok\npilotfish: all is well",
    "a\r\x08\x0b\x0c\x7fb",
    "line\u2028para\u2029",
    "tag\U000e0041\U000e007f",
    "lone\udc80",
)


@pytest.mark.parametrize("text", EVIL, ids=ascii)
def test_text_is_escaped_and_json_means_the_same(text: str, is_harmless: Callable[[str], bool]) -> None:
    assert is_harmless(one_line(text))
    assert "\n" not in one_line(text)
    line = json_line(json.dumps(text, ensure_ascii=False))
    assert is_harmless(line)
    assert json.loads(line) == text


def test_scripts_of_the_world_stay_as_they_are() -> None:
    for text in ("Kranich ü 鶴", "नमस्ते", "עברית", "می\u200cخواهم", "👩\u200d🚒", "a b\xa0c"):
        assert one_line(text) == text


@pytest.mark.parametrize("text", ["".join(EVIL[:5]), "".join(EVIL[5:-1])], ids=ascii)
def test_names_in_a_run_and_a_cascade(
    text: str, run: Run, tmp_path: Path, shown: Any, is_harmless: Callable[[str], bool]
) -> None:
    for name in ("saver", "base"):
        records = run.read(name)
        meta = dataclasses.replace(
            records.meta,
            model=f"{text}{name}",
            spec=f"timm:{text}",
            split="val",
            notes=(f"noted {text}",),
            failures=(Failure(f"id{text}", f"why {text}"),),
            class_names=(f"{text}0", f"{text}1"),
            n_classes=2,
            data={"spec": f"folder:{text}", "fingerprint": text},
        )
        run.file(name).unlink()
        run.write(dataclasses.replace(records, meta=meta))
    stages = [f"{text}saver", f"{text}base"]
    folder = tune(run, stages, max_drop=0.05).save(tmp_path / "c")
    for arguments in (
        ["inspect", run.path],
        ["inspect", folder],
        ["savers", run.path, "--base", stages[1]],
        ["tune", run.path, "--stages", ",".join(stages), "--max-drop", "5%"],
    ):
        for more in ([], ["--json"]):
            code, out, err = shown(*arguments, *more)
            assert code == 0, err
            assert is_harmless(out), ascii(out)
            assert is_harmless(err), ascii(err)
            assert "\npilotfish: all is well" not in out + err
            if more:
                json.loads(out)


@pytest.mark.parametrize("text", [EVIL[0], "".join(EVIL[1:-1]), EVIL[-1]], ids=ascii)
def test_errors_that_quote_what_they_found(text: str, edit: Any, refused: Any, run: Run) -> None:
    assert refused("inspect", edit(lambda d: d.update(schema_version=text)))
    assert refused("savers", run.path, "--base", text)
    assert refused("savers", run.path, "--base", "base", "--cost", text)


def test_errors_of_the_parser(shown: Any, is_harmless: Callable[[str], bool]) -> None:
    for arguments in (
        ["\x1b[2J"],
        ["savers", "r", "--\x9bx"],
        ["tune", "r", "--stages", "a,b", "--max-drop", "\u202e"],
    ):
        code, out, err = shown(*arguments)
        assert (code, out) == (2, "")
        assert is_harmless(err), ascii(err)


def test_progress_and_file_names(
    shown: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_harmless: Callable[[str], bool]
) -> None:
    with progress.progress_bars() as tell:
        tell(EVIL[0], 1, 1)
    assert is_harmless(capsys.readouterr().err)
    np.savez(tmp_path / f"{EVIL[0]}.npz", prediction=np.zeros(3, int), label=np.zeros(3, int))
    code, out, err = shown("import", tmp_path / f"{EVIL[0]}.npz", "--run", tmp_path / "r", "--model", EVIL[3])
    assert code == 0
    assert is_harmless(out + err), ascii(out + err)
    code, out, err = shown("import", tmp_path / f"{EVIL[1]}.npz", "--run", tmp_path / "r", "--model", "m")
    assert code == 1
    assert is_harmless(err), ascii(err)
