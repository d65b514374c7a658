"""``build``: record, pick a saver, tune, bench and report in one call."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import load_artefact
from pilotfish.errors import ArtefactError, BudgetError, DataError, RecordsError, UsageError
from pilotfish.flow import build
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions
from pilotfish.records import Run
from pilotfish.runtime import Cascade

NUMBERS = itertools.count()
OPTIONS = RecordOptions(timing=False, batch_size=32)
MODELS = """
import numpy as np
from pilotfish.models.model import Counted, Model
from pilotfish.models.names.python_model import AS_IT_IS, PythonBackend

W = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)

def linear(name, noise, macs):
    weights = W + noise * np.random.default_rng(1).standard_normal(W.shape).astype(np.float32)
    backend = PythonBackend(lambda batch: 3 * batch @ weights, name)
    count = lambda: Counted({"macs": macs})
    return lambda: Model(f"python:{__name__}:{name}", backend, AS_IT_IS, name * 9, (6,), 4, count=count)

base, dear = linear("base", 0, 1e6), linear("dear", 0, 2e6)
close, far, slow = linear("close", 0.3, 1e5), linear("far", 3, 1e4), linear("slow", 0.3, 9.9e5)
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Names of five models in a new module; ``data.npz`` holds samples that ``base`` is right about 19 times in 20."""
    name = f"zoo_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((400, 6)).astype(np.float32)
    weights = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    label = np.where(rng.random(400) < 0.95, (x @ weights).argmax(1), rng.integers(0, 4, 400))
    np.savez(tmp_path / "data.npz", x=x, label=label)
    return {model: f"python:{name}:{model}" for model in ("base", "close", "far", "dear", "slow")}


def test_the_cheapest_saver_within_the_budget_is_taken(zoo: dict[str, str], tmp_path: Path) -> None:
    models = {name: zoo[name] for name in ("far", "base", "close")}
    calls: list[tuple[str, int, int]] = []
    out = tmp_path / "out"
    data = f"arrays:{tmp_path}/data.npz"
    result = build(data, models, out, max_drop=0.02, runs=1, options=OPTIONS, progress=lambda *c: calls.append(c))
    run = Run(tmp_path / "out-run")
    assert result.run == run.path
    assert run.models() == ["base", "close", "far"]
    costs = {s: tune(run, (s, "base"), max_drop=0.02).calibration.cost for s in ("close", "far")}
    assert [s.name for s in load_artefact(out).stages] == [min(costs, key=lambda s: costs[s] or 0), "base"]
    assert result.tuning.calibration.drop <= 0.02
    assert result.tuning.evaluation is not None
    assert [single.name for single in result.singles] == ["far", "close", "base"]
    assert result.report == out / "report.html"
    assert result.report.stat().st_size > 10_000
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document.keys() == {"cascade", "report", "run", "records", "tune", "bench", "notes"}
    assert json.loads((out / "bench.json").read_text()) == document["bench"]
    allowed = [name.removeprefix("python:") for name in models.values()]
    assert len(Cascade.load(out, allow_python=allowed).predict(np.zeros((3, 6), np.float32))) == 3
    assert {what for what, _, _ in calls} >= {"base", "close", "far", "models alone", "file to answer"}


def test_the_base_may_be_named_and_a_dearer_model_is_no_saver(zoo: dict[str, str], tmp_path: Path) -> None:
    models = {name: zoo[name] for name in ("dear", "close", "base")}
    data = f"arrays:{tmp_path}/data.npz"
    limits = {"class_max_drop": {"2": "30%"}, "worst_class_drop": "20%"}
    result = build(data, models, tmp_path / "o", max_cost="60%", base="base", runs=1, options=OPTIONS, **limits)
    assert {c.name: c.limit for c in result.tuning.calibration.classes} == {"2": 0.3, "0": 0.2, "1": 0.2, "3": 0.2}
    assert all(c.drop <= (c.limit or 0.0) for c in result.tuning.calibration.classes)
    assert [s.name for s in result.tuning.artefact.stages] == ["close", "base"]
    assert (result.tuning.calibration.cost or 1e9) <= 0.6e6


def test_what_cannot_be_built(zoo: dict[str, str], tmp_path: Path) -> None:
    data = f"arrays:{tmp_path}/data.npz"
    with pytest.raises(UsageError, match="a base and at least one saver are needed, found 1 model"):
        build(data, [zoo["base"]], tmp_path / "o", max_drop=0.01)
    pair = {name: zoo[name] for name in ("base", "close")}
    with pytest.raises(UsageError, match="exactly one of max_drop, max_cost, min_metric is needed, found none"):
        build(data, pair, tmp_path / "o", options=OPTIONS)
    with pytest.raises(UsageError, match="the base far is not among the models: base, close"):
        build(data, pair, tmp_path / "o", max_drop=0.01, base="far", options=OPTIONS)
    for cost, said in (("usd", "macs"), ("ms", "macs"), ("ms@cuda-b8", "macs")):  # OPTIONS time nothing
        with pytest.raises(RecordsError, match=f"no recording counts a cost '{cost}'; there are .*{said}"):
            build(data, pair, tmp_path / "o", max_drop=0.01, cost=cost, options=OPTIONS)
    with pytest.raises(UsageError, match="max_drop=1 is read as a fraction"):
        build(data, pair, tmp_path / "o", max_drop=1, options=OPTIONS)
    with pytest.raises(DataError, match="400 of 400 samples are in the training data"):
        build(data, pair, tmp_path / "o", max_drop="1%", trained_on=data, options=OPTIONS)
    with pytest.raises(UsageError, match="judge on is random or last"):
        build(data, pair, tmp_path / "o", max_drop="1%", judge_on="first", options=OPTIONS)
    assert not (tmp_path / "o-run").exists()  # said before anything is recorded
    with pytest.raises(BudgetError, match=r"no saver: of 1 candidate for base, close: .* best accuracy that can be"):
        build(data, pair, tmp_path / "o", min_accuracy=1.0, options=OPTIONS)
    with pytest.raises(BudgetError, match=r"none costs less than base alone; run the base alone"):
        build(data, {"base": zoo["base"], "slow": zoo["slow"]}, tmp_path / "o", max_drop=0.0, options=OPTIONS)
    with pytest.raises(UsageError, match="no class is called '9'"):
        build(data, pair, tmp_path / "o", max_drop=0.01, class_max_drop={"9": 0.01}, options=OPTIONS)
    with pytest.raises(RecordsError, match="the records of close, base hold none; record them"):
        build(data, pair, tmp_path / "o", max_drop=0.01, max_latency_p95=5.0, options=OPTIONS)
    with pytest.raises(ArtefactError, match="cannot be embedded; leave --embed out"):
        build(data, pair, tmp_path / "o", max_drop=0.01, embed=True, options=OPTIONS)
    assert not (tmp_path / "o" / "cascade.json").exists()
