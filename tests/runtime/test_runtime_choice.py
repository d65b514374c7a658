"""How stages are run is measured, kept per device, and never changes an answer."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pilotfish.cascade import load_artefact
from pilotfish.data import load_data
from pilotfish.errors import ArtefactError, UsageError
from pilotfish.machine import cpu_count, device_name
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.runtime import Cascade, StageRuntime, tune_runtime
from pilotfish.runtime.choice import FILE, default_runtime, read_choices, write_choices
from pilotfish.runtime.measure import Measured, agreed, best_of, fastest
from support.process import command, refusal

if TYPE_CHECKING:
    from conftest import Pair

CHOICES = (StageRuntime("python", 16, lanes=2, ms=0.5), StageRuntime("python", 4, ms=2.0))


def test_choices_are_kept_and_used(pair: Pair) -> None:
    folder = pair.cascade
    artefact = load_artefact(folder)
    assert read_choices(folder, artefact, "cpu") is None
    write_choices(folder, artefact, "cpu", CHOICES, {"created": "today"})
    assert read_choices(folder, artefact, "cpu") == CHOICES
    cascade = Cascade.load(folder, allow_python=pair.allowed)
    assert [(s.batch_size, s.lanes) for s in cascade.engine_stages()] == [(16, 2), (4, 1)]
    expected = Cascade(artefact, cascade.models).predict(pair.data)
    assert cascade.predict(pair.data) == expected
    assert device_name("cpu") in json.loads((folder / FILE).read_text())["devices"]


def test_choices_of_other_devices_and_other_models_are_left_alone(pair: Pair) -> None:
    folder = pair.cascade
    artefact = load_artefact(folder)
    write_choices(folder, artefact, "cuda:0", CHOICES, {})
    assert read_choices(folder, artefact, "cpu") is None
    write_choices(folder, artefact, "cpu", CHOICES, {})
    assert read_choices(folder, artefact, "cuda:0") == CHOICES
    other = dataclasses.replace(artefact.stages[0], weights_hash="0" * 64)
    changed = dataclasses.replace(artefact, stages=(other, artefact.stages[1]))
    assert read_choices(folder, changed, "cpu") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda stage: stage.update(batch_size=0),
        lambda stage: stage.update(batch_size="8"),
        lambda stage: stage.update(lanes=10**9),
        lambda stage: stage.update(threads=True),
        lambda stage: stage.update(backend="/tmp/evil.so"),
        lambda stage: stage.update(colour="red"),
        lambda stage: stage.clear(),
    ],
)
def test_a_damaged_file_is_named(damage: Any, pair: Pair) -> None:
    folder = pair.cascade
    path = write_choices(folder, load_artefact(folder), "cpu", CHOICES, {})
    document = json.loads(path.read_text())
    (entry,) = document["devices"].values()
    before = dict(entry["stages"][1])
    damage(entry["stages"][1])
    path.write_text(json.dumps(document))
    if entry["stages"][1] == {}:  # all defaults: a stage that nobody measured
        assert Cascade.load(folder, allow_python=pair.allowed).choices[1] == StageRuntime()
        return
    assert entry["stages"][1] != before
    with pytest.raises(ArtefactError, match=r"json: cannot be used: .*delete it and run pilotfish tune-runtime"):
        Cascade.load(folder, allow_python=pair.allowed)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 99, "devices": {}}', '{"schema": 1}'])
def test_a_file_that_is_none(text: str, pair: Pair) -> None:
    folder = pair.cascade
    (folder / FILE).write_text(text)
    with pytest.raises(ArtefactError, match=r"runtime\.json"):
        Cascade.load(folder, allow_python=pair.allowed)


def test_without_a_measurement_onnx_runtime_gets_one_call_per_core(pair: Pair) -> None:
    stage = load_artefact(pair.cascade).stages[0]
    assert default_runtime(stage, "onnxruntime") == StageRuntime("onnxruntime", 8, 1, cpu_count())
    assert default_runtime(stage, "python") == StageRuntime("python", 8)


def test_tuning_finds_the_batch_size_that_a_model_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]  # a clock that only the model moves, so that other work on the machine cannot matter
    monkeypatch.setattr("pilotfish.runtime.measure.time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Likes:
        """Takes as long for four samples as for one, and much longer for more."""

        name = "python"

        def step(self, inputs: np.ndarray, carry: object = None) -> tuple[np.ndarray, None]:
            now[0] += 0.001 if len(inputs) <= 4 else 0.01 * len(inputs)
            return np.tile(np.array([[1.0, 0.0]], np.float32), (len(inputs), 1)), None

    chosen, measured = fastest({"python": Likes()}, (3,), "cpu", seconds=3.0)
    assert (chosen.backend, chosen.batch_size) == ("python", 4)
    assert [m.ms for m in measured] == sorted(m.ms for m in measured)


def test_a_slow_stage_is_not_tried_on_large_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sizes = [0.0], set()
    monkeypatch.setattr("pilotfish.runtime.measure.time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Slow:
        name = "python"

        def step(self, inputs: np.ndarray, carry: object = None) -> tuple[np.ndarray, None]:
            now[0] += len(inputs)
            sizes.add(len(inputs))
            return np.tile(np.array([[1.0, 0.0]], np.float32), (len(inputs), 1)), None

    _, measured = fastest({"python": Slow()}, (3,), "cpu", seconds=3.0)
    assert max(sizes) == 8
    assert {m.batch_size for m in measured} == {1, 2, 4, 8}


def test_stages_that_were_measured_before_are_not_measured_again(pair: Pair) -> None:
    folder = pair.cascade
    first = tune_runtime(folder, pair.data, seconds=0.2, allow_python=pair.allowed)
    calls: list[str] = []
    again = tune_runtime(
        folder,
        pair.data,
        seconds=0.2,
        progress=lambda what, *_: calls.append(what),
        allow_python=pair.allowed,
        known=first.stages[1:],
    )
    assert set(calls) == {f"timing {pair.stages[0]}"}
    assert again.stages[1].measured == first.stages[1].measured


class Clocked:
    """A model that only moves a clock. seconds: of a call of n samples on so many threads; prepares: what is done once,
    and takes a second."""

    name = "onnxruntime"

    def __init__(self, now: list[float], seconds: Any, prepares: Any = None, threads: int = 2) -> None:
        self.now, self.seconds, self.prepares, self.threads = now, seconds, prepares, threads
        self.prepared: set[object] = set()
        self.most = 0

    def with_threads(self, threads: int) -> Clocked:
        return Clocked(self.now, self.seconds, self.prepares, threads)

    def step(self, inputs: np.ndarray, carry: object = None) -> tuple[np.ndarray, None]:
        n = len(inputs)
        self.most = max(self.most, n)
        self.now[0] += self.seconds(n, self.threads)
        if self.prepares is not None and (what := self.prepares(n)) not in self.prepared:
            self.prepared.add(what)
            self.now[0] += 1.0
        return np.tile(np.array([[1.0, 0.0]], np.float32), (n, 1)), None


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only models move, on a machine with two cores."""
    now = [0.0]
    monkeypatch.setattr("pilotfish.runtime.measure.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr("pilotfish.runtime.measure.cpu_count", lambda: 2)
    return now


def test_small_models_get_large_batches_with_every_number_of_lanes(now: list[float]) -> None:
    """The slower way too: a stage that knows one call at a time alone makes others take it."""
    model = Clocked(now, lambda n, threads: 0.001 * threads**2 + 1e-6 * n)
    chosen, measured = fastest({"onnxruntime": model}, (3,), "cpu", seconds=20.0)
    assert (chosen.batch_size, chosen.lanes) == (128, 2)
    only = (Measured("torch", 32, None, 1, 0.5),)
    assert [(one.batch_size, one.lanes) for one in agreed([measured, only], [1.0, 1.0])] == [(128, 1), (32, 1)]


def test_large_batches_of_slow_models_are_left_out(now: list[float]) -> None:
    model = Clocked(now, lambda n, threads: 0.05 * n * threads)
    chosen, measured = fastest({"onnxruntime": model}, (3,), "cpu", seconds=4.0)
    assert max(m.batch_size for m in measured) == 8
    assert now[0] < 60  # 0.05 * 2 * 8 * 128 for the largest alone would be 102
    assert chosen.lanes == 2


@pytest.mark.parametrize("prepares", [lambda n: n, lambda n: "once", lambda n: n > 8], ids=["size", "once", "large"])
def test_what_a_backend_does_once_is_not_held_against_it(prepares: Any, now: list[float]) -> None:
    found = {
        "openvino": Clocked(now, lambda n, threads: 0.0005 * n + 0.001, prepares),
        "onnxruntime": Clocked(now, lambda n, threads: 0.001 * n + 0.001),
    }
    chosen, measured = fastest(found, (3,), "cpu", seconds=20.0)
    assert chosen.backend == "openvino"
    assert max(m.ms for m in measured) < 3


def test_what_goes_together_may_be_another_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the difference from torch is then that backend's."""
    stages = checkpoints(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=images)
    record(f"arrays:{tmp_path}/x.npz", stages, tmp_path / "run", options=RecordOptions(timing=False, batch_size=8))
    folder = tune(Run(tmp_path / "run"), stages, max_drop=0.5, holdout=0).save(tmp_path / "cascade")
    for lanes in (1, 2, 4):
        saver = (Measured("onnxruntime", 4, 1, 8, 0.1), Measured("torch", 16, None, lanes, 0.3))
        measured = iter([saver, (Measured("torch", 32, None, lanes, 1.0),)])

        def fake(*_: Any, measured: Any = measured) -> Any:
            ranked = next(measured)
            return best_of(ranked), ranked

        monkeypatch.setattr(sys.modules["pilotfish.runtime.tune_runtime"], "fastest", fake)
        tuned = tune_runtime(folder, backends=["onnxruntime", "torch"])
        assert [stage.chosen for stage in tuned.stages] == [
            StageRuntime("torch", 16, None, lanes, 0.3, 0.0),
            StageRuntime("torch", 32, None, lanes, 1.0, 0.0),
        ]


def test_tune_runtime_keeps_what_it_found(pair: Pair) -> None:
    folder = pair.cascade
    expected = Cascade.load(folder, allow_python=pair.allowed).predict(pair.data)
    calls: list[tuple[str, int, int]] = []
    found = tune_runtime(folder, pair.data, seconds=0.2, progress=lambda *c: calls.append(c), allow_python=pair.allowed)
    assert [s.chosen for s in found.stages] == list(Cascade.load(folder, allow_python=pair.allowed).choices)
    assert all(s.chosen.backend == "python" and s.chosen.max_difference == 0 for s in found.stages)
    assert {what for what, _, _ in calls} == {f"timing {name}" for name in pair.stages}
    again = Cascade.load(folder, allow_python=pair.allowed).predict(pair.data)
    assert [(a.prediction, a.stage) for a in again] == [(a.prediction, a.stage) for a in expected]
    json.dumps(found.to_json(), allow_nan=False)


def test_what_tune_runtime_refuses(pair: Pair) -> None:
    folder = pair.cascade
    with pytest.raises(UsageError, match="no backend 'onx'; nearest names: "):
        tune_runtime(folder, pair.data, backends=["onx"], allow_python=pair.allowed)
    with pytest.raises(UsageError, match="none of the backends onnxruntime can run"):
        tune_runtime(folder, pair.data, backends=["onnxruntime"], allow_python=pair.allowed)
    with pytest.raises(UsageError, match=r"does not state the shape of its inputs; give samples"):
        tune_runtime(folder, seconds=0.1, allow_python=pair.allowed)


def checkpoints(folder: Path) -> list[str]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from pilotfish.models import Preprocessing
    from pilotfish.models.names.architectures import build_small
    from pilotfish.models.names.checkpoint import save_checkpoint

    chain = Preprocessing(size=(8, 8), resize=None, mean=(0.5,), std=(0.3,))
    for seed, name in enumerate(("small", "big")):
        torch.manual_seed(seed)
        module = build_small("mlp", 4, 8 * (seed + 1), 8)
        arguments = {"num_classes": 4, "width": 8 * (seed + 1), "side": 8}
        save_checkpoint(module, folder / f"{name}.safetensors", "small:mlp", arguments, chain, tuple("abcd"))
    return [f"checkpoint:{folder}/{name}.safetensors" for name in ("small", "big")]


def test_the_commands(tmp_path: Path) -> None:
    stages = checkpoints(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=images)
    record(f"arrays:{tmp_path}/x.npz", stages, tmp_path / "run", options=RecordOptions(timing=False, batch_size=8))
    tune(Run(tmp_path / "run"), stages, max_drop=0.5, holdout=0).save(tmp_path / "cascade")
    names = "onnxruntime,torch"
    ended = command(tmp_path, "tune-runtime", "cascade", "--seconds", "0.1", "--backend", names, "--json")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert [stage["stage"] for stage in document["stages"]] == stages
    for stage in document["stages"]:
        assert stage["backend"] in ("onnxruntime", "torch")
        assert 0 <= stage["max_difference"] < 1e-5
        assert {m["backend"] for m in stage["measured"]} == {"onnxruntime", "torch"}
    shown = command(tmp_path, "tune-runtime", "cascade", "--seconds", "0.1", "--data", "arrays:x.npz")
    assert "chosen" in shown.stdout
    assert "Largest difference of a probability from torch" in shown.stdout
    timed = command(
        tmp_path, "bench", "cascade", "--data", "arrays:x.npz", "--runs", "1", "--plot", "b.png", "--exit-ratio", "0.5"
    )
    assert timed.returncode == 0, timed.stderr
    assert "one input at a time, torch" in timed.stdout
    assert "batch by batch with a mask, ONNX Runtime" in timed.stdout
    assert (tmp_path / "b.png").stat().st_size > 10_000
    assert "a plot is written as .png or .svg" in refusal(
        tmp_path, "bench", "cascade", "--data", "arrays:x.npz", "--plot", "b.pdf"
    )
    assert "no backend" in refusal(tmp_path, "tune-runtime", "cascade", "--backend", "tensorrt")
    low = command(tmp_path, "predict", "cascade", "x.npz", "--low-memory", "--state", "s.npz", "--json")
    high = command(tmp_path, "predict", "cascade", "x.npz", "--json")
    assert [a["prediction"] for a in json.loads(low.stdout)["answers"]] == [
        a["prediction"] for a in json.loads(high.stdout)["answers"]
    ]
    assert "--state needs --low-memory" in refusal(tmp_path, "predict", "cascade", "x.npz", "--state", "s", code=2)


def test_a_backend_that_is_gone_is_replaced(tmp_path: Path) -> None:
    stages = checkpoints(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=images)
    data = load_data(f"arrays:{tmp_path}/x.npz")
    record(data, stages, tmp_path / "run", options=RecordOptions(timing=False, batch_size=8))
    folder = tune(Run(tmp_path / "run"), stages, max_drop=0.5, holdout=0).save(tmp_path / "cascade")
    choices = (StageRuntime("torch-cuda-graphs", 8), StageRuntime("torch", 4))
    write_choices(folder, load_artefact(folder), "cpu", choices, {})
    cascade = Cascade.load(folder)
    assert [m.backend.name for m in cascade.models] == ["onnxruntime", "torch"]
    assert len(cascade.predict(data)) == 60


def test_stages_run_in_ways_that_go_together() -> None:
    def measured(*found: tuple[int, int, float]) -> tuple[Measured, ...]:
        return tuple(
            sorted((Measured("onnxruntime", 4, threads, lanes, ms) for threads, lanes, ms in found), key=lambda m: m.ms)
        )

    saver = measured((1, 2, 10.0), (2, 1, 12.0))
    base = measured((2, 1, 35.0), (1, 2, 36.0))
    assert [c.lanes for c in agreed([saver, base], [1.0, 1.0])] == [2, 2]  # 46 against 47
    assert [c.lanes for c in agreed([saver, base], [0.1, 1.0])] == [1, 1]  # 37 against 36.2
    only = measured((2, 1, 35.0))
    assert [c.lanes for c in agreed([saver, only], [1.0, 0.1])] == [1, 1]
    alone = measured((1, 2, 10.0))
    assert [c.lanes for c in agreed([alone, only], [1.0, 0.1])] == [2, 1]  # there is no way that both have
