"""What runs a span of a network in the engine: torch, or ONNX Runtime on the CPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.machine import cpu_count
from pilotfish.models.backends.onnx_backend import open_session
from pilotfish.models.model import F32, Carry, model_errors
from pilotfish.models.onnx.onnx_file import OnnxFile, own_file, parsed

if TYPE_CHECKING:
    from pilotfish.models.exits.network import ExitNetwork


class TorchSpan:
    """Parts *first* … *last* (from 0) of a network and exit *last*; features stay on the device."""

    name = "torch"

    def __init__(self, network: ExitNetwork, first: int, last: int, device: str = "cpu") -> None:
        import torch

        from pilotfish.models.exits.network import Span

        self._torch, self.device = torch, torch.device(device)
        self.span = Span(network, first, last).eval().to(self.device)

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[F32, Carry]:
        """Logits float32 (N, C), and the features after the last part."""
        torch = self._torch
        with torch.inference_mode(), model_errors("the network", _first(inputs, carry)):
            given = (carry or ()) if inputs is None else (np.ascontiguousarray(inputs),)
            logits, *features = self.span(*(torch.as_tensor(part).to(self.device) for part in given))
            return logits.float().cpu().numpy(), tuple(features)


class OnnxSpan:
    """The same from an ONNX file, run within its limits; features are arrays."""

    name = "onnxruntime"

    def __init__(self, source: Path | OnnxFile, threads: int | None = None) -> None:
        self.file = source if isinstance(source, OnnxFile) else own_file(source)
        self.path, self.threads = self.file.path, threads or cpu_count()
        self._session: Any = None
        self._opening = threading.Lock()

    def with_threads(self, threads: int) -> OnnxSpan:
        """The same with other threads."""
        return self if threads == self.threads else OnnxSpan(self.file, threads)

    @property
    def session(self) -> Any:
        """Opened when it is first needed."""
        with self._opening:
            if self._session is None:
                self._session = open_session(self.file, self.threads)
                self._inputs = [entry.name for entry in self._session.get_inputs()]
                self._outputs = [entry.name for entry in self._session.get_outputs()]
        return self._session

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[F32, Carry]:
        """Logits float32 (N, C), and the features after the last part."""
        session = self.session
        given = [np.asarray(part) for part in ((carry or ()) if inputs is None else (inputs,))]
        limits, first = self.file.limits, _first(inputs, carry)
        size = max(1, limits.rows(len(first)))
        with model_errors(str(self.path), first):
            parts = []
            for at in range(0, max(1, len(first)), size):
                feed = {name: part[at : at + size] for name, part in zip(self._inputs, given, strict=True)}
                parts.append(limits.run(session, self._outputs, feed, free=True))
        logits, *features = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        return logits, tuple(features)

    def graph(self) -> Any:
        """The ``onnx.ModelProto`` that is run, its tensors included."""
        return parsed(self.path, self.file.read()[0])


def _first(inputs: F32 | None, carry: Carry | None) -> Any:
    return inputs if inputs is not None else (carry or (np.empty(0),))[0]
