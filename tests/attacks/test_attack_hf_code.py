"""A folder's config.json named a Python file beside it (``auto_map``); transformers imports such a file when it is told
to trust it, and asks on the terminal otherwise.

Taught: what a configuration says of code is taken out before transformers sees it, at any depth, and said.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from pilotfish.models import load_model
from support import hf

CODE = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Net", "AutoImageProcessor": "evil.Prep"}


@pytest.fixture
def folder(tmp_path: Path, marker: Path) -> Path:
    folder = hf.save(tmp_path / "vit", "vit")
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Config: ...\nclass Net: ...\n")
    return folder


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_transformers_own_is_taken(file: str, folder: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what trust_remote_code asks
    hf.edit(folder, file, auto_map=CODE)
    model = load_model(f"hf:{folder}", backend="torch")
    assert f"its {file} names code of its own (auto_map), which is never run" in model.notes[0]
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["evil", "bert", None])
def test_a_network_of_its_own_is_refused(
    kind: str | None, folder: Path, marker: Path, refused: Callable[..., str]
) -> None:
    hf.edit(folder, "config.json", auto_map=CODE, model_type=kind, architectures=["Net"])
    said = refused("record", "--data", "digits:val", "--model", f"hf:{folder}", "--run", folder / "run")
    assert kind is None or "names code of its own for Net (auto_map), which is never run" in said
    assert not marker.exists()


DOWNLOADS: list[dict[str, Any]] = [
    {"attn_implementation": "shop/kernel"},
    {"_attn_implementation": "shop/kernel"},
    {"_attn_implementation_internal": "shop/kernel"},
    {"use_kernels": True, "kernel_config": {"RMSNorm": "shop/kernel:Norm"}},
    {"transformers_weights": "../other.bin"},
    {"fusion_config": {"patch_embeddings": True}},
    {"_name_or_path": "shop/other", "use_pretrained_backbone": True, "custom_pipelines": {"a": {"impl": "evil.Net"}}},
]


@pytest.mark.parametrize("changes", DOWNLOADS, ids=[next(iter(one)) for one in DOWNLOADS])
def test_what_would_be_fetched_and_run_is_left_out(
    changes: dict[str, Any], folder: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a server was asked")

    plain = load_model(f"hf:{folder}", backend="torch")
    monkeypatch.setattr(socket, "create_connection", asked)
    monkeypatch.setattr(socket.socket, "connect", asked)
    model = load_model(f"hf:{hf.edit(folder, 'config.json', **changes)}", backend="torch")
    assert model.weights_hash == plain.weights_hash
    assert not marker.exists()


@pytest.mark.parametrize("name", ["OneFormerImageProcessor", "LayoutLMv2ImageProcessor", "os.system", "pipeline"])
def test_processors_that_run_programs_or_download_are_refused(
    name: str, folder: Path, refused: Callable[..., str]
) -> None:
    hf.edit(folder, "preprocessor_config.json", image_processor_type=name)
    said = refused("record", "--data", "digits:val", "--model", f"hf:{folder}", "--run", folder / "run")
    assert f"its image processor is '{name}'" in said


def test_a_checkpoint_that_names_a_processor(folder: Path) -> None:
    from pilotfish.errors import ModelError
    from pilotfish.models import Preprocessing

    text = json.dumps({"class": "OneFormerImageProcessor", "repo_path": "shop/data"})
    chain = Preprocessing(kind="processor", size=None, resize=None, mean=(), std=(), processor=text)
    from PIL import Image

    with pytest.raises(ModelError, match="no image processor of a classifier is called 'OneFormerImageProcessor'"):
        chain(Image.new("RGB", (8, 8)))
