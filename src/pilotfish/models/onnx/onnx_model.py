"""``onnx:FILE``: models run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import ArtefactError, ModelError
from pilotfish.models.backends.onnx_backend import OnnxBackend
from pilotfish.models.model import Counted, Model, counted
from pilotfish.models.names.spec import ModelSpec, allow_options
from pilotfish.models.names.stated import ASSUMED as ASSUMABLE
from pilotfish.models.names.stated import BYTE, at_size, layout_of
from pilotfish.models.onnx.onnx_file import OnnxFile, read_onnx
from pilotfish.models.onnx.onnx_input import input_shape
from pilotfish.models.onnx.onnx_logits import OWN
from pilotfish.models.onnx.onnx_metadata import ASSUMED, CASCADE, CONTINUES, PREPROCESSING, class_lists, read_document
from pilotfish.models.preprocessing import AS_IT_IS, CENTRE, IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def load_onnx(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """An ONNX classifier. Preprocessing: the file's metadata ``pilotfish.preprocessing``, else ImageNet's, which is
    then assumed. Images may have their channels first or last; inputs that are not images of 1 or 3 channels are taken
    as they are. Bytes (uint8) are pixels from 0 to 255."""
    allow_options(spec)
    path = weights or Path(spec.name)
    if not path.is_file():
        raise ModelError(f"{path}: no such ONNX file")
    if device != "cpu":
        raise ModelError(f"{spec.text}: ONNX models run on the CPU here, not on {device!r}; leave --device out")
    file = read_onnx(path, spec.pixels)
    metadata = file.metadata
    _refuse_parts(spec, metadata)
    backend = OnnxBackend(file)
    shape = input_shape(spec, backend.input.shape)
    preprocessing, assumed, notes = _preprocessing(spec, metadata, shape, backend.input_dtype is np.uint8)
    n_classes = backend.classes if len(backend.session.get_outputs()) == 1 else None  # else it is not chosen yet
    names, ids = class_lists(metadata, n_classes, spec.text)
    return Model(
        spec=spec.text,
        backend=backend,
        preprocessing=preprocessing,
        weights_hash=file.weights_hash,
        input_shape=shape,
        n_classes=n_classes,
        class_names=names,
        class_ids=ids,
        count=lambda: count_graph(file.light, backend.input.name, shape),
        weights=lambda target: _copy(file, target),
        weights_suffix=".onnx",
        notes=notes,
        assumed=assumed,
    )


def _refuse_parts(spec: ModelSpec, metadata: Mapping[str, str]) -> None:
    """ModelError for what ``pilotfish export`` wrote and is no model of its own."""
    if CASCADE in metadata:
        raise ModelError(
            f"{spec.text}: is a whole cascade that `pilotfish export` wrote, and no model of its own; record "
            "the models of its stages"
        )
    if CONTINUES in metadata:
        raise ModelError(
            f"{spec.text}: goes on from the features of the stage before it, and is no model of its own; record the "
            "network's exits as exits:FILE"
        )


def _preprocessing(
    spec: ModelSpec, metadata: Mapping[str, str], shape: tuple[int, ...], takes_bytes: bool
) -> tuple[Preprocessing, tuple[str, ...], tuple[str, ...]]:
    """How samples become inputs, what of it nobody stated, and notes."""
    own = read_document(metadata, PREPROCESSING, spec.text)
    if own is not None:
        try:
            chain = Preprocessing.from_json(own)
        except ArtefactError as error:
            raise ModelError(f"{spec.text}: its metadata {PREPROCESSING}: {error}") from error
        told = (read_document(metadata, ASSUMED, spec.text) or {}).get("fields")
        assumed = tuple(what for what in ASSUMABLE if what in told) if isinstance(told, list) else ()
        return (at_size(chain, spec.pixels) if spec.pixels else chain), assumed, ()
    layout = layout_of(shape, spec.stated.get("layout"))
    if layout is None:
        note = f"its inputs of shape {shape} are no images of 1 or 3 channels: samples are taken as they are"
        return AS_IT_IS, (), (note,) if len(shape) > 1 and "layout" not in spec.stated else ()
    height, width, channels = (*shape[1:], shape[0]) if layout == "nchw" else shape
    mean: tuple[float, ...] = IMAGENET_MEAN if channels == 3 else (0.0,)
    std: tuple[float, ...] = IMAGENET_STD if channels == 3 else (1.0,)
    if takes_bytes:
        mean, std = (0.0,) * channels, (BYTE,) * channels
    chain = Preprocessing(
        size=(height, width), resize=int(min(height, width) / CENTRE), mean=mean, std=std, layout=layout
    )
    return chain, ("crop", "channels") if takes_bytes else ASSUMABLE, ()


def count_graph(graph: Any, name: str, shape: tuple[int, ...]) -> Counted:
    """Costs of a graph whose input *name* has samples of *shape*."""
    from pilotfish.models.costs.onnx_macs import count_onnx_macs

    steps = ("QuantizeLinear", "DequantizeLinear")
    scales = {name for node in graph.graph.node if node.op_type in steps for name in node.input[1:]}
    parameters = sum(
        int(np.prod(t.dims)) for t in graph.graph.initializer if t.name not in scales and OWN not in t.name
    )
    return counted(count_onnx_macs(graph, shapes={name: (1, *shape)}), parameters)


def _copy(file: OnnxFile, target: Path) -> None:
    if file.others:
        raise ModelError(f"{file.path}: keeps tensors in other files and cannot be embedded; save it as one file")
    target.write_bytes(file.read()[0])
