"""What the console remembers of the last minutes."""

import random
from itertools import pairwise
from types import SimpleNamespace

import pytest

from pilotfish.runtime import Answer
from pilotfish.serve.report.history import KEPT, MARKS, STEP, STEPS, History
from pilotfish.serve.served import Served


def served(stage=0, flags=(), error=None, id_="a", confidence=0.5) -> Served:
    found = None if error else stage
    return Served(id_, Answer("0", found, None, confidence, found, error), tuple(flags))


class Clock:
    def __init__(self, now: float = 1e9) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seed", range(3))
def test_the_ring_counts_what_a_list_of_all_events_counts(seed):
    draw, clock = random.Random(seed), Clock()
    history, events = History(clock), []
    for _ in range(400):
        clock.now += draw.choice([0.0, 0.1, 3.0, STEP, 61.0, draw.expovariate(0.002)])
        kind = draw.choice(["exited", "went on", "failed", "refused"])
        if kind == "refused":
            history.refused(2)
        else:
            history.answered(served(error="bad" if kind == "failed" else None), kind == "exited", "r1")
        events.append((int(clock.now // STEP), kind))
    found = history.traffic()
    last = int(clock.now // STEP)
    assert found["end"] == (last + 1) * STEP
    for name in ("answered", "exited", "failed", "refused"):
        kinds = {"answered": ("exited", "went on", "failed")}.get(name, (name,))
        each = 2 if name == "refused" else 1
        expected = [
            each * sum(place == at and kind in kinds for at, kind in events)
            for place in range(last + 1 - STEPS, last + 1)
        ]
        assert found[name] == expected


def test_a_clock_that_is_set_back_loses_nothing():
    clock = Clock()
    history = History(clock)
    history.answered(served(), True, "r1")
    clock.now -= 3600
    history.answered(served(), True, "r1")
    assert sum(history.traffic()["answered"]) == 2


def test_only_what_is_worth_a_look_is_kept_and_only_the_last_of_it():
    history = History(Clock())
    history.answered(served(), True, "r1")
    history.answered(served(1, ["shadow"]), False, "r1")
    assert history.flagged() == []
    for i in range(3 * KEPT):
        history.answered(served(0, ["governed"], id_=f"{i:0300d}"), False, "r1")
    found = history.flagged()
    assert len(found) == KEPT
    assert all(len(entry["id"]) <= 200 for entry in found)


@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), None])
def test_a_confidence_that_is_no_number_is_not_known(confidence):
    history = History(Clock())
    history.answered(served(1, ["unsure"], confidence=confidence), False, "r1")
    assert history.flagged()[0]["confidence"] is None


def audit(n: int, bound: float) -> SimpleNamespace:
    return SimpleNamespace(n=n, disagreement=0.01, bound=bound)


def test_marks_of_the_audit_stay_bounded_and_reach_back_to_the_first():
    history = History(Clock())
    for n in range(1, 10_001):
        history.audited("9", audit(n, 1 / n))
    marks = history.marks("9")
    assert MARKS / 3 < len(marks) <= MARKS
    assert marks[0][0] == 1
    assert marks[-1][0] > 9_800
    gaps = {b[0] - a[0] for a, b in pairwise(marks)}
    assert max(gaps) <= 2 * min(gaps)


def test_marks_are_of_the_newest_operating_point():
    history = History(Clock())
    history.audited("9", audit(5, 0.4))
    assert history.marks("10") == []
    history.audited("10", audit(1, 1.0))
    history.audited("9", audit(6, 0.3))  # of an exit before the move
    assert history.marks("10") == [(1, 0.01, 1.0)]
    assert history.marks("9") == []
