"""A torch module compiled by TorchInductor for a few batch sizes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.errors import ModelError, reason
from pilotfish.models.backends.buckets import pieces
from pilotfish.models.backends.torch_backend import TorchBackend
from pilotfish.models.model import F32

if TYPE_CHECKING:
    import torch

COMPILED = (1, 8, 32)  # a compilation takes half a minute on two cores


class CompiledBackend(TorchBackend):
    """Static shapes only: each bucket is compiled when it is first met, or in :meth:`warm_up`, and never again.

    Anything that would make torch compile a bucket once more is an error: it would stop the caller for half a minute.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        device: str = "cpu",
        *,
        dtype: str = "float32",
        buckets: Sequence[int] = COMPILED,
    ) -> None:
        super().__init__(module, device, dtype=dtype)
        self.buckets = tuple(buckets)
        self.compiled: dict[int, Any] = {}
        self.compiling = threading.Lock()

    @property
    def name(self) -> str:
        """``torch-compiled``."""
        return "torch-compiled"

    def warm_up(self, shape: tuple[int, ...]) -> None:
        """Compile every bucket for samples of *shape*, before anybody waits."""
        for size in self.buckets:
            self.step(np.zeros((size, *shape), np.float32))

    def _logits(self, batch: F32 | torch.Tensor) -> torch.Tensor:
        torch, inputs = self._torch, self._on_device(batch)
        found = [
            self._bucket(torch.cat([inputs[first:end], inputs[first : first + 1].expand(pad, *inputs.shape[1:])]))[:n]
            if (pad := size - (n := end - first))
            else self._bucket(inputs[first:end])
            for first, end, size in pieces(len(inputs), self.buckets)
        ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _bucket(self, inputs: torch.Tensor) -> torch.Tensor:
        inputs = inputs.contiguous()  # strides are guarded, too
        with self.compiling:
            if (size := len(inputs)) not in self.compiled:
                self.compiled[size] = self._compile(inputs)
        with self._torch.compiler.set_stance("fail_on_recompile"):
            found: torch.Tensor = self.compiled[size](inputs)
        return found

    def _compile(self, inputs: torch.Tensor) -> Any:
        torch = self._torch
        compiled = torch.compile(self.module, dynamic=False)
        try:
            with torch._dynamo.config.patch(recompile_limit=1024):  # its own limit counts all models together
                compiled(inputs)
        except Exception as error:  # compilers raise errors of many libraries
            raise ModelError(
                f"torch.compile failed ({type(error).__name__}: {reason(error)}); use another backend"
            ) from error
        return compiled
