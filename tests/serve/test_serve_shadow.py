"""Shadow mode: what the cascade would have done, counted beside the base."""

from __future__ import annotations

import json

import numpy as np
import pytest

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


def test_it_goes_on_from_its_state() -> None:
    rng, shadow = np.random.default_rng(0), Shadow((2.0, 5.0, 9.0), 4.0)
    for at in rng.integers(0, 3, 50).tolist():
        shadow.add(None if at == 2 else at, float(rng.random()))
    again = Shadow((2.0, 5.0, 9.0), 4.0)
    again.restore(json.loads(json.dumps(shadow.to_state())))
    assert again.to_json() == shadow.to_json()
