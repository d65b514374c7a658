"""Audited inputs in a chain of three stages: answered at once, compared with the base, never counted twice."""

from __future__ import annotations

from concurrent.futures import wait
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import ModelError
from pilotfish.models import Preprocessing
from pilotfish.runtime import Engine, EngineStage
from pilotfish.runtime.supply import DecodingSupply
from pilotfish.serve import ServeOptions
from pilotfish.serve.passage import Passage
from pilotfish.serve.point import Point
from pilotfish.serve.served import Caller
from pilotfish.serve.watch.audit import Audit
from pilotfish.serve.watch.online_map import OnlineMap
from pilotfish.serve.watch.shadow import Shadow
from pilotfish.tasks.classes import CLASSES
from support.engine import Lookup, by_max_prob, plain_cascade

TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
N, LONG, THRESHOLDS = 60, 60, [1.5, 1.0]
LOGITS = [np.random.default_rng(seed).standard_normal((N, 4)).astype(np.float32) * 3 for seed in range(3)]
PLAIN = [plain_cascade(LOGITS, THRESHOLDS, i) for i in range(N)]
BASE = LOGITS[2].argmax(axis=1)


class Failing(Lookup):
    """A base that cannot compute anything."""

    def step(self, *given: Any) -> Any:
        raise ModelError("no memory of that")


def hosted(**options: Any) -> Any:
    """What a passage asks of a cascade that is served."""
    nothing = lambda *_: None  # noqa: E731
    return SimpleNamespace(
        options=ServeOptions(**options),
        meter=SimpleNamespace(escalated=nothing, audited=nothing),
        history=SimpleNamespace(audited=nothing),
        fair=SimpleNamespace(began=nothing),
        governor=None,
        labels=None,
        name="chain",
    )


def point(**watched: Any) -> Point:
    artefact: Any = SimpleNamespace(stages=[None] * 3, task=CLASSES)
    return Point("1", artefact, maps=tuple(OnlineMap(believes=False) for _ in range(3)), **watched)


def run(at: Point, base: Any = Lookup, logits: Any = LOGITS, **options: Any) -> list[Any]:
    """Answers to all inputs; the engine has ended, so every audit has come back."""
    backends = [Lookup(logits[0]), Lookup(logits[1]), base(logits[2])]
    stages = [EngineStage(f"s{k}", backend, 4) for k, backend in enumerate(backends)]
    read = lambda i: np.array([i], np.float32)  # noqa: E731
    serving = hosted(**options)
    with Engine(stages, by_max_prob(THRESHOLDS), supply=DecodingSupply(read, (), [TENSOR] * 3, 2)) as engine:
        passages = [Passage(serving, at, Caller("test", str(i)), i) for i in range(N)]
        futures = [engine.submit(i, passage=passage) for i, passage in enumerate(passages)]
        wait(futures, LONG)
        for future, passage in zip(futures, passages, strict=True):
            if future.result().error is None:
                passage.count(future.result(), passage.flags)
    return [future.result() for future in futures]


def test_exits_of_both_savers_are_audited() -> None:
    audit = Audit(1.0)
    at = point(audit=audit)
    found = run(at, audit=1.0)
    assert [(f.prediction, f.stage) for f in found] == [(p.prediction, p.stage) for p in PLAIN if p]
    exits = [i for i, p in enumerate(PLAIN) if p and p.stage < 2]
    assert {PLAIN[i].stage for i in exits} == {0, 1}  # type: ignore[union-attr]
    assert (audit.n, audit.lost, audit.on_their_way) == (len(exits), 0, 0)
    differ = [PLAIN[i].prediction != BASE[i] for i in exits]  # type: ignore[union-attr]
    assert audit.disagreement == pytest.approx(np.mean(differ))
    assert (audit.exits, audit.base, audit.forced) == (len(exits), N - len(exits), 0)
    assert [sum(one.n) for one in at.maps] == [
        sum(p.stage == 0 for p in PLAIN if p),
        sum(p.stage > 0 for p in PLAIN if p),  # exits of the second, and what went on from it
        0,
    ]


def test_audits_that_the_base_fails_count_as_disagreements() -> None:
    audit = Audit(1.0)
    found = run(point(audit=audit), base=Failing, audit=1.0)
    exits = [i for i, p in enumerate(PLAIN) if p and p.stage < 2]
    assert [i for i, f in enumerate(found) if f.error is None] == exits  # they had their answers
    assert (audit.n, audit.lost, audit.disagreement, audit.on_their_way) == (len(exits), len(exits), 1.0, 0)
    assert (audit.bound, audit.drop_bound) == (1.0, 1.0)


def test_no_more_are_on_their_way_than_may_be() -> None:
    audit = Audit(1.0, most=0)
    found = run(point(audit=audit), audit=1.0)
    assert [(f.prediction, f.stage) for f in found] == [(p.prediction, p.stage) for p in PLAIN if p]
    assert audit.n == audit.lost == sum(p.stage < 2 for p in PLAIN if p)


def test_the_shadow_of_a_chain_remembers_the_first_exit() -> None:
    shadow = Shadow((1.0, 3.0, 13.0), 10.0)
    found = run(point(shadow=shadow), shadow=True)
    assert [(f.prediction, f.stage) for f in found] == [(label, 2) for label in BASE.tolist()]
    said, exits = shadow.to_json(), [i for i, p in enumerate(PLAIN) if p and p.stage < 2]
    assert (said["n"], said["exit_ratio"]) == (N, pytest.approx(len(exits) / N))
    assert said["drop"] == pytest.approx(sum(PLAIN[i].prediction != BASE[i] for i in exits) / N)  # type: ignore[union-attr]
    spent = [(1.0, 3.0, 13.0)[p.stage] for p in PLAIN if p]
    assert said["saved"] == pytest.approx(1 - np.mean(spent) / 10)


def test_the_shadow_counts_inputs_that_no_saver_says_anything_of() -> None:
    unknown = [np.where(np.arange(N)[:, None] < 9, np.float32(np.nan), logits) for logits in LOGITS[:2]]
    shadow = Shadow((1.0, 3.0, 13.0), 10.0)
    run(point(shadow=shadow), logits=[*unknown, LOGITS[2]], shadow=True)
    exits = sum(p.stage < 2 for p in PLAIN[9:] if p)
    assert (shadow.n, shadow.to_json()["exit_ratio"]) == (N, pytest.approx(exits / N))
