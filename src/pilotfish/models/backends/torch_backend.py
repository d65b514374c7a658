"""torch modules as models."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.errors import ModelError, needs, reason
from pilotfish.models.model import F32, Carry, Counted, Model, counted, model_errors
from pilotfish.models.outputs.raw_answers import RawAnswers
from pilotfish.models.outputs.which_output import Output
from pilotfish.models.preprocessing import Preprocessing
from pilotfish.records import Outputs

if TYPE_CHECKING:
    import torch


def import_torch(purpose: str) -> Any:
    """torch, or the error that says how to install it."""
    with needs("torch", "torch", purpose):
        import torch
    return torch


class TorchBackend:
    """A module in evaluation mode on one device, run as it is.

    dtype          what it computes in; another than float32 is a variant with records of its own
    channels_last  whether feature maps lie in memory with their channels innermost
    reads          how what it returns is read, of a model that answers another task than classes
    """

    def __init__(
        self,
        module: torch.nn.Module,
        device: str = "cpu",
        *,
        dtype: str = "float32",
        channels_last: bool = False,
        reads: RawAnswers | None = None,
    ) -> None:
        torch = import_torch("running a torch model")
        self.name = "torch-channels-last" if channels_last else "torch"
        self._torch, self.dtype, self.channels_last = torch, getattr(torch, dtype), channels_last
        self.reads = reads
        memory = torch.channels_last if channels_last else torch.preserve_format
        try:
            self.device = torch.device(device)
            self.module = module.eval().to(self.device, self.dtype)
            if channels_last:
                self.module = self.module.to(memory_format=memory)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"device {device!r} cannot be used: {reason(error)}") from error

    @property
    def reduces(self) -> bool:
        """Whether :meth:`reduce` saves copies: on any device but the host's own."""
        return str(self.device.type) != "cpu" and self.reads is None

    def step(self, inputs: F32 | torch.Tensor | None, carry: Carry | None = None) -> tuple[Any, None]:
        """Logits float32 (N, C), or the raw answers of another task, and no features. The inputs may be on the device
        already."""
        assert inputs is not None, "a whole model takes inputs"
        with self._computing(inputs):
            if self.reads is not None:
                return self.reads(self._logits(inputs), inputs, "the torch model"), None
            logits: F32 = self._logits(inputs).float().cpu().numpy()
        return logits, None

    def outputs(self, batch: F32) -> list[Output]:
        """All that the module returns for a batch, with the activation that each output comes out of."""
        from pilotfish.models.outputs.torch_logits import torch_outputs

        with self._computing(batch):
            return torch_outputs(lambda: self.module(self._on_device(batch)), len(batch))

    def reduce(self, batch: F32 | torch.Tensor, top_k: int) -> Outputs:
        """The outputs of a batch, reduced on the device: the host waits once, for what decides."""
        from pilotfish.models.backends.torch_outputs import reduce_logits, to_outputs

        with self._computing(batch):
            reduced = reduce_logits(checked_tensor(self._logits(batch), len(batch), self.name), top_k)
            return to_outputs(tuple(part.cpu() for part in reduced), len(batch))

    def _logits(self, batch: F32 | torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.module(self._on_device(batch))
        return found

    def _on_device(self, batch: F32 | torch.Tensor) -> torch.Tensor:
        if isinstance(batch, np.ndarray):  # torch warns of an array that it may not write to
            tensor: torch.Tensor = self._torch.from_numpy(batch if batch.flags.writeable else batch.copy())
        else:
            tensor = batch
        if self.device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        tensor = tensor.to(self.device, self.dtype, non_blocking=True)
        if self.channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=self._torch.channels_last)
        return tensor

    @contextlib.contextmanager
    def _computing(self, batch: Any) -> Iterator[None]:
        with self._torch.inference_mode(), model_errors("the torch model", batch, expects="nchw"):
            yield


def checked_tensor(logits: Any, rows: int, name: str) -> Any:
    """*logits* where they are; ModelError when a model returns something else than (rows, C)."""
    shape = tuple(getattr(logits, "shape", ()))
    if len(shape) != 2 or shape[0] != rows or shape[1] < 2 or not logits.is_floating_point():
        raise ModelError(
            f"{name}: expected logits of shape ({rows}, C) with C >= 2 for a batch of {rows}, found {shape}"
        )
    return logits


def torch_model(
    spec: str,
    module: torch.nn.Module,
    preprocessing: Preprocessing,
    input_shape: tuple[int, ...],
    device: str,
    *,
    reads: RawAnswers | None = None,
    **more: Any,
) -> Model:
    """A module as a :class:`Model`, of which *more* is known: hashed, countable, and with weights to embed."""
    return Model(
        spec=spec,
        backend=TorchBackend(module, device, reads=reads),
        preprocessing=preprocessing,
        weights_hash=state_hash(module.state_dict()),
        input_shape=input_shape,
        count=functools.cache(functools.partial(count_module, module, input_shape)),
        weights=lambda path: save_state(module, path),
        **more,
    )


def state_hash(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(import_torch("hashing weights").uint8).numpy().data)
    return digest.hexdigest()


def save_state(module: torch.nn.Module, path: Path, metadata: dict[str, str] | None = None) -> None:
    """The module's state dict as safetensors, with texts beside it."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}, path, metadata)


def count_module(module: torch.nn.Module, shape: tuple[int, ...]) -> Counted:
    """Multiply-adds and parameters of *module* for one sample of *shape*."""
    from pilotfish.models.costs.macs import count_macs, count_parameters

    dtype = next((one.dtype for one in module.parameters() if one.is_floating_point()), None)
    zeros = import_torch("counting MACs").zeros(1, *shape, dtype=dtype)
    return counted(count_macs(module, (zeros,)), count_parameters(module))
