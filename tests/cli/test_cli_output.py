"""Progress where nobody watches a terminal."""

from __future__ import annotations

import io
import shlex

import pytest
from rich.console import Console

from pilotfish.cli import output, progress, tables
from pilotfish.cli.tune_command import tune
from pilotfish.text import quantity


def test_a_line_when_a_thing_is_done_and_none_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bars() as tell:
        for done in (1, 2, 3, 3):
            tell("reading [a]", done, 3)
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith("reading [a]  3/3")


def test_long_work_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.progress_bars() as tell:
        for done in range(1, 101):
            tell("epoch 1 of 1", done, 100)
            now[0] += 1
    lines = [line.split()[4] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["31/100", "61/100", "91/100", "100/100"]


def test_names_are_no_emoji(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(output.console(), "python:m:saver", "a:smile:b")
    output.notes(["python:m:saver"])
    tables.table(output.console(), [("model", "left")], [["python:m:saver"]])
    with progress.progress_bars() as tell:
        tell("python:m:saver", 1, 1)
    said = capsys.readouterr()
    assert said.out.count("python:m:saver") == said.err.count("python:m:saver") == 2
    assert "a:smile:b" in said.out


COLUMNS = [("chain", "left"), *[(f"column {k}", "right") for k in range(6)]]
CHAINS = [" → ".join(f"lite:efficientnet_lite{k}@{size}" for k in (0, 2)) for size in (208, 224)]


def test_without_a_terminal_no_sentence_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    tables.table(output.console(), COLUMNS[:4], [[name, *["12.34%"] * 3] for name in CHAINS])
    output.say(output.console(), "a sentence " * 100)
    output.notes(["a note " * 100])
    said = capsys.readouterr()
    assert "…" not in said.out
    assert all(any(name in line and line.count("12.34%") == 3 for line in said.out.splitlines()) for name in CHAINS)
    assert max(map(len, said.out.splitlines())) > 1000
    assert len(said.err.splitlines()) == 1


LADDER = [f"lite:efficientnet_lite{k}@{size}?dtype=bf16" for k, size in ((0, 224), (1, 240), (2, 260))]
HEADINGS = ("precision", "agrees with float32", "accuracy", "drop (points)", "cost per sample", "exit ratio")


@pytest.mark.parametrize("chain", [LADDER, ["small", "middle", "big"], [name * 3 for name in LADDER]])
def test_a_wide_table_is_folded_where_no_terminal_is(chain: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    columns = [("model", "left"), *[(heading, "right") for heading in HEADINGS]]
    cells = ["bf16", "98.5%", "77.12%", "0.02", "12.34 GMACs", "41.2% / 30.1% / 28.7%"]
    rows = [[name, *cells] for name in (*chain, f"cascade {' → '.join(chain)}")]
    tables.table(output.console(), columns, rows, strong=3)
    shown = capsys.readouterr().out
    _, line, table = shown.partition("────")
    assert line
    assert all(len(name) > 100 or any(name in row for row in shown.splitlines()) for name in chain)
    assert max(map(len, table.splitlines())) <= tables.WIDEST
    assert "…" not in shown
    assert all(name in shown.replace("\n", "") for name in chain)
    assert all(word in shown for heading in HEADINGS for word in heading.split())
    assert table.count("12.34 GMACs") == 4


def test_empty_columns_and_long_texts_make_room(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [("model", "left"), ("unread", "right"), ("MACs", "right"), ("loaded as", "left")]
    rows = [[name, "", "12.34 GMACs", f"checkpoint:/models/{'folder/' * 20}{name}"] for name in LADDER]
    tables.table(output.console(), columns, rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= tables.WIDEST
    assert all(any(line.split()[:3] == [name, "12.34", "GMACs"] for line in lines) for name in LADDER)
    assert "unread" not in " ".join(lines)
    tables.table(output.console(), columns, rows, whole=True)
    lines = capsys.readouterr().out.splitlines()
    assert all(any(row[0] in line and row[-1] in line for line in lines) for row in rows)


@pytest.mark.parametrize("width", [40, 80, 100_000])
def test_a_command_to_copy_is_never_broken(width: int) -> None:
    shown = io.StringIO()
    target = Console(file=shown, force_terminal=True, width=width, color_system=None)
    typed = output.next_command(tune, "my run", stages=",".join(LADDER), max_drop="0.5%", holdout=0.5, score=None)
    output.say(target, f"Best: a. Next: {typed}", whole=True)
    assert shown.getvalue() == f"Best: a. Next: {typed}\n"
    assert shlex.split(typed) == ["pilotfish", "tune", "my run", "--stages", ",".join(LADDER), "--max-drop", "0.5%"]


@pytest.mark.parametrize("width", [80, 120, 150])
def test_on_a_terminal_long_names_are_listed_above_their_table(width: int) -> None:
    shown = io.StringIO()
    target = Console(file=shown, force_terminal=True, width=width, color_system=None)
    tables.table(target, COLUMNS, [[name, *["12.34% of the base"] * 6] for name in CHAINS], title="Chains")
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
    tables.table(target, [("model", "left"), ("n", "right")], [[name, "1"] for name in CHAINS])
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
