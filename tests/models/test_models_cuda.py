"""What needs a GPU. Skipped, visibly, where there is none."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from pilotfish.cascade import InForce, OperatingPoint, Rule  # noqa: E402
from pilotfish.models import load_model  # noqa: E402
from pilotfish.models.backends.torch_buckets import CudaGraphBackend  # noqa: E402
from pilotfish.records import from_logits  # noqa: E402
from pilotfish.runtime import Engine, EngineStage  # noqa: E402
from pilotfish.runtime.supply import TensorSupply  # noqa: E402
from pilotfish.scores import SCORES, ExitScore  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
NAME = "timm:test_resnet?weights=random"


def inputs(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, 3, 160, 160), dtype=np.float32)


def pair() -> tuple[object, CudaGraphBackend]:
    model = load_model(NAME, "cuda", backend="torch")
    return model.backend, CudaGraphBackend(model.backend.module, "cuda", buckets=(1, 2, 4, 8, 16))  # type: ignore[attr-defined]


def test_torch_is_the_default() -> None:
    assert load_model(NAME, "cuda").backend.name == "torch"


def test_graphs_say_what_torch_says_at_any_batch_size() -> None:
    plain, graphs = pair()
    for n in (1, 3, 5, 16, 17, 40, 2, 1):
        batch = inputs(n)
        expected = plain.step(batch)[0]  # type: ignore[attr-defined]
        assert np.abs(graphs.step(batch)[0] - expected).max() < 1e-3
        reduced = graphs.reduce(batch, 3)
        np.testing.assert_allclose(reduced.log_odds, from_logits(expected).log_odds, atol=1e-3)
        assert len(reduced) == n


def test_padding_rows_never_leak() -> None:
    _, graphs = pair()
    alone = graphs.step(inputs(3))[0]
    graphs.step(np.full((4, 3, 160, 160), np.nan, np.float32))  # what the padding row holds from now on
    assert np.array_equal(graphs.step(inputs(3))[0], alone)


def test_nothing_is_captured_after_warm_up() -> None:
    _, graphs = pair()
    graphs.warm_up((3, 160, 160))
    made = len(graphs.captured)
    for n in (1, 2, 3, 7, 16, 33):
        graphs.reduce(inputs(n), 1)
    assert len(graphs.captured) == made


def test_the_engine_on_the_device() -> None:
    _, graphs = pair()
    rows = inputs(100)
    in_force = InForce(Rule(), (ExitScore(SCORES["max_prob"], "log_odds"),), OperatingPoint((0.0,)))
    forced = np.random.default_rng(0).integers(0, 2, 100)
    stages = [EngineStage("saver", graphs, 16, lanes=2), EngineStage("base", graphs, 16, lanes=2)]
    found = Engine(stages, in_force, forced).run(TensorSupply([rows, rows]))
    assert found.stage.tolist() == forced.tolist()
    assert found.prediction.tolist() == graphs.step(rows)[0].argmax(1).tolist()
