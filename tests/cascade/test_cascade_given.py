"""Fractions as they are given in Python: bare numbers below 0.1, or text in percent."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

import pilotfish
from pilotfish.cascade import given_drop, given_metric, given_share, make_budget
from pilotfish.errors import UsageError
from support.errors import assert_one_line
from support.pairs import Pair
from support.runs import write_pair

PAIR = Pair([0.9, 0.8, 0.7, 0.6], [True, True, False, True], [True, True, True, False])


@pytest.mark.parametrize(
    ("value", "drop"),
    [(None, None), (0, 0.0), (0.005, 0.005), ("0.5%", 0.005), ("0.005", 0.005), (" 20% ", 0.2), ("-1%", -0.01)],
)
def test_a_drop(value: Any, drop: float | None) -> None:
    assert given_drop(value) == drop


@pytest.mark.parametrize("value", ["0.9%", " 0.5% "])
def test_a_least_metric_below_one_percent_is_a_slip(value: str) -> None:
    with pytest.raises(UsageError) as error:
        given_metric(value)
    meant = float(value.strip(" %"))
    assert_one_line(error.value, f"write '{100 * meant:g}%'", f"or {meant / 100:g} if that is meant")
    assert given_metric(f"{100 * meant:g}%") == pytest.approx(meant)
    assert given_metric(meant / 100) == pytest.approx(meant / 100)


def test_an_integer_that_no_float_holds() -> None:
    with pytest.raises(UsageError, match="is not a number"):
        given_drop(10**400)


@pytest.mark.parametrize("value", [1, 0.1, 0.5, 5, "1", "0.1", -0.5])
def test_a_bare_drop_that_was_meant_as_percent(value: Any) -> None:
    with pytest.raises(UsageError) as error:
        given_drop(value)
    assert_one_line(error.value, "max_drop=", "is read as a fraction", f"'{float(value):g}%'")


@pytest.mark.parametrize("value", [0.1, 1, 2, -5, 9.99999, 10, 100, 100.5, 1e308, -1e308, "1e308", "7"])
@pytest.mark.parametrize("name", ["max_drop", "--max-drop"])
def test_what_is_advised_is_taken(value: Any, name: str) -> None:
    with pytest.raises(UsageError) as error:
        given_drop(value, name)
    said = str(error.value)
    advised = re.findall(r"[-+.e\d]+%|(?<=\(or )[-+.e\d]+|(?<=such as )[.\d]+", said)
    assert advised
    for one in advised:
        assert make_budget(max_drop=given_drop(one)).value == pytest.approx(given_drop(one))
    assert ("inf" in said, len(said) < 200) == (False, True)


@pytest.mark.parametrize("value", ["", "%", "half", math.nan, math.inf, True, "nan%", [1]])
def test_what_is_no_number(value: Any) -> None:
    for read in (given_drop, lambda v: given_share(v, "guarantee")):
        with pytest.raises(UsageError, match="is not a number, such as"):
            read(value)


@pytest.mark.parametrize(("value", "share"), [(0.95, 0.95), ("95%", 0.95), ("0.95", 0.95), (1, 1.0), (None, None)])
def test_a_share(value: Any, share: float | None) -> None:
    assert given_share(value, "guarantee") == share


@pytest.mark.parametrize("value", [95, 90.0, "2"])
def test_a_share_that_was_meant_as_percent(value: Any) -> None:
    with pytest.raises(UsageError, match=rf"write '{float(value):g}%' \(or {float(value) / 100:g}\)"):
        given_share(value, "min_accuracy")


def test_the_verbs_take_percent_and_refuse_what_the_command_line_refuses(tmp_path: Path) -> None:
    write_pair(tmp_path, PAIR)
    stages = ["saver", "base"]
    assert pilotfish.tune(tmp_path, stages, max_drop="25%", holdout=0).artefact.operating_point.budget.value == 0.25
    assert pilotfish.tune(tmp_path, stages, min_accuracy="50%", holdout=0).calibration.accuracy >= 0.5
    assert pilotfish.savers(tmp_path, "base", max_drop="1%").max_drop == 0.01
    assert pilotfish.chains(tmp_path, "base", max_drop="1%", holdout=0).budget == "drop at most 1%"
    for verb, further in (
        (lambda **k: pilotfish.tune(tmp_path, stages, **k), {}),
        (lambda **k: pilotfish.savers(tmp_path, "base", **k), {}),
        (lambda **k: pilotfish.chains(tmp_path, "base", **k), {}),
        (lambda **k: pilotfish.analyse(tmp_path, "base", **k), {}),
        (lambda **k: pilotfish.shortlist("resnet50", **k), {}),
    ):
        with pytest.raises(UsageError, match=r"max_drop=1 is read as a fraction"):
            verb(max_drop=1, **further)
