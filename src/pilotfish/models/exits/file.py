"""Networks with exits in one .safetensors file, which says in its metadata how it is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.errors import ModelError, PilotfishError
from pilotfish.files import atomic_path, parse_json
from pilotfish.models.exits.describe import Description, build
from pilotfish.models.names.fit_weights import held_to, load_weights
from pilotfish.models.names.weights_file import read_weights

if TYPE_CHECKING:
    from pilotfish.models.exits.network import ExitNetwork

META_KEY = "pilotfish.exits"
LARGEST_DOCUMENT = 2**20


def save_network(network: ExitNetwork, description: Description, path: Path) -> None:
    """Write weights and description, atomically."""
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={META_KEY: json.dumps(description.to_json())})


def read_network(path: Path) -> tuple[ExitNetwork, Description]:
    """The network in *path*, in evaluation mode. ModelError for anything else; no code of the file's is run."""
    if path.suffix != ".safetensors":
        inside = path / "network.safetensors"
        advice = f"; name {inside}" if inside.is_file() else ""
        raise ModelError(f"{path}: networks with exits are kept as .safetensors{advice}")
    description, file = read_description(path), read_weights(path)
    try:
        with held_to(file):
            network = build(description)
    except PilotfishError as error:
        raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from error
    except Exception as error:  # what was edited by hand makes layers raise errors of many kinds
        said = " ".join(str(error).split())[:120]
        raise ModelError(f"{path}: the network that it describes cannot be built ({said})") from error
    load_weights(network, file)
    return network.eval(), description


def read_description(path: Path) -> Description:
    """What the network in *path* is, without its weights."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        with safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(META_KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
    if text is None or len(text) > LARGEST_DOCUMENT:
        raise ModelError(f"{path}: says nothing of exits; expected a file that `pilotfish train` wrote")
    try:
        return Description.from_json(parse_json(text), str(path))
    except ValueError as error:
        raise ModelError(f"{path}: its metadata {META_KEY} is not valid JSON ({error})") from error
