"""OpenVINO as a backend: the graph that ONNX Runtime runs, in float32, bfloat16 or int8."""

from __future__ import annotations

import functools
import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError, ModelMemoryError, needs, one_line
from pilotfish.machine import cpu_count, processor
from pilotfish.models.backends.onnx_backend import OnnxBackend, as_taken, padded
from pilotfish.models.model import F32, Carry, model_errors
from pilotfish.models.onnx.onnx_graph import has_wide_int8

HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
"""What is computed in, as OpenVINO calls it; a file of int8 says itself where it is."""
INPUTS = ("f32", "f16", "f64", "u8")
PIECES = (32, 16, 8, 4, 2, 1)
"""Batches are cut into calls of these sizes: OpenVINO prepares itself for each size that it meets, which takes longer
than a call, and on a processor no larger batch is any faster."""
NOISE = ("Exception from", "Check '", "FrontEnd API", "Summary", "Model wasn't fully", "To facilitate")
TELEMETRY = "openvino_telemetry"


class OpenVinoBackend:
    """A model compiled by OpenVINO for the CPU. Calls may run side by side, each on *threads* cores.

    source   what ONNX Runtime would run: its graph is what is compiled, from the bytes that were checked
    threads  cores that one call uses; all of them by default
    dtype    what it computes in. Where the processor cannot, it is float32, and ``lack`` says so; ModelError where
             OpenVINO takes something coarser
    shape    of one sample, for a file that leaves it open
    """

    name = "openvino"

    def __init__(
        self,
        source: OnnxBackend,
        threads: int | None = None,
        dtype: str = "float32",
        shape: tuple[int, ...] | None = None,
    ) -> None:
        import_openvino(f"running {source.path} by OpenVINO")
        self.source, self.threads = source.anew(), threads or cpu_count()
        self.dtype, self.shape = dtype, shape
        self.lack: str | None = None  # what of that the processor cannot do, once it is compiled
        self.doubt: str | None = None  # why its answers may be coarser than its dtype
        self._name = ""  # the input's: compiled models have names of tensors that were folded into it as well
        self._compiled: Any = None
        self._opening = threading.Lock()
        self._idle: list[Any] = []  # requests that nobody uses; as many are made as calls ever ran side by side

    @property
    def session(self) -> Any:
        """The compiled model, made when it is first needed."""
        if self._compiled is None:
            with self._opening:
                if self._compiled is None:
                    self._compiled = self._open()
        return self._compiled

    def _open(self) -> Any:
        path = self.source.path
        if not self.source.file.limits.is_bounded:
            raise ModelError(
                f"{path}: how much time and memory a call takes depends on the data, and OpenVINO cannot be held to "
                "limits; ONNX Runtime can"
            )
        side_by_side = max(1, cpu_count() // self.threads)
        asked = HINTS[self.dtype]
        settings = {
            "INFERENCE_PRECISION_HINT": asked,  # its own choice is bfloat16 wherever the processor can
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
            "NUM_STREAMS": side_by_side,
            "INFERENCE_NUM_THREADS": side_by_side * self.threads,
            "ENABLE_CPU_PINNING": False,  # threads that decode images share the cores
            "ENABLE_HYPER_THREADING": True,  # the cores are those that this process was given
        }
        content = self.source.content()
        try:
            core = _core()
            graph = core.read_model(content, b"")
            self._name = graph.input(0).any_name if graph.inputs else ""
            types = [one.element_type.get_type_name() for one in graph.inputs]
            if len(types) != 1 or types[0] not in INPUTS:
                raise ModelError(
                    f"{path}: its inputs are {', '.join(types)}; expected a single one of {', '.join(INPUTS)}"
                )
            declared = graph.input(0).partial_shape
            if self.shape is not None and any(dim.is_dynamic for dim in list(declared)[1:]):
                graph.reshape([declared[0], *self.shape])
            found = core.compile_model(graph, "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"{path}: OpenVINO cannot load it ({_said(error)})") from error
        got = computed_in(found)
        if got not in (asked, "f32"):
            raise ModelError(
                f"{path}: OpenVINO computes in {got} here where {asked} is asked for; write dtype=bf16 or leave it out"
            )
        if got != asked:
            self.lack = f"this processor does not compute in {self.dtype}, and OpenVINO takes float32"
        if processor().flags and not processor().vnni and has_wide_int8(self.source.light().graph):
            self.doubt = (
                "OpenVINO saturates products of 8 bits on this processor, which has no VNNI, so its answers may differ "
                "from those of ONNX Runtime and of other processors"
            )
        return found

    @functools.cached_property
    def input(self) -> SimpleNamespace:
        """Name and shape of the input, as :attr:`OnnxBackend.input` has them."""
        found = self.session.input(0)
        shape = [dim.get_length() if dim.is_static else None for dim in found.partial_shape]
        return SimpleNamespace(name=self._name, shape=shape)

    @property
    def classes(self) -> int | None:
        """The number of columns of the output that is read, where the file declares it."""
        shape = self.session.output(0).partial_shape
        return shape[1].get_length() if len(shape) == 2 and shape[1].is_static else None

    @functools.cached_property
    def input_dtype(self) -> Any:
        """What the file takes, as numpy's type."""
        return self.session.input(0).element_type.to_dtype().type

    @functools.cached_property
    def fixed_batch(self) -> int | None:
        """The batch size that the file insists on; None where it is free."""
        size: int | None = self.input.shape[0] if self.input.shape else None
        return size

    def with_threads(self, threads: int) -> OpenVinoBackend:
        """The same model with other threads; this one when it has as many."""
        return self if threads == self.threads else OpenVinoBackend(self.source, threads, self.dtype, self.shape)

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[F32, None]:
        """The output, float32 (N, C), and no features."""
        assert inputs is not None, "a whole model takes inputs"
        assert self.session is not None  # opened first: cached properties hold a lock of all backends meanwhile
        given = as_taken(inputs, self.input_dtype)
        with model_errors(str(self.source.path), inputs):
            try:
                parts = [self._run(padded(given[at : at + n], size))[:n] for at, n, size in self._calls(len(given))]
            except RuntimeError as error:
                kind = ModelMemoryError if "allocate" in str(error) else ModelError
                raise kind(f"{self.source.path} failed on a batch of shape {inputs.shape}: {_said(error)}") from error
        return parts[0] if len(parts) == 1 else np.concatenate(parts), None

    def _calls(self, n: int) -> list[tuple[int, int, int]]:
        """(first row, rows, size of the call) that *n* rows are run in."""
        found, at, most = [], 0, self.source.file.limits.rows(n)
        while at < n:
            size = self.fixed_batch or next(size for size in PIECES if size <= max(1, min(most, n - at)))
            found.append((at, min(size, n - at), size))
            at += size
        return found

    def _run(self, inputs: NDArray[Any]) -> F32:
        """One call. The output is copied: its memory is the request's, which writes there again."""
        compiled = self.session
        try:
            request = self._idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
        try:
            request.infer({0: inputs}, share_inputs=True)
            return np.array(request.get_output_tensor(0).data, np.float32)
        finally:
            self._idle.append(request)


def import_openvino(purpose: str) -> Any:
    """openvino, or the error that says how to install it.

    Imported as it is, it writes a file into the user's home and sends word of its use; both are left out here by hiding
    its telemetry package meanwhile, which it does without.
    """
    if TELEMETRY in sys.modules or "openvino" in sys.modules:  # the program around this one has decided
        with needs("openvino", "openvino", purpose):
            import openvino
        return openvino
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        with needs("openvino", "openvino", purpose):
            import openvino
    finally:
        del sys.modules[TELEMETRY]
    return openvino


@functools.cache
def _core() -> Any:
    return import_openvino("running a model").Core()


def computed_in(compiled: Any) -> str:
    """What a compiled model computes in: OpenVINO takes another type silently where the processor lacks the one."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def _said(error: RuntimeError) -> str:
    """What an error of OpenVINO says, without the places in its sources."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(NOISE)]
    return one_line(" ".join(told or lines))[:200]
