"""Name → model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pilotfish.models.model import Model
from pilotfish.models.spec import ModelSpec, parse_spec

Loader = Callable[[ModelSpec, str, Path | None], Model]


def load_model(name: str, device: str = "cpu", weights: Path | None = None) -> Model:
    """The model called *name* (see ``spec.FORMS``), on *device*.

    weights  a file that replaces the weights the name would bring: how an embedded cascade loads its own

    Raises ModelError for a wrong name (with the nearest right ones) or weights that do not fit.
    """
    spec = parse_spec(name)
    return _loader(spec.kind)(spec, device, weights)


def list_models(pattern: str = "") -> list[str]:
    """Names that ``--model`` takes and that contain *pattern*, or match it when it has wildcards."""
    import fnmatch

    from pilotfish.models.timm_models import LITE, import_timm
    from pilotfish.models.torchvision_models import classifiers

    names = [f"lite:{name}" for name in LITE]
    names += [f"timm:{name}" for name in import_timm("listing models").list_models(pretrained=True)]
    names += [f"torchvision:{name}" for name in classifiers()]
    if any(mark in pattern for mark in "*?["):
        return [
            name for name in names if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(name.split(":")[1], pattern)
        ]
    return [name for name in names if pattern.lower() in name.lower()]


def _loader(kind: str) -> Loader:
    if kind in ("timm", "lite"):
        from pilotfish.models import timm_models

        return timm_models.load_timm if kind == "timm" else timm_models.load_lite
    if kind == "torchvision":
        from pilotfish.models.torchvision_models import load_torchvision

        return load_torchvision
    if kind == "onnx":
        from pilotfish.models.onnx_model import load_onnx

        return load_onnx
    if kind == "checkpoint":
        from pilotfish.models.checkpoint import load_checkpoint

        return load_checkpoint
    from pilotfish.models.python_model import load_python

    return load_python
