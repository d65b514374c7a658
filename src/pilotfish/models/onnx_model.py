"""``onnx:FILE``: models run by ONNX Runtime."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import MissingExtraError, ModelError
from pilotfish.files import sha256_file, sha256_json
from pilotfish.models.model import Counted, Model, counted
from pilotfish.models.onnx_backend import OnnxBackend
from pilotfish.models.onnx_metadata import PREPROCESSING, class_lists, read_document
from pilotfish.models.preprocessing import RESAMPLING, Preprocessing
from pilotfish.models.spec import ModelSpec, allow_options, parse_numbers

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_onnx(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """An ONNX classifier. Preprocessing: the file's metadata ``pilotfish.preprocessing``, else ImageNet's with
    the options ``mean``, ``std`` (``0.5`` or ``0.48:0.46:0.41``), ``crop`` (share of the shorter side kept),
    ``interpolation``; inputs that are not images of 1 or 3 channels are taken as they are."""
    allow_options(spec, "mean", "std", "crop", "interpolation")
    path = weights or Path(spec.name)
    if not path.is_file():
        raise ModelError(f"{path}: no such ONNX file")
    if device != "cpu":
        raise ModelError(f"{spec.text}: ONNX models run on the CPU here, not on {device!r}; leave --device out")
    check_onnx_file(path)
    backend = OnnxBackend(path)
    shape = _input_shape(spec, backend.input.shape)
    metadata = backend.session.get_modelmeta().custom_metadata_map
    preprocessing = _preprocessing(spec, metadata, shape)
    classes = backend.session.get_outputs()[0].shape
    n_classes = classes[1] if len(classes) == 2 and isinstance(classes[1], int) else None
    names, ids = class_lists(metadata, n_classes, spec.text)
    return Model(
        spec=spec.text,
        backend=backend,
        preprocessing=preprocessing,
        weights_hash=_weights_hash(path),
        input_shape=shape,
        n_classes=n_classes,
        class_names=names,
        class_ids=ids,
        count=lambda: _count(path, backend.input.name, shape),
        weights=lambda target: _copy(path, target),
        weights_suffix=".onnx",
    )


def check_onnx_file(path: Path) -> None:
    """ModelError when the file is no ONNX model, or keeps tensors outside its own folder."""
    for location in _external_locations(path):
        target = (path.parent / location).resolve()
        if os.path.isabs(location) or not target.is_relative_to(path.parent.resolve()):
            raise ModelError(f"{path}: keeps tensors in {location!r}, outside its own folder; refused")
        if not target.is_file():
            raise ModelError(f"{path}: its tensors in {location!r} are missing beside it")


def _external_locations(path: Path) -> list[str]:
    model = _read_graph(path)
    nodes = [node for function in model.functions for node in function.node]
    tensors = [*_tensors(model.graph), *_tensors_of(nodes)]
    return sorted({e.value for tensor in tensors for e in tensor.external_data if e.key == "location"})


def _tensors(graph: Any) -> Iterator[Any]:
    """All stored tensors, those in the branches of If and the bodies of Loop included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of(graph.node)


def _tensors_of(nodes: Iterable[Any]) -> Iterator[Any]:
    for attribute in (a for node in nodes for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)


def _weights_hash(path: Path) -> str:
    """SHA-256 of the file, and of the files beside it that hold its tensors."""
    own, others = sha256_file(path), _external_locations(path)
    return sha256_json([own, *(sha256_file(path.parent / name) for name in others)]) if others else own


def _read_graph(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx", f"reading {path}") from error
    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no stable home
        raise ModelError(f"{path}: not a readable ONNX file ({type(error).__name__})") from error


def _input_shape(spec: ModelSpec, declared: list[Any]) -> tuple[int, ...]:
    shape = [d if isinstance(d, int) and d > 0 else None for d in declared[1:]]
    if spec.size is not None and len(shape) == 3:
        if any(d not in (None, spec.size) for d in shape[1:]):
            raise ModelError(f"{spec.text}: the file takes inputs of {shape[1]}x{shape[2]} pixels only; leave @ out")
        shape[1:] = [spec.size, spec.size]
    if any(d is None for d in shape):
        raise ModelError(f"{spec.text}: the input's shape {declared} is not fixed; give the size, as in onnx:FILE@224")
    return tuple(d for d in shape if d is not None)


def _preprocessing(spec: ModelSpec, metadata: Mapping[str, str], shape: tuple[int, ...]) -> Preprocessing:
    own = None if spec.options else read_document(metadata, PREPROCESSING, spec.text)
    if own is not None:
        return Preprocessing.from_json(own)
    if len(shape) != 3 or shape[0] not in (1, 3):
        return Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
    channels, height, width = shape
    try:
        crop = float(spec.options.get("crop", "0.875"))
    except ValueError:
        crop = 0.0
    interpolation = spec.options.get("interpolation", "bicubic")
    if not 0 < crop <= 1 or interpolation not in RESAMPLING:
        raise ModelError(
            f"{spec.text}: crop is a share from 0 to 1, interpolation one of {', '.join(RESAMPLING)}; "
            f"found crop={spec.options.get('crop')}, interpolation={interpolation}"
        )
    default = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.0,), (1.0,))
    return Preprocessing(
        size=(height, width),
        resize=int(min(height, width) / crop),
        interpolation=interpolation,
        mean=parse_numbers(spec, "mean", channels) or default[0],
        std=parse_numbers(spec, "std", channels) or default[1],
    )


def _count(path: Path, name: str, shape: tuple[int, ...]) -> Counted:
    from pilotfish.models.onnx_macs import count_onnx_macs

    graph = _read_graph(path)
    steps = ("QuantizeLinear", "DequantizeLinear")
    scales = {name for node in graph.graph.node if node.op_type in steps for name in node.input[1:]}
    parameters = sum(int(np.prod(t.dims)) for t in graph.graph.initializer if t.name not in scales)
    return counted(count_onnx_macs(graph, shapes={name: (1, *shape)}), parameters)


def _copy(path: Path, target: Path) -> None:
    if _external_locations(path):
        raise ModelError(f"{path}: keeps tensors in other files and cannot be embedded; save it as one file")
    shutil.copyfile(path, target)
