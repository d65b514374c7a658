"""MAC counts against hand counts and against timm's published tables."""

from __future__ import annotations

import copy
import threading

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from pilotfish.errors import ModelError, UsageError  # noqa: E402
from pilotfish.models.costs import macs as macs_module  # noqa: E402
from pilotfish.models.costs.macs import count_macs, count_parameters  # noqa: E402

REAL_RUN = macs_module._count_for_real


@pytest.fixture
def no_real_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count must come from the run without data."""

    def refuse(*_: object) -> None:
        raise AssertionError("fell back to a real forward pass")

    monkeypatch.setattr(macs_module, "_count_for_real", refuse)


def total(module: nn.Module, *shapes: tuple[int, ...], **options: int) -> int:
    count = count_macs(module, tuple(torch.zeros(shape) for shape in shapes), **options)
    assert count.uncounted == ()
    assert count.total == sum(count.by_operator.values())
    return count.total


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function, **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(self, *inputs)


@pytest.mark.usefixtures("no_real_run")
class TestByHand:
    @pytest.mark.parametrize(
        ("module", "shape", "expected"),
        [
            (nn.Conv2d(3, 8, 3), (1, 3, 10, 12), 8 * 8 * 10 * 3 * 9),
            (nn.Conv2d(3, 8, 3, padding=1, stride=2), (1, 3, 9, 9), 8 * 5 * 5 * 3 * 9),
            (nn.Conv2d(8, 12, 3, groups=4), (1, 8, 5, 5), 12 * 3 * 3 * 2 * 9),
            (nn.Conv2d(8, 8, 5, groups=8, padding=2), (1, 8, 6, 6), 8 * 36 * 25),
            (nn.Conv2d(2, 4, 3, dilation=2), (1, 2, 9, 9), 4 * 5 * 5 * 2 * 9),
            (nn.Conv2d(2, 4, 3, padding="same"), (1, 2, 7, 7), 4 * 49 * 2 * 9),
            (nn.Conv1d(4, 6, 3, stride=2), (1, 4, 11), 6 * 5 * 4 * 3),
            (nn.Conv3d(2, 4, 3), (1, 2, 4, 5, 6), 4 * 2 * 3 * 4 * 2 * 27),
            (nn.ConvTranspose2d(6, 4, 3, stride=2), (1, 6, 5, 5), 6 * 25 * 4 * 9),
            (nn.ConvTranspose2d(6, 4, 3, groups=2, padding=1), (1, 6, 5, 5), 6 * 25 * 2 * 9),
            (nn.ConvTranspose1d(6, 4, 3), (1, 6, 5), 6 * 5 * 4 * 3),
            (nn.ConvTranspose3d(2, 3, 2, stride=2), (1, 2, 3, 3, 3), 2 * 27 * 3 * 8),
        ],
    )
    def test_convolutions(self, module: nn.Module, shape: tuple[int, ...], expected: int) -> None:
        assert total(module, shape) == expected

    @pytest.mark.parametrize("bias", [True, False])
    def test_linear_on_vectors_and_on_tokens(self, bias: bool) -> None:
        linear = nn.Linear(8, 5, bias=bias)
        assert total(linear, (3, 8)) == 40
        assert total(linear, (3, 7, 8)) == 7 * 40
        assert total(linear, (2, 3, 7, 8)) == 21 * 40

    def test_products_of_matrices(self) -> None:
        assert total(Call(lambda _, a, b: a @ b), (2, 3, 4, 5), (2, 3, 5, 6)) == 3 * 4 * 5 * 6
        assert total(Call(lambda _, a, b: a @ b), (4, 5), (5,), batch=1) == 20
        assert total(Call(lambda _, a, b: torch.dot(a, b)), (7,), (7,), batch=1) == 7
        assert total(Call(lambda _, a, b, c: torch.baddbmm(a, b, c)), (1, 2, 4), (1, 2, 3), (1, 3, 4)) == 24
        product = Call(lambda _, a, b, c: torch.addbmm(a, b, c))
        assert total(product, (2, 4), (5, 2, 3), (5, 3, 4), batch=1) == 5 * 24
        score = Call(lambda _, q, k: torch.einsum("bhid,bhjd->bhij", q, k))
        assert total(score, (2, 3, 4, 5), (2, 3, 6, 5)) == 3 * 4 * 6 * 5
        assert total(nn.Bilinear(3, 4, 5), (2, 3), (2, 4)) == 5 * 3 * 4 + 5 * 4

    @pytest.mark.parametrize("head", [8, 20, 64])  # 20 is no multiple of 8: fused kernels pad it
    @pytest.mark.parametrize("causal", [False, True])
    def test_scaled_dot_product_attention(self, head: int, causal: bool) -> None:
        attend = Call(lambda _, q, k, v: nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal))
        qkv = (2, 4, 6, head)
        assert total(attend, qkv, qkv, qkv) == 4 * 6 * 6 * 2 * head
        assert total(attend, qkv, (2, 4, 9, head), (2, 4, 9, 16)) == 4 * 6 * 9 * (head + 16)

    def test_attention_with_shared_key_heads(self) -> None:
        attend = Call(lambda _, q, k, v: nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True))
        assert total(attend, (1, 8, 6, 16), (1, 2, 9, 16), (1, 2, 9, 16)) == 8 * 6 * 9 * 32

    @pytest.mark.parametrize(
        ("kernel", "arguments"),
        [
            ("_scaled_dot_product_attention_math", ()),
            ("_scaled_dot_product_flash_attention", ()),
            ("_scaled_dot_product_flash_attention_for_cpu", ()),
            ("_scaled_dot_product_efficient_attention", (None, False)),
            ("_scaled_dot_product_cudnn_attention", (None, False)),
            ("_scaled_dot_product_fused_attention_overrideable", ()),
        ],
    )
    def test_attention_kernels(self, kernel: str, arguments: tuple[object, ...]) -> None:
        operator = getattr(torch.ops.aten, kernel)
        attend = Call(lambda _, q, k, v: operator(q, k, v, *arguments)[0])
        with torch.device("meta"):
            assert total(attend, (2, 4, 6, 16), (2, 4, 9, 16), (2, 4, 9, 16)) == 4 * 6 * 9 * 32

    def test_raw_attention_kernels(self) -> None:
        q, k = torch.empty(2, 6, 4, 16, device="meta"), torch.empty(2, 9, 4, 16, device="meta")
        lengths = torch.empty(3, dtype=torch.int32, device="meta")
        run = torch.ops.aten._flash_attention_forward
        dense = Call(lambda _, q, k, v: run(q, k, v, None, None, 6, 9, 0.0, False, False)[0])
        assert count_macs(dense, (q, k, k)).total == 4 * 6 * 9 * 32
        packed = Call(lambda _, q, k, v: run(q, k, v, lengths, lengths, 6, 9, 0.0, False, False)[0])
        assert count_macs(packed, (q[0], k[0], k[0])).uncounted == ("aten::_flash_attention_forward",)

    def test_recurrent_kernel_of_cudnn(self) -> None:
        weights = [w.to("meta") for w in nn.LSTM(8, 16, 2, bidirectional=True)._flat_weights]
        with torch.device("meta"):
            start = torch.empty(4, 2, 16)
            run = torch.ops.aten._cudnn_rnn
            options = (16, 0, 2, False, 0.0, False, True, [], None)  # hidden size, projection, layers, …
            layer = Call(lambda _, x: run(x, weights, 4, None, start, start, 2, *options)[0])
            expected = 6 * 2 * 4 * 16 * ((8 + 16) + (32 + 16))
            assert total(layer, (6, 2, 8), batch=2) == expected

    def test_deformable_convolution(self) -> None:
        layer = pytest.importorskip("torchvision").ops.DeformConv2d(4, 6, 3)
        assert total(layer, (1, 4, 8, 8), (1, 18, 6, 6)) == 6 * 36 * 4 * 9

    @pytest.mark.parametrize("need_weights", [False, True])
    def test_multi_head_attention(self, need_weights: bool) -> None:
        mha = nn.MultiheadAttention(32, 4, batch_first=True)
        call = Call(lambda m, q, k: m.mha(q, k, k, need_weights=need_weights)[0], mha=mha)
        projections, mixing = 32 * 32 * (5 + 7 + 7 + 5), 2 * 5 * 7 * 32
        assert total(call, (2, 5, 32), (2, 7, 32)) == projections + mixing

    def test_multi_head_attention_with_time_first(self) -> None:
        mha = nn.MultiheadAttention(32, 4)
        call = Call(lambda m, x: m.mha(x, x, x)[0], mha=mha)
        assert total(call, (5, 2, 32), batch=2) == 4 * 5 * 32 * 32 + 2 * 25 * 32

    @pytest.mark.parametrize("fast", [False, True])
    def test_encoder_layers_in_spite_of_the_fast_path(self, fast: bool) -> None:
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(fast)
        try:
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
            encoder = nn.TransformerEncoder(layer, 3).eval()
            one = 5 * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 25 * 32
            assert total(layer, (2, 5, 32)) == one
            assert total(encoder, (2, 5, 32)) == 3 * one
            assert torch.backends.mha.get_fastpath_enabled() is fast
        finally:
            torch.backends.mha.set_fastpath_enabled(before)

    @pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
    def test_recurrent_layers(self, kind: type[nn.RNNBase]) -> None:
        layer = kind(8, 16, num_layers=2, bidirectional=True, batch_first=True)
        gates = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}[kind]
        first, second = gates * 16 * (8 + 16), gates * 16 * (32 + 16)
        assert total(layer, (2, 6, 8)) == 6 * 2 * (first + second)

    def test_a_module_used_twice_counts_twice_and_its_parameters_once(self) -> None:
        shared = nn.Linear(6, 6)
        module = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(6, 2))
        assert total(module, (1, 6)) == 2 * 36 + 12
        assert count_parameters(module) == (36 + 6) + (12 + 2)

    def test_norms_activations_and_pooling_are_free(self) -> None:
        module = nn.Sequential(nn.BatchNorm2d(3), nn.GELU(), nn.MaxPool2d(2), nn.Softmax(1), nn.Upsample(8))
        assert total(module, (1, 3, 8, 8)) == 0

    def test_the_count_does_not_depend_on_the_batch(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(2), nn.Linear(36, 4))
        assert total(module, (1, 3, 8, 8)) == total(module, (2, 3, 8, 8)) == total(module, (7, 3, 8, 8))

    def test_other_ways_to_run(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(6, 5))
        expected = 5 * 36 * 27 + 5 * 6 * 30
        with torch.inference_mode():
            assert total(module, (2, 3, 8, 8)) == expected
        assert total(torch.compile(module), (2, 3, 8, 8)) == expected
        assert total(copy.deepcopy(module).to("meta"), (2, 3, 8, 8)) == expected
        exported = torch.export.export(module, (torch.zeros(2, 3, 8, 8),)).module()
        assert total(exported, (2, 3, 8, 8)) == expected


class Curious(nn.Module):
    """Looks at the values, so it can't run without data, and touches everything it shouldn't."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(4, 4), nn.Linear(4, 2), nn.BatchNorm1d(4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.calls = self.calls + torch.rand(1)
        x = self.norm(x)
        return self.second(self.first(x)) if float(x.sum()) < 1 else self.second(x)


class Caching(nn.Module):
    """Keeps a table that it computed in evaluation mode, as LeViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.biases = nn.Parameter(torch.zeros(3, 4))
        self.cache: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "table" not in self.cache:
            self.cache["table"] = self.biases * 2
        return x @ self.cache["table"].T


class TestLeavesNoTrace:
    def check(self, module: nn.Module, shape: tuple[int, ...]) -> int:
        module.train()
        frozen = next(iter(module.children()))
        frozen.eval()
        state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        flags = [part.training for part in module.modules()]
        random = torch.random.get_rng_state()
        identity = [id(tensor) for tensor in (*module.parameters(), *module.buffers())]
        macs = total(module, shape)
        assert [part.training for part in module.modules()] == flags
        assert [id(tensor) for tensor in (*module.parameters(), *module.buffers())] == identity
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert torch.equal(torch.random.get_rng_state(), random)
        assert torch.is_grad_enabled()
        return macs

    @pytest.mark.usefixtures("no_real_run")
    def test_without_data(self) -> None:
        noisy = Call(lambda m, x: m.net(x) + torch.rand(1), net=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
        assert self.check(noisy, (2, 3, 6, 6)) == 4 * 16 * 27

    def test_a_real_pass_where_values_are_needed(self) -> None:
        assert self.check(Curious(), (2, 4)) == 16 + 8

    def test_a_module_that_cannot_be_copied(self) -> None:
        module = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
        module.lock = threading.Lock()
        assert self.check(module, (2, 4)) == 12

    @pytest.mark.usefixtures("no_real_run")
    def test_caches_stay_empty(self) -> None:
        module = Caching().eval()
        assert total(module, (2, 4)) == 12
        assert module.cache == {}
        assert module(torch.ones(2, 4)).tolist() == [[0, 0, 0], [0, 0, 0]]

    @pytest.mark.usefixtures("no_real_run")
    def test_a_huge_module_needs_no_memory(self) -> None:
        with torch.device("meta"):
            module = nn.Linear(1_000_000, 1_000_000)  # 4 TB
        assert total(module, (1, 1_000_000)) == 10**12
        assert count_parameters(module) == 10**12 + 10**6


class TestEdges:
    def test_operators_without_a_formula_are_named(self) -> None:
        count = count_macs(Call(lambda _, x: torch.fft.rfft2(x).real), (torch.zeros(1, 3, 8, 8),))
        assert (count.total, count.uncounted) == (0, ("aten::_fft_r2c",))

    def test_custom_kernels_are_named(self) -> None:
        with torch.library._scoped_library("pilotfish_test", "FRAGMENT") as library:
            library.define("mystery(Tensor x) -> Tensor")
            library.impl("mystery", lambda x: x.clone(), "CPU")
            module = Call(lambda m, x: torch.ops.pilotfish_test.mystery(m.net(x)), net=nn.Linear(4, 3))
            count = count_macs(module, (torch.zeros(2, 4),))
        assert (count.total, count.uncounted) == (12, ("pilotfish_test::mystery",))

    def test_inputs_that_do_not_fit(self) -> None:
        with pytest.raises(ModelError, match=r"^Linear failed on inputs of shape \(2, 9\): .*2x9 and 8x5.*; give"):
            count_macs(nn.Linear(8, 5), (torch.zeros(2, 9),))

    def test_no_samples(self) -> None:
        with pytest.raises(UsageError, match="hold 0 samples"):
            count_macs(nn.Linear(8, 5), (torch.zeros(0, 8),))
        with pytest.raises(UsageError, match="no inputs"):
            count_macs(nn.Linear(8, 5), ())

    def test_lazy_parameters(self) -> None:
        lazy = nn.LazyLinear(5)
        for count in (lambda: count_macs(lazy, (torch.zeros(1, 8),)), lambda: count_parameters(lazy)):
            with pytest.raises(ModelError, match="uninitialised"):
                count()


# (model, image size, GMACs) as printed in timm's published benchmark tables (results/benchmark-infer-amp-nchw-*.csv
# in huggingface/pytorch-image-models). They are fvcore's counts: attention's products are in, and so are norms
# (2 per element of a batch norm, 5 of a layer norm) and pooling, hence a little above ours.
PUBLISHED = [
    ("resnet50", 224, 4.11),
    ("resnext50_32x4d", 224, 4.26),
    ("vgg16", 224, 15.47),
    ("regnety_040", 224, 4.00),
    ("densenet121", 224, 2.87),
    ("convnext_tiny", 224, 4.47),
    ("poolformer_s12", 224, 1.82),
    ("vit_base_patch16_224", 224, 17.58),
    ("deit3_small_patch16_224", 224, 4.61),
    ("beit_base_patch16_224", 224, 17.58),
    ("eva02_tiny_patch14_224", 224, 1.70),
    ("swin_tiny_patch4_window7_224", 224, 4.51),
    ("pvt_v2_b1", 224, 2.12),
    ("xcit_tiny_12_p8_224", 224, 4.81),
    ("maxvit_tiny_tf_224", 224, 5.60),
    ("coatnet_0_rw_224", 224, 4.43),
    ("levit_128", 224, 0.41),
    ("mixer_b16_224", 224, 12.62),
]

# Published counts of another convention: (model, size, GMACs, ours ÷ theirs, why).
OTHERWISE = [
    ("efficientnet_b0", 224, 0.40, 0.965, "theirs charges batch norm, 13 M of 399 M"),
    ("mobilenetv3_large_100", 224, 0.23, 0.942, "theirs charges batch norm, 9 M of 225 M, and is rounded up"),
    ("convmixer_768_32", 224, 19.55, 1.058, "theirs misses convolutions with padding='same'"),
    ("mobileone_s0", 224, 0.28, 3.757, "theirs is of the network with its branches merged"),
]


def on_meta(name: str, size: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False), (torch.empty(1, 3, size, size),)


@pytest.mark.usefixtures("no_real_run")
class TestAgainstTimm:
    @pytest.mark.parametrize(("name", "size", "gmacs"), PUBLISHED)
    def test_published(self, name: str, size: int, gmacs: float) -> None:
        count = count_macs(*on_meta(name, size))
        assert count.total / 1e9 == pytest.approx(gmacs, rel=0.02)
        assert count.uncounted == ()

    @pytest.mark.parametrize(("name", "size", "gmacs", "ratio", "why"), OTHERWISE)
    def test_published_otherwise(self, name: str, size: int, gmacs: float, ratio: float, why: str) -> None:
        assert count_macs(*on_meta(name, size)).total / 1e9 == pytest.approx(ratio * gmacs, rel=0.002), why

    @pytest.mark.parametrize(
        ("name", "gmacs"),
        [("resnet50", 4.11), ("densenet121", 2.87), ("efficientnet_b0", 0.40), ("mobilenetv3_large_100", 0.23)],
    )
    def test_batch_norm_explains_the_difference(self, name: str, gmacs: float) -> None:
        module, inputs = on_meta(name, 224)
        elements = []
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.register_forward_hook(lambda _part, _in, out: elements.append(out.numel()))
        ours = count_macs(module, inputs).total
        assert (ours + 2 * sum(elements)) / 1e9 == pytest.approx(gmacs, abs=0.0051)  # printed to two decimals

    def test_same_padding_explains_convmixer(self) -> None:
        module, inputs = on_meta("convmixer_768_32", 224)
        same = 32 * (32 * 32 * 768 * 49)
        assert (count_macs(module, inputs).total - same) / 1e9 == pytest.approx(19.55, rel=0.02)

    def test_merged_branches_explain_mobileone(self) -> None:
        timm = pytest.importorskip("timm")
        merged = timm.utils.reparameterize_model(timm.create_model("mobileone_s0", pretrained=False))
        assert total(merged, (1, 3, 224, 224)) / 1e9 == pytest.approx(0.28, rel=0.02)

    def test_fused_attention_counts_as_plain_attention(self) -> None:
        module, inputs = on_meta("vit_tiny_patch16_224", 224)
        attentions = [part for part in module.modules() if hasattr(part, "fused_attn")]
        counts = []
        for fused in (True, False):
            for part in attentions:
                part.fused_attn = fused
            counts.append(count_macs(module, inputs))
        assert attentions
        assert counts[0] == counts[1]

    def test_a_real_pass_counts_the_same(self) -> None:
        timm = pytest.importorskip("timm")
        module = timm.create_model("vit_tiny_patch16_224", pretrained=False, depth=2)
        inputs = (torch.zeros(2, 3, 224, 224),)
        tally = REAL_RUN(module, inputs)
        assert sum(tally[0].values()) == 2 * count_macs(module, inputs).total
        assert "aten::_scaled_dot_product_flash_attention_for_cpu" in tally[0]
