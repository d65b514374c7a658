"""ONNX Runtime as a backend."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import MissingExtraError, ModelError
from pilotfish.models.machine import cpu_count
from pilotfish.models.model import F32, blamed

INPUT_DTYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


class OnnxBackend:
    """An ONNX Runtime session on the CPU. Calls may run side by side.

    threads  cores that one call uses; all of them by default
    """

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path, self.threads = path, threads or cpu_count()
        self._session: Any = None
        self._opening = threading.Lock()

    @property
    def session(self) -> Any:
        """Opened when it is first needed, so that a model which is to run on other threads is in memory once."""
        if self._session is None:
            with self._opening:
                if self._session is None:
                    self._session = self._open()
        return self._session

    def _open(self) -> Any:
        found = open_session(self.path, self.threads)
        types = [i.type for i in found.get_inputs()]
        if len(types) != 1 or types[0] not in INPUT_DTYPES:
            raise ModelError(
                f"{self.path}: its inputs are {', '.join(types) or 'none'}; "
                f"expected a single one, of type {', '.join(INPUT_DTYPES)}"
            )
        return found

    @functools.cached_property
    def input(self) -> Any:
        """Name, shape and type of the input."""
        return self.session.get_inputs()[0]

    @functools.cached_property
    def input_dtype(self) -> Any:
        """What the file computes from: a float type of numpy's, or uint8 for bytes from 0 to 255."""
        return INPUT_DTYPES[self.input.type]

    def fed(self, batch: F32) -> NDArray[Any]:
        """*batch* as the file takes it; bytes are rounded and cut off at 0 and 255, never wrapped."""
        found = np.clip(np.rint(batch), 0, 255) if self.input_dtype is np.uint8 else batch
        return np.ascontiguousarray(found, self.input_dtype)

    @functools.cached_property
    def output(self) -> str:
        """The name of the first output."""
        return str(self.session.get_outputs()[0].name)

    @functools.cached_property
    def fixed_batch(self) -> int | None:
        """The batch size that the file insists on; None where it is free."""
        size = self.input.shape[0] if self.input.shape else None
        return size if isinstance(size, int) and size > 0 else None

    def with_threads(self, threads: int) -> OnnxBackend:
        """The same model with other threads; this one when it has as many."""
        return self if threads == self.threads else OnnxBackend(self.path, threads)

    def run(self, batch: F32) -> F32:
        """The first output, float32 (N, C). A file of a fixed batch size is fed in pieces, the last one padded."""
        inputs = self.fed(batch)
        size = self.fixed_batch or len(inputs)
        with blamed(str(self.path), batch):
            if len(inputs) == size:
                return self._run(inputs)
            pieces = [inputs[start : start + size] for start in range(0, len(inputs), size)]
            return np.concatenate([self._run(_padded(piece, size))[: len(piece)] for piece in pieces])

    def _run(self, inputs: NDArray[Any]) -> F32:
        return np.asarray(self.session.run([self.output], {self.input.name: inputs})[0], np.float32)


def open_session(path: Path, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU; ModelError when the file cannot be loaded."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", f"running {path}") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # waiting threads that spin take the cores from those that decode the next images
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # its errors are raised as well
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exception types are not public
        raise ModelError(f"{path}: ONNX Runtime cannot load it ({str(error).splitlines()[0][:200]})") from error


def _padded(piece: NDArray[Any], size: int) -> NDArray[Any]:
    return np.concatenate([piece, np.repeat(piece[-1:], size - len(piece), axis=0)])
