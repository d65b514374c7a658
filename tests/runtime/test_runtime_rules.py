"""Every rule and a learned score in the engine: the answers that planning expects of the same outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import Artefact, InForce, OperatingPoint, Rule, decide, load_artefact, save_artefact
from pilotfish.errors import UnreadableSample
from pilotfish.models import Preprocessing
from pilotfish.plan import tune
from pilotfish.plan.path import route
from pilotfish.plan.trace import make_trace
from pilotfish.records import Records, RecordsMeta, Run, from_logits, read_table
from pilotfish.records.records import string_ids
from pilotfish.runtime import Answers, Engine
from pilotfish.runtime.supply import DecodingSupply, TensorSupply
from pilotfish.scores import SCORES, ExitScore
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
    right = trace.quality[stage, np.arange(N)]
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


TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
MAX_PROB = (ExitScore(SCORES["max_prob"], "log_odds"),)
RULES = {
    "sweep": InForce(Rule(), (ExitScore(SCORES["margin"], "margin", {}, CLASSES),) * 2, OperatingPoint((0.8, 0.6))),
    "ensemble": InForce(Rule("ensemble", 0.4), MAX_PROB * 2, OperatingPoint((0.8, 1.2))),
    "average": InForce(Rule("average"), MAX_PROB * 2, OperatingPoint((0.8, 0.5))),
    "agreement": InForce(Rule("agreement"), (), OperatingPoint((np.inf, 1.0))),
    "patience": InForce(Rule("patience"), (), OperatingPoint((1.0, 1.0))),
    "intervals": InForce(
        Rule(),
        MAX_PROB * 2,
        OperatingPoint((0.2, 0.3), None, ((0.2, 0.5, 1.0), (0.3, 2.0))),
    ),
}


@pytest.fixture(scope="module")
def learned(run: Run) -> Artefact:
    return tune(run, NAMES, max_drop=0.1, score="learned").artefact


def in_force(name: str, learned: Artefact) -> InForce:
    return learned.in_force if name == "learned" else RULES[name]


def plain(logits: Sequence[np.ndarray], rules: InForce, i: int) -> tuple[int, int, float] | None:
    """(prediction, stage, confidence) of one sample alone, stage by stage; None when the last is not finite."""
    outputs = []
    for k in range(3):
        outputs.append(from_logits(logits[k][i : i + 1], top_k=CLASSES))
        found = decide(rules.rule, rules.scores, k, outputs, 3)
        if np.isfinite(logits[k][i]).all() and rules.point.leaves(k, found.values)[0]:
            return int(found.outputs.prediction[0]), k, float(found.shown[0])
    return None


def same(answers: Answers, i: int, expected: tuple[int, int, float]) -> None:
    assert i not in answers.errors
    assert (answers.prediction[i], answers.stage[i]) == expected[:2]
    assert answers.confidence[i] == pytest.approx(expected[2], abs=1e-12)


@pytest.mark.parametrize("name", [*RULES, "learned"])
@pytest.mark.parametrize(("n", "sizes"), [(101, (16, 16, 16)), (53, (7, 3, 5)), (20, (64, 1, 9)), (1, (4, 4, 4))])
def test_odd_batches_and_bad_samples_change_no_other_answer(
    name: str, n: int, sizes: tuple[int, ...], logits: list[np.ndarray], learned: Artefact
) -> None:
    """Unreadable samples at the start, inside and at the end of batches; one more fails on its way to each stage."""
    rules, unread = in_force(name, learned), {0, 8, n // 2, n - 1} if n > 1 else set()
    late = {1: {3, 17, n // 3}, 2: {5, 12, n // 4}} if n > 1 else {1: set(), 2: set()}

    def read(i: int) -> np.ndarray:
        if i in unread:
            raise UnreadableSample(f"{i} is bad")
        return np.array([i], np.float32)

    def chain(stage: int) -> object:
        def prepare(sample: np.ndarray) -> np.ndarray:
            if int(sample[0]) in late[stage]:
                raise UnreadableSample(f"{int(sample[0])} is late")
            return sample

        return prepare

    chains = [TENSOR, chain(1), chain(2)]
    supply = DecodingSupply(read, n, chains, 2)  # type: ignore[arg-type]
    answers = Engine(stages_of(logits[:3], sizes), rules).run(supply)
    for i in range(n):
        expected = plain(logits, rules, i)
        assert expected is not None
        if i in unread:
            assert answers.errors[i] == f"{i} is bad"
        elif any(i in late[k] for k in range(1, expected[1] + 1)):
            assert answers.errors[i] == f"{i} is late"
            assert answers.stage[i] == -1
        else:
            same(answers, i, expected)


@pytest.mark.parametrize("name", [*RULES, "learned"])
def test_each_stage_may_fail_on_a_sample_and_the_next_one_answers(
    name: str, logits: list[np.ndarray], learned: Artefact
) -> None:
    rules, rng = in_force(name, learned), np.random.default_rng(1)
    damaged = [z.copy() for z in logits[:3]]
    for z in damaged:
        z[rng.uniform(size=N) < 0.2, rng.integers(0, CLASSES)] = rng.choice([np.nan, np.inf])
    indices = np.arange(N, dtype=np.float32)[:, None]
    answers = Engine(stages_of(damaged, (11, 6, 4)), rules).run(TensorSupply([indices] * 3))
    for i in range(N):
        expected = plain(damaged, rules, i)
        if expected is None:  # and only then: an earlier stage's failure is nobody's error
            assert not np.isfinite(damaged[2][i]).all()
            assert answers.errors[i] == "the outputs of s2 are not finite"
        else:
            same(answers, i, expected)


@pytest.mark.parametrize("name", [*RULES, "learned"])
@pytest.mark.parametrize("sizes", [(16, 16, 16), (7, 3, 5)])
def test_a_mask_decides_who_exits_and_the_rule_what_is_answered(
    name: str, sizes: tuple[int, ...], logits: list[np.ndarray], learned: Artefact
) -> None:
    rules, mask = in_force(name, learned), np.random.default_rng(2).integers(0, 3, N)
    indices = np.arange(N, dtype=np.float32)[:, None]
    answers = Engine(stages_of(logits[:3], sizes), rules, mask).run(TensorSupply([indices] * 3))
    assert answers.stage.tolist() == mask.tolist()
    outputs = [from_logits(z, top_k=CLASSES) for z in logits[:3]]
    for k in range(3):
        found = decide(rules.rule, rules.scores, k, outputs[: k + 1], 3)
        assert (answers.prediction == found.outputs.prediction)[mask == k].all()
        assert answers.confidence[mask == k] == pytest.approx(found.shown[mask == k], abs=1e-12)


def test_an_engine_runs_twice_and_forgets_between(logits: list[np.ndarray]) -> None:
    for rules in RULES.values():
        stages = stages_of(logits[:3], (16, 8, 4))
        engine, indices = Engine(stages, rules), np.arange(N, dtype=np.float32)[:, None]
        first = engine.run(TensorSupply([indices] * 3))
        engine.run(TensorSupply([indices[:10] + 50] * 3))
        again = engine.run(TensorSupply([indices] * 3))
        assert (again.stage == first.stage).all()
        assert (again.prediction == first.prediction).all()


@pytest.mark.parametrize(
    ("method", "score", "top_k"),
    [
        ("sweep", "dirichlet", 20),
        ("sweep", "learned", 20),
        ("sweep", "entropy", 3),
        ("ensemble", "learned_right", 3),
        ("ensemble", "margin", 2),
        *(("average", "max_prob", k) for k in (1, 2, 3, 20)),
    ],
)
def test_records_of_more_classes_or_fewer_than_the_engine_would_keep(
    method: str, score: str, top_k: int, tmp_path: Path
) -> None:
    rng, made = np.random.default_rng(5), Run(tmp_path)
    label = rng.integers(0, 25, N)
    wide = [rng.normal(size=(N, 25)).astype(np.float32) for _ in NAMES]
    for k, z in enumerate(wide):
        z[np.arange(N), label] += 1.0 + 1.2 * k
        meta = RecordsMeta(NAMES[k], "val", n_classes=25, costs={"macs": 10.0**k})
        made.write(Records(string_ids(np.arange(N)), label, from_logits(z, top_k=top_k), meta))
    options = {"weight": 0.6} if method == "ensemble" else {}
    tuned = tune(made, NAMES, max_drop=0.2, method=method, score=score, options=options).artefact
    artefact = load_artefact(save_artefact(tuned, tmp_path / "cascade"))
    trace = make_trace(read_table(made, NAMES[:-1], NAMES[-1]), NAMES, artefact.rule, artefact.scores, None, None)
    point = artefact.operating_point
    stage = route(trace, point.exit_sets or tuple((t,) for t in point.thresholds))
    indices = np.arange(N, dtype=np.float32)[:, None]
    answers = Engine(stages_of(wide, (7, 3, 5)), artefact.in_force).run(TensorSupply([indices] * 3))
    assert answers.stage.tolist() == stage.tolist()
    assert ((answers.prediction == label) == trace.quality[stage, np.arange(N)]).all()
