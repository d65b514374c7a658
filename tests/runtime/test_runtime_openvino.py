"""A variant that OpenVINO computes: recorded, tuned, saved and run as itself, or said why not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import pilotfish  # noqa: E402
from pilotfish.cascade import load_artefact  # noqa: E402
from pilotfish.data import open_data  # noqa: E402
from pilotfish.errors import MissingExtraError, ModelError, PilotfishError  # noqa: E402
from pilotfish.machine import processor  # noqa: E402
from pilotfish.models import load_model  # noqa: E402
from pilotfish.models.backends import openvino_backend  # noqa: E402
from pilotfish.models.backends.openvino_backend import OpenVinoBackend  # noqa: E402
from pilotfish.runtime import save_with_weights, tune_runtime  # noqa: E402
from pilotfish.runtime.choice import StageRuntime, write_choices  # noqa: E402
from pilotfish.runtime.sequential import predict_sequentially  # noqa: E402
from pilotfish.scores import compute  # noqa: E402

bf16 = pytest.mark.skipif(not processor().bf16, reason="this processor has no bfloat16")
RNG = np.random.default_rng(0)
WEIGHTS, NOISE = RNG.standard_normal((2, 16, 10)).astype(np.float32)
KERNELS = (RNG.standard_normal((16, 3, 3, 3)) / 5).astype(np.float32)
IMAGES = RNG.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)


def network(path: Path, noise: float) -> str:
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "K"], ["c"], pads=[1, 1, 1, 1]),
        make("Relu", ["c"], ["r"]),
        make("GlobalAveragePool", ["r"], ["p"]),
        make("Flatten", ["p"], ["f"]),
        make("MatMul", ["f", "W"], ["y"]),
    ]
    stored = [numpy_helper.from_array(KERNELS, "K"), numpy_helper.from_array(10 * (WEIGHTS + noise * NOISE), "W")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return f"onnx:{path}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Records of a small model by OpenVINO, in bfloat16 where the processor has it, and of a base; and their names."""
    folder = tmp_path_factory.mktemp("run")
    base = network(folder / "base.onnx", 0.0)
    model = load_model(base)
    label = model.run(np.stack([model.preprocessing(image) for image in IMAGES])).argmax(axis=1)
    np.savez(folder / "data.npz", x=IMAGES, label=label)
    dtype = "dtype=bf16&" if processor().bf16 else ""
    names = [f"{network(folder / 'saver.onnx', 0.2)}?{dtype}backend=openvino", base]
    pilotfish.record(f"arrays:{folder}/data.npz", names, folder / "run", timing=False)
    return folder, names


@pytest.fixture(scope="module")
def cascade(run: tuple[Path, list[str]]) -> Path:
    folder, names = run
    tuned = pilotfish.tune(folder / "run", names, max_drop="10%", holdout=0)
    assert 0 < tuned.calibration.exit_ratio[0] < 1
    return tuned.save(folder / "cascade")


def expected(run: tuple[Path, list[str]], cascade: Path) -> list[tuple[int, int]]:
    """(stage, prediction) of every sample, from the records."""
    records = [pilotfish.open_run(run[0] / "run").read(name) for name in run[1]]
    artefact = load_artefact(cascade)
    values = compute(artefact.scores[0], records[0].outputs).values
    stage = np.where(values >= artefact.in_force.point.decide_at[0], 0, 1)
    return [(int(k), int(records[k].outputs.prediction[i])) for i, k in enumerate(stage)]


def found(answers: Any) -> list[tuple[int, int]]:
    return [(answer.stage, answer.prediction) for answer in answers]


@bf16
def test_bf16_is_openvino_s_where_it_can_be_had_and_its_records_say_so(run: tuple[Path, list[str]]) -> None:
    folder, (name, _) = run
    saver = name.partition("?")[0]
    plain, half, own = (load_model(f"{saver}{mark}") for mark in ("", "?dtype=bf16", "?backend=openvino"))
    assert half.spec == f"{saver}?dtype=bf16&backend=openvino"
    assert (half.preprocessing.dtype, half.preprocessing.backend) == ("bfloat16", "openvino")
    assert len({model.preprocessing.hash for model in (plain, half, own)}) == 3
    assert len({model.weights_hash for model in (plain, half, own)}) == 1
    batch = np.stack([plain.preprocessing(image) for image in IMAGES])
    a, b, c = (model.run(batch) for model in (plain, half, own))
    assert np.abs(a - c).max() < 1e-4 < np.abs(a - b).max() < 1
    assert np.mean(a.argmax(axis=1) == b.argmax(axis=1)) > 0.9
    meta = pilotfish.open_run(folder / "run").read(name).meta
    assert (meta.preprocessing or {})["backend"] == "openvino"
    assert "backend" not in plain.preprocessing.to_json()


@bf16
def test_a_name_in_a_file_that_says_no_backend_is_torch_s_as_it_was(run: tuple[Path, list[str]]) -> None:
    with pytest.raises(ModelError, match="dtype is for torch models"):
        load_model(f"{run[1][1]}?dtype=bfloat16", typed=False)


def test_a_cascade_answers_as_its_records_say_however_it_is_run(
    run: tuple[Path, list[str]], cascade: Path, tmp_path: Path
) -> None:
    told = expected(run, cascade)
    loaded = pilotfish.Cascade.load(cascade)
    assert [model.backend.name for model in loaded.models] == ["openvino", "onnxruntime"]
    assert found(loaded.predict(IMAGES)) == told
    assert found(loaded.predict_one(image) for image in IMAGES[:8]) == told[:8]
    data = open_data(f"arrays:{run[0]}/data.npz")
    assert found(predict_sequentially(cascade, data)) == told
    folder = save_with_weights(load_artefact(cascade), tmp_path / "whole")
    whole = pilotfish.Cascade.load(folder)
    assert whole.models[0].backend.name == "openvino"
    assert found(whole.predict(IMAGES)) == told


def test_it_is_no_part_of_an_onnx_graph(cascade: Path, tmp_path: Path) -> None:
    for export in (pilotfish.export, pilotfish.export_stages):
        with pytest.raises(ModelError, match="run by openvino") as caught:
            export(cascade, tmp_path / "out.onnx")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out.onnx").exists()


def test_a_cascade_names_the_extra_that_it_needs(cascade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"openvino.*pip install 'pilotfish\[openvino\]'"):
        pilotfish.Cascade.load(cascade)


@bf16
def test_a_processor_without_it_runs_in_float32_and_says_so(
    run: tuple[Path, list[str]], cascade: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "computed_in", lambda compiled: "f32")
    [note] = pilotfish.Cascade.load(cascade).notes
    assert "does not compute in bfloat16, and OpenVINO takes float32; answers near a threshold may differ" in note
    with pytest.raises(ModelError, match="leave dtype out, or record it on the machine"):
        load_model(run[1][0])


@pytest.mark.parametrize("got", ["bf16", "i8"])
def test_a_type_coarser_than_the_one_asked_for_is_refused(
    got: str, run: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "computed_in", lambda compiled: got)
    for option in ("backend=openvino", "dtype=fp16&backend=openvino"):
        with pytest.raises(ModelError, match=f"OpenVINO computes in {got} here where f"):
            load_model(f"{run[1][1]}?{option}")


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_what_openvino_computed_is_run_by_nothing_else(name: str, run: tuple[Path, list[str]]) -> None:
    with pytest.raises(ModelError, match=f"is what openvino computes, so {name} cannot run it"):
        load_model(run[1][0], backend=name)


def test_a_choice_that_cannot_be_had_any_more_is_said(cascade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Any) -> Any:
        raise ModelError("no conversion rule")

    choices = [StageRuntime("openvino", 8, 1, 1)] * 2
    path = write_choices(cascade, load_artefact(cascade), "cpu", choices, {})
    try:
        assert pilotfish.Cascade.load(cascade).notes == ()
        opened = OpenVinoBackend._open
        monkeypatch.setattr(
            OpenVinoBackend, "_open", lambda self: (none if self.source.path.stem == "base" else opened)(self)
        )
        [note] = pilotfish.Cascade.load(cascade).notes
    finally:
        path.unlink()
    assert "is run by onnxruntime: openvino, which tune-runtime found fastest, cannot be had now" in note


def test_tune_runtime_leaves_out_what_differs_by_more_than_the_band(
    run: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = OpenVinoBackend.step
    monkeypatch.setattr(OpenVinoBackend, "step", lambda self, x, carry=None: (step(self, x)[0] * 1.5, None))
    cut = pilotfish.tune(run[0] / "run", run[1], max_drop="10%", holdout=0).save(tmp_path / "cascade")
    result = tune_runtime(cut, f"arrays:{run[0]}/data.npz", seconds=0.01)
    assert {m.backend for m in result.stages[1].measured} == {"onnxruntime"}
    [note] = result.stages[1].notes
    assert "openvino left out: its answers differ by 0." in note
    assert "?backend=openvino" in note


@bf16
def test_torch_computes_what_openvino_cannot_and_a_note_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from pilotfish.models import Preprocessing
    from pilotfish.models.names.architectures import build_small
    from pilotfish.models.names.checkpoint import save_checkpoint

    torch.manual_seed(0)
    chain = Preprocessing(size=(8, 8), resize=None, mean=(0.5,), std=(0.3,))
    arguments = {"num_classes": 4, "width": 8, "side": 8}
    save_checkpoint(
        build_small("mlp", 4, 8, 8), tmp_path / "net.safetensors", "small:mlp", arguments, chain, tuple("abcd")
    )
    name = f"checkpoint:{tmp_path}/net.safetensors?dtype=bf16"
    assert load_model(name).backend.name == "openvino"

    def none(self: Any) -> Any:
        raise ModelError("no conversion rule found for operations: Odd")

    monkeypatch.setattr(OpenVinoBackend, "_open", none)
    model = load_model(name)
    assert (model.backend.name, model.preprocessing.backend, model.spec) == ("torch", "", name)
    assert (
        "is computed by torch; OpenVINO, which is faster on this processor, does not run it: no conv" in model.notes[-1]
    )
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "pip install 'pilotfish[openvino]'" in load_model(name).notes[-1]


def test_nothing_is_written_or_sent_when_it_is_used(run: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Imported plainly, openvino writes an identifier into the home folder and sends an event."""
    code = (
        "import sys, numpy as np\n"
        "from pilotfish.models import load_model\n"
        f"load_model({run[1][1]!r}, backend='openvino').run(np.zeros((1, 3, 8, 8), np.float32))\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PILOTFISH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "intel").exists()


@pytest.mark.parametrize("option", ["dtype=fp61", "backend=openvno", "dtype=int8"])
def test_variants_that_are_none_are_one_line(option: str, run: tuple[Path, list[str]]) -> None:
    with pytest.raises(PilotfishError) as caught:
        load_model(f"{run[1][1]}?{option}")
    assert "\n" not in str(caught.value)
