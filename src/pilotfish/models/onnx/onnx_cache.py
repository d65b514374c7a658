"""Exported models, kept so that each is exported once: ``$PILOTFISH_CACHE`` or the user's cache folder.

A file is found by the hash of the weights, the architecture and the versions that shaped it, and is used only when its
own hash is the one that was noted after its check against torch. The folder may be deleted at any time. What others
could have written is not used: the folder is its user's alone (0700).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.errors import ModelError, UnwritableError
from pilotfish.files import atomic_path, read_json, sha256_file, sha256_json, write_json
from pilotfish.models.onnx.onnx_export import Exported, Shapes, export_onnx

if TYPE_CHECKING:
    import torch

FORMAT = 3
PRIVATE = 0o700
_temporary: list[tempfile.TemporaryDirectory[str]] = []  # for exports that could not be kept; removed at the end


def cache_folder() -> Path:
    """Where exported models are kept."""
    own = os.environ.get("PILOTFISH_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pilotfish"


def cached_onnx(module: torch.nn.Module, shapes: Shapes, weights_hash: str, keep: bool = True) -> tuple[Path, Exported]:
    """The ONNX file of *module*, a model or a part of a network, exported and checked when it is not there yet.

    shapes  of one sample of each input; the first output is logits, others are features
    keep    whether the file outlives this process

    ModelError when it cannot be exported.
    """
    name = _key(module, shapes, weights_hash)
    if keep and distrust() is None:
        with contextlib.suppress(UnwritableError, OSError):  # a home that cannot be written, a full disk
            return _in(cache_folder() / "onnx", name, module, shapes)
    _temporary.append(tempfile.TemporaryDirectory(prefix="pilotfish-"))
    return _in(Path(_temporary[-1].name), name, module, shapes)


def distrust() -> str | None:
    """Why the cache folder is not used, with what to do; None where it is. Makes it where it is missing."""
    top = cache_folder()
    for folder in (top, top / "onnx"):
        try:
            folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError:  # met again, and survived, where it is written
            return None
        fault = None
        if stat.S_ISLNK(found.st_mode):
            fault = "is a link"
        elif hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            fault = f"belongs to another user (uid {found.st_uid})"
        elif os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o022:
            fault = f"can be written by others (mode {stat.S_IMODE(found.st_mode):o})"
        if fault is not None:
            return (
                f"the cache folder {folder} {fault}, so exported models are not kept: remove it, or name a folder of "
                "your own with PILOTFISH_CACHE"
            )
        if folder != top and stat.S_IMODE(found.st_mode) != PRIVATE:  # made by an earlier version
            with contextlib.suppress(OSError):
                folder.chmod(PRIVATE)
    return None


def _in(folder: Path, name: str, module: torch.nn.Module, shapes: Shapes) -> tuple[Path, Exported]:
    path, note = folder / f"{name}.onnx", folder / f"{name}.json"
    if (kept := _kept(path, note)) is not None:
        return path, kept
    with atomic_path(path) as temporary:
        exported = dataclasses.replace(export_onnx(module, shapes, temporary), sha256=sha256_file(temporary))
    write_json(note, dataclasses.asdict(exported))
    return path, exported


def _kept(path: Path, note: Path) -> Exported | None:
    if not (path.is_file() and note.is_file()):
        return None
    try:
        found = Exported(**read_json(note, ModelError))
        return found if found.sha256 == sha256_file(path) else None
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
