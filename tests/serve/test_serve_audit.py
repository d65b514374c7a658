"""Audits: bounds that hold at every time at once, whatever comes back and whatever does not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from pilotfish.serve.watch.audit import Audit
from pilotfish.serve.watch.betting import LOG_WEIGHTS, STAKES, MeanSequence
from pilotfish.tasks.boxes import BOXES
from pilotfish.tasks.classes import CLASSES
from pilotfish.tasks.indexed_png import encode
from pilotfish.tasks.labels import LABELS
from pilotfish.tasks.mask import MASK

PLAIN = dataclasses.replace(LABELS, of_answers=None)  # whose answers are compared as they are


def sequence(xs: np.ndarray) -> MeanSequence:
    found = MeanSequence()
    for x in xs.tolist():
        found.add(x)
    return found


def log_wealth(xs: np.ndarray, mean: float) -> float:
    """By the formula, one factor after the other."""
    products = [np.sum(np.log((1 - stake * xs) / (1 - stake * mean))) for stake in STAKES]
    return float(np.logaddexp.reduce(LOG_WEIGHTS + products))


@pytest.mark.parametrize("kind", ["rare", "even", "fractions"])
def test_the_bound_is_where_the_wealth_reaches_its_limit(kind: str) -> None:
    rng = np.random.default_rng(3)
    xs = {"rare": rng.random(400) < 0.02, "even": rng.random(50) < 0.5, "fractions": rng.random(80) ** 3}[kind]
    xs = np.asarray(xs, np.float64)
    found, alpha = sequence(xs), 0.05
    assert log_wealth(xs, found.upper(alpha) + 1e-9) >= np.log(1 / alpha) > log_wealth(xs, found.upper(alpha) - 1e-6)
    assert found.lower(alpha) == pytest.approx(1 - sequence(1 - xs).upper(alpha), abs=1e-9)
    low, high = found.interval(alpha)
    assert low < found.lower(alpha) < xs.mean() < found.upper(alpha) < high


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.03])
def test_bounds_cover_at_every_time_at_once(rate: float) -> None:
    """The wealth against the true mean reaches 1 / alpha in alpha of all streams at most."""
    alpha, streams = 0.1, 2000
    hits = np.cumsum(np.random.default_rng(11).random((streams, 3000), np.float32) < rate, axis=1)
    passed = np.zeros(streams, bool)
    for n in np.unique(np.geomspace(1, 3000, 120).astype(int)):
        products = hits[:, n - 1, None] * np.log1p(-STAKES) - n * np.log1p(-STAKES * rate)
        passed |= np.logaddexp.reduce(LOG_WEIGHTS + products, axis=1) >= np.log(1 / alpha)
    assert passed.mean() <= alpha


def test_the_average_of_a_moving_mean_is_covered() -> None:
    """From no disagreement to much of it: the bound is of the average so far."""
    rng, failed = np.random.default_rng(5), 0
    for _ in range(100):
        found, rates = MeanSequence(), np.repeat([0.001, 0.2, 0.01], 150)
        for t, (x, average) in enumerate(zip(rng.random(450) < rates, rates.cumsum() / np.arange(1, 451), strict=True)):
            found.add(float(x))
            if t % 15 == 14 and found.upper(0.05) < average:
                failed += 1
                break
    assert failed <= 5


@pytest.mark.parametrize("rate", [0.001, 0.003, 0.01, 0.03])
def test_bounds_are_tight_after_two_thousand_audits(rate: float) -> None:
    assert MeanSequence.of_counts(2000, 2000 * rate).upper(0.05) <= 2 * rate + 0.005


def test_sums_alone_give_wider_bounds() -> None:
    xs = np.random.default_rng(0).random(60)
    assert MeanSequence.of_counts(60, float(xs.sum())).upper(0.05) > sequence(xs).upper(0.05)
    rare = np.zeros(60)
    rare[:3] = 1
    assert MeanSequence.of_counts(60, 3.0).upper(0.05) == pytest.approx(sequence(rare).upper(0.05))


@pytest.mark.parametrize("x", [-0.1, 1.1, float("nan")])
def test_values_outside_are_refused(x: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        MeanSequence().add(x)


def test_what_is_dropped_counts_as_a_disagreement() -> None:
    audit = Audit(0.5, most=2, seed=0)
    assert [audit.began() for _ in range(3)] == [True, True, False]
    audit.add(0.0)
    audit.dropped()
    assert (audit.n, audit.disagreement, audit.lost, audit.on_their_way) == (3, pytest.approx(2 / 3), 2, 0)
    assert "2 of 3 audits were dropped" in audit.to_json()["notes"][0]


def test_the_coin_is_thrown_at_the_stated_share() -> None:
    assert 80 < sum(Audit(0.1, seed=4).drawn() for _ in range(1)) + sum(map(bool, _coins(0.1, 1000))) < 121
    assert not any(_coins(0.0, 50))
    assert all(_coins(1.0, 50))


def _coins(share: float, n: int) -> list[bool]:
    audit = Audit(share, seed=4)
    return [audit.drawn() for _ in range(n)]


def test_the_drop_over_all_answers_counts_forced_ones_whole() -> None:
    audit = Audit(1.0)
    for _ in range(500):
        assert audit.began()
        audit.add(0.0)
        audit.answered(by_base=False)
    for _ in range(480):
        audit.answered(by_base=True)
    for _ in range(20):
        audit.answered(by_base=False, forced=True)
    assert audit.exit_ratio == 0.5
    assert audit.drop_bound == pytest.approx(0.5 * audit.bound + 0.02)
    assert any("against the rule" in note for note in audit.notes)


def test_an_audit_goes_on_from_its_state() -> None:
    audit = Audit(0.2)
    for x in (0.0, 1.0, 0.25):
        audit.began()
        audit.add(x)
        audit.answered(by_base=False)
    before = audit.bound
    audit.began()
    audit.began()
    again = Audit(0.2)
    again.restore(json.loads(json.dumps(audit.to_state())))
    assert (again.n, again.lost, again.exits) == (5, 2, 3)  # what was on its way is dropped
    assert again.bound > before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state["sequence"].update(n=-1),
        lambda state: state["sequence"].update(logs=[[0.0]]),
        lambda state: state["sequence"].update(sum=10.0),
        lambda state: state.update(exits=-1),
        lambda state: state.update(lost="many"),
    ],
)
def test_other_states_are_refused(spoil: object) -> None:
    state = Audit(0.2).to_state()
    spoil(state)  # type: ignore[operator]
    with pytest.raises(ValueError):
        Audit(0.2).restore(state)


def test_nothing_is_bounded_before_the_first_audit() -> None:
    audit = Audit(0.01)
    assert (audit.to_json()["disagreement"], audit.bound, audit.drop_bound) == (None, 1.0, 1.0)
    audit.answered(by_base=False)
    assert audit.notes == ["no exit has been audited yet, so there is no bound"]


def _boxes(*left: float) -> dict[str, np.ndarray]:
    box = np.array([[x, 0.0, 10.0, 10.0] for x in left]).reshape(-1, 4)
    return {"box": box, "score": np.ones(len(box)), "label": np.ones(len(box), np.int64)}


def _mask(*values: int) -> bytes:
    return encode(np.array([values], np.uint8), 10)


@pytest.mark.parametrize(
    ("task", "answer", "base", "expected"),
    [
        (CLASSES, 3, 3, 0.0),
        (CLASSES, 3, 4, 1.0),
        (PLAIN, "bee", "bee", 0.0),
        (PLAIN, np.array([1.0, 2.0]), np.array([1.0, 2.0]), 0.0),
        (PLAIN, np.array([1.0, 2.0]), np.array([1.0, 2.5]), 1.0),
        (LABELS, np.array([True, False, True]), np.array([True, False, True]), 0.0),
        (LABELS, np.array([True, False, True]), np.array([True, False, False]), 1 / 3),
        (LABELS, np.array([True, False]), np.array([False, True]), 1.0),
        (BOXES, _boxes(0, 50), _boxes(0, 50), 0.0),
        (BOXES, _boxes(0, 50), _boxes(0), 1 / 3),
        (BOXES, _boxes(), _boxes(0), 1.0),
        (MASK, _mask(0, 1, 2, 2), _mask(0, 1, 2, 2), 0.0),
        (MASK, _mask(0, 0, 1, 1), _mask(0, 1, 1, 1), 1 - (1 / 2 + 2 / 3) / 2),
        (MASK, _mask(5, 5), _mask(9, 9), 1.0),
    ],
)
def test_disagreement_is_what_the_task_makes_of_it(task: object, answer: object, base: object, expected: float) -> None:
    assert task.disagreement(answer, base) == pytest.approx(expected)  # type: ignore[attr-defined]
