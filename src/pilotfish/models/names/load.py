"""Name → model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from pilotfish.models.backends.backends import with_backend
from pilotfish.models.model import Model
from pilotfish.models.names.spec import ModelSpec, parse_spec
from pilotfish.models.names.stated import with_stated
from pilotfish.models.names.variant import take_variant
from pilotfish.models.outputs.reading import Reading, read_as, take_reading

Loader = Callable[[ModelSpec, str, Path | None], Model]
Settle = Callable[[Model, Reading], tuple[Model, Reading]]


def load_model(
    name: str,
    device: str = "cpu",
    weights: Path | None = None,
    backend: str | None = None,
    settle: Settle | None = None,
    *,
    typed: bool = True,
) -> Model:
    """The model called *name* (see ``spec.FORMS``), on *device*.

    weights  a file that replaces the weights the name would bring: how an embedded cascade loads its own
    backend  what runs it (see ``backends.NAMES``); by default ONNX Runtime on the CPU, torch on CUDA
    settle   finds out which output is meant and what it has been through (see ``settle``); the model's ``spec`` then
             says it. None: what the name says, else the first output, logits as they are
    typed    whether the user typed the name; False for a name that stands in a file, which imports nothing from the
             working directory

    Raises ModelError for a wrong name (with the nearest right ones) or weights that do not fit.
    """
    plain, reading = take_reading(dataclasses.replace(parse_spec(name), typed=typed))
    plain, variant = take_variant(plain)

    def load() -> Model:
        found = with_stated(_loader(plain.kind)(plain, device, weights), plain)
        return variant.applied(found, name, device)

    model = load()
    if settle is not None and plain.kind != "exits":
        model, reading = settle(model, reading)
    if not reading.is_plain:
        model = read_as(dataclasses.replace(model, spec=reading.written(name)), reading, device)
    if getattr(model.backend, "module", None) is None:
        return with_backend(model, device, backend)
    passing = plain.options.get("weights") == "random"  # another model every time, so it is kept in memory
    again = (lambda: model) if passing else lambda: read_as(load(), reading, device)
    return with_backend(dataclasses.replace(model, again=again, passing=passing), device, backend)


def list_models(pattern: str = "") -> list[str]:
    """Names that ``--model`` takes and that contain *pattern*, or match it when it has wildcards."""
    import fnmatch

    from pilotfish.models.names.timm_models import LITE, import_timm
    from pilotfish.models.names.torchvision_models import classifiers

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
        from pilotfish.models.names import timm_models

        return timm_models.load_timm if kind == "timm" else timm_models.load_lite
    if kind == "torchvision":
        from pilotfish.models.names.torchvision_models import load_torchvision

        return load_torchvision
    if kind == "onnx":
        from pilotfish.models.onnx.onnx_model import load_onnx

        return load_onnx
    if kind == "checkpoint":
        from pilotfish.models.names.checkpoint import load_checkpoint

        return load_checkpoint
    if kind == "exits":
        from pilotfish.models.exits.load import load_exit

        return load_exit
    from pilotfish.models.names.python_model import load_python

    return load_python
