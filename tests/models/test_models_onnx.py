"""``onnx:FILE``: shapes, types, preprocessing, and files that are not to be trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pilotfish.errors import PilotfishError  # noqa: E402
from pilotfish.models import Model, Preprocessing, load_model  # noqa: E402

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((64, 10)).astype(np.float32)
BATCH = RNG.standard_normal((5, 1, 8, 8), dtype=np.float32)
LOGITS = BATCH.reshape(5, 64) @ WEIGHTS


def written(
    path: Path,
    shape: Any = ("N", 1, 8, 8),
    dtype: int = TensorProto.FLOAT,
    weights: onnx.TensorProto | None = None,
    metadata: str | None = None,
) -> Path:
    """A linear classifier of 64 inputs and 10 classes."""
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "W"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", dtype, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 10])]
    stored = weights if weights is not None else numpy_helper.from_array(WEIGHTS, "W")
    graph = helper.make_graph(nodes, "graph", inputs, outputs, [stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if metadata is not None:
        helper.set_model_props(model, {"pilotfish.preprocessing": metadata})
    onnx.save(model, path)
    return path


def elsewhere(location: str) -> onnx.TensorProto:
    """Weights that the file does not hold itself."""
    tensor = onnx.TensorProto(name="W", data_type=TensorProto.FLOAT, dims=WEIGHTS.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def refusal(name: str, device: str = "cpu") -> str:
    with pytest.raises(PilotfishError) as caught:
        load_model(name, device)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_floats_of_any_width_are_fed(dtype: int, tmp_path: Path) -> None:
    model = load_model(f"onnx:{written(tmp_path / 'net.onnx', dtype=dtype)}")
    assert (model.input_shape, model.n_classes, model.backend.name) == ((1, 8, 8), 10, "onnxruntime")
    found = model.run(BATCH)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, LOGITS, atol=1e-4 if dtype != TensorProto.FLOAT16 else 0.05)
    assert model.count().costs == {"macs": 640, "params": 640}


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_a_fixed_batch_size_is_fed_in_pieces_and_padding_never_leaks(size: int, tmp_path: Path) -> None:
    model = load_model(f"onnx:{written(tmp_path / 'net.onnx', shape=(size, 1, 8, 8))}")
    np.testing.assert_allclose(model.run(BATCH), LOGITS, atol=1e-4)
    np.testing.assert_allclose(model.run(BATCH[:1]), LOGITS[:1], atol=1e-4)


def test_a_free_image_size_must_be_given(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", shape=("N", 1, "H", "W"))
    assert "give the size, as in onnx:FILE@224" in refusal(f"onnx:{path}")
    model = load_model(f"onnx:{path}@8")
    assert model.input_shape == (1, 8, 8)
    np.testing.assert_allclose(model.run(BATCH), LOGITS, atol=1e-4)
    fixed = written(tmp_path / "fixed.onnx")
    assert "takes inputs of 8x8 pixels only; leave @ out" in refusal(f"onnx:{fixed}@16")
    assert load_model(f"onnx:{fixed}@8").input_shape == (1, 8, 8)


def test_preprocessing_comes_from_the_file_or_the_options(tmp_path: Path) -> None:
    own = Preprocessing(size=(8, 8), resize=9, interpolation="nearest", mean=(0.4,), std=(0.3,))
    told = f"onnx:{written(tmp_path / 'told.onnx', metadata=json.dumps(own.to_json()))}"
    assert load_model(told).preprocessing == own
    bare = f"onnx:{written(tmp_path / 'bare.onnx')}"
    assert load_model(bare).preprocessing == Preprocessing(size=(8, 8), resize=9, mean=(0.0,), std=(1.0,))
    options = load_model(f"{bare}?mean=0.5&std=0.25&crop=1&interpolation=bilinear").preprocessing
    assert options == Preprocessing("image", (8, 8), 8, "bilinear", (0.5,), (0.25,))
    wide = numpy_helper.from_array(np.zeros((96, 10), np.float32), "W")
    colour = load_model(f"onnx:{written(tmp_path / 'c.onnx', ('N', 3, 4, 8), weights=wide)}").preprocessing
    assert (colour.size, colour.mean, colour.std) == ((4, 8), Preprocessing().mean, Preprocessing().std)
    vector = load_model(f"onnx:{written(tmp_path / 'vector.onnx', shape=('N', 64))}")
    assert (vector.preprocessing.kind, vector.input_shape) == ("tensor", (64,))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("crop=0", "crop is a share from 0 to 1"),
        ("crop=abc", "crop is a share from 0 to 1"),
        ("interpolation=magic", "interpolation one of nearest, bilinear"),
        ("mean=1:2", "mean takes 1 or 1 numbers"),
        ("weights=random", "unknown option 'weights'"),
    ],
)
def test_options_that_make_no_sense(options: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(f"onnx:{written(tmp_path / 'net.onnx')}?{options}")


@pytest.mark.parametrize(
    ("metadata", "said"), [("{", "is not valid JSON"), ('{"size": 3}', "preprocessing"), ("[]", "")]
)
def test_metadata_that_say_nothing_useful(metadata: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(f"onnx:{written(tmp_path / 'net.onnx', metadata=metadata)}")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link/secret.bin", "a/../../secret.bin"])
@pytest.mark.parametrize("nested", [False, True], ids=["in the graph", "in a branch"])
def test_tensors_outside_the_folder_are_refused(location: str, nested: bool, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    WEIGHTS.tofile(tmp_path / "secret.bin")
    path = written(folder / "net.onnx", weights=elsewhere(location))
    if nested:
        model = onnx.load(path, load_external_data=False)
        value = helper.make_tensor_value_info("w", TensorProto.FLOAT, WEIGHTS.shape)
        branch = helper.make_graph([helper.make_node("Identity", ["W"], ["w"])], "then", [], [value])
        branch.initializer.append(model.graph.initializer.pop())
        yes = numpy_helper.from_array(np.array(True), "yes")
        model.graph.initializer.append(yes)
        model.graph.node.insert(0, helper.make_node("If", ["yes"], ["W"], then_branch=branch, else_branch=branch))
        onnx.save(model, path)
    assert "outside its own folder; refused" in refusal(f"onnx:{path}")


def test_tensors_beside_the_file_are_part_of_its_identity(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", weights=elsewhere("w.bin"))
    assert "'w.bin' are missing beside it" in refusal(f"onnx:{path}")
    WEIGHTS.tofile(tmp_path / "w.bin")
    model = load_model(f"onnx:{path}")
    np.testing.assert_allclose(model.run(BATCH), LOGITS, atol=1e-4)
    assert model.weights is not None
    with pytest.raises(PilotfishError, match="cannot be embedded"):
        model.weights(tmp_path / "copy.onnx")
    (WEIGHTS * 2).tofile(tmp_path / "w.bin")
    assert load_model(f"onnx:{path}").weights_hash != model.weights_hash


@pytest.mark.parametrize("content", [b"", b"garbage" * 99, b"\x00" * 64], ids=["empty", "garbage", "zeros"])
def test_files_that_are_no_models(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    assert "net.onnx" in refusal(f"onnx:{tmp_path}/net.onnx")


def test_cut_files_whole_numbers_other_devices_and_nothing_at_all(tmp_path: Path) -> None:
    whole = written(tmp_path / "net.onnx")
    (tmp_path / "cut.onnx").write_bytes(whole.read_bytes()[:900])
    assert "not a readable ONNX file" in refusal(f"onnx:{tmp_path}/cut.onnx")
    numbers = written(tmp_path / "int.onnx", dtype=TensorProto.INT64)
    assert "its inputs are tensor(int64); expected a single one" in refusal(f"onnx:{numbers}")
    assert "run on the CPU here, not on 'cuda'" in refusal(f"onnx:{whole}", "cuda")
    assert "no such ONNX file" in refusal(f"onnx:{tmp_path}/absent.onnx")


def test_a_batch_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    model: Model = load_model(f"onnx:{written(tmp_path / 'net.onnx')}")
    with pytest.raises(PilotfishError, match=r"net\.onnx failed on a batch of shape \(5, 1, 4, 4\): "):
        model.run(BATCH[:, :, :4, :4])


def test_an_exported_torch_net_answers_as_torch_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10))
    shapes = ({0: torch.export.Dim("n")},)
    program = torch.onnx.export(
        net.eval(), (torch.zeros(2, 1, 8, 8),), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    program.save(tmp_path / "net.onnx")
    model = load_model(f"onnx:{tmp_path}/net.onnx")
    with torch.inference_mode():
        np.testing.assert_allclose(model.run(BATCH), net(torch.from_numpy(BATCH)).numpy(), atol=1e-5)
    assert model.count().costs["macs"] == 4 * 9 * 36 + 1440
