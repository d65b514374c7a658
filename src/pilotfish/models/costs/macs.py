"""Count the multiply-adds of a torch module.

    count = count_macs(resnet50, (torch.zeros(1, 3, 224, 224),))
    count.total / 1e9      # 4.09: what papers call "GFLOPs"

Counted: convolutions, products of matrices (linear, matmul, einsum, bmm), attention, recurrent layers.
One multiply-add is 1. Padding zeros and causal masks save nothing, and fast algorithms (Winograd) are
charged as the direct one: the count is of the mathematics, not of a kernel.

Not counted: element-wise operators, activations, norms, softmax, pooling, interpolation, look-ups. They
are bound by memory traffic and have no accepted price per element. Published counts that charge norms and
pooling too (fvcore's, so timm's tables) are larger: by under 1 % for most networks, by 3 to 6 % for small
convolutional ones. Products written as an element-wise multiplication and a sum are not seen either.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError, UsageError, reason
from pilotfish.models.costs.mac_formulas import FORMULAS, looks_like_matrix_work

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MacCount:
    """Multiply-adds per sample: one multiply-add is 1, so the papers' "GFLOPs" are `total / 1e9`.

    `total` is the sum of `by_operator`, whose keys are operators as their framework names them
    ("aten::convolution", "Conv"). `uncounted` names, sorted, the operators that ran, look like matrix
    work, and have no formula here: when it is not empty, `total` is a lower bound.
    """

    total: int
    by_operator: Mapping[str, int]
    uncounted: tuple[str, ...] = ()


def per_sample(counts: Mapping[str, int], uncounted: Iterable[str], batch: int) -> MacCount:
    """The count of one call over *batch* samples, divided among them, largest operator first."""
    shares = {name: (macs + batch // 2) // batch for name, macs in counts.items() if macs}
    ordered = dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))
    return MacCount(sum(ordered.values()), ordered, tuple(sorted(set(uncounted))))


def count_macs(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], *, batch: int | None = None) -> MacCount:
    """The multiply-adds per sample of `module(*inputs)` in evaluation mode.

    *batch* is the number of samples in *inputs*; by default the length of the first input's first
    dimension. Say `batch=1` for an unbatched input, and the batch for inputs that have time first. Work
    that does not depend on the batch (a table of position biases) is shared by the samples, so give one
    sample for the figure that papers print.

    The forward pass runs on a private copy of the module whose tensors have shapes but no data: the
    weights are neither copied nor multiplied. A module that cannot run so (data-dependent control flow,
    foreign kernels) gets one real forward pass instead. Either way the module's mode, device, weights and
    buffers and torch's random state are as before. Inputs go to the device of the first parameter. Hooks
    run too, on tensors without data.

    Raises ModelError when the module fails on *inputs* or has uninitialised (lazy) parameters, UsageError
    when the number of samples is not a positive integer.
    """
    samples = _batch_size(inputs) if batch is None else batch
    if samples < 1:
        raise UsageError(f"the inputs hold {samples} samples; MACs are counted on 1 or more: give one sample")
    _refuse_lazy(module)
    try:
        counts, uncounted = _count_without_data(module, inputs)
    except Exception:  # whatever stops a run without data, a real one may still do
        try:
            counts, uncounted = _count_for_real(module, inputs)
        except Exception as error:
            shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
            raise ModelError(
                f"{type(module).__name__} failed on inputs of shape {shapes}: {reason(error)}; "
                "give inputs of the shapes that the model takes"
            ) from error
    return per_sample(counts, uncounted, samples)


def count_parameters(module: torch.nn.Module) -> int:
    """The number of parameters, each shared one once. Buffers are not parameters."""
    _refuse_lazy(module)
    return sum(parameter.numel() for parameter in module.parameters())


def _batch_size(inputs: tuple[torch.Tensor, ...]) -> int:
    if not inputs:
        raise UsageError("no inputs were given; MACs depend on their shapes: give a tuple of tensors")
    return int(inputs[0].shape[0]) if inputs[0].dim() else 1


def _refuse_lazy(module: torch.nn.Module) -> None:
    from torch.nn.parameter import is_lazy

    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise ModelError(
            f"{type(module).__name__} has uninitialised (lazy) parameters; "
            "run one forward pass first, which gives them their shapes"
        )


Tally = tuple[Counter[str], set[str]]  # MACs by operator; operators without a formula


def _count_without_data(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Tally:
    """Run a shapes-only copy. The copy also takes what forward writes: caches would keep fake tensors."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    memo = {id(tensor): fake.from_tensor(tensor) for tensor in _tensors(module)}
    private = copy.deepcopy(module, memo).eval()
    device = _device(module)
    faked = []
    for tensor in inputs:
        given = fake.from_tensor(tensor)
        with fake:
            faked.append(given if device is None else given.to(device))
    tally: Tally = (Counter(), set())
    # Plain matrix products show attention's true head size; the fused kernels may pad it first.
    with _quiet(module), fake, sdpa_kernel(SDPBackend.MATH), _counter(tally):
        private(*faked)
    return tally


def _count_for_real(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Tally:
    device = _device(module)
    moved = inputs if device is None else tuple(tensor.to(device) for tensor in inputs)
    tally: Tally = (Counter(), set())
    with _quiet(module), _restored(module), _counter(tally):
        module(*moved)
    return tally


def _device(module: torch.nn.Module) -> torch.device | None:
    first = next(module.parameters(), None)
    return None if first is None else first.device


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    """Parameters, buffers, and tensors kept as plain attributes, of all submodules."""
    import torch

    plain = [value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor)]
    return [*module.parameters(), *module.buffers(), *plain]


@contextmanager
def _quiet(module: torch.nn.Module) -> Iterator[None]:
    """No gradients, no compiler, no fused encoder layer (one opaque operator), random state put back."""
    import torch

    cuda = sorted({tensor.device.index for tensor in _tensors(module) if tensor.device.type == "cuda"})
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # torch prints a traceback for each shape that fails without data; the error itself is raised anyhow.
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), torch.random.fork_rng(devices=cuda):
            yield
    finally:
        log.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _restored(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every submodule's own flag and buffers back afterwards."""
    import torch

    flags = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer.clone())
        for part, _ in flags
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, training in flags:
            part.training = training
        with torch.no_grad():
            for part, name, buffer, before in buffers:
                buffer.copy_(before)
                part._buffers[name] = buffer


def _counter(tally: Tally) -> AbstractContextManager[object]:
    """A mode that looks every operator up in the table of formulas and adds what it finds to *tally*."""
    from torch._ops import OpOverload
    from torch.utils._python_dispatch import TorchDispatchMode

    counts, uncounted = tally

    def record(name: str, args: tuple[Any, ...], out: Any) -> None:
        formula = FORMULAS.get(name)
        macs = None if formula is None else formula(args, out)
        if macs is not None:
            counts[name] += int(macs)
        elif formula is not None or looks_like_matrix_work(name):
            uncounted.add(name)

    class MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        supports_higher_order_operators = True

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            name = func._schema.name if isinstance(func, OpOverload) else func.name()
            if name not in FORMULAS and isinstance(func, OpOverload) and func.namespace != "prim":
                with self:  # an operator made of others (seen in inference mode) is counted by its parts
                    parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
            out = func(*args, **kwargs)
            record(name, args, out)
            return out

    return MacCounter()  # type: ignore[no-untyped-call]
