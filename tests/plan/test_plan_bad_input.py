"""Planning on records that say little or nonsense: an answer, or an error of ours; never a traceback or a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pilotfish.errors import PilotfishError
from pilotfish.plan import METHODS, analyse, find_chains, rank_pool, rank_savers, tune
from pilotfish.records import Outputs, Records, RecordsMeta, Run, from_logits
from pilotfish.records.records import string_ids
from pilotfish.scores import SCORES

CLASSES = 3
KINDS = [
    "plain",
    "constant",
    "nan",
    "all nan",
    "one class",
    "huge",
    "confidence",
    "classes",
    "unlabelled",
    "no cost",
    "free",
]


def world(kind: str, n: int, folder: Path) -> Run:
    rng = np.random.default_rng(0)
    run, label = Run(folder), rng.integers(0, CLASSES, n) if kind != "one class" else np.ones(n, np.int64)
    for k, name in enumerate("abc"):
        z = rng.normal(size=(n, CLASSES)).astype(np.float32)
        z[np.arange(n), label] += k
        if kind == "constant":
            z[:] = [1, 0, 0]
        if kind in ("nan", "all nan"):
            z[:: 3 if kind == "nan" else 1] = np.nan
        if kind == "huge":
            z[:, 0] = 1e38
        outputs = from_logits(z, top_k=CLASSES)
        if kind == "confidence":
            outputs = Outputs(outputs.prediction, confidence=np.round(rng.uniform(size=n), 1))
        if kind == "classes":
            outputs = Outputs(outputs.prediction)
        costs = {} if kind == "no cost" else {"macs": 0.0 if kind == "free" else 10.0**k}
        known = np.full(n, -1) if kind == "unlabelled" else label
        run.write(
            Records(string_ids(np.arange(n)), known, outputs, RecordsMeta(name, "val", n_classes=CLASSES, costs=costs))
        )
    return run


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_our_errors(kind: str, n: int, tmp_path: Path) -> None:
    run = world(kind, n, tmp_path)
    budgets = [{"max_drop": 0.05}, {"max_cost": "50%"}, {"min_accuracy": 0.5}]
    calls = [
        *(
            lambda m=m, s=s, b=b, g=g: tune(run, s, method=m, guarantee=g, holdout=0, **b).to_json()  # type: ignore[misc]
            for i, m in enumerate(METHODS)
            for s, g, b in (*(("ac", None, b) for b in budgets), ("abc", 0.9, budgets[i % 3]))
        ),
        *(lambda s=s: tune(run, "abc", score=s, max_drop=0.05).to_json() for s in (*SCORES, "auto")),  # type: ignore[misc]
        *(lambda s=s: rank_savers(run, "c", score=s).to_json() for s in ("entropy", "learned", "auto")),  # type: ignore[misc]
        lambda: rank_savers(run, "c", guarantee=0.9, max_drop=0.2).to_json(),
        lambda: find_chains(run, "c", max_drop=0.05, max_stages=4).to_json(),
        lambda: rank_pool(run).to_json(),
        lambda: analyse(run, "c", draws=5).to_json(),
    ]
    answered, errors = 0, []
    for call in calls:
        try:
            call()
            answered += 1
        except PilotfishError as error:
            errors.append(str(error))
    assert not [e for e in errors if "\n" in e or not e]
    if kind == "plain" and n == 60:
        assert answered > len(calls) / 2
