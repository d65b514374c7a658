"""Shadow mode: what the cascade would have done, counted beside the base."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pilotfish.serve.watch.betting import MeanSequence
from pilotfish.serve.watch.shadow import Shadow


def test_it_counts_what_the_cascade_would_have_done() -> None:
    shadow = Shadow((1.0, 11.0), base_cost=10.0)
    for _ in range(60):
        shadow.add(0, 0.0)
    for _ in range(2):
        shadow.add(0, 1.0)
    for _ in range(38):
        shadow.add(None)
    found = shadow.to_json()
    assert (found["n"], found["exit_ratio"], found["drop"]) == (100, 0.62, 0.02)
    assert found["disagreement"] == pytest.approx(2 / 62)
    assert found["saved"] == pytest.approx(0.62 - 0.1)  # r - C_S / C_B
    low, high = found["saved_interval"]
    assert low < found["saved"] < high
    ratio_low, ratio_high = found["exit_ratio_interval"]
    assert (low, high) == (pytest.approx(ratio_low - 0.1), pytest.approx(ratio_high - 0.1))
    assert 0.02 < found["drop_bound"] < found["bound"] < 0.2


@pytest.mark.parametrize("costs", [(None, 10.0), ((1.0, 2.0), None), ((), 1.0)])
def test_without_costs_the_rest_is_there(costs: tuple[object, object]) -> None:
    shadow = Shadow(*costs)  # type: ignore[arg-type]
    shadow.add(0, 0.0)
    found = shadow.to_json()
    assert (found["saved"], found["saved_interval"], found["exit_ratio"]) == (None, None, 1.0)


def test_before_the_first_input_nothing_is_said() -> None:
    found = Shadow((1.0, 11.0), 10.0).to_json()
    assert (found["n"], found["drop"], found["drop_bound"], found["saved"]) == (0, None, 1.0, None)


def test_bounds_are_computed_once_for_each_input(monkeypatch: pytest.MonkeyPatch) -> None:
    computed, shadow = [0], Shadow((1.0, 11.0), 10.0)
    first_rejected = MeanSequence._first_rejected

    def counted(*arguments: Any) -> float:
        computed[0] += 1
        return first_rejected(*arguments)

    monkeypatch.setattr(MeanSequence, "_first_rejected", counted)
    seen = []
    for left_at in (0, 0, None):
        shadow.add(left_at, 0.5)
        before, found = computed[0], shadow.to_json()
        once = computed[0]
        assert once > before
        assert shadow.to_json() == found
        assert computed[0] == once
        seen.append(found["drop_bound"])
    assert len({*seen}) == 3
    state, last = shadow.to_state(), shadow.to_json()
    shadow.add(0, 1.0)
    shadow.to_json()
    shadow.restore(state)
    assert shadow.to_json() == last


def test_it_goes_on_from_its_state() -> None:
    rng, shadow = np.random.default_rng(0), Shadow((2.0, 5.0, 9.0), 4.0)
    for at in rng.integers(0, 3, 50).tolist():
        shadow.add(None if at == 2 else at, float(rng.random()))
    again = Shadow((2.0, 5.0, 9.0), 4.0)
    again.restore(json.loads(json.dumps(shadow.to_state())))
    assert again.to_json() == shadow.to_json()
