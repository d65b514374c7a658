"""Progress where nobody watches a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pilotfish.cli import output
from pilotfish.text import quantity


def test_a_line_when_a_thing_is_done_and_none_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress_bars() as tell:
        for done in (1, 2, 3, 3):
            tell("reading [a]", done, 3)
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith("reading [a]  3/3")


def test_long_work_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    with output.progress_bars() as tell:
        for done in range(1, 101):
            tell("epoch 1 of 1", done, 100)
            now[0] += 1
    lines = [line.split()[4] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["31/100", "61/100", "91/100", "100/100"]


def test_names_are_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(output.console(), "python:m:saver", "a:smile:b")
    output.notes(["python:m:saver"])
    output.table(output.console(), [("model", "left")], [["python:m:saver"]])
    with output.progress_bars() as progress:
        progress("python:m:saver", 1, 1)
    said = capsys.readouterr()
    assert said.out.count("python:m:saver") == said.err.count("python:m:saver") == 2
    assert "a:smile:b" in said.out


COLUMNS = [("chain", "left"), *[(f"column {k}", "right") for k in range(6)]]
CHAINS = [" → ".join(f"lite:efficientnet_lite{k}@{size}" for k in (0, 2)) for size in (208, 224)]


def test_without_a_terminal_no_line_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(output.console(), COLUMNS, [[name, *["12.34% of the base"] * 6] for name in CHAINS])
    output.notes(["a note " * 100])
    said = capsys.readouterr()
    assert "…" not in said.out
    assert all(any(name in line and line.count("12.34%") == 6 for line in said.out.splitlines()) for name in CHAINS)
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("width", [80, 120, 150])
def test_on_a_terminal_long_names_are_listed_above_their_table(width: int) -> None:
    shown = io.StringIO()
    target = Console(file=shown, force_terminal=True, width=width, color_system=None)
    output.table(target, COLUMNS, [[name, *["12.34% of the base"] * 6] for name in CHAINS], title="Chains")
    text = shown.getvalue()
    above, _, table = text.partition("────")
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert all(f"{k} {name}" in " ".join(above.split()) for k, name in enumerate(CHAINS, 1))
    assert [line[:3].strip() for line in table.splitlines() if line[:3].strip(" ─")] == ["1", "2"]
    assert table.count("12.34%") == 12


def test_names_that_fit_stay_in_the_table() -> None:
    shown = io.StringIO()
    target = Console(file=shown, force_terminal=True, width=80, color_system=None)
    output.table(target, [("model", "left"), ("n", "right")], [[name, "1"] for name in CHAINS])
    lines = shown.getvalue().splitlines()
    assert all(any(name in line and line.rstrip().endswith("1") for line in lines) for name in CHAINS)


@pytest.mark.parametrize(
    ("n", "words", "said"),
    [
        (1, ("sample",), "1 sample"),
        (0, ("sample",), "0 samples"),
        (1200, ("class", "classes"), "1,200 classes"),
        (1, ("box is", "boxes are"), "1 box is"),
    ],
)
def test_one_is_no_plural(n: int, words: tuple[str, ...], said: str) -> None:
    assert quantity(n, *words) == said
