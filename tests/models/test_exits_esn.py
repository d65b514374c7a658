"""The exit sequence network: the saver at first, causal, one token at a time; routers keep the saver's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from pilotfish.errors import ModelError  # noqa: E402
from pilotfish.models import Preprocessing  # noqa: E402
from pilotfish.models.costs.macs import count_macs  # noqa: E402
from pilotfish.models.exits.attached import Attachment  # noqa: E402
from pilotfish.models.exits.cut import cut_at_features  # noqa: E402
from pilotfish.models.exits.describe import Description, build  # noqa: E402
from pilotfish.models.exits.esn import Bus, ExitSequence, Layer, join_exits  # noqa: E402
from pilotfish.models.exits.exit_model import count_exit  # noqa: E402
from pilotfish.models.exits.network import Span  # noqa: E402
from pilotfish.models.exits.router import evaluator, with_confidence  # noqa: E402
from pilotfish.models.names.architectures import build_small  # noqa: E402

X = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 1, 8, 8), dtype=np.float32))


def sequence(bus: Bus, seed: int = 0) -> tuple[Any, Any, ExitSequence]:
    torch.manual_seed(seed)
    saver, base = (build_small("convnet", 10, width, 8).eval() for width in (4, 8))
    return saver, base, join_exits(saver, base, [Attachment("2"), Attachment("8")], (1, 8, 8), bus, 10).eval()


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_untrained_exits_equal_the_saver_and_the_last_one_is_the_base(layers: int) -> None:
    saver, base, network = sequence(Bus(16, layers))
    with torch.inference_mode():
        first, *between, last = network(X)
        assert torch.equal(first, saver(X))
        assert len(between) == 2
        assert all(torch.equal(one, first) for one in between)
        assert torch.equal(last, base(X))


@pytest.mark.parametrize("layers", [0, 2])
def test_exits_read_their_own_and_earlier_features(layers: int) -> None:
    """Against the whole sequence at once, with a causal mask, as the paper draws it."""
    saver, _, network = sequence(Bus(16, layers, 4))
    for head in network.heads:
        torch.nn.init.normal_(head.weight)
    with torch.inference_mode():
        features, x = [], X
        (inner,) = network.saver[0](X)
        features.append(inner)
        carried: Any = (X,)
        for part in list(network.base)[:-1]:
            carried = part(*carried)
            features.append(carried[0])
        tokens = torch.stack([embed(f) for embed, f in zip(network.embeds, features, strict=True)], dim=1)
        for layer in network.layers:
            tokens = masked(layer, tokens, 4)
        expected = [saver(X) + head(tokens[:, k + 1]) for k, head in enumerate(network.heads)]
        found = network(X)
        for one, other in zip(found[1:-1], expected, strict=True):
            torch.testing.assert_close(one, other)
        for first in range(1, 4):  # as the engine runs it, from any exit to any other
            features_before: Any = (x,)
            for k in range(first):
                features_before = network.carry(k, network.advance(k, features_before))
            for last in range(first, 4):
                torch.testing.assert_close(Span(network, first, last)(*features_before)[0], found[last])


def masked(layer: Layer, x: Any, heads: int) -> Any:
    """A layer over the whole sequence (N, t, dim) at once."""
    dim = x.shape[2]
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in layer.qkv(layer.norm(x)).split(dim, dim=2))
    mask = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
    weights = torch.softmax(q @ k.transpose(2, 3) / (dim // heads) ** 0.5 + mask, dim=3)
    x = x + layer.project((weights @ v).transpose(1, 2).flatten(2))
    return x if layer.mlp is None else x + layer.mlp(x)


def test_a_token_sees_those_before_it_and_none_after() -> None:
    """One token at a time gives what the released code computes with a mask over the whole sequence."""
    torch.manual_seed(0)
    layers = [Layer(16, 4, last=i == 2).eval() for i in range(3)]
    tokens = torch.randn(5, 4, 16)  # 5 samples, 4 tokens
    known: list[Any] = [None] * 3
    one_by_one = []
    for t in range(4):
        token = tokens[:, t]
        for i, layer in enumerate(layers):
            token, known[i] = layer(token, known[i])
        one_by_one.append(token)
    x = tokens
    for layer in layers:
        x = masked(layer, x, 4)
    torch.testing.assert_close(torch.stack(one_by_one, dim=1), x)


def test_the_bus_that_is_none() -> None:
    with pytest.raises(ModelError, match="up to 4096 that its attention heads divide"):
        Bus(12, 1, 8)


def test_costs_hold_the_saver_the_base_so_far_and_what_was_read() -> None:
    saver, base, network = sequence(Bus(16, 2))
    costs = [count_exit(network, k, (1, 8, 8)).costs for k in range(4)]
    whole = [count_macs(m, (X[:1],)).total for m in (saver, base)]
    read = [  # embedding; two layers' q, k, v and projection; the first layer's MLP; scores and sums over t tokens
        channels * 16 + 2 * (16 * 48 + 16 * 16) + 2 * 16 * 64 + 2 * 2 * 16 * t
        for t, channels in enumerate((8, 8, 16), 1)
    ]
    assert [c["head_macs"] for c in costs] == [0, 160, 160, 0]
    assert costs[0]["macs"] - whole[0] == pytest.approx(read[0], rel=0.05)
    assert costs[3]["macs"] - sum(whole) == pytest.approx(sum(read), rel=0.05)
    assert costs[0]["macs"] < costs[1]["macs"] < costs[2]["macs"] < costs[3]["macs"]
    assert costs[3]["alone_macs"] == whole[1], "a base costs no saver"
    assert all("alone_macs" not in c for c in costs[:3])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("resnet18", {}), ("vit_tiny_patch16_224", {"img_size": 32}), ("mobilenetv3_small_050", {})],
)
def test_the_last_features_are_found(name: str, arguments: dict[str, int]) -> None:
    module = timm.create_model(name, pretrained=False, num_classes=7, **arguments).eval()
    x = torch.randn(2, 3, 32, 32)
    found = cut_at_features(module, (3, 32, 32))
    with torch.inference_mode():
        features = found.parts[0](x)
        (logits,) = found.parts[1](*features)
        assert features[0].ndim >= 3
        assert torch.equal(logits, module(x))
        rest = count_macs(found.parts[1], features).total
    assert rest < 0.1 * count_macs(module, (x[:1],)).total


def test_a_router_changes_the_confidence_and_no_answer() -> None:
    logits = torch.from_numpy(np.random.default_rng(1).standard_normal((200, 5)).astype(np.float32)) * 4
    odds = torch.linspace(-30, 12, 200)
    found = with_confidence(logits, odds)
    assert torch.equal(found.argmax(1), logits.argmax(1))
    top = found.double().softmax(1).amax(1)
    torch.testing.assert_close(top, (1 + odds.double().sigmoid()) / 2, atol=1e-6, rtol=0)
    assert torch.equal(found.argsort(1), logits.argsort(1))


def test_an_evaluator_costs_its_head() -> None:
    saver = build_small("convnet", 10, 4, 8).eval()
    network = evaluator(saver, (1, 8, 8), 16).eval()
    costs = count_exit(network, 0, (1, 8, 8)).costs
    own, saver_macs = costs["head_macs"], count_macs(saver, (X[:1],)).total
    assert 8 * 16 + 16 * 2 <= own <= 2 * (8 * 16 + 16 * 2)
    assert costs["macs"] == pytest.approx(saver_macs + own, rel=0.05)
    with torch.inference_mode():
        assert torch.equal(network(X)[0].argmax(1), saver(X).argmax(1))


def test_descriptions_build_again() -> None:
    chain = Preprocessing(size=(8, 8), resize=None, mean=(0.5,), std=(0.3,))
    net = {"backbone": "small:convnet", "arguments": {"width": 4, "side": 8}}
    made = Description("esn", 10, (1, 8, 8), chain, None, **net, exits=({"after": "2"},), saver=net, joint={"dim": 8})
    again = Description.from_json(made.to_json(), "here")
    assert (again.count, build(again).exits) == (3, 3)
    abuse = [
        {"saver": {**net, "backbone": name}}
        for name in ("timm:hf-hub:some/one", "timm:local-dir:/etc", "torchvision:fcn_resnet50", "small:none", "x")
    ]
    odd = [{"saver": None}, {"kind": "attached"}, {"joint": {"dim": 7}}, {"joint": {"size": 1}}]
    big = [{"input_shape": [4096, 4096, 4096]}, {"kind": "msdnet", "saver": None, "arguments": {}}]
    weights = [{"arguments": {"weights_backbone": "x"}}]
    for broken in (*abuse, *odd, *big, *weights):
        with pytest.raises(ModelError):
            build(Description.from_json({**made.to_json(), **broken}, "here"))
