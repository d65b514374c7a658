"""Object detection and semantic segmentation of ``hf:`` folders, against transformers' own steps."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tf = pytest.importorskip("transformers")

from pilotfish.errors import ModelError  # noqa: E402
from pilotfish.models import load_model  # noqa: E402
from pilotfish.models.names.spec import task_named  # noqa: E402

NAMES = {0: "N/A", 1: "cat", 2: "dog"}
TINY = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
EDGES = {"shortest_edge": 32, "longest_edge": 64}


def _yolos() -> Any:
    config = tf.YolosConfig(image_size=[32, 48], patch_size=16, num_detection_tokens=5, id2label=NAMES, **TINY)
    return tf.YolosForObjectDetection(config)


def _detr() -> Any:
    small = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    backbone = tf.ResNetConfig(**small, out_features=["stage4"])
    parts = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 32))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 16, "num_queries": 5}
    own = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
    return tf.DetrForObjectDetection(tf.DetrConfig(backbone_config=backbone, id2label=NAMES, **own, **parts, **heads))


def _segformer() -> Any:
    widths = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}
    return tf.SegformerForSemanticSegmentation(tf.SegformerConfig(decoder_hidden_size=16, id2label=NAMES, **widths))


MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "yolos": (_yolos, lambda: tf.YolosImageProcessor(size=EDGES)),
    "detr": (_detr, lambda: tf.DetrImageProcessor(size=EDGES)),
    "segformer": (_segformer, lambda: tf.SegformerImageProcessor(size={"height": 32, "width": 48})),
}


@functools.cache
def folder(base: Path, name: str) -> Path:
    build, processor = MODELS[name]
    torch.manual_seed(0)
    build().eval().save_pretrained(base / name)
    processor().save_pretrained(base / name)
    return base / name


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return functools.partial(folder, tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 40, 56), np.uint8)


@pytest.mark.parametrize("name", ["yolos", "detr"])
def test_boxes_are_transformers_own(name: str, saved: Callable[[str], Path], images: np.ndarray) -> None:
    where = saved(name)
    model = load_model(f"hf:{where}")
    assert (model.task, model.backend.name, model.n_classes) == ("boxes", "torch", 3)
    assert model.class_names == ("N/A", "cat", "dog")
    found = model.run((images / np.float32(255)).astype(np.float32))
    network = tf.AutoModelForObjectDetection.from_pretrained(where).eval()
    processor = tf.AutoImageProcessor.from_pretrained(where)
    with torch.inference_mode():
        returned = network(**processor(images=list(torch.tensor(images)), return_tensors="pt"))
    theirs = processor.post_process_object_detection(returned, threshold=0.0, target_sizes=[(40, 56)] * 2)
    for ours, own in zip(found, theirs, strict=True):
        assert len(ours["scores"]) == 5
        np.testing.assert_allclose(ours["boxes"], own["boxes"].numpy(), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(ours["scores"], own["scores"].numpy(), rtol=1e-5)
        assert ours["labels"].tolist() == own["labels"].tolist()


def test_masks_are_transformers_own(saved: Callable[[str], Path], images: np.ndarray) -> None:
    where = saved("segformer")
    model = load_model(f"hf:{where}")
    assert (model.task, model.n_classes) == ("mask", 3)
    assert task_named(f"hf:{where}") == "mask"
    found = model.run((images / np.float32(255)).astype(np.float32))
    assert found.shape == (2, 3, 40, 56)
    network = tf.AutoModelForSemanticSegmentation.from_pretrained(where).eval()
    processor = tf.AutoImageProcessor.from_pretrained(where)
    with torch.inference_mode():
        returned = network(**processor(images=list(torch.tensor(images)), return_tensors="pt"))
    theirs = processor.post_process_semantic_segmentation(returned, target_sizes=[(40, 56)] * 2)
    assert np.array_equal(found.argmax(axis=1), np.stack([one.numpy() for one in theirs]))


def test_what_they_cost_and_who_they_are(saved: Callable[[str], Path], tmp_path: Path) -> None:
    where = saved("segformer")
    model = load_model(f"hf:{where}")
    found = model.count()
    assert found.costs["macs"] > 10_000
    assert found.notes == ("MACs are of an image of 32x48 pixels, as it is resized",)
    assert model.weights is not None
    model.weights(tmp_path / "w.safetensors")
    again = load_model(f"hf:{where}", weights=tmp_path / "w.safetensors")
    assert again.weights_hash == model.weights_hash
    other = edited(where, tmp_path / "other", size={"height": 64, "width": 64})
    assert load_model(f"hf:{other}").weights_hash != model.weights_hash


def edited(where: Path, target: Path, **changes: Any) -> Path:
    """A copy of a folder whose processor says something else."""
    target.mkdir()
    for file in where.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    name = "preprocessor_config.json" if (target / "preprocessor_config.json").exists() else "processor_config.json"
    document = json.loads((target / name).read_text())
    document.get("image_processor", document).update(changes)
    (target / name).write_text(json.dumps(document))
    return target


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"do_center_crop": True, "crop_size": {"height": 16, "width": 16}}, "crops images (do_center_crop)"),
        ({"image_processor_type": "DetrImageProcessor"}, "is none of transformers' networks for segmentation"),
        ({"image_processor_type": "Evil"}, "is none of transformers' networks for segmentation"),
        ({"size": {"height": 10**6, "width": 10}}, "expected 1 to 4096"),
    ],
)
def test_processors_that_do_not_fit(
    changes: dict[str, Any], said: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(f"hf:{edited(saved('segformer'), tmp_path / 'x', **changes)}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_size_in_the_name_is_refused(saved: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="leave the size out"):
        load_model(f"hf:{saved('segformer')}@64")
