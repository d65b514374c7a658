"""Exported models, kept so that each is exported once: ``$PILOTFISH_CACHE`` or the user's cache folder.

A file is found by the hash of the weights, the architecture and the versions that shaped it, and is used only when its
own hash is the one that was noted after its check against torch. The folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.errors import ModelError, UnwritableError
from pilotfish.files import atomic_path, read_json, sha256_file, sha256_json, write_json
from pilotfish.models.onnx_export import Exported, Shapes, export_onnx

if TYPE_CHECKING:
    import torch

FORMAT = 3
_temporary: list[tempfile.TemporaryDirectory[str]] = []  # for exports that could not be kept; removed at the end


def cache_folder() -> Path:
    """Where exported models are kept."""
    own = os.environ.get("PILOTFISH_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pilotfish"


def cached_onnx(
    module: torch.nn.Module, shape: tuple[int, ...], weights_hash: str, keep: bool = True
) -> tuple[Path, Exported]:
    """The ONNX file of *module*, exported and checked when it is not there yet.

    keep  whether the file outlives this process

    ModelError when it cannot be exported.
    """
    return _cached(module, [shape], weights_hash, keep)


def cached_span(module: torch.nn.Module, shapes: Shapes, weights_hash: str) -> tuple[Path, Exported]:
    """As :func:`cached_onnx`, for a part of a network: inputs of *shapes*, logits and features for outputs."""
    return _cached(module, shapes, weights_hash, keep=True)


def _cached(module: torch.nn.Module, shapes: Shapes, weights_hash: str, keep: bool) -> tuple[Path, Exported]:
    name = _key(module, shapes, weights_hash)
    if keep:
        with contextlib.suppress(UnwritableError):  # a home that cannot be written, a full disk
            return _in(cache_folder() / "onnx", name, module, shapes)
    _temporary.append(tempfile.TemporaryDirectory(prefix="pilotfish-"))
    return _in(Path(_temporary[-1].name), name, module, shapes)


def _in(folder: Path, name: str, module: torch.nn.Module, shapes: Shapes) -> tuple[Path, Exported]:
    path, note = folder / f"{name}.onnx", folder / f"{name}.json"
    if (kept := _kept(path, note)) is not None:
        return path, kept
    with atomic_path(path) as temporary:
        exported = export_onnx(module, shapes, temporary)
        digest = sha256_file(temporary)
    write_json(note, {"sha256": digest, **dataclasses.asdict(exported)})
    return path, exported


def _kept(path: Path, note: Path) -> Exported | None:
    if not (path.is_file() and note.is_file()):
        return None
    try:
        document = read_json(note, ModelError)
        if document.pop("sha256") != sha256_file(path):
            return None
        return Exported(**document)
    except (ModelError, KeyError, TypeError):  # damaged: it is exported again
        return None


def _key(module: torch.nn.Module, shapes: Shapes, weights_hash: str) -> str:
    versions = {}
    for package in ("torch", "timm", "torchvision", "onnxruntime"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    return sha256_json([FORMAT, weights_hash, kind, repr(module), [list(shape) for shape in shapes], versions])[:32]
