"""Variants that change a model's numbers are models of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from pilotfish.data import load_data  # noqa: E402
from pilotfish.errors import ArtefactError, MissingExtraError, ModelError, UsageError  # noqa: E402
from pilotfish.models import Preprocessing, load_model  # noqa: E402
from pilotfish.models.names.architectures import build_small  # noqa: E402
from pilotfish.models.names.checkpoint import save_checkpoint  # noqa: E402
from pilotfish.models.preprocessing import DECODERS, RESIZERS  # noqa: E402
from pilotfish.plan import tune  # noqa: E402
from pilotfish.recording import RecordOptions, record  # noqa: E402
from pilotfish.records import Run  # noqa: E402
from pilotfish.runtime import Cascade  # noqa: E402

CHAIN = Preprocessing(size=(16, 16), resize=18, mean=(0.5,), std=(0.3,))
OPTIONS = RecordOptions(timing=False, batch_size=8, workers=1)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    arguments = {"num_classes": 3, "width": 8, "side": 16}
    save_checkpoint(build_small("convnet", 3, 8, 16), path, "small:convnet", arguments, CHAIN, tuple("abc"))
    return f"checkpoint:{path}"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_another_dtype_is_another_preprocessing_and_other_numbers(dtype: str, net: str) -> None:
    plain, half = load_model(net, backend="torch"), load_model(f"{net}?dtype={dtype}&backend=torch")
    assert half.spec == f"{net}?dtype={dtype}&backend=torch"
    assert (half.preprocessing.dtype, half.backend.name) == (dtype, "torch")
    assert half.preprocessing.hash != plain.preprocessing.hash
    assert half.weights_hash == plain.weights_hash  # the same weights, cast
    batch = np.random.default_rng(0).standard_normal((4, 1, 16, 16), dtype=np.float32)
    a, b = plain.run(batch), half.run(batch)
    assert b.dtype == np.float32
    assert 0 < np.abs(a - b).max() < 0.1


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("dtype=float8", "unknown dtype 'float8'; nearest names: .*float32"),
        ("dtype=int8", "int8 is made by `pilotfish quantise MODEL"),
        ("backend=torch", "in float32 every backend says the same; leave backend out"),
        ("dtype=bf16&backend=onnxruntime", "unknown backend 'onnxruntime'"),
        ("decoder=turbo", "unknown decoder 'turbo'; nearest names: turbojpeg"),
        ("resizer=opencv", "unknown resizer 'opencv'; "),
        ("interpolation=lanczos&resizer=torchvision", "resizer=torchvision has no lanczos; leave one of them out"),
        ("dtype=bfloat16&colour=red", "unknown option 'colour'"),
    ],
)
def test_variants_that_are_none(option: str, said: str, net: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(f"{net}?{option}")


def test_models_that_have_no_such_variant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "variant_models.py").write_text("def f(batch): return batch.reshape(len(batch), -1)[:, :3]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="dtype is for torch models, this one is run by python"):
        load_model("python:variant_models:f?dtype=float16")
    for option in ("decoder=pillow-draft", "resizer=torchvision"):
        with pytest.raises(ModelError, match=f"{option.partition('=')[0]} is for models that take images of a fixed"):
            load_model(f"python:variant_models:f?{option}")


def test_a_decoder_that_is_not_installed_is_named_before_anything_is_read(
    net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for decoder in ("turbojpeg", "turbojpeg-draft"):
        with pytest.raises(MissingExtraError, match=rf"^\?decoder={decoder} needs .*pip install 'pilotfish\[jpeg\]'$"):
            load_model(f"{net}?decoder={decoder}")
    with pytest.raises(MissingExtraError, match=r"^\?resizer=torchvision needs .*pip install 'pilotfish\[torch\]'$"):
        load_model(f"{net}?resizer=torchvision")


def test_every_decoder_and_resizer_is_an_identity_of_its_own() -> None:
    chains = [Preprocessing(decoder=decoder, resizer=resizer) for decoder in DECODERS for resizer in RESIZERS]
    assert len({chain.hash for chain in chains}) == len(chains)
    assert all(Preprocessing.from_json(chain.to_json()) == chain for chain in chains)


@pytest.mark.parametrize(
    ("saver", "base"),
    [
        ("decoder=pillow-draft", "dtype=bfloat16"),
        ("decoder=turbojpeg-draft", "decoder=turbojpeg"),
        ("decoder=turbojpeg", "decoder=turbojpeg&resizer=torchvision"),
        ("decoder=turbojpeg-draft&resizer=torchvision", "decoder=pillow"),
    ],
)
def test_a_cascade_runs_the_variants_that_were_recorded(saver: str, base: str, net: str, tmp_path: Path) -> None:
    if "turbojpeg" in saver:
        pytest.importorskip("simplejpeg")
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((20, 20, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.jpg", quality=95)
    data = load_data(f"folder:{folder}")
    names = [f"{net}?{saver}", f"{net}?{base}"]
    record(data, names, tmp_path / "run", options=OPTIONS)
    run = Run(tmp_path / "run")
    chains = [run.read(name).meta.preprocessing for name in names]
    assert chains[0] != chains[1]
    tuning = tune(run, names, max_drop=0.5, holdout=0)
    cascade = Cascade.load(tuning.save(tmp_path / "cascade"))
    assert [model.preprocessing.to_json() for model in cascade.models] == chains
    found = cascade.predict(data)
    recorded = [run.read(name).outputs.prediction for name in names]
    assert [a.prediction for a in found] == [int(recorded[a.stage or 0][i]) for i, a in enumerate(found)]
    files = cascade.predict([folder / "03.jpg"])
    assert files[0].prediction == found[3].prediction


def test_views_are_cut_from_full_images(net: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 16, 16), np.uint8))
    options = RecordOptions(timing=False, augment=1)
    with pytest.raises(UsageError, match=r"at full size; write \?decoder=pillow instead of pillow-draft"):
        record(f"arrays:{tmp_path}/x.npz", f"{net}?decoder=pillow-draft", tmp_path / "run", options=options)


def test_unknown_chains_in_files_are_refused() -> None:
    document = {**CHAIN.to_json(), "decoder": "turbo"}
    with pytest.raises(ArtefactError, match="preprocessing that cannot be carried out"):
        Preprocessing.from_json(document)
