"""From a torch module to an ONNX file that is known to say the same."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.errors import ModelError, reason
from pilotfish.models.backends.onnx_backend import open_session
from pilotfish.models.backends.torch_backend import import_torch
from pilotfish.models.model import BAND, F32

if TYPE_CHECKING:
    import torch

OPSET = 18
PROBES = (1, 3)  # batch sizes of the check: an exporter may bake the one it saw into the graph
FOLD_BATCH = 7  # none of them
INPUT, OUTPUT = "input", "logits"
Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Exported:
    """exporter: which of torch's wrote the file; folded: whether its shapes were computed beforehand; the largest
    differences from torch on random inputs; sha256: of the file, once it is kept."""

    exporter: str
    logit_difference: float
    probability_difference: float
    folded: bool = False
    sha256: str = ""


def export_onnx(module: torch.nn.Module, shapes: Shapes, target: Path) -> Exported:
    """Write *module*, in evaluation mode on the CPU, as an ONNX file with a dynamic batch, and check it against torch.

    shapes  of one sample of each input; the first output is logits, others are features

    The tracing exporter is tried first (seconds), torch.export's next (tens of seconds). What a graph computes from the
    inputs' height and width alone is folded where the batch size stays free. ModelError when neither exporter yields a
    file whose probabilities agree within 1e-3.
    """
    reasons = []
    for name in ("trace", "torch.export"):
        try:
            with quiet():
                _write(module, shapes, target, by_trace=name == "trace")
            found = _checked(module, shapes, target, name)
            return _folded(module, shapes, target, found) or found
        except Exception as error:  # exporters raise errors of many libraries
            reasons.append(f"{name}: {reason(error, 160)}")
    raise ModelError(f"the model cannot be exported to ONNX ({'; '.join(reasons)}); run it with backend torch")


def _write(module: torch.nn.Module, shapes: Shapes, target: Path, by_trace: bool) -> None:
    torch = import_torch("exporting to ONNX")
    given = tuple(torch.zeros(2, *shape) for shape in shapes)
    inputs, outputs = _names(module, given)
    if by_trace:
        how = {"dynamo": False, "dynamic_axes": {name: {0: "batch"} for name in (*inputs, *outputs)}}
    else:
        batch = torch.export.Dim("batch")
        free = tuple({0: batch} for _ in given)
        how = {"dynamo": True, "dynamic_shapes": free, "external_data": False, "verbose": False}
    torch.onnx.export(module, given, str(target), input_names=inputs, output_names=outputs, opset_version=OPSET, **how)


def _names(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[list[str], list[str]]:
    """Names of the inputs and of the outputs."""
    inputs = [INPUT] if len(given) == 1 else [f"{INPUT}_{i}" for i in range(len(given))]
    return inputs, [OUTPUT, *(f"feature_{i}" for i in range(len(_run_torch(module, given)) - 1))]


def _folded(module: torch.nn.Module, shapes: Shapes, target: Path, plain: Exported) -> Exported | None:
    """Replace *target* by itself with what depends on shapes alone computed beforehand, such as TensorFlow's "same"
    padding (an eighth of a small model's time). None, and nothing replaced, where the batch size would be fixed."""
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as folder:
        folded = Path(folder) / "folded.onnx"
        try:
            fold_shapes(target, folded, FOLD_BATCH)
            found = _checked(module, shapes, folded, plain.exporter)
        except Exception:  # an optimizer's errors are as many as an exporter's; the plain file is as right
            return None
        shutil.copyfile(folded, target)
    return dataclasses.replace(found, folded=True)


def fold_shapes(source: Path, target: Path, batch: int) -> None:
    """Write the graph of *source* with constants folded as for a batch of that size, and the batch size free again."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("batch", batch)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(str(target))
    del graph.graph.value_info[:]  # they speak of that batch size
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(graph, str(target))


def _checked(module: torch.nn.Module, shapes: Shapes, target: Path, exporter: str) -> Exported:
    torch, session = import_torch("checking an export"), open_session(target, 1)
    names = [entry.name for entry in session.get_inputs()]
    rng = np.random.default_rng(0)
    logits = probabilities = 0.0
    for size in PROBES:
        given = [rng.standard_normal((size, *shape), dtype=np.float32) for shape in shapes]
        expected = [part.float().numpy() for part in _run_torch(module, tuple(map(torch.from_numpy, given)))]
        found = session.run(None, dict(zip(names, given, strict=True)))
        shapes_found, shapes_expected = [f.shape for f in found], [e.shape for e in expected]
        if shapes_found != shapes_expected:
            raise ModelError(f"found outputs {shapes_found} for a batch of {size}, expected {shapes_expected}")
        logits = max(logits, float(np.abs(found[0] - expected[0]).max()))
        probabilities = max(probabilities, float(np.abs(softmax(found[0]) - softmax(expected[0])).max()))
        for a, b in zip(found[1:], expected[1:], strict=True):
            gap, most = float(np.abs(a - b).max(initial=0.0)), float(np.abs(b).max(initial=0.0))
            if gap > BAND * max(1.0, most):
                raise ModelError(f"its features differ from torch's by {gap:.2g} of {most:.2g}")
    if not probabilities <= BAND:
        raise ModelError(f"its probabilities differ from torch's by {probabilities:.2g}, {BAND:g} is allowed")
    return Exported(exporter, logits, probabilities)


def _run_torch(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    torch = import_torch("checking an export")
    with torch.inference_mode():
        found = module(*given)
    return tuple(found) if isinstance(found, tuple | list) else (found,)


def softmax(z: F32) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probabilities float64 (N, C) of logits."""
    e = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters talk on stdout, in warnings and through loggers; their errors are raised all the same."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
