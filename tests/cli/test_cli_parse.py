"""Numbers with their units, and lists of models."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.cli.parse import cost_limit, fraction, key_values, least, name_list, one_budget, share
from support.process import refusal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5%", 0.005),
        ("0.005", 0.005),
        (" 2 %", 0.02),
        ("50%", 0.5),
        ("0", 0.0),
        ("-0.5%", -0.005),
        ("0.0999", 0.0999),
    ],
)
def test_a_drop_is_a_fraction_or_points(text: str, value: float) -> None:
    assert fraction(text, "--max-drop") == pytest.approx(value)


@given(st.floats(0.1, 1e6))
def test_a_large_bare_drop_is_nearly_always_meant_as_percent(value: float) -> None:
    with pytest.raises(typer.BadParameter, match=r"such as|write .*%"):
        fraction(repr(value), "--max-drop")
    assert fraction(f"{value!r}%", "--max-drop") == pytest.approx(value / 100)


@pytest.mark.parametrize("text", ["", "x", "%", "nan", "inf", "-inf", "1e999", "5%%", "0,5%", "0x1"])
def test_what_is_no_number(text: str) -> None:
    for read in (lambda: fraction(text, "--o"), lambda: share(text, "--o"), lambda: cost_limit(text)):
        with pytest.raises(typer.BadParameter, match="is not a number"):
            read()


def test_shares_and_costs() -> None:
    assert share("95%", "--min-accuracy") == share("0.95", "--min-accuracy") == pytest.approx(0.95)
    assert cost_limit("40%") == "40%"
    assert cost_limit("390000000") == "390000000"
    assert fraction(None, "--o") is share(None, "--o") is cost_limit(None) is None


@pytest.mark.parametrize("text", ["95", "1.5", "100"])
def test_a_bare_share_that_was_meant_as_percent(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=f"write {text}%"):
        share(text, "--min-accuracy")


@pytest.mark.parametrize("given", [(None, None, None), ("1%", "40%", None), ("1%", None, ["95%"])])
def test_exactly_one_budget(given: tuple[str | None, str | None, list[str] | None]) -> None:
    with pytest.raises(typer.BadParameter, match="give exactly one of --max-drop, --max-cost"):
        one_budget(*given)
    assert one_budget("1%", None) == {"max_drop": 0.01}


def test_two_names_of_one_option_must_agree() -> None:
    assert least(None) is least([]) is None
    assert least(["95%"]) == least(["95%", "0.95"]) == pytest.approx(0.95)
    with pytest.raises(typer.BadParameter, match="are one option, given as 90% and 95%; keep one"):
        least(["90%", "95%"])


@pytest.mark.parametrize("verb", ["tune", "build", "predict"])
def test_they_are_refused_on_the_command_line(verb: str, tmp_path: Path) -> None:
    first = {"tune": ["run", "--stages", "a,b"], "build": ["--data", "d", "--model", "a,b", "--out", "o"]}
    asked = [verb, *first.get(verb, ["cascade", "x.png"]), "--min-metric", "90%", "--min-accuracy", "95%"]
    assert "--min-metric and --min-accuracy are one option" in refusal(tmp_path, *asked, code=2)


def test_lists_of_models() -> None:
    assert name_list(["a,b", "c", " d , e,", ""]) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("onnx:a?mean=0.5,0.4,0.3,onnx:b", ["onnx:a?mean=0.5,0.4,0.3", "onnx:b"]),
        ("onnx:a?mean=0.5,0.4,.3&std=1,1,1e-1&crop=1,b", ["onnx:a?mean=0.5,0.4,.3&std=1,1,1e-1&crop=1", "b"]),
        ("onnx:a?crop=squeeze&std=0.5, 0.4, 0.3 ,5", ["onnx:a?crop=squeeze&std=0.5, 0.4, 0.3,5"]),
        ("5,6", ["5", "6"]),
        ("onnx:a?crop=1,2", ["onnx:a?crop=1", "2"]),
        ("onnx:a?mean=0.5,2fast", ["onnx:a?mean=0.5", "2fast"]),
    ],
)
def test_numbers_of_an_option_stay_with_their_model(text: str, found: list[str]) -> None:
    assert name_list([text]) == found
    assert name_list([text, "1"]) == [*found, "1"]


def test_costs_by_key() -> None:
    assert key_values(["usd=0.0004", "a=b=2"], "--cost") == {"usd": 0.0004, "a=b": 2.0}
    for wrong in ("usd", "=3", "usd=", "usd=x"):
        with pytest.raises(typer.BadParameter):
            key_values([wrong], "--cost")
