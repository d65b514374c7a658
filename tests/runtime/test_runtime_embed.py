"""``--embed``: one folder is all one deploys."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pilotfish.cascade import Stage, load_artefact
from pilotfish.errors import ArtefactError, MissingExtraError, PilotfishError
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.runtime import Cascade, save_with_weights
from pilotfish.runtime.load_stage import load_stage

if TYPE_CHECKING:
    from conftest import Pair

IMAGES = np.random.default_rng(0).integers(0, 256, (120, 8, 8), dtype=np.uint8)


def checkpoints(folder: Path) -> list[str]:
    """A wide random network, and its first hidden units alone: the answers are akin."""
    torch = pytest.importorskip("torch")
    from pilotfish.models import Preprocessing
    from pilotfish.models.names.architectures import build_small
    from pilotfish.models.names.checkpoint import save_checkpoint

    chain = Preprocessing(size=(8, 8), resize=None, interpolation="bilinear", mean=(0.5,), std=(0.3,))
    torch.manual_seed(0)
    base = build_small("mlp", 4, 32, 8)
    saver = build_small("mlp", 4, 16, 8)
    wide, narrow = base.state_dict(), saver.state_dict()
    saver.load_state_dict({name: wide[name][tuple(map(slice, own.shape))] for name, own in narrow.items()})
    for name, module, width in (("saver", saver, 16), ("base", base, 32)):
        arguments = {"num_classes": 4, "width": width, "side": 8}
        save_checkpoint(module, folder / f"{name}.safetensors", "small:mlp", arguments, chain, tuple("abcd"))
    return [f"checkpoint:{folder}/{name}.safetensors" for name in ("saver", "base")]


def onnx_files(folder: Path) -> list[str]:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir()
    weights, noise = np.random.default_rng(0).standard_normal((2, 64, 4)).astype(np.float32)
    for name, matrix in (("saver", weights + noise), ("base", weights)):
        nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "W"], ["y"])]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])]
        graph = helper.make_graph(nodes, "graph", inputs, outputs, [numpy_helper.from_array(matrix, "W")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / f"{name}.onnx")
    return [f"onnx:{folder}/{name}.onnx" for name in ("saver", "base")]


@pytest.fixture(params=[checkpoints, onnx_files])
def embedded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """(an embedded cascade, the same one by name); the models lie in ``models``."""
    names = request.param(tmp_path / "models")
    np.savez(tmp_path / "data.npz", x=IMAGES)
    run = Run(tmp_path / "run")
    record(f"arrays:{tmp_path}/data.npz", names, run, options=RecordOptions(timing=False))
    tuning = tune(run, names, max_drop=0.05, holdout=0)
    return save_with_weights(tuning.artefact, tmp_path / "embedded"), tuning.save(tmp_path / "by name")


def test_the_folder_answers_alone_as_before(embedded: tuple[Path, Path], tmp_path: Path) -> None:
    folder, by_name = embedded
    expected = Cascade.load(by_name).predict(IMAGES)
    shutil.rmtree(tmp_path / "models")
    moved = folder.rename(tmp_path / "elsewhere")
    assert Cascade.load(moved).predict(IMAGES) == expected
    assert len({a.stage for a in expected}) == 2
    with pytest.raises(PilotfishError, match="no such"):
        Cascade.load(by_name)
    stages = load_artefact(moved).stages
    assert [Path(str(s.weights_file)).stem for s in stages] == ["0", "1"]
    assert sorted(p.name for p in moved.iterdir()) == ["cascade.json", "weights"]


def test_weights_that_were_changed_are_refused(embedded: tuple[Path, Path]) -> None:
    folder, _ = embedded
    saver, file = (folder / str(stage.weights_file) for stage in load_artefact(folder).stages)
    for exported in (folder / "weights").glob("?.onnx"):
        if exported not in (saver, file):
            exported.unlink()
    whole = file.read_bytes()
    tampered = bytearray(whole)
    tampered[-300 if file.suffix == ".onnx" else -3] ^= 1  # a weight's bits: the file stays well-formed
    file.write_bytes(tampered)
    with pytest.raises(ArtefactError, match="the thresholds were made for weights"):
        Cascade.load(folder)
    file.write_bytes(saver.read_bytes())  # in the base's place
    with pytest.raises(PilotfishError, match=r"made for weights|has shape"):
        Cascade.load(folder)
    file.write_bytes(whole[:-50])
    with pytest.raises(PilotfishError) as caught:
        Cascade.load(folder)
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(ArtefactError, match=r"the embedded weights weights/1\..* are missing"):
        Cascade.load(folder)


@pytest.mark.parametrize("how", ["path", "absolute", "link"])
def test_weights_outside_the_folder_are_refused(how: str, embedded: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = embedded
    file = folder / str(load_artefact(folder).stages[0].weights_file)
    outside = tmp_path / file.name
    shutil.copyfile(file, outside)
    if how == "link":
        file.unlink()
        file.symlink_to(outside)
    else:
        document = (folder / "cascade.json").read_text()
        target = str(outside) if how == "absolute" else f"../{file.name}"
        (folder / "cascade.json").write_text(document.replace(f"weights/{file.name}", target))
    with pytest.raises(ArtefactError, match="outside the cascade folder; refused"):
        Cascade.load(folder)


def test_code_is_not_embedded(pair: Pair, tmp_path: Path) -> None:
    advice = rf"cannot be embedded; leave --embed out: .*--allow-python {pair.allowed[0]}; or save .* an ONNX file"
    with pytest.raises(ArtefactError, match=advice):
        save_with_weights(pair.tuning.artefact, tmp_path / "embedded", pair.allowed)
    assert not (tmp_path / "embedded" / "cascade.json").exists()


def test_models_that_changed_since_they_were_recorded_are_not_embedded(embedded: tuple[Path, Path]) -> None:
    _, by_name = embedded
    artefact = load_artefact(by_name)
    saver, base = (Path(stage.files[1]) for stage in artefact.stages)
    base.write_bytes(saver.read_bytes())
    with pytest.raises(ArtefactError, match="the thresholds were made for weights"):
        save_with_weights(artefact, by_name.with_name("again"))
    assert not (by_name.with_name("again") / "cascade.json").exists()


@pytest.mark.parametrize(
    ("package", "extra", "stage", "says"),
    [
        ("timm", "torch", Stage("saver", "timm:resnet18"), True),
        ("timm", "torch", Stage("saver", "lite:efficientnet_lite0@224"), True),
        ("torchvision", "torch", Stage("saver", "torchvision:resnet18"), True),
        ("transformers", "hf", Stage("saver", "hf:network"), False),  # another extra
        ("torch", "torch", Stage("saver", "timm:resnet18", weights_file="weights/0.safetensors"), False),  # embedded
    ],
)
def test_a_library_that_is_not_there_says_how_to_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, stage: Stage, says: bool
) -> None:
    def absent(spec: str, *_: object, **__: object) -> None:
        raise MissingExtraError(package, extra, f"loading {spec}")

    monkeypatch.setattr("pilotfish.runtime.load_stage.load_model", absent)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "0.safetensors").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=rf"{package}, which is not installed: pip install .*{extra}") as caught:
        load_stage(stage, tmp_path, "cpu")
    assert (f"or where {package} is, write the folder with `tune --embed`" in str(caught.value)) == says
