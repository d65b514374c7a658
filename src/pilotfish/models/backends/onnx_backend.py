"""ONNX Runtime as a backend."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError, nearest, needs, reason
from pilotfish.machine import cpu_count, processor
from pilotfish.models.model import F32, Carry, model_errors
from pilotfish.models.onnx.onnx_file import OnnxFile, own_file, parsed, with_tensors
from pilotfish.models.outputs.own_size import fit_answers, fit_images
from pilotfish.models.outputs.raw_answers import RawAnswers, size_of_image
from pilotfish.models.outputs.which_output import Output, output_of, place_of

INPUT_DTYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


class OnnxBackend:
    """An ONNX Runtime session on the CPU. Calls may run side by side.

    threads     cores that one call uses; all of them by default
    output      name of the output; None: the first
    activation  what that output comes from (see ``activation``); None: it is logits as it is
    shape       of one sample, where the file leaves it open
    reads       how what it returns is read, of a file that answers another task than classes

    With an output or an activation the graph is rewritten in memory, so that its one output is logits (N, C).
    """

    name = "onnxruntime"

    def __init__(
        self,
        source: Path | OnnxFile,
        threads: int | None = None,
        output: str | None = None,
        activation: str | None = None,
        shape: tuple[int, ...] | None = None,
        reads: RawAnswers | None = None,
    ) -> None:
        self.file = source if isinstance(source, OnnxFile) else own_file(source)
        self.path, self.threads = self.file.path, threads or cpu_count()
        self.wanted, self.activation, self.shape, self.reads = output, activation, shape, reads
        self._columns: int | None = None
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
        found = open_session(self.file, self.threads, self._rewritten() if self.is_rewritten else None)
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
        """*batch* as the file takes it."""
        return as_taken(batch, self.input_dtype)

    @functools.cached_property
    def output(self) -> str:
        """The name of the output that is read: the first of what is run."""
        return str(self.session.get_outputs()[0].name)

    @property
    def classes(self) -> int | None:
        """The number of columns of the output that is read, where the file declares it."""
        shape = self.session.get_outputs()[0].shape
        return shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None

    @property
    def is_rewritten(self) -> bool:
        """Whether what is run differs from the file."""
        return self.wanted is not None or self.activation is not None

    def graph(self) -> Any:
        """The ``onnx.ModelProto`` that is run, its tensors included."""
        import onnx

        model = onnx.load(str(self.path)) if self.file.others else self._light()
        return self._changed(model) if self.is_rewritten else model

    def write(self, target: Path) -> None:
        """Write the graph that is run as one file: a copy, where it is the file as it is."""
        if not self.is_rewritten:
            target.write_bytes(self.file.read()[0])
            return
        import onnx

        onnx.save(self.graph(), str(target))

    def outputs(self, batch: F32) -> list[Output]:
        """All outputs of a batch, of a file that is run as it is, with the activation that each comes out of."""
        from pilotfish.models.onnx.onnx_logits import ending, zipped, zipped_names

        model, names = self._light(), [entry.name for entry in self.session.get_outputs()]
        maps = zipped(model)
        return [
            output_of(name, values, ending(model, name), zipped_names(maps.get(name)), name in maps)
            for name, values in zip(names, self.returned(batch, names), strict=True)
            if name in maps or hasattr(values, "dtype")  # sequences of other kinds are no answer
        ]

    def light(self) -> Any:
        """The ``onnx.ModelProto`` that is run, without tensors that lie in other files."""
        return self._changed(self._light()) if self.is_rewritten else self._light()

    def _light(self) -> Any:
        return parsed(self.path, self.file.read()[0])

    def content(self) -> bytes:
        """The graph that is run as one file, its tensors included, from the bytes that were checked."""
        from pilotfish.models.onnx.onnx_logits import packed

        content, others = self.file.read()
        if not others and not self.is_rewritten:
            return content
        model = with_tensors(self.path, parsed(self.path, content), others)
        return packed(self._changed(model) if self.is_rewritten else model, self.path)

    def _rewritten(self) -> bytes:
        from pilotfish.models.onnx.onnx_logits import packed

        return packed(self.light(), self.path)

    def _changed(self, model: Any) -> Any:
        """*model* with logits as its only output. ModelError for an output that it does not have."""
        from pilotfish.models.onnx.onnx_logits import as_logits, columns_of

        names = [entry.name for entry in model.graph.output]
        at = 0 if self.wanted is None else place_of(names, self.wanted)
        if at is None:
            raise ModelError(f"{self.path}: no output {self.wanted!r}; {nearest(str(self.wanted), names)}")
        output = names[at]
        if self._columns is None:
            self._columns = columns_of(model, output) or self._asked(output)
        return as_logits(model, output, self.activation, self._columns)

    def _asked(self, output: str) -> int:
        """How many numbers the file returns for one sample, where it does not declare it."""
        file = OnnxBackend(self.file, 1)
        declared = [d if isinstance(d, int) and d > 0 else 1 for d in file.input.shape[1:]]
        [values] = file.returned(np.zeros((1, *(self.shape or declared)), np.float32), [output])
        return int(np.prod(np.shape(values)[1:]))

    @functools.cached_property
    def fixed_batch(self) -> int | None:
        """The batch size that the file insists on; None where it is free."""
        size = self.input.shape[0] if self.input.shape else None
        return size if isinstance(size, int) and size > 0 else None

    def with_threads(self, threads: int) -> OnnxBackend:
        """The same model with other threads; this one when it has as many."""
        return self if threads == self.threads else self.anew(threads)

    def anew(self, threads: int | None = None) -> OnnxBackend:
        """The same model with no session open."""
        given = (self.wanted, self.activation, self.shape, self.reads)
        found = OnnxBackend(self.file, threads or self.threads, *given)
        found._columns = self._columns
        return found

    def reading(self, reads: RawAnswers) -> OnnxBackend:
        """The same file, whose outputs are read by *reads*."""
        return OnnxBackend(self.file, self.threads, shape=self.shape, reads=reads)

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[Any, None]:
        """The output, float32 (N, C), or the raw answers of another task, and no features. A file of a fixed batch size
        is fed in padded pieces."""
        assert inputs is not None, "a whole model takes inputs"
        assert self.session is not None  # opened first: cached properties hold a lock of all backends meanwhile
        if self.reads is not None:
            return self._read(inputs, self.reads), None
        return np.asarray(self.returned(inputs, [self.output])[0], np.float32), None

    def _read(self, inputs: F32, reads: RawAnswers) -> Any:
        """What *reads* makes of all outputs. Images of another size than the file's are resized to it, and the answers
        back; where the outputs have no axis of images, as many detectors' do, each is run alone."""
        entries, spec = self.session.get_outputs(), str(self.path)
        names = [entry.name for entry in entries]
        fitted = fit_images(inputs, self.pixels)
        raw: Any
        if reads.task == "boxes" and not any(len(entry.shape or ()) == 3 for entry in entries):
            raw = []
            for at in range(len(fitted)):
                one = fitted[at : at + 1]
                found = self.returned(one, names) if len(self.input.shape) > 3 else self._run(self.fed(one[0]), names)
                raw += reads(dict(zip(names, found, strict=True)), one, spec)
        else:
            raw = reads(dict(zip(names, self.returned(fitted, names), strict=True)), fitted, spec)
        before, after = size_of_image(inputs[0]), self.pixels
        return raw if fitted is inputs or not before or not after else fit_answers(raw, reads.task, after, before)

    @functools.cached_property
    def pixels(self) -> tuple[int, int] | None:
        """(height, width) of the images that the file is run at; None where it takes any."""
        declared = [d if isinstance(d, int) and d > 0 else None for d in self.input.shape[-3:]]
        sides = size_of_image(np.empty(self.shape, bool)) if self.shape else None
        if len(declared) == 3 and sides is None:
            last = declared[0] not in (1, 3) and declared[2] in (1, 3)
            high, wide = declared[:2] if last else declared[1:]
            sides = (high, wide) if high is not None and wide is not None else None
        return sides

    def returned(self, batch: F32, names: Sequence[str]) -> list[Any]:
        """Some outputs of a batch, arrays (N, …); what ZipMap returns as an array as well."""
        inputs = self.fed(batch)
        size = self.fixed_batch or self.file.limits.rows(len(inputs))
        with model_errors(str(self.path), batch):
            if len(inputs) == size:
                return self._run(inputs, names)
            pieces = [inputs[start : start + size] for start in range(0, len(inputs), size)]
            parts = [[values[: len(piece)] for values in self._run(padded(piece, size), names)] for piece in pieces]
            return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _run(self, inputs: NDArray[Any], names: Sequence[str]) -> list[Any]:
        feed = {self.input.name: inputs}
        found = self.file.limits.run(self.session, names, feed, free=self.fixed_batch is None)
        return [_unzipped(values) for values in found]


def _unzipped(values: Any) -> Any:
    """A list of dictionaries from classes to numbers as an array (N, C)."""
    if isinstance(values, list) and values and isinstance(values[0], dict):
        return np.array([list(row.values()) for row in values], np.float32)
    return values


def open_session(source: Path | OnnxFile, threads: int, changed: bytes | None = None) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU; ModelError when the file cannot be loaded.

    source   a file that was read is run from the bytes that were checked, and within its limits
    changed  the model that is run instead of the file; tensors that it keeps elsewhere lie beside the file
    """
    file = source if isinstance(source, OnnxFile) else own_file(source)
    path = file.path
    with needs("onnxruntime", "onnx", f"running {path}"):
        import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # waiting threads that spin take the cores from those that decode the next images
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not processor().vnni:  # AVX2 saturates products of 8 bits: other kernels are slower, and right
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 4  # its errors are raised as well
    content, others = file.read()
    left_out = file.limits.set_options(options)
    if others:
        options.add_external_initializers_from_files_in_memory(
            list(others), list(others.values()), [len(held) for held in others.values()]
        )
    elif changed is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        return ort.InferenceSession(
            changed or content,
            options,
            providers=["CPUExecutionProvider"],
            **({"disabled_optimizers": left_out} if left_out else {}),
        )
    except Exception as error:  # ONNX Runtime's own exception types are not public
        raise ModelError(f"{path}: ONNX Runtime cannot load it ({reason(error)})") from error


def as_taken(batch: F32, dtype: Any) -> NDArray[Any]:
    """*batch* as a file takes it; bytes are rounded and cut off at 0 and 255, never wrapped."""
    found = np.clip(np.rint(batch), 0, 255) if dtype is np.uint8 else batch
    return np.ascontiguousarray(found, dtype)


def padded(piece: NDArray[Any], size: int) -> NDArray[Any]:
    """*piece* with its last row repeated, as a batch of *size*."""
    if len(piece) == size:
        return piece
    return np.concatenate([piece, np.repeat(piece[-1:], size - len(piece), axis=0)])
