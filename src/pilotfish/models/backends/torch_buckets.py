"""Torch modules prepared for fixed batch sizes: compiled by TorchInductor, or captured in CUDA graphs, one per bucket.

A batch of any size runs in the smallest bucket that holds it; the rows that were padded are cut off again, so they
never reach a caller. Batches above the largest bucket run in several calls.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.errors import ModelError, reason
from pilotfish.models.backends.torch_backend import TorchBackend, checked_tensor, import_torch
from pilotfish.models.model import F32, Carry

if TYPE_CHECKING:
    import torch

    from pilotfish.records import Outputs

BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
COMPILED = (1, 8, 32)  # a compilation takes half a minute on two cores
WARM_UP = 3  # calls before a capture, so that libraries have chosen their kernels
NO_REDUCTION = 0


def bucket_of(n: int, buckets: Sequence[int] = BUCKETS) -> int:
    """The smallest bucket that holds *n* samples; the largest when none does."""
    return next((size for size in buckets if size >= n), buckets[-1])


def pieces(n: int, buckets: Sequence[int] = BUCKETS) -> list[tuple[int, int, int]]:
    """(first row, end, bucket) of the calls that *n* rows take."""
    most = buckets[-1]
    cuts = [(first, min(first + most, n)) for first in range(0, n, most)]
    return [(first, end, bucket_of(end - first, buckets)) for first, end in cuts]


class Stance:
    """What torch does about code that it has not compiled yet, which holds for all threads of a process: it fails while
    compiled code runs in any of them, and compiles while none does.

    set_stance  torch.compiler's
    """

    def __init__(self, set_stance: Callable[[str], Any]) -> None:
        self.set_stance = set_stance
        self._changed = threading.Condition()
        self._running = self._compiling = 0  # calls at work; those that compile or wait to
        self._turn = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Inside, nothing is compiled."""
        with self._changed:
            self._changed.wait_for(lambda: not self._compiling)
            if not self._running:
                self.set_stance("fail_on_recompile")
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                if not self._running:
                    self.set_stance("default")
                    self._changed.notify_all()

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Inside, this thread may compile; calls wait."""
        with self._changed:
            self._compiling += 1
            self._changed.wait_for(lambda: not self._running)
        try:
            with self._turn:
                yield
        finally:
            with self._changed:
                self._compiling -= 1
                self._changed.notify_all()


@functools.cache
def _stance() -> Stance:
    return Stance(import_torch("compiling a model").compiler.set_stance)


class CompiledBackend(TorchBackend):
    """Static shapes only: each bucket is compiled when it is first met, or in :meth:`warm_up`, and never again.

    Anything that would make torch compile a bucket once more is an error: it would stop the caller for half a minute.
    """

    def __init__(
        self, module: torch.nn.Module, device: str = "cpu", *, dtype: str = "float32", buckets: Sequence[int] = COMPILED
    ) -> None:
        super().__init__(module, device, dtype=dtype)
        self.name, self.buckets = "torch-compiled", tuple(buckets)
        self.compiled: dict[int, Any] = {}

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
        size = len(inputs)
        if size not in self.compiled:
            with _stance().compiling():
                if size not in self.compiled:
                    self.compiled[size] = self._compile(inputs)
        with _stance().running():
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


@dataclass(frozen=True)
class Captured:
    """A graph, the tensors that it reads and writes on the device, and pinned ones on the host to come back to."""

    graph: torch.cuda.CUDAGraph
    inputs: torch.Tensor
    outputs: tuple[torch.Tensor, ...]
    host: tuple[torch.Tensor, ...]
    done: torch.cuda.Event


class CudaGraphBackend(TorchBackend):
    """Batches are padded to buckets, copied to the graph's own input, and replayed.

    The reduction of the logits is part of the graph. The host waits once per call: for the numbers that route. One
    call at a time; the others wait their turn.
    """

    def __init__(
        self, module: torch.nn.Module, device: str = "cuda", *, dtype: str = "float32", buckets: Sequence[int] = BUCKETS
    ) -> None:
        super().__init__(module, device, dtype=dtype)
        if self.device.type != "cuda":
            raise ModelError(f"CUDA graphs need a CUDA device, found {device!r}; leave the backend out")
        self.name, self.buckets = "torch-cuda-graphs", tuple(buckets)
        self.captured: dict[tuple[int, int, tuple[int, ...]], Captured] = {}
        self.turn = threading.Lock()
        self.stream = self._torch.cuda.Stream(self.device)

    def warm_up(self, shape: tuple[int, ...], top_k: int = 1) -> None:
        """Capture every bucket for samples of *shape*, before anybody waits."""
        for size in self.buckets:
            self.reduce(np.zeros((size, *shape), np.float32), top_k)

    def step(self, inputs: F32 | torch.Tensor | None, carry: Carry | None = None) -> tuple[F32, None]:
        """Logits float32 (N, C), and no features."""
        assert inputs is not None, "a whole model takes inputs"
        with self._computing(inputs), self.turn:
            found: list[F32] = [
                self._replay(inputs[first:end], size, NO_REDUCTION)[0][: end - first].float().numpy().copy()
                for first, end, size in pieces(len(inputs), self.buckets)
            ]
        return np.concatenate(found), None

    def reduce(self, batch: F32 | torch.Tensor, top_k: int) -> Outputs:
        """The outputs of a batch, reduced in the graph."""
        from pilotfish.models.backends.torch_outputs import to_outputs

        torch = self._torch
        with self._computing(batch), self.turn:
            found = []
            for first, end, size in pieces(len(batch), self.buckets):
                parts = self._replay(batch[first:end], size, max(top_k, 1))
                found.append(tuple(part[: end - first].clone() for part in parts))
            return to_outputs(tuple(map(torch.cat, zip(*found, strict=True))), len(batch))

    def _replay(self, rows: F32 | torch.Tensor, size: int, top_k: int) -> tuple[torch.Tensor, ...]:
        """Results of up to *size* rows on the host, padding included; they are overwritten by the next replay."""
        torch = self._torch
        key = (size, top_k, tuple(rows.shape[1:]))
        if key not in self.captured:
            self.captured[key] = self._capture(size, top_k, key[2])
        one = self.captured[key]
        given = self._on_device(rows)
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            one.inputs[: len(given)].copy_(given, non_blocking=True)  # the padding holds older samples, which are cut
            given.record_stream(self.stream)
            one.graph.replay()
            for host, out in zip(one.host, one.outputs, strict=True):
                host.copy_(out, non_blocking=True)
            one.done.record(self.stream)
        one.done.synchronize()
        return one.host

    def _capture(self, size: int, top_k: int, shape: tuple[int, ...]) -> Captured:
        torch = self._torch
        inputs = torch.zeros((size, *shape), device=self.device, dtype=self.dtype)
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP):
                self._compute(inputs, top_k)
        self.stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            outputs = self._compute(inputs, top_k)
        host = tuple(torch.empty(out.shape, dtype=out.dtype, pin_memory=True) for out in outputs)
        return Captured(graph, inputs, outputs, host, torch.cuda.Event())

    def _compute(self, inputs: torch.Tensor, top_k: int) -> tuple[Any, ...]:
        from pilotfish.models.backends.torch_outputs import reduce_logits

        logits = checked_tensor(self.module(inputs), len(inputs), self.name)
        return (logits,) if top_k == NO_REDUCTION else reduce_logits(logits, top_k)
