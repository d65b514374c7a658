"""A sample that lies exactly on a recorded threshold decides alike in every backend, engine and export."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pilotfish
from pilotfish.cascade import InForce, OperatingPoint, Rule, decide_at, save_artefact
from pilotfish.models.backends.onnx_backend import OnnxBackend
from pilotfish.models.backends.openvino_backend import OpenVinoBackend
from pilotfish.models.backends.torch_backend import TorchBackend
from pilotfish.records import Outputs, from_logits
from pilotfish.runtime import Engine, EngineStage
from pilotfish.runtime.single import answer_one
from pilotfish.runtime.supply import TensorSupply
from pilotfish.scores import SCORES, ExitScore, compute, plain_score
from support.engine import Whole

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from pilotfish.runtime.export.nodes import NODES  # noqa: E402

CLASSES = 12
HEAT = np.repeat([0.3, 3.0, 12.0], 40)[:, None]
LOGITS = (np.random.default_rng(7).standard_normal((120, CLASSES)) * HEAT).astype(np.float32)
RECORDED = from_logits(LOGITS, top_k=10)
ON = (3, 50, 100)  # samples whose score is the threshold, one of each heat


def score_of(name: str) -> ExitScore:
    if name == "temperature":
        return ExitScore(SCORES[name], "log_odds", {"temperature": np.array([1.7])}, 10)
    return plain_score(SCORES[name], RECORDED)


def flat(path: Path, shape: tuple[int, ...], bias: np.ndarray | None = None) -> Path:
    """An ONNX model whose logits are its inputs, plus *bias*: the same numbers in batches of any size."""
    nodes = [onnx.helper.make_node("Flatten", ["x"], ["flat"]), onnx.helper.make_node("Add", ["flat", "b"], ["y"])]
    size = int(np.prod(shape))
    weights = np.zeros(size, np.float32) if bias is None else bias
    entry = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", *dims])
        for name, dims in (("x", shape), ("y", [size]))
    ]
    graph = onnx.helper.make_graph(
        nodes, "graph", entry[:1], entry[1:], [onnx.numpy_helper.from_array(weights, name="b")]
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    return path


class Python(Whole):
    def run(self, batch: np.ndarray) -> np.ndarray:
        return batch


class OnDevice(TorchBackend):
    """As on a GPU: logits are reduced where they are."""

    reduces = True  # type: ignore[assignment]


def backend(name: str, folder: Path) -> Any:
    if name == "onnxruntime":
        return OnnxBackend(flat(folder / "flat.onnx", (CLASSES,)))
    if name == "openvino":
        pytest.importorskip("openvino")
        return OpenVinoBackend(OnnxBackend(flat(folder / "flat.onnx", (CLASSES,))))
    return Python() if name == "python" else {"torch": TorchBackend, "device": OnDevice}[name](torch.nn.Flatten())


@pytest.mark.parametrize("name", ["python", "onnxruntime", "openvino", "torch", "device"])
def test_every_backend_lets_it_exit(name: str, tmp_path: Path) -> None:
    runs = backend(name, tmp_path)
    for kind in NODES:
        score = score_of(kind)
        recorded = compute(score, RECORDED).values
        for row in ON:
            at = float(recorded[row])
            in_force = InForce(Rule(), (score,), OperatingPoint((at,)))
            expected = np.where(recorded >= decide_at(at), 0, 1)
            stages = [EngineStage("saver", runs, 7), EngineStage("base", Python(), 5)]
            found = Engine(stages, in_force).run(TensorSupply([LOGITS, LOGITS]))
            assert found.stage.tolist() == expected.tolist()
            assert found.stage[row] == 0
            single = [EngineStage("saver", backend(name, tmp_path), 1), EngineStage("base", Python(), 1)]
            assert answer_one(single, in_force, lambda k, row=row: LOGITS[row]).stage == 0  # type: ignore[misc]


@pytest.mark.parametrize("kind", [*NODES])
def test_reductions_differ_by_far_less_than_a_step(kind: str, tmp_path: Path) -> None:
    """Each sample is on its own threshold; the step below it is a hundred times what reductions differ by."""
    score = score_of(kind)
    recorded = compute(score, RECORDED).values
    for found in (_on_device(), from_logits(LOGITS[::-1], top_k=10).take(slice(None, None, -1))):
        drift = np.abs(compute(score, found).values - recorded)
        assert (drift < (recorded - decide_at(recorded)) / 100).all()


def _on_device() -> Outputs:
    return OnDevice(torch.nn.Flatten()).reduce(LOGITS, 10)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Records of two models whose logits are the same in batches of any size, and the pictures."""
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (120, 2, 2, 3), dtype=np.uint8)
    shown = images.astype(np.float32).transpose(0, 3, 1, 2).reshape(len(images), -1)
    label = np.where(rng.random(len(images)) < 0.95, shown.argmax(axis=1), 0)
    np.savez(folder / "data.npz", x=images, label=label)
    bias = (rng.standard_normal(CLASSES) / 8).astype(np.float32)
    models = [f"onnx:{flat(folder / 'saver.onnx', (3, 2, 2), bias)}", f"onnx:{flat(folder / 'base.onnx', (3, 2, 2))}"]
    pilotfish.record(f"arrays:{folder}/data.npz", models, folder / "run", timing=False)
    return folder, images


@pytest.mark.parametrize("kind", [*NODES])
def test_every_export_lets_it_exit(kind: str, pool: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder, images = pool
    data = f"arrays:{folder}/data.npz"
    run = pilotfish.open_run(folder / "run")
    saver, base = sorted(run.models(), key=lambda name: "base" in name)
    artefact = pilotfish.tune(run, [saver, base], max_drop="10%", holdout=0, score=kind).artefact
    score = artefact.scores[0]
    values = compute(score, run.read(saver).outputs).values
    on = int(np.argsort(values)[len(values) // 2])
    cut = dataclasses.replace(artefact, operating_point=OperatingPoint((float(values[on]),)))
    cascade = save_artefact(cut, tmp_path / "cascade")
    [at] = json.loads((cascade / "cascade.json").read_text())["operating_point"]["decide_at"]
    assert at == np.nextafter(np.float32(values[on]), np.float32(-np.inf))
    expected = np.where(values >= at, 0, 1)
    assert 0 < expected.sum() < len(expected)
    loaded = pilotfish.Cascade.load(cascade)
    assert [answer.stage for answer in loaded.predict(images)] == expected.tolist()
    assert loaded.predict(images[on : on + 1])[0].stage == 0
    for batched in (True, False):
        made = pilotfish.export(cascade, tmp_path / f"{batched}.onnx", batched=batched, data=data, samples=8)
        session = ort.InferenceSession(str(made.path))
        chain = loaded.models[0].preprocessing
        tensors = np.stack([chain(image) for image in images])
        parts = [tensors] if batched else [tensors[i : i + 1] for i in range(len(tensors))]
        stage = np.concatenate([session.run(["stage"], {made.inputs[0].name: part})[0] for part in parts])
        assert stage.tolist() == expected.tolist()
    files = pilotfish.export_stages(cascade, tmp_path / "stages", data=data, samples=8)
    manifest = json.loads((files.path / "stages.json").read_text())
    logits = ort.InferenceSession(str(files.path / files.stages[0].file)).run(None, {"x": tensors})[0]
    routed = (
        compute(score, from_logits(logits, top_k=score.top_k)).values >= manifest["operating_point"]["decide_at"][0]
    )
    assert routed.tolist() == (expected == 0).tolist()


@pytest.fixture(scope="module", params=[0.0, 3e-9, 1e-8], ids=["equal", "3e-9 apart", "1e-8 apart"])
def close(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two models of two classes, of whose samples eight lie within one float32 step (1.2e-7) of 2; the saver
    is wrong about four of these, and about all below. Models look up their answers, so that nothing is rounded."""
    folder, n = tmp_path_factory.mktemp("close"), 1200
    score = np.random.default_rng(0).permutation(np.repeat([3.0, 2.0, 1.0], [592, 8, 600]))
    near = np.flatnonzero(score == 2)
    score[near] += request.param * np.arange(8)
    label = np.where(score > 1, 0, 1)
    label[near[[0, 2, 3, 7]]] = 1
    np.savez(folder / "data.npz", x=np.arange(n, dtype=np.float32)[:, None], label=label)
    np.savez(folder / "answers.npz", saver=score, base=np.where(label == 0, 5.0, -5.0))
    (folder / "looked_up.py").write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "ANSWERS = np.load(Path(__file__).parent / 'answers.npz')\n"
        "def of(name):\n"
        "    lead = ANSWERS[name]\n"
        "    return lambda x: np.stack([lead[x[:, 0].astype(int)], np.zeros(len(x))], axis=1)\n"
        "saver, base = of('saver'), of('base')\n"
    )
    return folder


@pytest.mark.parametrize(
    ("asked", "exits"),
    [
        ({"max_drop": 0.0}, 592),
        ({"max_drop": "0.3%"}, 592),  # three of the group would fit, and there is no cut between them
        ({"max_drop": "0.4%"}, 600),
        ({"max_drop": "2%", "guarantee": 0.9}, 600),
        ({"max_drop": "2%", "guarantee": 0.9, "test": "paired_cp"}, 600),
        ({"max_drop": "2%", "guarantee": 0.9, "test": "wsr"}, 600),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_samples_within_a_step_of_the_threshold_are_one_group_everywhere(
    asked: dict[str, Any], exits: int, close: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(close))
    monkeypatch.delitem(sys.modules, "looked_up", raising=False)
    codes = [f"looked_up:{name}" for name in ("saver", "base")]
    for code, macs in zip(codes, (1.0, 10.0), strict=True):
        pilotfish.record(
            f"arrays:{close / 'data.npz'}",
            f"python:{code}",
            close / "run",
            alias=code[10:],
            costs={"macs": macs},
            timing=False,
        )
    tuned = pilotfish.tune(close / "run", ["saver", "base"], holdout=0, **asked)
    lead = np.load(close / "answers.npz")["saver"]
    expected = np.where(lead >= decide_at(tuned.artefact.operating_point.thresholds)[0], 0, 1)
    assert (expected == 0).sum() == exits
    p = tuned.calibration
    if asked.get("test") != "wsr":  # which certifies on half of the samples
        assert (p.n, p.exit_ratio[0], p.drop) == (1200, exits / 1200, 4 / 1200 if exits == 600 else 0)
    cascade = pilotfish.Cascade.load(tuned.save(tmp_path / "cascade"), allow_python=codes)
    x = np.load(close / "data.npz")["x"]
    assert [answer.stage for answer in cascade.predict(x)] == expected.tolist()
    near = np.flatnonzero(np.abs(lead - 2) < 0.5)
    assert [cascade.predict(x[i : i + 1])[0].stage for i in near] == expected[near].tolist()
    assert [answer.stage for answer in cascade.stream(iter(x[near]))] == expected[near].tolist()
