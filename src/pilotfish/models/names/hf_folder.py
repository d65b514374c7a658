"""What ``hf:DIR_OR_NAME`` leads to: a folder as ``save_pretrained`` writes it, read here.

Its JSON and its safetensors are all that is opened, links out of it are not followed, and nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.errors import ModelError, reason
from pilotfish.files import read_json
from pilotfish.models.names.spec import ModelSpec, is_hub_name
from pilotfish.models.names.weights_file import WeightsFile, metadata_document, read_weights
from pilotfish.text import examples

META_KEY = "pilotfish.hf"
CONFIG, PROCESSOR, PROCESSORS = "config.json", "preprocessor_config.json", "processor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl", ".gguf")


@dataclass(frozen=True)
class HfFolder:
    """What stands in a folder.

    where      the folder, for messages
    config     of the network
    processor  of the image processor; None where there is none
    weights    all tensors, of one file or of the shards
    embedded   whether it was read from a file that Pilotfish wrote (``--embed``), under the network's own names
    """

    where: Path
    config: Mapping[str, Any]
    processor: Mapping[str, Any] | None
    weights: WeightsFile
    embedded: bool = False

    @property
    def metadata(self) -> dict[str, Any]:
        """What an embedded file says beside its tensors."""
        return {"config": self.config, "processor": self.processor}


def read_folder(spec: ModelSpec, given: Path | None) -> HfFolder:
    """The folder that *spec* names, or the folder or the embedded file that is *given* instead.

    ModelError for what is missing, cannot be read, or is not to be trusted.
    """
    if given is not None and not given.is_dir():
        file = read_weights(given)
        document = metadata_document(file.beside, META_KEY, str(given)) or {}
        config, processor = document.get("config"), document.get("processor")
        if not isinstance(config, dict) or not isinstance(processor, dict | None):
            raise ModelError(f"{given}: does not say which network its weights are of; expected a file of --embed")
        return HfFolder(given, config, processor, file, embedded=True)
    config, folder = read_config(spec, given)
    return HfFolder(folder, config, _processor(folder), _weights(folder))


def read_config(spec: ModelSpec, given: Path | None = None) -> tuple[Mapping[str, Any], Path]:
    """What the folder that *spec* names, or the one *given* instead, says of its network, and where it is."""
    folder = given or _folder(spec)
    if not (folder / CONFIG).exists():
        raise ModelError(f"{folder}: holds no {CONFIG}; expected a folder that save_pretrained wrote")
    return read_json(_inside(folder, CONFIG), ModelError), folder


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Inside, Hugging Face's client reads its cache and asks no server."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _folder(spec: ModelSpec) -> Path:
    path = Path(spec.name)
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{spec.text}: is a file; name the folder that holds it and {CONFIG}, or use checkpoint:FILE")
    if not is_hub_name(spec.name):
        raise ModelError(f"{spec.text}: no such folder{_meant(path)}; expected one that save_pretrained wrote")
    from huggingface_hub import snapshot_download

    try:
        with offline():
            return Path(snapshot_download(spec.name, local_files_only=True))
    except Exception as error:  # of several kinds, for one that is not there
        raise ModelError(
            f"{spec.text}: no such folder, and not in Hugging Face's cache{_meant(path)}; nothing is downloaded here: "
            f"`hf download {spec.name}` fetches a model of the Hub"
        ) from error


def _meant(path: Path) -> str:
    """The folders beside a missing one whose names are like its."""
    try:
        beside = [one.name for one in path.parent.iterdir() if one.is_dir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, beside)
    return f" (near it: {examples([str(path.parent / name) for name in close])})" if close else ""


def _inside(folder: Path, name: str) -> Path:
    """The file *name* of *folder*. ModelError for a link that leads out of it; the Hub's cache keeps files beside its
    snapshots, and links to them."""
    file, own = folder / name, folder.resolve()
    homes = [own, *([own.parent.parent / "blobs"] if own.parent.name == "snapshots" else [])]
    try:
        found = file.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{file}: cannot be read ({reason(error, 80)})") from error
    if not any(found.is_relative_to(home) for home in homes):
        raise ModelError(f"{file}: is a link that leads out of the folder; put the file itself there")
    return file


def _processor(folder: Path) -> Mapping[str, Any] | None:
    """The image processor's configuration, as transformers finds it."""
    if (folder / PROCESSORS).exists():
        nested = read_json(_inside(folder, PROCESSORS), ModelError).get("image_processor")
        if isinstance(nested, dict):
            return nested
    if (folder / PROCESSOR).exists():
        return read_json(_inside(folder, PROCESSOR), ModelError)
    return None


def _weights(folder: Path) -> WeightsFile:
    if (folder / WEIGHTS).exists():
        return read_weights(_inside(folder, WEIGHTS))
    if (folder / INDEX).exists():
        return _shards(folder)
    names = sorted(os.listdir(folder))
    if "adapter_config.json" in names:
        raise ModelError(f"{folder}: holds an adapter and no network; merge it (merge_and_unload) and save the result")
    others = [name for name in names if name.endswith(OTHER_WEIGHTS)]
    if others:
        raise ModelError(
            f"{folder}: its weights are {examples(others)}, which may run code when read; save them as {WEIGHTS}: load "
            "the model where you trust it and call save_pretrained"
        )
    raise ModelError(f"{folder}: holds no weights; expected {WEIGHTS}")


def _shards(folder: Path) -> WeightsFile:
    """The tensors of a model in several files, each from the file that the index names."""
    index = folder / INDEX
    places = read_json(_inside(folder, INDEX), ModelError).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ModelError(f"{index}: expected a weight_map of tensors to files of this folder")
    tensors: dict[str, Any] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: names {name[:80]!r}; expected .safetensors files of this folder")
        held = read_weights(_inside(folder, name)).sets[""]
        wanted = [tensor for tensor, place in places.items() if place == name]
        if lacking := [tensor for tensor in wanted if tensor not in held]:
            raise ModelError(f"{folder / name}: lacks {examples(lacking)}, which {INDEX} says it holds")
        tensors |= {tensor: held[tensor] for tensor in wanted}
    return WeightsFile(index, {"": tensors})
