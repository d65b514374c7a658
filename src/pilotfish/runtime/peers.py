"""What you would write without Pilotfish: other ways to run a cascade, which a bench compares with.

All of them use the same photos, the same exits and the same cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import MissingExtraError, ModelError
from pilotfish.models import Preprocessing
from pilotfish.models.backends.backends import with_backend
from pilotfish.models.model import F32, Backend, Model
from pilotfish.runtime.spread import Spread
from pilotfish.scores.outputs import Outputs

ONE_BY_ONE = "one input at a time"
MASKED = "batch by batch with a mask"


@dataclass(frozen=True)
class PeerTimes:
    """Milliseconds per sample of another way to run the same cascade, and how many times longer than ours it takes.

    None if nothing was measured.
    """

    name: str
    model_only: Spread | None
    end_to_end: Spread
    model_only_ratio: Spread | None
    end_to_end_ratio: Spread

    def to_json(self) -> dict[str, Any]:
        """Medians, with their spreads."""

        def pair(key: str, value: Spread | None) -> dict[str, Any]:
            return {key: value and value.median, f"{key}_spread": value and value.limits}

        return {
            "name": self.name,
            **pair("model_only_ms", self.model_only),
            **pair("end_to_end_ms", self.end_to_end),
            **pair("model_only_ratio", self.model_only_ratio),
            **pair("end_to_end_ratio", self.end_to_end_ratio),
        }


@dataclass(frozen=True)
class Peer:
    """Another way to run stages: *run* is called with what provides a sample's tensor for a stage."""

    name: str
    run: Callable[[Inputs], None]


@dataclass(frozen=True)
class Inputs:
    """N samples for a peer.

    tensor  (sample, stage) → float32 input; decodes if the measurement is from file to answer
    stops   int64 (N,), the stage that answers each sample
    workers threads for a peer that prepares batches ahead
    """

    tensor: Callable[[int, int, dict[int, Any]], F32]
    stops: NDArray[np.int64]
    workers: int

    def __len__(self) -> int:
        return len(self.stops)


def decoding(read: Callable[[int], Any], preprocessing: Sequence[Preprocessing]) -> Callable[..., F32]:
    """Tensors made from files; *held* keeps a decoded sample for the next stage."""

    def tensor(i: int, stage: int, held: dict[int, Any]) -> F32:
        if i not in held:
            held[i] = read(i)
        return preprocessing[stage](held[i])

    return tensor


def prepared(tensors: Sequence[F32], rows: NDArray[np.intp]) -> Callable[..., F32]:
    """Tensors made beforehand, (M, …) per stage; sample i is row *rows[i]* of them, repeated as needed."""
    return lambda i, stage, held: tensors[stage][rows[i] % len(tensors[stage]), ...]


def find_peers(models: Sequence[Model], device: str, batch_size: int) -> list[Peer]:
    """The peers that these models allow."""
    peers = []
    for label, name in (("torch", "torch"), ("ONNX Runtime", "onnxruntime")):
        try:
            backends = [_on(model, device, name) for model in models]
        except (ModelError, MissingExtraError):
            continue
        peers.append(Peer(f"{ONE_BY_ONE}, {label}", _one_by_one(backends)))
        if name == "onnxruntime":
            peers.append(Peer(f"{MASKED}, {label}", _masked(backends, batch_size)))
    if not any(MASKED in peer.name for peer in peers):
        peers.append(Peer(MASKED, _masked([model.backend for model in models], batch_size)))
    return peers


def _on(model: Model, device: str, name: str) -> Backend:
    """The model's backend of that name with its defaults: all cores for a call."""
    found = with_backend(model, device, name).backend
    return found.with_threads(_all_cores()) if hasattr(found, "with_threads") else found


def _all_cores() -> int:
    from pilotfish.machine import cpu_count

    return cpu_count()


def _one_by_one(backends: Sequence[Backend]) -> Callable[[Inputs], None]:
    """Little-Big's pseudo-code: the little model on an image, its largest softmax against a threshold, then the big
    model."""

    def run(inputs: Inputs) -> None:
        for i, stop in enumerate(inputs.stops.tolist()):
            held: dict[int, Any] = {}
            for stage, backend in enumerate(backends[: stop + 1]):
                _confidence(backend.step(inputs.tensor(i, stage, held)[None])[0])

    return run


def _masked(backends: Sequence[Backend], size: int) -> Callable[[Inputs], None]:
    """Mask, and run the base on what is left of the batch; batches are not refilled. The inputs of the first model are
    prepared in threads, a few batches ahead."""

    def run(inputs: Inputs) -> None:
        chunks = [range(first, min(first + size, len(inputs))) for first in range(0, len(inputs), size)]
        with ThreadPoolExecutor(inputs.workers) as pool:
            ahead: list[list[Future[tuple[F32, dict[int, Any]]]]] = []
            for k in range(len(chunks)):
                while len(ahead) < min(k + 3, len(chunks)):
                    ahead.append([pool.submit(_first, inputs, i) for i in chunks[len(ahead)]])
                parts = [future.result() for future in ahead[k]]
                ahead[k] = []
                _batch(backends, inputs, np.array(chunks[k]), parts, pool)

    return run


def _first(inputs: Inputs, i: int) -> tuple[F32, dict[int, Any]]:
    held: dict[int, Any] = {}
    return inputs.tensor(i, 0, held), held


def _batch(
    backends: Sequence[Backend],
    inputs: Inputs,
    rows: NDArray[np.intp],
    parts: Sequence[tuple[F32, dict[int, Any]]],
    pool: ThreadPoolExecutor,
) -> None:
    held = {int(row): part[1] for row, part in zip(rows, parts, strict=True)}
    _confidence(backends[0].step(np.stack([tensor for tensor, _ in parts]))[0])
    for stage, backend in list(enumerate(backends))[1:]:
        rows = rows[inputs.stops[rows] >= stage]
        if not len(rows):
            return
        tensors = list(pool.map(lambda i, k=stage: inputs.tensor(i, k, held[i]), rows.tolist()))
        _confidence(backend.step(np.stack(tensors))[0])


def _confidence(logits: Any) -> Any:
    if isinstance(logits, Outputs):
        return logits.confidence
    if isinstance(logits, list):  # boxes
        return np.array([np.mean(one["scores"]) if len(one["scores"]) else 0.0 for one in logits])
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e.max(axis=1) / e.sum(axis=1)
