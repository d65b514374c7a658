"""``onnx:FILE``: models run by ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import ArtefactError, ModelError
from pilotfish.files import sha256_json
from pilotfish.models.backends.backends import is_installed
from pilotfish.models.backends.onnx_backend import OnnxBackend
from pilotfish.models.backends.openvino_backend import OpenVinoBackend
from pilotfish.models.model import Counted, Model, counted
from pilotfish.models.names.spec import ModelSpec, allow_options
from pilotfish.models.names.stated import ASSUMED as ASSUMABLE
from pilotfish.models.names.stated import BYTE, as_images, at_size, layout_of
from pilotfish.models.names.weights_file import metadata_document
from pilotfish.models.onnx.onnx_file import OnnxFile, read_onnx
from pilotfish.models.onnx.onnx_logits import OWN
from pilotfish.models.onnx.onnx_metadata import ASSUMED, CASCADE, CONTINUES, PREPROCESSING, class_lists
from pilotfish.models.preprocessing import AS_IT_IS, Preprocessing

OF_ANY_SIZE = ("boxes", "mask")
"""Tasks whose answers are about places in the image, so that samples come at their own size."""
STAND_IN = 224  # pixels, for what does not depend on them


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
    backend, ran_by = _runner(file)
    declared, own_size = backend.input.shape, spec.task in OF_ANY_SIZE
    declared = [1, *declared] if own_size and len(declared) == 3 else declared
    shape, free = _shape_of(spec, declared, own_size)
    preprocessing, assumed, notes = _preprocessing(spec, metadata, shape, backend.input_dtype is np.uint8)
    if own_size and isinstance(backend, OnnxBackend):  # answers are about the image as it is: it is resized inside
        preprocessing = dataclasses.replace(preprocessing, size=None, resize=None)
        backend = OnnxBackend(file, shape=None if free else shape)
    name, n_classes = (
        backend.input.name,
        backend.classes if len(file.light.graph.output) == 1 else None,
    )  # else it is not chosen yet
    names, ids = class_lists(metadata, n_classes, spec.text)
    return Model(
        spec=spec.text,
        backend=backend,
        preprocessing=preprocessing,
        weights_hash=sha256_json([file.weights_hash, spec.size]) if own_size and spec.size else file.weights_hash,
        input_shape=None if free else shape,
        n_classes=n_classes,
        class_names=names,
        class_ids=ids,
        count=lambda: _uncounted(spec) if free else count_graph(file.light, name, shape),
        weights=lambda target: _copy(file, target),
        weights_suffix=".onnx",
        notes=(*notes, *ran_by),
        assumed=assumed,
    )


def _shape_of(spec: ModelSpec, declared: list[Any], own_size: bool) -> tuple[tuple[int, ...], bool]:
    """(the shape of an input, whether height and width are those of each image). *own_size*: whether they may be."""
    free = own_size and spec.size is None and not all(isinstance(d, int) and d > 0 for d in declared[1:])
    return input_shape(dataclasses.replace(spec, size=STAND_IN) if free else spec, declared), free


def _uncounted(spec: ModelSpec) -> Counted:
    raise ModelError(
        f"{spec.text}: runs at the size of each image, so its MACs are not known; add &size=N, or @N, to "
        "run it at one size and have them counted"
    )


def _runner(file: OnnxFile) -> tuple[OnnxBackend | OpenVinoBackend, tuple[str, ...]]:
    """What runs *file*: ONNX Runtime; where that cannot load it OpenVINO, if it can, and a note."""
    found = OnnxBackend(file)
    try:
        assert found.session is not None
    except ModelError as error:
        if not is_installed("openvino"):
            raise
        try:
            other = OpenVinoBackend(found)
            assert other.session is not None
        except ModelError:
            raise error from None
        return other, (f"it is run by OpenVINO: {error}",)
    return found, ()


def _refuse_parts(spec: ModelSpec, metadata: Mapping[str, str]) -> None:
    """ModelError for what ``pilotfish export`` wrote and is no model of its own."""
    if CASCADE in metadata:
        raise ModelError(
            f"{spec.text}: is a whole cascade that `pilotfish export` wrote, and no model of its own; record "
            "the models of its stages"
        )
    if CONTINUES in metadata:
        raise ModelError(
            f"{spec.text}: continues from the features of the stage before it and is not a model of its own; record "
            "the network's exits as exits:FILE"
        )


def _preprocessing(
    spec: ModelSpec, metadata: Mapping[str, str], shape: tuple[int, ...], takes_bytes: bool
) -> tuple[Preprocessing, tuple[str, ...], tuple[str, ...]]:
    """How samples become inputs, what of it nobody stated, and notes."""
    own = metadata_document(metadata, PREPROCESSING, spec.text)
    if own is not None:
        try:
            chain = Preprocessing.from_json(own)
        except ArtefactError as error:
            raise ModelError(f"{spec.text}: its metadata {PREPROCESSING}: {error}") from error
        told = (metadata_document(metadata, ASSUMED, spec.text) or {}).get("fields")
        assumed = tuple(what for what in ASSUMABLE if what in told) if isinstance(told, list) else ()
        return (at_size(chain, spec.pixels) if spec.pixels else chain), assumed, ()
    layout = layout_of(shape, spec.stated.get("layout"))
    if layout is None:
        note = f"its inputs of shape {shape} are no images of 1 or 3 channels: samples are taken as they are"
        return AS_IT_IS, (), (note,) if len(shape) > 1 and "layout" not in spec.stated else ()
    height, width, channels = (*shape[1:], shape[0]) if layout == "nchw" else shape
    chain = as_images((height, width), layout, grey=channels == 1)
    if not takes_bytes:
        return chain, ASSUMABLE, ()
    return dataclasses.replace(chain, mean=(0.0,) * channels, std=(BYTE,) * channels), ("crop", "channels"), ()


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


def input_shape(spec: ModelSpec, declared: list[Any]) -> tuple[int, ...]:
    """(C, H, W), (H, W, C), or whatever the file takes.

    declared  the input's dimensions, the batch first; those that are free are names or None. Free heights and widths
              come from @SIZE, and a free number of channels is then 3

    ModelError where the shape stays unknown, and for a size that the file does not take.
    """
    shape = [d if isinstance(d, int) and d > 0 else None for d in declared[1:]]
    pixels = spec.pixels
    if pixels is not None and len(shape) != 3:
        raise ModelError(
            f"{spec.text}: the file takes inputs of shape {declared}, no images; leave {_written(spec)} out"
        )
    if pixels is not None:
        at = _channels_at(shape, declared[1:], spec.stated.get("layout"))
        sides = [axis for axis in range(3) if axis != at]
        if any(shape[axis] not in (None, side) for axis, side in zip(sides, pixels, strict=True)):
            only = "x".join(str(shape[axis] or "any") for axis in sides)
            raise ModelError(f"{spec.text}: the file takes inputs of {only} pixels only; leave {_written(spec)} out")
        for axis, side in zip(sides, pixels, strict=True):
            shape[axis] = side
        if shape[at] is None:
            shape[at] = 1 if spec.stated.get("channels") == "grey" else 3
    if any(d is None for d in shape):
        raise ModelError(f"{spec.text}: the input's shape {declared} is not fixed; give the size, as in onnx:FILE@224")
    return tuple(d for d in shape if d is not None)


def _written(spec: ModelSpec) -> str:
    return "?size" if "size=" in spec.text else "@"


def _channels_at(shape: list[int | None], names: list[Any], layout: str | None) -> int:
    """Which of three dimensions holds the channels: where 1 or 3 stands, where they are stated, where the file names
    them; else the first."""
    for axis in (0, 2):
        if shape[axis] in (1, 3) and shape[2 - axis] not in (1, 3):
            return axis
    if layout in ("nchw", "nhwc"):
        return 2 if layout == "nhwc" else 0
    named = [axis for axis in (0, 2) if isinstance(names[axis], str) and _is_channels(names[axis])]
    return named[0] if len(named) == 1 else 0


def _is_channels(name: str) -> bool:
    return name.lower() in ("c", "ch") or "chan" in name.lower()
