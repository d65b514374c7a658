"""A network with exits as a cascade whose stages share a backbone: the carry of the engine."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.cascade import InForce, OperatingPoint, Rule
from pilotfish.runtime import Answers, Engine, EngineStage
from pilotfish.runtime.single import answer_one
from pilotfish.runtime.supply import TensorSupply
from pilotfish.scores import SCORES, ExitScore

torch = pytest.importorskip("torch")

N = 60
INPUTS = np.random.default_rng(0).standard_normal((N, 3, 8, 8), dtype=np.float32)


class Part:
    """A trunk's part and its head. It writes down how many samples went through."""

    name = "torch"

    def __init__(self, trunk: Any, head: Any) -> None:
        self.trunk, self.head = trunk.eval(), head.eval()
        self.seen = 0

    def step(self, inputs: np.ndarray | None, carry: tuple[Any, ...] | None) -> tuple[np.ndarray, tuple[Any, ...]]:
        with torch.inference_mode():
            x = torch.from_numpy(inputs) if inputs is not None else carry[0]  # type: ignore[index]
            self.seen += len(x)
            features = self.trunk(x)
            logits: np.ndarray = self.head(features.mean(dim=(2, 3))).numpy()
        return logits, (features,)


def network(exits: int = 3) -> list[Part]:
    torch.manual_seed(0)
    channels = [3, 8, 12, 16][: exits + 1]
    trunks = [
        torch.nn.Sequential(torch.nn.Conv2d(a, b, 3, padding=1), torch.nn.BatchNorm2d(b), torch.nn.ReLU())
        for a, b in itertools.pairwise(channels)
    ]
    return [Part(trunk, torch.nn.Linear(b, 5)) for trunk, b in zip(trunks, channels[1:], strict=True)]


def stages_of(parts: list[Part], sizes: list[int], lanes: int = 1) -> list[EngineStage]:
    return [
        EngineStage(f"net#{k + 1}", part, size, lanes, shares=k > 0)
        for k, (part, size) in enumerate(zip(parts, sizes, strict=True))
    ]


def in_force(thresholds: list[float]) -> InForce:
    scores = tuple(ExitScore(SCORES["max_prob"], "log_odds") for _ in thresholds)
    return InForce(Rule(), scores, OperatingPoint(tuple(thresholds)))


def whole(parts: list[Part]) -> list[np.ndarray]:
    """Logits of every exit with nobody leaving."""
    found = []
    carry: tuple[Any, ...] | None = None
    for k, part in enumerate(parts):
        logits, carry = part.step(INPUTS if k == 0 else None, carry)
        found.append(logits)
    return found


def log_odds(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = p.max(1) / p.sum(1)
    found: np.ndarray = np.log(p / (1 - p))
    return found


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 17), min_size=3, max_size=3),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    lanes=st.integers(1, 2),
)
def test_the_answers_are_those_of_the_whole_network(sizes: list[int], shares: tuple[float, float], lanes: int) -> None:
    parts = network()
    logits = whole(parts)
    values = [log_odds(z) for z in logits]
    thresholds = [float(np.quantile(v, share)) + 1e-4 for v, share in zip(values, shares, strict=False)]
    for part in parts:
        part.seen = 0
    found = Engine(stages_of(parts, sizes, lanes), in_force(thresholds)).run(TensorSupply([INPUTS]))
    stage = np.full(N, 2)
    for k in (1, 0):
        stage[values[k] >= thresholds[k]] = k
    assert found.stage.tolist() == stage.tolist()
    for i in range(N):
        assert found.prediction[i] == logits[stage[i]][i].argmax()
    # layers after an exit do not run for those who left
    assert [part.seen for part in parts] == [N, int((stage > 0).sum()), int((stage > 1).sum())]


def test_features_go_with_their_sample_through_odd_batches() -> None:
    parts = network()
    logits = whole(parts)
    forced = np.random.default_rng(1).integers(0, 3, N)
    stages = stages_of(parts, [7, 5, 4])
    found = Engine(stages, in_force([math.inf, math.inf]), forced).run(TensorSupply([INPUTS]))
    assert found.stage.tolist() == forced.tolist()
    expected = np.stack(logits)[forced, np.arange(N)]
    assert found.prediction.tolist() == expected.argmax(1).tolist()


def test_one_sample_takes_its_features_along() -> None:
    parts = network()
    together = Engine(stages_of(parts, [8, 8, 8]), in_force([0.0, 0.2])).run(TensorSupply([INPUTS]))
    for i in range(0, N, 7):
        alone = answer_one(stages_of(parts, [1, 1, 1]), in_force([0.0, 0.2]), lambda _, i=i: INPUTS[i])
        assert (alone.prediction, alone.stage) == (together.prediction[i], together.stage[i])


def test_a_part_that_fails_on_a_sample_costs_that_sample() -> None:
    parts = network()
    step = parts[1].step

    def touchy(inputs: Any, carry: Any) -> Any:
        from pilotfish.errors import ModelError

        if bool(torch.isclose(carry[0], marker, atol=1e-4).flatten(1).all(1).any()):
            raise ModelError("no luck")
        return step(inputs, carry)

    with torch.inference_mode():
        marker = parts[0].trunk(torch.from_numpy(INPUTS[9:10]))
    parts[1].step = touchy  # type: ignore[method-assign]
    found: Answers = Engine(stages_of(parts, [60, 8, 8]), in_force([math.inf, math.inf])).run(TensorSupply([INPUTS]))
    assert found.errors == {9: "no luck"}
    assert (np.delete(found.stage, 9) == 2).all()
