"""The online map: an estimate that follows what is found, above a floor that holds until the data say otherwise."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import load_artefact
from pilotfish.serve.watch.online_map import OnlineMap, maps_of

KEPT = Path(__file__).parents[1] / "kept" / "cascades"


def fed(one: OnlineMap, score: float, right: int, wrong: int) -> OnlineMap:
    for i in range(right + wrong):
        one.update(score, float(i >= wrong))
    return one


def test_a_probability_is_believed_until_answers_say_otherwise() -> None:
    one = OnlineMap()
    assert one.reliability(0.85) == pytest.approx(0.85)
    fed(one, 0.85, 50, 50)
    assert one.reliability(0.85) == pytest.approx((8.5 + 50) / 110)
    assert one.reliability(0.45) == pytest.approx(0.45)  # another bin


def test_a_score_of_another_unit_says_nothing_by_itself() -> None:
    one = OnlineMap([-1.0, 0.0, 1.0], believes=False)
    assert one.reliability(5.0) is None
    fed(one, 5.0, 9, 1)
    assert one.reliability(7.0) == pytest.approx(0.9)
    assert one.reliability(0.5) is None


def test_the_floor_holds_until_it_is_rejected() -> None:
    one = OnlineMap(floor=0.98, exits_from=0.9)
    fed(one, 0.92, 20, 2)  # .91 of 22: no proof against .98
    assert one.reliability(0.92) == 0.98
    fed(one, 0.92, 40, 20)
    assert one.reliability(0.92) == pytest.approx((9.2 + 60) / 92)
    assert one.reliability(0.96) == 0.98  # the others stand
    assert one.reliability(0.85) == pytest.approx(0.85)  # below the threshold nothing was certified


def test_the_floor_falls_in_few_streams_that_keep_it() -> None:
    """Of 300 streams at the floor itself, each of 400 answers."""
    rng, fallen = np.random.default_rng(8), 0
    for _ in range(60):
        one = OnlineMap([0.5], floor=0.95, exits_from=0.5, confidence=0.9)
        for right in (rng.random(300) < 0.95).tolist():
            one.update(0.7, float(right))
        fallen += bool(any(one.fallen))
    assert fallen <= 6


def test_a_label_takes_the_place_of_what_the_base_said() -> None:
    one = OnlineMap(believes=False)
    one.update(0.55, 0.0)
    one.update(0.55, 1.0, before=0.0)
    assert (sum(one.n), one.reliability(0.55)) == (1, 1.0)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_are_left_out(score: float) -> None:
    one = OnlineMap()
    one.update(score, 1.0)
    assert (sum(one.n), one.reliability(score)) == (0, None)


def test_it_goes_on_from_its_state() -> None:
    one = fed(fed(OnlineMap(floor=0.98, exits_from=0.9), 0.92, 30, 30), 0.3, 1, 3)
    again = OnlineMap(floor=0.98, exits_from=0.9)
    assert again.restore(json.loads(json.dumps(one.to_state())))
    assert again.to_json() == one.to_json()
    other = OnlineMap([0.5])
    assert not other.restore(one.to_state())
    assert sum(other.n) == 0
    with pytest.raises(ValueError, match="bins"):
        again.restore({**one.to_state(), "n": [1]})


@pytest.mark.parametrize("kind", ["drop", "agreement", "cost"])
def test_the_floor_is_what_the_certificate_leaves_to_exits(kind: str) -> None:
    artefact = load_artefact(KEPT / "small")
    exits = 1 - artefact.calibration.exit_ratio[-1]
    promise = {"kind": kind, "target": 0.05, "bound": 0.04, "n": 100, "confidence": 0.9, "test": "exact"}
    saver, base = maps_of(dataclasses.replace(artefact, guarantee=promise))
    assert saver.floor == (None if kind == "cost" else pytest.approx(1 - 0.04 / exits))
    assert saver.exits_from == pytest.approx(artefact.shown_thresholds[0], abs=1e-5)
    assert (base.floor, base.believes) == (None, True)
    assert maps_of(artefact)[0].floor is None
