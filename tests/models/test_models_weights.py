"""Weights files of other trainings: containers, prefixes, averaged weights, what lies beside, what is refused."""

from __future__ import annotations

import argparse
import collections
import pathlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from pilotfish.errors import ModelError  # noqa: E402
from pilotfish.models.names.fit_weights import load_from, load_weights  # noqa: E402
from pilotfish.models.names.weights_file import read_weights  # noqa: E402

State = dict[str, Any]


class Net(nn.Module):
    """Two layers, a batch norm and a head; ``auxiliary`` adds a head that only trains."""

    def __init__(self, classes: int = 3, auxiliary: bool = False) -> None:
        super().__init__()
        self.num_classes = classes
        self.stem = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.aux1: nn.Module | None = nn.Linear(5, classes) if auxiliary else None
        self.fc = nn.Linear(5, classes)
        self.register_buffer("mask", torch.ones(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.stem(x)))


def weights(seed: int = 1, classes: int = 3, auxiliary: bool = False) -> State:
    torch.manual_seed(seed)
    return {name: torch.rand(t.shape).to(t.dtype) for name, t in Net(classes, auxiliary).state_dict().items()}


def behind(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def loaded(path: Path, content: Any, module: nn.Module | None = None) -> tuple[nn.Module, tuple[str, ...]]:
    net = module or Net()
    torch.save(content, path)
    return net, load_weights(net, read_weights(path))


def holds(module: nn.Module, state: State) -> bool:
    own = module.state_dict()
    return all(torch.equal(own[name], state[name]) for name in own if name in state)


def refusal(path: Path, content: Any, module: nn.Module | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        loaded(path, content, module)
    said = str(caught.value)
    assert said.isprintable()
    return said


PREFIXES = ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.", "net.", "backbone."]


@pytest.mark.parametrize("prefix", [*PREFIXES, "model.backbone.", "module.model._orig_mod.net."])
def test_a_prefix_that_all_names_share_is_stripped(prefix: str, tmp_path: Path) -> None:
    net, notes = loaded(tmp_path / "w.pth", behind(prefix, weights()))
    assert holds(net, weights())
    assert notes == ()
    save_file(behind(prefix, weights(2)), tmp_path / "w.safetensors")
    assert load_weights(net, read_weights(tmp_path / "w.safetensors")) == ()
    assert holds(net, weights(2))


def test_wrappers_of_torch_itself_are_seen_through(tmp_path: Path) -> None:
    source = Net()
    source.load_state_dict(weights())
    partly = Net()
    partly.load_state_dict(weights())
    partly.stem = torch.compile(partly.stem)
    swa = torch.optim.swa_utils.AveragedModel(source)
    for wrapped in (swa, torch.compile(source), nn.DataParallel(torch.compile(source)), partly):
        net, notes = loaded(tmp_path / "w.pt", wrapped.state_dict())
        assert holds(net, weights())
        assert notes == ()


CONTAINERS = ["state_dict", "model", "model_state_dict", "net", "network", "weights", "module", "params", "anything"]


@pytest.mark.parametrize("container", [*CONTAINERS, "checkpoint.model", "a.b.c"])
def test_the_one_dictionary_of_tensors_is_found(container: str, tmp_path: Path) -> None:
    content: Any = collections.OrderedDict(weights())
    for key in reversed(container.split(".")):
        content = {key: content, "epoch": 3}
    content["optimizer"] = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(5, 4)}}}
    net, notes = loaded(tmp_path / "w.tar", content)
    assert holds(net, weights())
    assert notes == ()


RAW, EMA = weights(1), weights(2)
TWO_SETS = [
    ({"state_dict": RAW, "state_dict_ema": EMA}, "state_dict_ema was taken"),
    ({"model": RAW, "model_ema": EMA}, "model_ema was taken"),
    ({"model_ema": EMA, "state_dict_ema": RAW}, "state_dict_ema was taken"),  # timm's order
    ({"model": RAW, "ema": {"module": EMA, "decay": 0.999}}, "ema.module was taken"),
    ({"params": RAW, "params_ema": EMA}, "params_ema was taken"),
    ({"state_dict": {**behind("model.", RAW), **behind("ema_model.module.", EMA)}}, "ema_model.module was taken"),
    ({**RAW, **behind("ema.", EMA)}, "ema was taken"),
]


@pytest.mark.parametrize(("content", "said"), TWO_SETS)
def test_averaged_weights_are_preferred_and_that_is_said(content: Any, said: str, tmp_path: Path) -> None:
    net, notes = loaded(tmp_path / "w.pth", content)
    assert holds(net, EMA if said != "state_dict_ema was taken" or "state_dict" in content else RAW)
    assert len(notes) == 1
    assert said in notes[0]
    assert "(EMA)" in notes[0]


@pytest.mark.parametrize(
    "content",
    [
        {"model": RAW, "model_ema": None},
        {"state_dict": RAW, "state_dict_ema": RAW},  # the same twice
        {"model_ema": RAW},
    ],
)
def test_nothing_is_said_where_there_was_no_choice(content: Any, tmp_path: Path) -> None:
    net, notes = loaded(tmp_path / "w.pth", content)
    assert holds(net, RAW)
    assert notes == ()


def test_averaged_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    net, notes = loaded(tmp_path / "w.pth", {"model": RAW, "ema": {"stem.weight": RAW["stem.weight"]}})
    assert holds(net, RAW)
    assert "its averaged weights (ema) do not fit the model; model was taken" in notes[0]


def test_other_sets_that_fit_are_named_or_refused(tmp_path: Path) -> None:
    net, notes = loaded(tmp_path / "w.pth", {"state_dict": RAW, "best": EMA})
    assert holds(net, RAW)
    assert "state_dict was taken, the usual one; it also holds best" in notes[0]
    for content in (
        {"student": RAW, "teacher": EMA},
        {**behind("student.", RAW), **behind("teacher.", EMA)},
        {"model": {**behind("a.", RAW), **behind("b.", EMA)}},
    ):
        assert "fit the model alike; save the one that is meant alone" in refusal(tmp_path / "w.pth", content)


@pytest.mark.parametrize("beside", ["criterion.weight", "teacher.conv.weight", "head.weight"])
def test_tensors_beside_the_model_are_named(beside: str, tmp_path: Path) -> None:
    content = {"state_dict": {**behind("model.", RAW), beside: torch.zeros(3)}}
    net, notes = loaded(tmp_path / "w.ckpt", content)
    assert holds(net, RAW)
    assert f"1 tensor beside the model's (behind 'model.') left out ({beside})" in notes[0]


@pytest.mark.parametrize("name", ["norm.num_batches_tracked", "total_ops", "stem.total_params", "n_averaged", "mask"])
def test_counters_may_lack_or_be_there(name: str, tmp_path: Path) -> None:
    value = torch.ones(2) if name == "mask" else torch.tensor(7)
    net, notes = loaded(tmp_path / "w.pth", {**{k: v for k, v in RAW.items() if k != name}, name: value})
    assert holds(net, {k: v for k, v in RAW.items() if k != name})
    without = {k: v for k, v in RAW.items() if "tracked" not in k}
    assert (notes, loaded(tmp_path / "w.pth", without)[1]) == ((), ())


@pytest.mark.parametrize("name", ["aux1.fc.weight", "AuxLogits.conv0.conv.weight", "aux_classifier.weight"])
def test_auxiliary_heads_may_be_there(name: str, tmp_path: Path) -> None:
    net, notes = loaded(tmp_path / "w.pth", {**RAW, name: torch.zeros(3)})
    assert holds(net, RAW)
    assert notes == ()


def test_an_auxiliary_head_without_weights_is_removed_and_one_with_weights_kept(tmp_path: Path) -> None:
    net, _ = loaded(tmp_path / "w.pth", RAW, Net(auxiliary=True))
    assert net.state_dict().keys() == Net().state_dict().keys()  # else it would be another network at every loading
    whole = weights(auxiliary=True)
    net, _ = loaded(tmp_path / "w.pth", whole, Net(auxiliary=True))
    assert holds(net, whole)
    assert net.state_dict().keys() == whole.keys()


def test_the_head_says_how_many_classes_there_are(tmp_path: Path) -> None:
    torch.save(weights(classes=7), tmp_path / "w.pth")
    file = read_weights(tmp_path / "w.pth")
    build = lambda n: Net(n or 1000)  # noqa: E731
    for asked in (None, 7):
        net, _ = load_from(file, build, asked)
        assert holds(net, weights(classes=7))
    with pytest.raises(ModelError, match="its head has 7 classes and num_classes=9 was asked for; leave num_classes"):
        load_from(file, build, 9)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({k: v for k, v in RAW.items() if not k.startswith("fc.")}, "it is headless: its classifier (fc.weight, fc."),
        ({k: v for k, v in RAW.items() if k != "fc.bias"}, "lacks 1 of the model's 9 tensors (fc.bias)"),
        (behind("net.", {k: v for k, v in RAW.items() if k != "stem.bias"}), "(behind 'net.') (stem.bias)"),
        ({**RAW, "se.weight": torch.zeros(1)}, "has 1 tensor that the model does not know, se.weight"),
        ({"conv1.kernel": torch.zeros(1)}, "none of its 1 tensor (conv1.kernel) is one of the model's"),
        ({**RAW, "stem.weight": torch.zeros(9, 9)}, "stem.weight has shape (9, 9), the model's has (5, 4)"),
        ({"epoch": 3, "best": "x"}, "expected a state dict of tensors, found epoch, best"),
        ([torch.zeros(2)], "expected a state dict of tensors, found list"),
    ],
)
def test_what_does_not_fit_is_named(state: Any, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path / "w.pth", state)


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> type:
    """A dictionary as Lightning pickles it, without Lightning."""
    module = types.ModuleType("lightning_fabric.utilities.data")
    kind = type("AttributeDict", (dict,), {"__module__": module.__name__})
    module.AttributeDict = kind
    for name in ("lightning_fabric", "lightning_fabric.utilities", module.__name__):
        monkeypatch.setitem(sys.modules, name, module if name == module.__name__ else types.ModuleType(name))
    return kind


def test_settings_and_numbers_beside_the_weights_are_data(tmp_path: Path, lightning: type) -> None:
    beside = {
        "args": argparse.Namespace(model="net", num_classes=3, output=pathlib.PosixPath("/out")),
        "best_acc": np.float64(0.5),
        "best_epoch": np.int64(3),
        "hyper_parameters": lightning(lr=0.1, name="x"),
        "counter": collections.Counter("ab"),
    }
    net, notes = loaded(tmp_path / "w.pth", {"state_dict": RAW, **beside})
    assert holds(net, RAW)
    assert notes == ()
    said = read_weights(tmp_path / "w.pth").beside
    assert said["args"].model == "net"
    assert str(said["args"].output) == "/out"
    assert said["hyper_parameters"] == {"lr": 0.1, "name": "x"}


class Reduced:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.how = (function, arguments)

    def __reduce__(self) -> Any:
        return self.how


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (exec, ("open('{marker}', 'w')",), "exec"),
        (pathlib.Path.touch, (pathlib.PurePosixPath("{marker}"),), ""),
        (setattr, (argparse.Namespace, "__repr__", None), "setattr"),
        (getattr, (argparse.Namespace, "__init__"), "getattr"),
        (types.SimpleNamespace, (), "types.SimpleNamespace"),
    ],
)
def test_code_is_refused_by_name_and_not_run(
    function: Any, arguments: Any, named: str, old: bool, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    given = [a.format(marker=marker) if isinstance(a, str) else a for a in arguments]
    content = {"args": argparse.Namespace(x=Reduced(function, *given)), "state_dict": RAW}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelError) as caught:
        read_weights(tmp_path / "w.pth")
    said = str(caught.value)
    assert "refused, it holds more than tensors" in said
    assert named in said
    assert said.isprintable()
    assert not marker.exists()


def test_whole_modules_and_programs_are_refused_with_what_to_save(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3), tmp_path / "whole.pth")
    with pytest.raises(ModelError, match=r"torch\.nn\.modules\.linear\.Linear, which could run code; save the model's"):
        read_weights(tmp_path / "whole.pth")
