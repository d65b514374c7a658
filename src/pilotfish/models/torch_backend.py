"""torch modules as models."""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.errors import MissingExtraError, ModelError
from pilotfish.models.model import F32, Counted, Model, blamed, counted
from pilotfish.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch


def import_torch(purpose: str) -> Any:
    """torch, or the error that says how to install it."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "torch", purpose) from error
    return torch


class TorchBackend:
    """A module in evaluation mode on one device."""

    name = "torch"

    def __init__(self, module: torch.nn.Module, device: str = "cpu") -> None:
        torch = import_torch("running a torch model")
        try:
            self.device = torch.device(device)
            self.module = module.eval().to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
        self._torch = torch

    def run(self, batch: F32) -> F32:
        """Logits float32 (N, C)."""
        torch = self._torch
        with torch.inference_mode(), warnings.catch_warnings(), blamed("the torch model", batch):
            warnings.simplefilter("ignore", UserWarning)  # read-only arrays are never written to
            out = self.module(torch.from_numpy(batch).to(self.device))
            logits: F32 = out.float().cpu().numpy()
        return logits


def torch_model(
    spec: str,
    module: torch.nn.Module,
    preprocessing: Preprocessing,
    input_shape: tuple[int, ...],
    device: str,
    n_classes: int | None = None,
    class_names: tuple[str, ...] | None = None,
    class_ids: tuple[str, ...] | None = None,
) -> Model:
    """A module as a :class:`Model`: hashed, countable, and with weights that can be embedded."""
    backend = TorchBackend(module, device)
    return Model(
        spec=spec,
        backend=backend,
        preprocessing=preprocessing,
        weights_hash=state_hash(module.state_dict()),
        input_shape=input_shape,
        n_classes=n_classes,
        class_names=class_names,
        class_ids=class_ids,
        count=functools.cache(_counter(module, input_shape)),
        weights=lambda path: save_state(module, path),
    )


def state_hash(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(import_torch("hashing weights").uint8).numpy().data)
    return digest.hexdigest()


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from .safetensors, or from .pt/.pth/.bin loaded with ``weights_only=True``.

    ModelError for anything else: a pickle can run code, so it is never loaded in full.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file; expected .safetensors, .pt or .pth")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{path}: not a readable safetensors file ({error})") from error
    if path.suffix not in (".pt", ".pth", ".bin", ".tar", ".ckpt"):
        raise ModelError(f"{path}: unknown kind of weights file {path.suffix}; expected .safetensors, .pt or .pth")
    try:
        torch = import_torch("reading weights")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the dialect of a pickle that is refused anyway
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file it does not trust or understand
        raise ModelError(
            f"{path}: refused, it holds more than tensors or is damaged ({str(error).splitlines()[0][:120]}); "
            "save the state_dict as .safetensors"
        ) from error
    for key in ("state_dict_ema", "state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if not isinstance(loaded, dict) or not all(hasattr(v, "untyped_storage") for v in loaded.values()):
        raise ModelError(f"{path}: expected a state dict of tensors, found {type(loaded).__name__}")
    return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}


def load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Put *state* into *module*; ModelError names the first tensor that does not fit."""
    own = module.state_dict()
    if missing := own.keys() - state.keys():
        raise ModelError(f"{where}: lacks {len(missing)} of the model's {len(own)} tensors, {min(missing)} for one")
    if extra := state.keys() - own.keys():
        raise ModelError(f"{where}: has {len(extra)} tensors that the model does not know, {min(extra)} for one")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"{where}: {name} has shape {tuple(tensor.shape)}, the model's has {tuple(own[name].shape)}"
                + ("; say ?num_classes=…" if tensor.shape[1:] == own[name].shape[1:] else "")
            )
    module.load_state_dict(dict(state))


def save_state(module: torch.nn.Module, path: Path) -> None:
    """The module's state dict as safetensors."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}, path)


def _counter(module: torch.nn.Module, shape: tuple[int, ...]) -> Callable[[], Counted]:
    def count() -> Counted:
        from pilotfish.models.macs import count_macs, count_parameters

        torch = import_torch("counting MACs")
        macs = count_macs(module, (torch.zeros(1, *shape),))
        return counted(macs, count_parameters(module))

    return count
