"""``timm:NAME``: weights from files, sizes, class counts, and a hub that cannot be reached."""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
constants = pytest.importorskip("huggingface_hub").constants

from safetensors.torch import save_file  # noqa: E402

from pilotfish.errors import ModelError  # noqa: E402
from pilotfish.models import Model, load_model  # noqa: E402
from pilotfish.models.names.timm_models import cache_alone_if_unreachable  # noqa: E402

load_torch = functools.partial(load_model, backend="torch")

NAME = "timm:test_vit"
BATCH = np.random.default_rng(0).standard_normal((2, 3, 160, 160), dtype=np.float32)


def module_of(model: Model) -> torch.nn.Module:
    return model.backend.module


@pytest.fixture(scope="module")
def random_model() -> Model:
    return load_torch(f"{NAME}?weights=random")


def refusal(name: str) -> str:
    with pytest.raises(ModelError) as caught:
        load_torch(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_random_weights_are_a_whole_model(random_model: Model) -> None:
    assert random_model.spec == f"{NAME}?weights=random"
    assert random_model.n_classes == 1000
    assert random_model.class_names is not None
    assert random_model.class_ids is not None
    assert (random_model.class_names[0], random_model.class_ids[0]) == ("tench", "n01440764")
    assert random_model.input_shape == (3, 160, 160)
    logits = random_model.run(BATCH)
    assert (logits.shape, logits.dtype) == ((2, 1000), np.float32)
    costs = random_model.count().costs
    assert costs["params"] == sum(p.numel() for p in module_of(random_model).parameters())
    assert costs["macs"] > 0


def test_weights_come_from_files_of_either_kind(random_model: Model, tmp_path: Path) -> None:
    state = module_of(random_model).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "trained.pt")
    for file in ("w.safetensors", "plain.pth", "trained.pt"):
        model = load_torch(f"{NAME}?weights={tmp_path / file}")
        assert model.weights_hash == random_model.weights_hash
        assert np.array_equal(model.run(BATCH), random_model.run(BATCH))


def test_one_changed_weight_is_another_hash(random_model: Model, tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in module_of(random_model).state_dict().items()}
    state["head.bias"][7] += 1e-6
    save_file(state, tmp_path / "w.safetensors")
    assert load_torch(f"{NAME}?weights={tmp_path}/w.safetensors").weights_hash != random_model.weights_hash


def test_the_number_of_classes_comes_from_the_head_or_is_said(tmp_path: Path) -> None:
    seven = load_torch(f"{NAME}?weights=random&num_classes=7")
    assert (seven.n_classes, seven.class_names) == (7, None)
    file = tmp_path / "seven.safetensors"
    save_file(module_of(seven).state_dict(), file)
    for name in (f"{NAME}?weights={file}", f"{NAME}?weights={file}&num_classes=7"):
        again = load_torch(name)
        assert (again.weights_hash, again.n_classes) == (seven.weights_hash, 7)
    assert "its head has 7 classes and num_classes=9 was asked for" in refusal(f"{NAME}?weights={file}&num_classes=9")


def test_weights_that_do_not_fit_name_a_tensor(random_model: Model, tmp_path: Path) -> None:
    state = module_of(random_model).state_dict()
    save_file({k: v for k, v in state.items() if k != "head.bias"}, tmp_path / "less.safetensors")
    save_file({**state, "extra.bias": torch.zeros(1)}, tmp_path / "more.safetensors")
    assert "lacks 1 of the model's" in refusal(f"{NAME}?weights={tmp_path}/less.safetensors")
    assert "has 1 tensor that the model does not know, extra.bias" in refusal(
        f"{NAME}?weights={tmp_path}/more.safetensors"
    )


@pytest.mark.parametrize("weights", ["random", "pretrained"])
def test_a_network_without_a_classifier_is_refused_before_anything_is_downloaded(weights: str) -> None:
    headless = next(n for n in timm.list_pretrained() if timm.get_pretrained_cfg_value(n, "num_classes") == 0)
    assert "is a headless network (num_classes=0)" in refusal(f"timm:{headless}?weights={weights}")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("absent.safetensors", None, "no such weights file"),
        ("w.npz", b"x", "unknown kind of weights file '.npz'"),
        ("w.safetensors", b"garbage", "not a readable safetensors file"),
        ("w.pth", b"garbage", "refused, it holds more than tensors or is damaged"),
    ],
)
def test_files_that_hold_no_weights(tmp_path: Path, file: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    assert said in refusal(f"{NAME}?weights={tmp_path / file}")


def test_a_list_of_tensors_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    assert "expected a state dict of tensors, found list" in refusal(f"{NAME}?weights={tmp_path}/list.pt")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet81", "timm has no model 'resnet81'; nearest names: "),
        ("timm:hf-hub:someone/something", "timm has no model"),
        (f"{NAME}?weights=random&num_classes=abc", "num_classes must be a whole number of at least 2, found 'abc'"),
        (f"{NAME}?weight=random", "unknown option 'weight'; nearest names: weights"),
    ],
)
def test_wrong_names_and_options(name: str, said: str) -> None:
    assert said in refusal(name)


def test_a_size_that_the_architecture_was_not_made_for_is_built_in() -> None:
    model = load_torch(f"{NAME}@192?weights=random")
    assert model.input_shape == (3, 192, 192)
    assert model.run(np.zeros((1, 3, 192, 192), np.float32)).shape == (1, 1000)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A hub at an address where nobody listens, and an empty cache."""
    with socket.socket() as reserved:  # bound and not listening: the port is refused, and nobody else can take it
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{reserved.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield


@pytest.mark.usefixtures("no_hub")
def test_pretrained_weights_without_a_network_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    said = refusal(NAME)
    assert f"the pretrained weights of {NAME} cannot be had (" in said
    assert "?weights=FILE" in said
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_hub")
def test_a_hub_that_cannot_be_reached_is_left_alone_and_only_for_the_while(monkeypatch: pytest.MonkeyPatch) -> None:
    with cache_alone_if_unreachable():
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is False
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with cache_alone_if_unreachable():
            assert constants.HF_HUB_OFFLINE is False
