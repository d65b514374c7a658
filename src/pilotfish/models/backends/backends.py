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
    "openvino": "OpenVINO on the CPU, of what ONNX Runtime would run",
    "torch": "torch, as it is (eager)",
    "torch-channels-last": "torch, with feature maps whose channels lie innermost",
    "torch-compiled": "torch.compile, for a few batch sizes; the first call of each takes half a minute",
    "torch-cuda-graphs": "CUDA graphs, one per batch size; CUDA only",
    "python": "a callable",
}
TORCH = ("torch", "torch-channels-last", "torch-compiled", "torch-cuda-graphs")


def offered(model: Model, device: str) -> tuple[str, ...]:
    """The backends that can run *model* on *device* and say the same within rounding."""
    if model.preprocessing.backend:
        return (model.preprocessing.backend,)
    if getattr(model.backend, "reads", None) is not None:  # graphs and compilers want one shape and one array
        if model.reload is None:
            return (model.backend.name,)
        return (*(("onnxruntime",) if device == "cpu" and _can_export(model) else ()), "torch", "torch-channels-last")
    can = device == "cpu" and model.exit_of is None and is_installed("openvino")
    openvino = ("openvino",) if can else ()
    if model.reload is None:
        return (model.backend.name, *(openvino if model.backend.name == "onnxruntime" else ()))
    if device.startswith("cuda"):
        return TORCH
    names = tuple(name for name in TORCH if name != "torch-cuda-graphs")
    return ("onnxruntime", *openvino, *names) if _can_export(model) else names


def with_backend(model: Model, device: str, name: str | None = None) -> Model:
    """*model* run by the backend *name*; by default ONNX Runtime on the CPU where it can be had, else torch.

    An exported model lets go of the torch module, which is loaded again for what needs it. ModelError for a backend
    that cannot run the model; where none was asked for, ``details["backend"]`` says why it is torch.
    """
    if name is not None and name not in NAMES:
        raise UsageError(f"no backend {name!r}; {nearest(name, NAMES)}")
    own = model.preprocessing.backend or None
    if own is not None and name not in (None, own):
        raise ModelError(f"{model.spec} is what {own} computes, so {name} cannot run it; leave the backend out")
    name = name or own
    if name == model.backend.name or (name is None and model.reload is None):
        return model
    if getattr(model.backend, "reads", None) is not None and name not in (None, *(can := offered(model, device))):
        raise ModelError(f"{model.spec} answers {model.task}, which {name} does not run; {' or '.join(can)} does")
    if name == "openvino":
        return _in_openvino(model, device)
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
    installed = is_installed("onnx") and is_installed("onnxruntime")
    return installed and model.input_shape is not None and model.preprocessing.dtype == "float32"


def is_installed(package: str) -> bool:
    """Whether *package* can be imported, without doing so."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module without a specification stands in its place
        return False


def _in_openvino(model: Model, device: str) -> Model:
    from pilotfish.models.backends.onnx_backend import OnnxBackend
    from pilotfish.models.backends.openvino_backend import OpenVinoBackend

    if device != "cpu":
        raise ModelError(f"{model.spec}: OpenVINO runs on the CPU here, not on {device!r}")
    if model.exit_of is not None:
        raise ModelError(f"{model.spec}: exits of a network are run by torch and ONNX Runtime, not by OpenVINO")
    if model.reload is not None:
        if model.preprocessing.dtype != "float32" and not model.preprocessing.backend:
            raise ModelError(
                f"{model.spec}: holds what torch computes in {model.preprocessing.dtype}; add &backend=openvino"
            )
        model = _exported(model)
    if not isinstance(model.backend, OnnxBackend):
        raise ModelError(f"{model.spec} is run by {model.backend.name}, not by openvino; leave the backend out")
    found = OpenVinoBackend(model.backend, dtype=model.preprocessing.dtype, shape=model.input_shape)
    assert found.session is not None  # compiled now: who cannot be run by it may be run by another
    return dataclasses.replace(model, backend=found)


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
        backend=OnnxBackend(own_file(path, exported.sha256), reads=getattr(model.backend, "reads", None)),
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

    module, dtype, reads = _module(model), model.preprocessing.dtype, getattr(model.backend, "reads", None)
    if name == "torch-compiled":
        return CompiledBackend(module, device, dtype=dtype)
    if name == "torch-cuda-graphs":
        return CudaGraphBackend(module, device, dtype=dtype)
    if name == "torch-channels-last":
        module = copy.deepcopy(module)  # it is laid out anew
        return TorchBackend(module, device, dtype=dtype, channels_last=True, reads=reads)
    return TorchBackend(module, device, dtype=dtype, reads=reads)


def _module(model: Model) -> Any:
    """The torch module of a model: the one in memory, or loaded again."""
    found = getattr(model.backend, "module", None)
    if found is None:
        assert model.reload is not None
        found = getattr(model.reload().backend, "module", None)
    return found
