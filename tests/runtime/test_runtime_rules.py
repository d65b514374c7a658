"""Every rule and a learned score in the engine: the answers that planning expects of the same outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pilotfish.plan import tune
from pilotfish.plan.path import route
from pilotfish.plan.trace import make_trace
from pilotfish.records import Records, RecordsMeta, Run, from_logits, read_table
from pilotfish.records.records import string_ids
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.supply import TensorSupply
from support.engine import stages_of

N, CLASSES, NAMES = 300, 6, ("a", "b", "c")


@pytest.fixture(scope="module")
def logits() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, N)
    found = []
    for skill in (1.0, 2.0, 3.5):
        z = rng.normal(size=(N, CLASSES)).astype(np.float32)
        z[np.arange(N), label] += skill
        found.append(z)
    return [*found, label]


@pytest.fixture(scope="module")
def run(logits: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = Run(tmp_path_factory.mktemp("run"))
    for k, name in enumerate(NAMES):
        meta = RecordsMeta(name, "val", n_classes=CLASSES, costs={"macs": 10.0**k})
        outputs = from_logits(logits[k], top_k=CLASSES)
        made.write(Records(string_ids(np.arange(N)), logits[3], outputs, meta))
    return made


CASES = [
    *((method, "max_prob") for method in ("sweep", "pcee", "pcee-ws", "dyce", "msdnet", "average", "agreement")),
    *(("patience", "max_prob"), ("ensemble", "max_prob"), ("ensemble", "entropy")),
    *(("sweep", score) for score in ("margin", "entropy", "learned", "per_class", "temperature", "dirichlet")),
]


@pytest.mark.parametrize(("method", "score"), CASES)
@pytest.mark.parametrize("sizes", [(16, 16, 16), (7, 3, 5)])
def test_running_is_what_was_planned(
    method: str, score: str, sizes: tuple[int, ...], run: Run, logits: list[np.ndarray], tmp_path: Path
) -> None:
    drop, options = (0.3 if method == "average" else 0.12), ({"neighbours": 10} if method == "pcee-ws" else {})
    artefact = tune(run, NAMES, max_drop=drop, method=method, score=score, options=options).artefact
    table = read_table(run, NAMES[:-1], NAMES[-1])
    trace = make_trace(table, NAMES, artefact.rule, artefact.scores, None, None)
    point = artefact.operating_point
    stage = route(trace, point.exit_sets or tuple((t,) for t in point.thresholds))
    indices = np.arange(N, dtype=np.float32)[:, None]
    answers = Engine(stages_of(logits[:3], sizes), artefact.in_force).run(TensorSupply([indices] * 3))
    assert not answers.errors
    assert answers.stage.tolist() == stage.tolist()
    right = trace.right[stage, np.arange(N)]
    assert ((answers.prediction == logits[3]) == right).all()
    assert len(set(stage.tolist())) > 1, "the case says something only where samples part"


def test_a_sample_whose_outputs_are_not_finite_goes_on_alone(run: Run, logits: list[np.ndarray]) -> None:
    artefact = tune(run, NAMES, max_drop=0.2, method="ensemble").artefact
    broken = [z.copy() for z in logits[:3]]
    broken[0][5] = np.nan  # the first stage alone: the next one answers
    broken[2][9] = np.nan
    indices = np.arange(N, dtype=np.float32)[:, None]
    whole = Engine(stages_of(logits[:3], (8, 8, 8)), artefact.in_force).run(TensorSupply([indices] * 3))
    found = Engine(stages_of(broken, (8, 8, 8)), artefact.in_force).run(TensorSupply([indices] * 3))
    others = np.array([i for i in range(N) if i not in (5, 9)])
    assert (found.prediction[others] == whole.prediction[others]).all()
    assert found.stage[5] != 0
    assert (9 in found.errors) == (whole.stage[9] == 2)
