"""The bench: its arithmetic, its mask and its document. No test here depends on how fast anything is."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pilotfish.data import load_data
from pilotfish.errors import DataError, UsageError
from pilotfish.runtime import BenchResult, Cascade, bench

if TYPE_CHECKING:
    from conftest import Pair


@pytest.fixture
def cascade(pair: Pair) -> Cascade:
    return Cascade.load(pair.cascade, allow_python=pair.allowed)


def assert_consistent(result: BenchResult, runs: int) -> None:
    document: dict[str, Any] = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert {"machine", "exit_ratio", "model_only", "end_to_end", "speedup"} <= document.keys()
    assert document["runs"] == runs
    assert math.isclose(sum(document["exit_ratio"]), 1)
    assert {"processor", "cores", "python", "numpy"} <= document["machine"].keys()
    for times in (document["model_only"], document["end_to_end"]):
        assert {"stages_ms", "ideal_ms", "realised_ms", "efficiency"} <= times.keys()
        assert len(times["stages_ms"]) == 2
        spread = times["spread"]
        for key in ("ideal_ms", "realised_ms", "efficiency"):
            assert spread[key][0] <= times[key] <= spread[key][1]
    if runs == 1:  # one run: the medians are that run's numbers
        for times in (result.model_only, result.end_to_end):
            saver, base = (s.median for s in times.stages_ms)
            assert times.ideal_ms.median == pytest.approx(saver + (1 - result.exit_ratio[0]) * base)
            assert times.efficiency.median == pytest.approx(times.ideal_ms.median / times.realised_ms.median)
        whole = result.end_to_end
        assert whole.base_ms == whole.stages_ms[1]
        assert result.speedup.median == pytest.approx(whole.stages_ms[1].median / whole.realised_ms.median)


def test_the_document_adds_up(pair: Pair, cascade: Cascade) -> None:
    result = bench(cascade, pair.data, runs=1, samples=80)
    assert result.n == 80
    assert_consistent(result, 1)
    answers = cascade.predict(pair.images[:80])
    assert result.exit_ratio[0] == pytest.approx(np.mean([a.stage == 0 for a in answers]), abs=1 / 80)


def test_few_tensors_stand_for_many(pair: Pair, cascade: Cascade, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is gone through again; the exits are still those of the samples."""
    expected = bench(cascade, pair.data, runs=1, samples=80)
    monkeypatch.setattr(
        sys.modules["pilotfish.runtime.bench"], "HELD_BYTES", 7 * 2 * 4 * 48
    )  # seven samples at two stages
    few = bench(cascade, pair.data, runs=1, samples=80)
    assert (few.n, few.exit_ratio) == (80, expected.exit_ratio)
    assert_consistent(few, 1)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_is_forced_by_a_mask(share: float, pair: Pair, cascade: Cascade) -> None:
    calls: list[tuple[str, int, int]] = []
    result = bench(cascade, pair.data, exit_ratio=share, runs=2, samples=40, progress=lambda *c: calls.append(c))
    assert_consistent(result, 2)
    assert result.exit_ratio == (share, 1 - share)
    assert result.to_json()["forced_exit_ratio"] == share
    assert all(0 <= done <= total for _, done, total in calls)
    assert ("file to answer", 3, 3) in calls


def test_samples_that_cannot_be_read_are_left_out(pair: Pair, cascade: Cascade) -> None:
    floats = np.zeros((5, 8, 8, 3), np.float32)
    np.savez(pair.folder / "floats.npz", x=floats)
    with pytest.raises(DataError, match=r"none of the 5 samples of .* could be read"):
        bench(cascade, load_data(f"arrays:{pair.folder}/floats.npz"))


@pytest.mark.parametrize("options", [{"exit_ratio": 1.5}, {"exit_ratio": -0.1}, {"runs": 0}, {"samples": 0}])
def test_settings_that_make_no_sense(options: dict[str, Any], pair: Pair, cascade: Cascade) -> None:
    with pytest.raises(UsageError, match=r"is a share from 0 to 1|must be at least 1"):
        bench(cascade, pair.data, **options)
