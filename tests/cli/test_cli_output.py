"""Progress where nobody watches a terminal."""

from __future__ import annotations

import pytest

from pilotfish.cli import output


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


def test_long_names_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["lite:efficientnet_lite0@224", "lite:efficientnet_lite1@208"]
    columns = [("chain", "left"), *[(f"column {k}", "right") for k in range(6)]]
    output.table(output.console(), columns, [[name, *["12.34% of the base"] * 6] for name in names])
    said = capsys.readouterr().out
    assert "…" not in said
    first = "".join(line.replace("12.34% of the base", "").strip() for line in said.splitlines())
    assert all(name in first for name in names)
