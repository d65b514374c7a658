"""The backends by name, and which of them runs a model."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Any

from pilotfish.errors import MissingExtraError, ModelError, UsageError, nearest
from pilotfish.models.model import Backend, Model

NAMES: Mapping[str, str] = {
    "onnxruntime": "ONNX Runtime; a torch model is exported once, checked against torch, and kept",
    "torch": "torch, as it is (eager)",
    "torch-channels-last": "torch, with feature maps whose channels lie innermost",
    "torch-compiled": "torch.compile, for a few batch sizes; the first call of each takes half a minute",
    "torch-cuda-graphs": "CUDA graphs, one per batch size; CUDA only",
    "python": "a callable",
}
TORCH = ("torch", "torch-channels-last", "torch-compiled", "torch-cuda-graphs")


def offered(model: Model, device: str) -> tuple[str, ...]:
    """The backends that can run *model* on *device* and say the same within rounding."""
    if model.reload is None:
        return (model.backend.name,)
    cuda = device.startswith("cuda")
    names = [name for name in TORCH if cuda or name != "torch-cuda-graphs"]
    if not cuda and _can_export(model):
        names.insert(0, "onnxruntime")
    return tuple(names)


def with_backend(model: Model, device: str, name: str | None = None) -> Model:
    """*model* run by the backend *name*; by default ONNX Runtime on the CPU where it can be had, else torch.

    An exported model lets go of the torch module, which is loaded again for what needs it. ModelError for a backend
    that cannot run the model; where none was asked for, ``details["backend"]`` says why it is torch.
    """
    if name is not None and name not in NAMES:
        raise UsageError(f"no backend {name!r}; {nearest(name, NAMES)}")
    if name == model.backend.name or (name is None and model.reload is None):
        return model
    if model.reload is None:
        raise ModelError(f"{model.spec} is run by {model.backend.name}, not by {name}; leave the backend out")
    if name is None:
        if device != "cpu" or not _can_export(model):
            return model
        try:
            return _exported(model)
        except (ModelError, MissingExtraError) as error:
            return dataclasses.replace(model, details={**model.details, "backend": f"torch, since {error}"})
    if name == "onnxruntime":
        if device != "cpu":
            raise ModelError(f"{model.spec}: ONNX Runtime runs on the CPU here, not on {device!r}")
        if model.preprocessing.dtype != "float32":
            raise ModelError(f"{model.spec}: ONNX Runtime runs float32 here; leave dtype out")
        return _exported(model)
    return dataclasses.replace(model, backend=_torch_backend(model, device, name))


def _can_export(model: Model) -> bool:
    installed = all(importlib.util.find_spec(package) is not None for package in ("onnx", "onnxruntime"))
    return installed and model.input_shape is not None and model.preprocessing.dtype == "float32"


def _exported(model: Model) -> Model:
    from pilotfish.models.backends.onnx_backend import OnnxBackend
    from pilotfish.models.onnx.onnx_cache import cached_onnx, distrust
    from pilotfish.models.onnx.onnx_file import own_file

    reload = model.reload
    assert reload is not None
    if model.input_shape is None:
        raise ModelError(f"{model.spec}: its input's shape is not known, so it cannot be exported; use backend torch")
    path, exported = cached_onnx(_module(model), [model.input_shape], model.weights_hash, keep=not model.ephemeral)
    fault = None if model.ephemeral else distrust()
    return dataclasses.replace(
        model,
        backend=OnnxBackend(own_file(path, exported.sha256)),
        notes=model.notes if fault is None else (*model.notes, fault),
        count=lambda: reload().count(),
        weights=lambda target: _write_weights(reload(), target),
        details={**model.details, "export": dataclasses.asdict(exported)},
    )


def _write_weights(model: Model, target: Any) -> None:
    assert model.weights is not None
    model.weights(target)


def _torch_backend(model: Model, device: str, name: str) -> Backend:
    from pilotfish.models.backends.torch_backend import TorchBackend
    from pilotfish.models.backends.torch_buckets import CompiledBackend, CudaGraphBackend

    module, dtype = _module(model), model.preprocessing.dtype
    if name == "torch-compiled":
        return CompiledBackend(module, device, dtype=dtype)
    if name == "torch-cuda-graphs":
        return CudaGraphBackend(module, device, dtype=dtype)
    if name == "torch-channels-last":
        return TorchBackend(copy.deepcopy(module), device, dtype=dtype, channels_last=True)  # it is laid out anew
    return TorchBackend(module, device, dtype=dtype)


def _module(model: Model) -> Any:
    """The torch module of a model: the one in memory, or loaded again."""
    found = getattr(model.backend, "module", None)
    if found is None:
        assert model.reload is not None
        found = getattr(model.reload().backend, "module", None)
    return found
