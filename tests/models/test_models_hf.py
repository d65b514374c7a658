"""``hf:DIR_OR_NAME``: what is recorded is what transformers' own pipeline says, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from pilotfish.data import open_data  # noqa: E402
from pilotfish.errors import MissingExtraError, ModelError, PilotfishError, UnreadableSample  # noqa: E402
from pilotfish.models import Model, load_model  # noqa: E402
from pilotfish.plan import tune  # noqa: E402
from pilotfish.recording.record import RecordOptions, record_model  # noqa: E402
from pilotfish.records import Run  # noqa: E402
from pilotfish.runtime import Cascade, save_with_weights  # noqa: E402
from support import hf  # noqa: E402
from support.process import command  # noqa: E402


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    for name in (*hf.MODELS, *hf.AS_THEY_ARE):
        hf.save(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf.pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def vit(zoo: Path, tmp_path: Path) -> Path:
    return shutil.copytree(zoo / "vit", tmp_path / "vit")


def load(folder: Path | str, options: str = "", **more: Any) -> Model:
    return load_model(f"hf:{folder}{options}", backend="torch", **more)


def refusal(folder: Path | str, options: str = "") -> str:
    with pytest.raises(ModelError) as caught:
        load(folder, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def probabilities(run: Path, model: str) -> np.ndarray:
    records = Run(run).read(model)
    logp = records.outputs.top_logits.astype(np.float64) - records.outputs.log_sum_exp[:, None]
    found = np.empty_like(logp)
    np.put_along_axis(found, records.outputs.top_classes, np.exp(logp), axis=1)
    return found


@pytest.mark.parametrize("name", [*hf.MODELS, "perceiver"])
def test_recorded_answers_are_the_pipelines(name: str, zoo: Path, data: Path, tmp_path: Path) -> None:
    options = RecordOptions(timing=False, store="full", batch_size=9)
    record_model(open_data(f"folder:{data}"), load(zoo / name), Run(tmp_path / "run"), name, options)
    records = Run(tmp_path / "run").read(name)
    assert records.meta.class_names == hf.NAMES
    paths = [data / name for name in records.ids.to_pylist()]
    theirs = hf.answers(zoo / name, paths)
    np.testing.assert_allclose(probabilities(tmp_path / "run", name), theirs, atol=1e-5)
    np.testing.assert_array_equal(records.outputs.prediction, theirs.argmax(axis=1))
    assert np.ptp(theirs, axis=0).max() > 0.01  # the pictures are told apart


@pytest.mark.parametrize("name", hf.MODELS)
def test_processors_are_preprocessing(name: str, zoo: Path) -> None:
    model = load(zoo / name)
    assert model.preprocessing.kind == "image"
    assert model.assumed == ()
    assert model.notes == ()


@pytest.mark.parametrize("name", hf.AS_THEY_ARE)
def test_processors_that_nothing_else_says_run_as_they_are(name: str, zoo: Path, data: Path) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor

    model = load(zoo / name)
    assert model.preprocessing.kind == "processor"
    [note] = model.notes
    assert "is run as it is" in note
    chain = type(model.preprocessing).from_json(json.loads(json.dumps(model.preprocessing.to_json())))
    assert chain.hash == model.preprocessing.hash != load(zoo / "resnet").preprocessing.hash
    theirs = AutoImageProcessor.from_pretrained(zoo / name)
    for path in sorted(data.rglob("*.png"))[:3]:
        image = Image.open(path)
        np.testing.assert_array_equal(chain(image), theirs(image, return_tensors="pt")["pixel_values"][0].numpy())
    assert "leave mean out" in refusal(zoo / name, "?mean=0.5")
    assert "leave the size out" in refusal(zoo / name, "?size=64")


def test_the_command_line_runs_it_in_onnx_runtime(vit: Path, data: Path, tmp_path: Path) -> None:
    said = command(
        tmp_path,
        "record",
        "--data",
        f"folder:{data}",
        "--model",
        "hf:vit",
        "--run",
        "run",
        "--store",
        "full",
        "--no-timing",
    )
    assert said.returncode == 0, said.stderr
    records = Run(tmp_path / "run").read("hf:vit")
    theirs = hf.answers(vit, [data / name for name in records.ids.to_pylist()])
    np.testing.assert_allclose(probabilities(tmp_path / "run", "hf:vit"), theirs, atol=1e-5)
    assert records.meta.costs["macs"] > 0
    assert "transformers" in records.meta.versions
    listed = command(tmp_path, "models", "hf:")
    assert "hf:DIR_OR_NAME" in command(tmp_path, "models").stdout + command(tmp_path, "models", "--help").stdout, listed


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ("", {}),
        ("?mean=0.5&std=0.5", {}),
        ("?mean=0.4,0.5,0.6&std=0.25", {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.25] * 3}),
        ("?scale=0..1", {"do_normalize": False}),
        ("?interpolation=bicubic", {"resample": 3}),
        ("?crop=0.8", {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": hf.SQUARE}),
    ],
)
def test_options_are_what_the_processor_could_say(options: str, same: dict[str, Any], vit: Path, data: Path) -> None:
    from PIL import Image
    from transformers import ViTImageProcessor

    chain = load(vit, options).preprocessing
    processor = ViTImageProcessor(**{"size": hf.SQUARE, **same})
    for path in sorted(data.rglob("*.png"))[:3]:
        image = Image.open(path)
        theirs = processor(image, return_tensors="pt")["pixel_values"][0].numpy()
        np.testing.assert_allclose(chain(image), theirs, atol=1e-5)


def test_other_options(zoo: Path, vit: Path) -> None:
    assert load(vit, "?channels=bgr").preprocessing.order == "bgr"
    assert load(vit, "?interpolation=lanczos").preprocessing.resizer == "pillow"
    assert load(vit, "?dtype=bfloat16").preprocessing.dtype == "bfloat16"
    larger = load(zoo / "resnet", "@64")
    assert (larger.input_shape, larger.preprocessing.size, larger.preprocessing.resize) == ((3, 64, 64), (64, 64), 78)
    assert "leave the size out" in refusal(vit, "?size=64")
    assert "unknown option 'weights'" in refusal(vit, "?weights=random")


def test_placeholders_are_no_names(vit: Path) -> None:
    hf.edit(vit, "config.json", id2label={str(i): f"LABEL_{i}" for i in range(3)}, label2id=None)
    assert (load(vit).class_names, load(vit).n_classes) == (None, 3)
    hf.edit(vit, "config.json", id2label=None, num_labels=3)
    assert (load(vit).class_names, load(vit).n_classes) == (None, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "vat"}, "is that of ViTForImageClassification, which is not one; expected an image classifier"),
        ({"model_type": None}, "has no model_type"),
        ({"model_type": "owlvit", "architectures": ["OwlViTForZeroShotDetection"]}, "which takes texts beside images"),
        ({"architectures": ["ViTModel"]}, "which returns features and has no classifier; expected ViTForImageClass"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "was trained to fill in images"),
        ({"model_type": "maskformer", "architectures": ["MaskFormerForInstanceSegmentation"]}, "which segments images"),
        ({"hidden_size": "wide"}, "describes no vit"),
        ({"hidden_size": 24}, "other shapes than config.json says"),
        ({"num_hidden_layers": 2}, "lacks 16 tensors"),
        ({"id2label": {"0": "a", "1": "b"}}, "other shapes than config.json says"),
        ({"id2label": {"0": "a", "1": "b", "7": "c"}}, "expected a name for each id from 0 to 2"),
        ({"id2label": ["a", "b", "c"]}, "id2label"),
        ({"id2label": {"0": "a"}}, "has 1 classes; expected 2 to 200,000"),
        ({"id2label": None, "num_labels": 10**9}, "expected 2 to 200,000"),
        ({"problem_type": "regression"}, "it predicts numbers, no classes"),
        ({"num_channels": 1}, "other shapes than config.json says"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised"),
    ],
)
def test_configurations_that_are_none(changes: dict[str, Any], said: str, vit: Path) -> None:
    assert said in refusal(hf.edit(vit, "config.json", **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_processor_type": "DetrImageProcessor"}, "its image processor is 'DetrImageProcessor'"),
        ({"size": {"height": 10**6, "width": 10}}, "expected 1 to 4096"),
        ({"size": {"tall": 3}}, "describes no image processor"),
        ({"image_mean": "grey"}, "its ViTImageProcessor fails on an image"),
        ({"crop_pct": 1e-9}, "expected a share of the image"),
        ({"image_std": [0.5, 0.5]}, "fails on an image"),
        ({"image_processor_type": "Siglip2ImageProcessor"}, "gives pixel_attention_mask, pixel_values, spatial_shapes"),
    ],
)
def test_processors_that_are_none(changes: dict[str, Any], said: str, vit: Path) -> None:
    assert said in refusal(hf.edit(vit, "preprocessor_config.json", **changes))


def test_files_that_are_missing(vit: Path, tmp_path: Path) -> None:
    assert "no such folder, and not in Hugging Face's cache" in refusal("nobody/nothing")
    assert "`hf download nobody/nothing`" in refusal("nobody/nothing")
    assert "no such folder; expected one" in refusal(tmp_path / "nothing")
    for name in ("vitt", "vti", "Vit"):  # vit lies beside it
        assert refusal(tmp_path / name).startswith(f"hf:{tmp_path / name}: no such folder (near it: {vit})")
    assert "download" not in refusal("./nothing")
    assert "is a file; name the folder" in refusal(vit / "model.safetensors")
    (tmp_path / "empty").mkdir()
    assert "holds no config.json" in refusal(tmp_path / "empty")
    (vit / "preprocessor_config.json").rename(vit / "kept")
    assert "holds no preprocessor_config.json" in refusal(vit)
    (vit / "processor_config.json").write_text(json.dumps({"image_processor": json.loads((vit / "kept").read_text())}))
    assert load(vit).preprocessing.size == (32, 32)
    (vit / "model.safetensors").unlink()
    assert "holds no weights; expected model.safetensors" in refusal(vit)
    (vit / "config.json").write_text("{'model_type': 1}")
    assert "config.json: not valid JSON" in refusal(vit)


def test_a_name_in_the_cache(vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    home = tmp_path / "hub/models--shop--vit"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text("0" * 40)
    (home / "blobs").mkdir()
    (home / "snapshots" / ("0" * 40)).mkdir(parents=True)
    for file in vit.iterdir():  # as the Hub's client keeps them
        file.rename(home / "blobs" / file.name)
        (home / "snapshots" / ("0" * 40) / file.name).symlink_to(f"../../blobs/{file.name}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = load("shop/vit")
    assert (model.spec, model.class_names) == ("hf:shop/vit", hf.NAMES)
    assert not constants.HF_HUB_OFFLINE


def test_weights_in_several_files(vit: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = load(vit).weights_hash
    tensors = load_file(vit / "model.safetensors")
    (vit / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + (i > 5)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, vit / file)
    (vit / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert load(vit).weights_hash == whole
    (vit / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places | {"more": places[names[0]]}}))
    assert "lacks more, which model.safetensors.index.json says it holds" in refusal(vit)


def test_what_is_left_out_or_done_otherwise_is_said(vit: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(vit / "model.safetensors")
    half = {name: tensor.half() for name, tensor in tensors.items()}
    save_file({**half, "pooler.extra": tensors["classifier.bias"]}, vit / "model.safetensors", {"format": "pt"})
    hf.edit(vit, "config.json", dtype="float16", problem_type="multi_label_classification")
    notes = "\n".join(load(vit).notes)
    assert "its weights are float16, and it is computed in float32 but for ?dtype=float16" in notes
    assert "trained for many labels per image" in notes
    assert "1 tensor beside the model's is left out (pooler.extra)" in notes


def test_without_the_extra(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pilotfish\[hf\]'"):
        load(vit)


@pytest.fixture
def timm_folder(tmp_path: Path) -> Path:
    """A model as timm pushes it to the Hub."""
    timm = pytest.importorskip("timm")
    from timm.models._hub import save_for_hf

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3)
    network.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "std": (0.3,) * 3, "input_size": (3, 96, 96), "crop_pct": 0.9}
    save_for_hf(network, tmp_path / "net", model_config={"label_names": hf.NAMES}, safe_serialization=True)
    return tmp_path / "net"


def test_a_timm_model_of_the_hub(timm_folder: Path, data: Path) -> None:
    import timm
    from PIL import Image
    from safetensors.torch import load_file

    model = load(timm_folder)
    assert (model.class_names, model.input_shape, model.notes, model.assumed) == (hf.NAMES, (3, 96, 96), (), ())
    cfg = json.loads((timm_folder / "config.json").read_text())["pretrained_cfg"]
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=cfg))
    plain = timm.create_model("test_resnet", num_classes=3).eval()
    plain.load_state_dict(load_file(timm_folder / "model.safetensors"))
    for path in sorted(data.rglob("*.png"))[:3]:
        image = Image.open(path)
        np.testing.assert_allclose(model.preprocessing(image), transform(image).numpy(), atol=0.02)
        with torch.no_grad():
            theirs = plain(transform(image)[None]).numpy()
        np.testing.assert_allclose(model.run(model.preprocessing(image)[None]), theirs, atol=1e-3)
    assert load(timm_folder, "@64").input_shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": "hf-hub:shop/net"}, "timm has no model 'hf-hub:shop/net'"),
        ({"architecture": "resnet18"}, "name the architecture that it was saved from"),
        ({"pretrained_cfg": [1]}, "pretrained_cfg is '[1]'"),
        ({"pretrained_cfg": {"mean": ["a"], "std": [1.0]}}, "its pretrained_cfg cannot be carried out"),
        ({"pretrained_cfg": {"crop_pct": -1}}, "its pretrained_cfg cannot be carried out"),
        ({"model_args": {"checkpoint_path": "x.pth"}}, "argument 'checkpoint_path' = 'x.pth' is not allowed"),
        ({"num_classes": 5}, "its head has 3 classes"),
        ({"label_names": ["cat"]}, "label_names is ['cat']; expected 3 names"),
        ({"model_args": [1]}, "arguments are '[1]'"),
    ],
)
def test_timm_configurations_that_are_none(changes: dict[str, Any], said: str, timm_folder: Path) -> None:
    assert said in refusal(hf.edit(timm_folder, "config.json", **changes))


def test_cascades_carry_it_or_find_it(
    zoo: Path, timm_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    for name in ("vit", "perceiver"):
        shutil.copytree(zoo / name, home / "models" / name)
    shutil.copytree(timm_folder, home / "models/net")
    monkeypatch.chdir(home)
    names = ["hf:models/vit", "hf:models/perceiver", "hf:models/net"]
    run = Run(Path("run"))
    for name in names:
        record_model(
            open_data(f"folder:{data}"), load_model(name, backend="torch"), run, name, RecordOptions(timing=False)
        )
    tuning = tune(run, names, max_drop=0.9, holdout=0, allow_bad_base=True)
    carried, named = save_with_weights(tuning.artefact, home / "carried"), tuning.save(home / "named")
    images = sorted(data.rglob("*.png"))

    def answers(folder: Path) -> list[tuple[int | None, int | None]]:
        return [(answer.prediction, answer.stage) for answer in Cascade.load(folder).predict(images)]

    expected = answers(named)
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    assert answers(named) == expected  # from another working directory
    named.rename(away / "named")
    (home / "models").rename(tmp_path / "hidden")
    with pytest.raises(PilotfishError, match=r"no such folder, and not in Hugging Face's cache"):
        Cascade.load(away / "named")
    (tmp_path / "hidden").rename(away / "models")
    assert answers(away / "named") == expected
    shutil.rmtree(away / "models")
    assert answers(carried) == expected


def test_networks_of_grey_images(tmp_path: Path, data: Path) -> None:
    import transformers
    from PIL import Image

    config = transformers.ViTConfig(num_hidden_layers=1, num_channels=1, **hf.SMALL, **hf.labels())
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessor(size=hf.SQUARE, image_mean=[0.4], image_std=[0.3])
    processor.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert (model.input_shape, model.preprocessing.channels) == ((1, 32, 32), 1)
    for path in sorted(data.rglob("*.png"))[:3]:
        theirs = processor(Image.open(path).convert("L"), return_tensors="pt")["pixel_values"][0].numpy()
        np.testing.assert_allclose(model.preprocessing(Image.open(path)), theirs, atol=1e-5)
    hf.edit(tmp_path, "preprocessor_config.json", image_mean=[0.5] * 3, image_std=[0.5] * 3)
    assert "makes 3 channels and its network takes 1" in refusal(tmp_path)


@pytest.mark.parametrize(("name", "said"), [("resnet", "would be resized to"), ("perceiver", "too long to be resized")])
@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_images_that_would_fill_the_memory(name: str, said: str, size: tuple[int, int], zoo: Path) -> None:
    from PIL import Image

    with pytest.raises(UnreadableSample, match=said):
        load(zoo / name, "?interpolation=bilinear" * (name == "resnet")).preprocessing(Image.new("RGB", size))


@pytest.mark.parametrize("changes", [{"num_attention_heads": 4}, {"hidden_act": "relu"}, {"layer_norm_eps": 0.1}])
def test_the_same_weights_in_another_network_are_another_model(changes: dict[str, Any], vit: Path) -> None:
    first = load(vit)
    renamed = load(hf.edit(vit, "config.json", id2label={"0": "a", "1": "b", "2": "c"}, transformers_version="4.0"))
    assert renamed.weights_hash == first.weights_hash
    other = load(hf.edit(vit, "config.json", **changes))
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    assert other.weights_hash != first.weights_hash
    assert not np.allclose(other.run(x), first.run(x))


@pytest.mark.parametrize("name", ["convnext", "vit", "beit"])
def test_configurations_of_earlier_versions(name: str, zoo: Path, data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(zoo / name, tmp_path / name)
    kinds = {"convnext": "ConvNextFeatureExtractor", "vit": "ViTFeatureExtractor", "beit": "BeitFeatureExtractor"}
    plain = {"do_normalize": True, "do_resize": True, "image_mean": [0.4] * 3, "image_std": [0.3] * 3, "resample": 2}
    more = {"crop_pct": 0.875} if name == "convnext" else {"crop_size": 32} if name == "beit" else {}
    document = {"feature_extractor_type": kinds[name], "size": 32, **plain, **more}
    (folder / "preprocessor_config.json").write_text(json.dumps(document))
    paths = sorted(data.rglob("*.png"))
    model = load(folder)
    from PIL import Image

    logits = np.concatenate([model.run(model.preprocessing(Image.open(path))[None]) for path in paths])
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, hf.answers(folder, paths), atol=1e-5)
    assert (model.preprocessing.kind, model.notes) == ("image", ())
