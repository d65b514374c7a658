"""int8 models: static quantisation of an ONNX model on samples of your own (TinySaver 4.4).

The result is a model like any other, ``onnx:FILE``, with preprocessing of its own (dtype int8), so it has records, an
accuracy and costs of its own, and planning sees what it is really worth.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.data import Dataset, open_data
from pilotfish.errors import DataError, ModelError, UsageError, needs, reason
from pilotfish.files import atomic_path
from pilotfish.machine import processor
from pilotfish.models.backends.onnx_backend import OnnxBackend
from pilotfish.models.costs.timing import time_batches
from pilotfish.models.model import F32, Model
from pilotfish.models.names.load_model import load_model
from pilotfish.models.onnx.onnx_export import quiet, softmax
from pilotfish.models.onnx.onnx_graph import stored_nodes
from pilotfish.models.onnx.onnx_logits import OWN
from pilotfish.models.onnx.onnx_metadata import described, write_metadata
from pilotfish.models.outputs.settle import settle
from pilotfish.models.preprocessing import sample_inputs, stacked

LEAST = 8  # samples to calibrate on
HELD_OUT = 4  # every fourth sample is kept for comparing
CALIBRATIONS = ("minmax", "entropy", "percentile")
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Quantised:
    """An int8 model and how it compares with its source, on samples that it was not calibrated on.

    agreement        share of equal predictions
    max_difference   largest difference of a probability; mean_difference of the winner's
    float_bytes, bytes, float_ms, ms  size, and milliseconds per sample with all cores at work, before and after
    reduced_range    whether weights were kept to 7 bits, for processors whose 8-bit products saturate
    notes            how the source was read, a line each
    """

    path: Path
    source: str
    samples: int
    compared: int
    agreement: float
    max_difference: float
    mean_difference: float
    float_bytes: int
    bytes: int
    float_ms: float
    ms: float
    calibration: str
    reduced_range: bool
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish quantise --json``."""
        return {**dataclasses.asdict(self), "path": str(self.path), "model": f"onnx:{self.path}"}


def quantise(
    model: str,
    data: str | Dataset,
    out: str | Path,
    *,
    samples: int = 128,
    calibration: str = "minmax",
    progress: Tell | None = None,
) -> Quantised:
    """Write *model* in int8 to the .onnx file *out*, calibrated on up to *samples* samples spread over *data*.

    calibration  how the range of each tensor is found: minmax, entropy or percentile

    ModelError for a model that has no float32 ONNX form, DataError when too few samples can be read.
    """
    if calibration not in CALIBRATIONS:
        raise UsageError(f"calibration is one of {', '.join(CALIBRATIONS)}; found {calibration!r}")
    if samples < LEAST:
        raise UsageError(f"at least {LEAST} samples are needed to calibrate, found {samples}")
    tell, path = progress or (lambda *_: None), Path(out)
    if path.suffix != ".onnx":
        raise UsageError(f"an int8 model is written as .onnx, found {path.name!r}")
    data = open_data(data)
    loaded = load_model(model, backend=None, settle=functools.partial(settle, data=data))
    if not isinstance(loaded.backend, OnnxBackend) or loaded.preprocessing.dtype != "float32":
        reason = loaded.details.get("backend", f"it is run by {loaded.backend.name} in {loaded.preprocessing.dtype}")
        raise ModelError(f"{model} cannot be quantised: {reason}; expected a float32 model that ONNX Runtime can run")
    inputs = _inputs(loaded, data, samples, tell)
    held = np.arange(len(inputs)) % HELD_OUT == HELD_OUT - 1
    reduced = not processor().vnni
    with atomic_path(path) as temporary:
        tell("quantising", 0, 1)
        _write(loaded, loaded.backend, inputs[~held], temporary, calibration, reduced)
        after = OnnxBackend(temporary)
        p, q = softmax(loaded.run(inputs[held])), softmax(after.step(inputs[held])[0])
        shape = inputs.shape[1:]
        before_ms, after_ms = (time_batches(b, shape, seconds=1.5).throughput for b in (loaded.backend, after))
        size = temporary.stat().st_size
        tell("quantising", 1, 1)
    top = p.argmax(axis=1)
    rows = np.arange(len(p))
    return Quantised(
        path=path,
        source=model,
        samples=int((~held).sum()),
        compared=len(p),
        agreement=float((top == q.argmax(axis=1)).mean()),
        max_difference=float(np.abs(p - q).max()),
        mean_difference=float(np.abs(p[rows, top] - q[rows, top]).mean()),
        float_bytes=loaded.backend.path.stat().st_size,
        bytes=size,
        float_ms=before_ms,
        ms=after_ms,
        calibration=calibration,
        reduced_range=reduced,
        notes=loaded.notes,
    )


def _inputs(model: Model, data: Dataset, samples: int, tell: Tell) -> F32:
    """Inputs float32 (n, …) of readable samples spread over the data."""
    wanted = min(len(data), samples + samples // (HELD_OUT - 1))
    found: list[F32] = []
    rows = np.linspace(0, len(data) - 1, wanted).round().astype(int).tolist()
    for _, one in sample_inputs(data, model.preprocessing, rows):
        found.append(one)
        tell("reading samples", len(found), wanted)
    alike = stacked(found) if found else ()
    if len(alike) < LEAST + LEAST // (HELD_OUT - 1):
        raise DataError(
            f"{len(alike)} samples of {data.spec} can be read; at least {LEAST + 2} are needed to calibrate"
        )
    return np.asarray(alike)


def _write(model: Model, backend: OnnxBackend, inputs: F32, target: Path, calibration: str, reduced: bool) -> None:
    """Quantise into *target*: one file, with what is needed to run it as ``onnx:FILE``."""
    with needs("onnx and onnxruntime", "onnx", "quantising"):
        import onnx
        from onnxruntime import quantization as ortq
        from onnxruntime.quantization.shape_inference import quant_pre_process
    method = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}[calibration]
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        try:
            with quiet():
                source = Path(folder) / "source.onnx" if backend.is_rewritten else backend.path
                if backend.is_rewritten:
                    backend.write(source)
                quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
                graph = onnx.load(str(prepared)).graph
                of_shapes = stored_nodes(graph, ("Shape", "Size"))  # padding from a height: 8 bits would falsify it
                added = [node for node in graph.node if node.name.startswith(OWN)]
                ortq.quantize_static(
                    str(prepared),
                    str(target),
                    _Reader(backend, inputs),
                    nodes_to_exclude=[node.name for node in (*of_shapes, *added)],
                    quant_format=ortq.QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=reduced,
                    activation_type=ortq.QuantType.QUInt8,
                    weight_type=ortq.QuantType.QInt8,
                    calibrate_method=getattr(ortq.CalibrationMethod, method),
                )
        except Exception as error:  # the quantiser raises errors of many libraries
            raise ModelError(f"{model.spec} cannot be quantised ({type(error).__name__}: {reason(error)})") from error
    written = onnx.load(str(target))
    int8 = dataclasses.replace(model, preprocessing=dataclasses.replace(model.preprocessing, dtype="int8"))
    write_metadata(
        written,
        **described(int8),
        source={"spec": model.spec, "weights_hash": model.weights_hash, "samples": len(inputs), "method": calibration},
    )
    onnx.save(written, str(target))


class _Reader:
    """What the quantiser draws its samples from, one by one."""

    def __init__(self, backend: OnnxBackend, inputs: F32) -> None:
        self.backend, self.left = backend, iter(inputs)

    def get_next(self) -> dict[str, Any] | None:
        one = next(self.left, None)
        return None if one is None else {self.backend.input.name: self.backend.fed(one[None])}
