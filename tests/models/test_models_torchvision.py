"""``torchvision:NAME``."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from safetensors.torch import save_file  # noqa: E402

from pilotfish.errors import ModelError  # noqa: E402
from pilotfish.models import load_model  # noqa: E402

load_torch = functools.partial(load_model, backend="torch")

NAME = "torchvision:squeezenet1_1"


def test_random_weights_are_a_whole_model() -> None:
    model = load_torch(f"{NAME}@64?weights=random")
    assert model.n_classes == 1000
    assert model.class_names is not None
    assert model.class_names[0] == "tench"
    assert model.input_shape == (3, 64, 64)
    assert model.preprocessing.size == (64, 64)
    assert model.run(np.zeros((2, 3, 64, 64), np.float32)).shape == (2, 1000)


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    made = load_torch(f"{NAME}?weights=random&num_classes=7")
    assert (made.n_classes, made.class_names) == (7, None)
    save_file(made.backend.module.state_dict(), tmp_path / "w.safetensors")
    again = load_torch(f"{NAME}?weights={tmp_path}/w.safetensors&num_classes=7")
    assert again.weights_hash == made.weights_hash


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:resnet81?weights=random", "torchvision has no model 'resnet81' here; nearest names: resnet"),
        ("torchvision:raft_large", "torchvision has no model"),
        (f"{NAME}?weights=random&num_classes=abc", "num_classes must be a whole number of at least 2, found 'abc'"),
        (f"{NAME}?weights=random&num_classes=1", "num_classes must be a whole number of at least 2, found '1'"),
        (f"{NAME}?weights=IMAGENET1K_V9", "no such weights file"),
        (f"{NAME}?pretrained=yes", "unknown option 'pretrained'"),
    ],
)
def test_wrong_names_and_options(name: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_torch(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_that_fails_is_one_line_and_leaves_stdout_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        sys.stdout.write("talk\n")
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ModelError) as caught:
        load_torch(NAME)
    assert "cannot be had (<urlopen error no route>); use ?weights=FILE" in str(caught.value)
    assert capsys.readouterr().out == ""
