"""Weights files: what is in one, and which of its tensors a network takes.

Trainings write many things beside weights, and weights under many names: in containers (``state_dict``, ``model``),
twice (raw and averaged), behind prefixes of wrappers (``module.``, ``_orig_mod.``). What fits is decided by the
network's own names. No code of a file is run: a pickle is read with ``weights_only=True``, and the few objects that
are let through beside tensors are inert.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError, reason
from pilotfish.files import parse_json
from pilotfish.models.backends.torch_backend import import_torch
from pilotfish.reading.limits import check_size

if TYPE_CHECKING:
    import torch

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".tar", ".ckpt", ".pyth")
WRAPPERS = re.compile(
    r"\b_orig_mod\.|_fsdp_wrapped_module\.|_checkpoint_wrapped_module\."
)  # may stand anywhere in a name
DEPTH = 3  # of containers in containers


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file holds.

    sets    tensors by name, by where in the file they stand: ``""`` for the file itself, ``model``, ``ema.module``, …
    beside  what else it says: safetensors' metadata (text), or numbers, text and settings
    """

    path: Path
    sets: Mapping[str, Mapping[str, torch.Tensor]]
    beside: Mapping[str, Any] = field(default_factory=dict)


def read_weights(path: Path) -> WeightsFile:
    """Everything in a .safetensors file, or in a .pt/.pth/.ckpt/… loaded with ``weights_only=True``.

    ModelError for anything else: a pickle can run code, so it is never loaded in full.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file; expected .safetensors, .pt or .pth")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelError(
            f"{path}: unknown kind of weights file {path.suffix or path.name!r}; expected .safetensors, .pt or .pth"
        )
    if suffix == ".safetensors":
        return _safetensors(path)
    loaded = _unpickled(path)
    if not isinstance(loaded, dict):
        raise ModelError(f"{path}: expected a state dict of tensors, found {type(loaded).__name__}")
    sets = {where: _plain(tensors) for where, tensors in _sets(loaded, "")}
    if not sets:
        keys = ", ".join(str(key)[:40] for key in list(loaded)[:5]) or "nothing"
        raise ModelError(f"{path}: expected a state dict of tensors, found {keys}")
    names = {where.partition(".")[0] for where in sets}
    beside = {k: v for k, v in loaded.items() if isinstance(k, str) and k not in names and not _is_tensor(v)}
    return WeightsFile(path, sets, beside)


def metadata_document(metadata: Mapping[str, Any], key: str, where: str) -> dict[str, Any] | None:
    """The JSON object that stands as text under *key*, of the file *where*; None when there is none. ModelError for
    anything else."""
    if key not in metadata:
        return None
    try:
        document = parse_json(metadata[key])
    except ValueError as error:
        raise ModelError(f"{where}: its metadata {key} is not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise ModelError(f"{where}: its metadata {key} is no JSON object")
    return document


def _safetensors(path: Path) -> WeightsFile:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()  # once: tensors and metadata are of the same file, whatever happens to it meanwhile
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__") or {}  # an object, or load() had refused it
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({reason(error, 120)})") from error
    return WeightsFile(path, {"": _plain(tensors)}, dict(metadata))


def _unpickled(path: Path) -> Any:
    torch = import_torch("reading weights")
    _check_archive(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_inert()):
            warnings.simplefilter("ignore", UserWarning)  # about the dialect of a pickle that is refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file it does not trust or understand
        raise ModelError(f"{path}: {_refusal(str(error))}") from error


def _check_archive(path: Path) -> None:
    """ModelError for an archive that unpacks to far more than it is: torch stores tensors as they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # no archive: said when it is read
    sizes = sum(one.file_size for one in members), sum(one.compress_size for one in members)
    check_size(str(path), *sizes, ModelError)


def _refusal(said: str) -> str:
    """One plain line for torch's many coloured ones."""
    if "TorchScript" in said:
        return "a TorchScript archive, which is a program; save the module's state_dict() as .safetensors"
    if (found := re.search(r"GLOBAL ([\w.<>]+)|function <[^>]*?([\w.]+)[ >]", said)) is not None:
        what = next(filter(None, found.groups()))
        return (
            f"refused, it holds more than tensors: {what[:80]}, which could run code; save the model's state_dict() "
            "alone, best as .safetensors"
        )
    first = re.sub(r"\x1b\[[0-9;]*m|[^\x20-\x7e]", "", next(iter(said.splitlines()), ""))[:120]
    return f"refused, it holds more than tensors or is damaged ({first}); save the state_dict as .safetensors"


class _Nothing:
    """Stands for a number or an object that says nothing about weights; it takes whatever it is built from."""

    def __new__(cls, *_: Any) -> _Nothing:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Keeps nothing."""


class _Settings:
    """Stands for a dictionary with another name, such as Lightning's hyper-parameters."""

    def __new__(cls, *_: Any) -> Any:
        return {}


def _inert() -> list[Any]:
    """What is let through beside tensors, each as a stand-in of ours: nothing of another library is called.

    Settings and paths as trainings save them, numpy's scalars (a best accuracy), Lightning's hyper-parameters.
    """
    numpy = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")] + ["numpy.dtype"]
    numpy += [f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")]
    paths = [f"pathlib{part}.{kind}" for part in ("", "._local") for kind in ("PosixPath", "WindowsPath", "Path")]
    lightning = [
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
    ]
    return [
        argparse.Namespace,
        *((_Nothing, name) for name in numpy),
        *((pathlib.PurePosixPath, name) for name in paths),
        *((_Settings, name) for name in lightning),
    ]


def _sets(document: Mapping[Any, Any], where: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dictionaries of tensors in *document*, by where they stand."""
    tensors = {k: v for k, v in document.items() if isinstance(k, str) and _is_tensor(v)}
    if tensors:
        yield where, tensors
    if depth == DEPTH:
        return
    for key, value in document.items():
        if isinstance(key, str) and isinstance(value, dict) and not key.startswith("optim"):
            yield from _sets(value, f"{where}.{key}" if where else key, depth + 1)


def _plain(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "untyped_storage")
