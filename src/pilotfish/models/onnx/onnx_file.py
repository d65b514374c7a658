"""ONNX files as they are read: checked once, and run from the bytes that were checked and hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.errors import ModelError, needs
from pilotfish.files import sha256_file, sha256_json
from pilotfish.models.onnx.onnx_graph import tensors, without_weights
from pilotfish.models.onnx.onnx_limits import Demand, OnnxLimits, demand_of

ADDRESS = "_ORT_MEM_ADDR_"  # how ONNX Runtime marks tensors by their address in memory


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file as it was read.

    digest    SHA-256 of its bytes
    others    the same of the files beside it that hold its tensors, by their names in it
    light     the graph without its weights, functions written out
    limits    what its calls are held to
    metadata  what its maker wrote beside the graph
    """

    path: Path
    digest: str
    others: Mapping[str, str]
    light: Any
    limits: OnnxLimits
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the file, and of the files beside it that hold its tensors."""
        return sha256_json([self.digest, *self.others.values()]) if self.others else self.digest

    def read(self) -> tuple[bytes, dict[str, bytes]]:
        """Its bytes and those of the files beside it; ModelError when they are no longer those that were checked."""
        content = _read(self.path)
        others = {name: _read(self.path.parent / name) for name in self.others}
        if _hash(content) != self.digest or any(_hash(others[name]) != digest for name, digest in self.others.items()):
            raise ModelError(f"{self.path}: was changed while it was read; load it again")
        return content, others


def read_onnx(path: Path, pixels: tuple[int, int] | None = None) -> OnnxFile:
    """Read and check an ONNX file. *pixels*: the height and width of images, where it leaves them open.

    ModelError when it is no ONNX model, or keeps tensors outside its own folder.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such ONNX file")
    content = _read(path)
    model = parsed(path, content)
    others = {name: _hash(_read(path.parent / name)) for name in _locations(path, model)}
    try:
        light = without_weights(model)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # onnx's inliner raises errors of its own
        raise ModelError(f"{path}: not a readable ONNX file ({' '.join(str(error).split())[:120]})") from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return OnnxFile(path, _hash(content), others, light, OnnxLimits(path, demand_of(light, pixels)), metadata)


def own_file(path: Path, digest: str | None = None) -> OnnxFile:
    """A file that Pilotfish wrote and checked itself, with that SHA-256; None: as it is now."""
    return OnnxFile(path, digest or sha256_file(path), {}, None, OnnxLimits(path, Demand(0)))


def parsed(path: Path, content: bytes) -> Any:
    """The ``onnx.ModelProto`` in *content*, the bytes of *path*. ModelError where they are none."""
    with needs("onnx", "onnx", f"reading {path}"):
        import onnx
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError has no stable home
        raise ModelError(f"{path}: not a readable ONNX file ({type(error).__name__})") from error


def with_tensors(path: Path, model: Any, others: Mapping[str, bytes]) -> Any:
    """*model*, the content of *path*, changed in place: the tensors that it keeps in *others*, the bytes of files by
    their names in it, are inside. ModelError where a place in them is none."""
    for tensor in tensors(model):
        if not tensor.external_data:
            continue
        told = {entry.key: entry.value for entry in tensor.external_data}
        try:
            held, start = others[told["location"]], int(told.get("offset", 0))
            length = int(told.get("length", len(held) - start))
        except (KeyError, ValueError) as error:
            raise ModelError(f"{path}: does not say where the tensor {tensor.name[:80]!r} lies") from error
        if start < 0 or not 0 <= length <= len(held) - start:
            raise ModelError(f"{path}: the tensor {tensor.name[:80]!r} lies outside of {told['location'][:80]!r}")
        tensor.raw_data = held[start : start + length]
        del tensor.external_data[:]
        tensor.ClearField("data_location")
    return model


def _locations(path: Path, model: Any) -> list[str]:
    """The names of the files beside *path* that hold its tensors, all of them inside its folder."""
    found = sorted({e.value for tensor in tensors(model) for e in tensor.external_data if e.key == "location"})
    for location in found:
        try:
            target = (path.parent / location).resolve()
        except (OSError, ValueError):  # no name of a file
            target = Path("/")
        inside = target.is_relative_to(path.parent.resolve()) and "\\" not in location and ADDRESS not in location
        if os.path.isabs(location) or not inside:
            raise ModelError(f"{path}: keeps tensors in {location[:200]!r}, outside its own folder; refused")
        if not target.is_file():
            raise ModelError(f"{path}: its tensors in {location[:200]!r} are missing beside it")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
