"""Networks with exits: cut from any backbone without changing an answer, MSDNet as published, files, costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from torch import nn  # noqa: E402

from pilotfish.errors import ModelError  # noqa: E402
from pilotfish.machine import processor  # noqa: E402
from pilotfish.models import Preprocessing, load_model  # noqa: E402
from pilotfish.models.costs.macs import count_macs, count_parameters  # noqa: E402
from pilotfish.models.exits.attached import Attachment, attach_exits, spread_layers  # noqa: E402
from pilotfish.models.exits.describe import META_KEY, Description, build, read_network, save_network  # noqa: E402  # noqa: E402
from pilotfish.models.exits.exit_model import count_exit, exit_names  # noqa: E402
from pilotfish.models.exits.msdnet import MSDNet, MSDNetConfig, imagenet  # noqa: E402
from pilotfish.models.exits.network import Span, Whole  # noqa: E402
from pilotfish.models.names.architectures import build_small  # noqa: E402
from pilotfish.runtime.shared import linked, shares_with  # noqa: E402

GREY = Preprocessing(size=(8, 8), resize=None, mean=(0.5,), std=(0.3,))
CASES = [
    ("resnet18", ["layer1", "layer2", "layer3"], {}),
    ("resnet18", ["layer2.0.conv1"], {}),  # inside a block: the skip connection crosses the cut
    ("mobilenetv3_small_050", ["blocks.1", "blocks.3"], {}),
    ("tf_efficientnet_lite0", ["blocks.2", "blocks.4"], {}),
    ("convnext_atto", ["stages.0", "stages.2"], {}),
    ("vit_tiny_patch16_224", ["blocks.2", "blocks.7"], {"img_size": 64}),
    ("deit_tiny_patch16_224", ["blocks.5"], {"img_size": 64}),
    ("swin_tiny_patch4_window7_224", ["layers.1"], {}),
    ("mixer_s32_224", ["blocks.3"], {}),
]


def random_inputs(shape: tuple[int, ...], n: int = 3) -> Any:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, *shape), dtype=np.float32))


def unsettled(module: nn.Module) -> nn.Module:
    """The module with batch norms that have seen something, so that their mode matters."""
    torch.manual_seed(1)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and m.running_var is not None:
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize(("name", "layers", "arguments"), CASES)
def test_the_trunk_answers_as_the_whole_network_to_the_bit(
    name: str, layers: list[str], arguments: dict[str, int]
) -> None:
    torch.manual_seed(0)
    backbone = unsettled(timm.create_model(name, pretrained=False, num_classes=7, **arguments))
    side = arguments.get("img_size", 224)
    x = random_inputs((3, side, side), 2)
    with torch.no_grad():
        expected = backbone(x)
        network = attach_exits(backbone, [Attachment(layer) for layer in layers], (3, side, side), 7).eval()
        found = network(x)
    assert len(found) == len(layers) + 1
    assert all(z.shape == (2, 7) for z in found)
    assert torch.equal(found[-1], expected)


def test_layers_after_an_exit_are_not_run_for_samples_that_left() -> None:
    network = attach_exits(build_small("convnet", 5, 8, 8), [Attachment("2"), Attachment("8")], (1, 8, 8), 5).eval()
    seen: list[int] = []
    network.parts[2].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    x = random_inputs((1, 8, 8), 6)
    with torch.no_grad():
        whole = network(x)
        logits, *features = Span(network, 0, 1)(x)
        rows = torch.tensor([4, 1])
        later, *_ = Span(network, 2, 2)(*(part[rows] for part in features))
    assert seen == [6, 2]
    assert torch.equal(logits, whole[1])
    torch.testing.assert_close(later, whole[2][rows])


@pytest.mark.parametrize("head", ["linear", "norm", "mlp", "conv"])
def test_heads(head: str) -> None:
    network = attach_exits(build_small("convnet", 5, 8, 8), [Attachment("5", head, 12)], (1, 8, 8), 5)
    assert network(random_inputs((1, 8, 8)))[0].shape == (3, 5)


def test_places_that_are_none() -> None:
    net = build_small("convnet", 5, 8, 8)
    with pytest.raises(ModelError, match=r"no layer '17' is run; nearest names?:"):
        attach_exits(net, [Attachment("17")], (1, 8, 8), 5)
    with pytest.raises(ModelError, match="in the order in which they run, each once; found 8, 2"):
        attach_exits(net, [Attachment("8"), Attachment("2")], (1, 8, 8), 5)
    with pytest.raises(ModelError, match=r"unknown head 'lineal'; .*linear"):
        attach_exits(net, [Attachment("2", "lineal")], (1, 8, 8), 5)
    with pytest.raises(ModelError, match="a conv head needs feature maps"):
        attach_exits(build_small("mlp", 5, 8, 8), [Attachment("1", "conv")], (1, 8, 8), 5)


def test_a_network_whose_flow_depends_on_the_data_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match=r"Odd cannot be cut into parts .*must not depend on the data"):
        attach_exits(Odd(), [Attachment("a")], (1, 8, 8), 5)


def test_exits_are_spread_by_macs() -> None:
    backbone = timm.create_model("resnet18", pretrained=False, num_classes=10)
    layers = spread_layers(backbone, (3, 64, 64), 3)
    network = attach_exits(backbone, [Attachment(layer) for layer in layers], (3, 64, 64), 10).eval()
    whole = float(count_macs(backbone, (torch.zeros(1, 3, 64, 64),)).total)
    shares = [
        (count_exit(network, k, (3, 64, 64)).costs["macs"] - count_exit(network, k, (3, 64, 64)).costs["head_macs"])
        / whole
        for k in range(3)
    ]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.75], atol=0.08)
    assert spread_layers(build_small("convnet", 5, 8, 8), (1, 8, 8), 2) == ["5", "8"]  # after activations, never twice
    with pytest.raises(ModelError, match=r"40 exits were asked for; the backbone has places for \d+"):
        spread_layers(backbone, (3, 64, 64), 40)


# MSDNet: the counts of the authors' networks, in millions

MSDNETS = {
    "cifar-100, 5 exits": (
        MSDNetConfig(100, blocks=5),
        (3, 32, 32),
        [6.8, 14.2, 27.3, 41.4, 58.1],
    ),
    "cifar-100, 7 exits, even": (
        MSDNetConfig(100, blocks=7, base=4, step=2, growing=False),
        (3, 32, 32),
        [15.0, 25.3, 36.8, 46.0, 56.9, 66.5, 75.5],
    ),
    "cifar-100, 7 exits, growing": (
        MSDNetConfig(100, blocks=7),
        (3, 32, 32),
        [6.8, 14.2, 27.0, 48.1, 75.9, 108.2, 136.6],
    ),
    "imagenet, step 4": (imagenet(4), (3, 224, 224), [337, 682, 1004, 1250, 1356]),
    "imagenet, step 7": (imagenet(7), (3, 224, 224), [612, 1431, 2276, 2960, 3246]),
}


@pytest.mark.parametrize("name", MSDNETS)
def test_msdnet_costs_what_the_released_one_does(name: str) -> None:
    config, shape, expected = MSDNETS[name]
    network = MSDNet(config).eval()
    macs = 0.0
    features: tuple[Any, ...] = (torch.zeros(1, *shape),)
    found = []
    for k in range(network.exits):  # what the first k exits cost together, each head included, as it was published
        block = network.blocks[k]
        macs += float(count_macs(_Tuple(block), features).total)
        with torch.no_grad():
            features = network.advance(k, features)
        macs += float(count_macs(network.heads[k], (features[-1],)).total)
        found.append(macs / 1e6)
    np.testing.assert_allclose(found, expected, rtol=6e-3, atol=0.06)


def test_msdnet_has_the_parameters_of_the_released_one() -> None:
    network = MSDNet(imagenet(7))
    found = np.cumsum(
        [count_parameters(b) + count_parameters(h) for b, h in zip(network.blocks, network.heads, strict=True)]
    )
    assert [round(n / 1e6, 2) for n in found.tolist()] == [8.76, 20.15, 31.73, 41.86, 62.31]


class _Tuple(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *features: Any) -> Any:
        return self.block(features)


# files

DESCRIPTION = Description(
    kind="attached",
    classes=5,
    input_shape=(1, 8, 8),
    preprocessing=GREY,
    class_names=tuple("abcde"),
    backbone="small:convnet",
    arguments={"width": 8, "side": 8},
    exits=({"after": "2", "head": "linear", "width": 128}, {"after": "8", "head": "mlp", "width": 16}),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build(DESCRIPTION)
    unsettled(network)
    path = tmp_path_factory.mktemp("exits") / "net.safetensors"
    save_network(network, DESCRIPTION, path)
    return path


def test_a_file_comes_back_as_it_was(file: Path) -> None:
    network, description = read_network(file)
    assert description == DESCRIPTION
    again, _ = read_network(file)
    x = random_inputs((1, 8, 8))
    with torch.no_grad():
        for a, b in zip(network(x), again(x), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_an_exit_is_a_model(backend: str, file: Path) -> None:
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime")
    network, _ = read_network(file)
    x = random_inputs((1, 8, 8), 5)
    with torch.no_grad():
        expected = [z.numpy() for z in network(x)]
    for k in (1, 2, 3):
        model = load_model(f"exits:{file}#{k}", backend=backend)
        assert model.backend.name == backend
        np.testing.assert_allclose(model.run(x.numpy()), expected[k - 1], atol=1e-5)
        assert model.class_names == tuple("abcde")
        assert model.exit_of is not None
        assert (model.exit_of.position, model.exit_of.exits) == (k, 3)


@pytest.mark.parametrize("option", ["dtype=bfloat16", "dtype=float16", "decoder=pillow-draft"])
def test_an_exit_in_another_variant_is_recorded_by_its_options_and_runs_as_it_was_recorded(
    option: str, file: Path
) -> None:
    names = exit_names(f"exits:{file}?{option}")
    assert names == [f"exits:{file}#{k}?{option}" for k in (1, 2, 3)]
    assert exit_names(names[1]) == [names[1]]
    variants, plain = [load_model(name) for name in names], load_model(f"exits:{file}#3")
    assert not shares_with(variants[0], plain)
    x = random_inputs((1, 8, 8), 5).numpy()
    for stages in (variants, [variants[0], plain]):
        runners = linked(stages, [model.backend.name for model in stages])
        carry = None
        for (runner, shares), model in zip(runners, stages, strict=True):
            said, carry = runner.step(None if shares else x, carry if shares else None)
            np.testing.assert_allclose(said, model.run(x), atol=1e-5)


@pytest.mark.skipif(not processor().bf16, reason="this processor has no bfloat16")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_an_exit_in_bfloat16_is_openvino_s_and_a_model_of_its_own(k: int, file: Path) -> None:
    pytest.importorskip("openvino")
    name = f"exits:{file}#{k}"
    half, plain, torch_s = (load_model(f"{name}{mark}") for mark in ("?dtype=bf16", "", "?dtype=bf16&backend=torch"))
    assert half.spec == f"{name}?dtype=bf16&backend=openvino"
    assert [model.backend.name for model in (half, plain, torch_s)] == ["openvino", "onnxruntime", "torch"]
    assert half.exit_of is None is torch_s.exit_of
    x = random_inputs((1, 8, 8), 40).numpy()
    said = plain.run(x)
    assert 1e-4 < np.abs(half.run(x) - said).max() / np.abs(said).max() < 0.05
    with pytest.raises(ModelError, match="exits of a network are run by torch and ONNX Runtime"):
        load_model(f"{name}?backend=openvino")


def test_an_exit_costs_what_runs_up_to_it_and_its_own_head(file: Path) -> None:
    network, _ = read_network(file)
    for k in range(3):
        costs = load_model(f"exits:{file}#{k + 1}", backend="torch").count().costs
        assert costs["macs"] == count_macs(Whole(network, k), (torch.zeros(1, 1, 8, 8),)).total
    costs = [load_model(f"exits:{file}#{k}", backend="torch").count().costs for k in (1, 2, 3)]
    assert [c["head_macs"] for c in costs] == [8 * 5, 16 * 16 + 16 * 5, 0]
    assert costs[0]["macs"] < costs[1]["macs"] < costs[2]["macs"]
    assert costs[2]["macs"] == count_macs(build_small("convnet", 5, 8, 8), (torch.zeros(1, 1, 8, 8),)).total


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("exits:{file}", r"which exit\? Write exits:.*#1"),
        ("exits:{file}#4", "the network has exits 1 to 3"),
        ("exits:{file}#0", "the network has exits 1 to 3"),
        ("exits:{file}#1?mean=0.5", "how the network was trained to see its inputs; leave mean out"),
        ("exits:{file}#1?size=64", "how the network was trained to see its inputs; leave the size out"),
        ("exits:{folder}/none.safetensors#1", "no such file"),
        ("exits:{folder}/other.safetensors#1", "says nothing of exits"),
        ("exits:{folder}/net.pt#1", "kept as .safetensors"),
    ],
)
def test_names_that_are_none(name: str, said: str, file: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, file.with_name("other.safetensors"))
    with pytest.raises(ModelError, match=said):
        load_model(name.format(file=file, folder=file.parent))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "other"}, "kind is 'other'"),
        ({"classes": 1}, "classes is 1, expected a whole number from 2"),
        ({"arguments": {"pretrained": True}}, "'pretrained' = 'True' is not allowed"),
        ({"arguments": {"checkpoint_path": 1}}, "'checkpoint_path' = '1' is not allowed"),
        ({"arguments": {"width": "../../etc"}}, "'width' = '../../etc' is not allowed"),
        ({"backbone": "os:system"}, "unknown backbone 'os:system'"),
        ({"exits": [{"after": "2", "evil": 1}]}, "attached: cannot be built as described"),
        ({"exits": [{"after": "5"}]}, "lacks|has .* tensors"),
        ({"input_shape": [1, "8", 8]}, "expected a whole number"),
    ],
)
def test_descriptions_that_are_not_to_be_trusted(
    changes: dict[str, Any], said: str, file: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    document = {**DESCRIPTION.to_json(), **changes}
    path = tmp_path / "net.safetensors"
    save_file(load_file(file), path, metadata={META_KEY: json.dumps(document)})
    with pytest.raises(ModelError, match=said):
        read_network(path)
