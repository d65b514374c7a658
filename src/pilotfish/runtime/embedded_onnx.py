"""The ONNX file embedded for a torch stage, for machines without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pilotfish.cascade import Stage, weights_path
from pilotfish.errors import ArtefactError
from pilotfish.models import Model, Preprocessing
from pilotfish.models.backends.backends import with_backend
from pilotfish.models.backends.onnx_backend import OnnxBackend
from pilotfish.models.exits.spans import OnnxSpan
from pilotfish.models.model import F32, Backend, Carry, ExitOf
from pilotfish.models.names.spec import exit_of, parse_spec
from pilotfish.models.names.weights_file import metadata_document
from pilotfish.models.onnx.onnx_file import OnnxFile, read_onnx
from pilotfish.models.onnx.onnx_metadata import CONTINUES, SOURCE


def embedded_onnx(stage: Stage, folder: Path) -> Model:
    """The model of *stage* from its ONNX file in *folder*, which was exported from the recorded weights and compared
    with torch when the cascade was written.

    ArtefactError if it is not the file that was written then, or not made from the recorded weights.
    """
    chain = Preprocessing.from_json(stage.preprocessing or {})
    if chain.hash != stage.preprocessing_hash:
        raise ArtefactError(
            f"stage {stage.name}: the thresholds were made for other preprocessing than cascade.json has; write the "
            "cascade again with --embed"
        )
    files = _files(stage, folder)
    chain.check_installed()
    runner, exit_of = _runner(stage, files)
    shape = tuple(d.dim_value for d in files[0].light.graph.input[0].type.tensor_type.shape.dim[1:])
    model = Model(
        spec=str(stage.spec),
        backend=runner,
        preprocessing=chain,
        weights_hash=str(stage.weights_hash),
        input_shape=shape if all(shape) else None,
        n_classes=stage.n_classes,
        class_names=stage.class_names,
        exit_of=exit_of,
    )
    return with_backend(model, "cpu") if chain.backend else model


def _files(stage: Stage, folder: Path) -> list[OnnxFile]:
    """The files from the inputs to the stage's output: those that it continues from, then its own. Each names the one
    before it with its hash, and cascade.json names the last."""
    name, expected = stage.onnx_file, stage.onnx_hash
    found: list[OnnxFile] = []
    while name is not None:
        path = weights_path(folder, name)
        assert path is not None, "a file has a name"
        file = read_onnx(path)
        source = (metadata_document(file.metadata, SOURCE, str(path)) or {}).get("weights_hash")
        if file.weights_hash != expected or source != stage.weights_hash:
            raise ArtefactError(
                f"stage {stage.name}: {path} is not the ONNX file that was embedded for it; write the cascade again "
                "with --embed"
            )
        found.insert(0, file)
        before = metadata_document(file.metadata, CONTINUES, str(path)) or {}
        name, expected = before.get("file"), before.get("sha256")
    return found


def _runner(stage: Stage, files: list[OnnxFile]) -> tuple[Backend, ExitOf | None]:
    """What runs the stage from its inputs; and the network it is an exit of, if stages share one. Its own file then
    holds only what runs after the exit before it."""
    if len(files) == 1 and len(files[0].light.graph.output) == 1:
        return OnnxBackend(files[0]), None
    spans = [OnnxSpan(file) for file in files]
    whole = _Spans(spans) if len(spans) > 1 else spans[0]
    position = exit_of(parse_spec(str(stage.spec)).name)[1]
    if position is None:
        raise ArtefactError(
            f"stage {stage.name}: {stage.spec} names no exit (FILE#K), and its ONNX file is that of one; write the "
            "cascade again with --embed"
        )

    def segment(first: int, last: int, backend: str | None) -> Backend:
        return spans[-1] if first else whole

    return whole, ExitOf(str(stage.weights_hash), position, position, segment)


class _Spans:
    """Parts of one network, one after the other."""

    name = "onnxruntime"

    def __init__(self, spans: Sequence[OnnxSpan]) -> None:
        self.spans = tuple(spans)

    def with_threads(self, threads: int) -> _Spans:
        """The same with another number of threads."""
        return _Spans([span.with_threads(threads) for span in self.spans])

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[F32, Carry | None]:
        """Logits float32 (N, C), and the features after the last part."""
        for span in self.spans:
            logits, carry = span.step(inputs, carry)
            inputs = None
        return logits, carry
