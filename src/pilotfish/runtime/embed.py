"""Models inside the cascade folder, so that one folder is all you deploy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pilotfish.cascade import Artefact, Stage, check_target, save_artefact
from pilotfish.cascade.folder import WEIGHTS, free_name, remove_unnamed
from pilotfish.errors import ArtefactError, MissingExtraError, ModelError
from pilotfish.files import atomic_path, sha256_file
from pilotfish.models import Model, parse_spec
from pilotfish.models.backends.backends import with_backend
from pilotfish.models.onnx.onnx_metadata import write_described
from pilotfish.runtime.load_stage import check_code, load_stage
from pilotfish.runtime.shared import linked

ONNX = ".onnx"


def save_with_weights(
    artefact: Artefact,
    folder: str | Path,
    allow_python: Collection[str] = (),
    tell: Callable[[str], None] = lambda _: None,
    names: Collection[str] | None = None,
) -> Path:
    """Write the cascade with its models under ``weights/``: their weights, and for torch models an ONNX file as well,
    so that the deployed folder needs no torch.

    allow_python  as for :meth:`pilotfish.Cascade.load`: the models' names come from the run's metadata
    tell          called with a line if the models have no ONNX form
    names         of the stages whose weights are copied unchanged; None: all stages, with ONNX files

    ArtefactError for a model that cannot be copied (a callable), or that would run code that was not allowed.
    """
    target = Path(folder)
    check_code(artefact.stages, allow_python)
    copied = [stage.name for stage in artefact.stages if names is None or stage.name in names]
    for stage in artefact.stages:
        if stage.name in copied:
            _refuse_code(stage)
    check_target(target)
    stages, models = [], []
    networks: dict[str, str] = {}  # exits of one network share a file
    for index, stage in enumerate(artefact.stages):
        if stage.name not in copied:
            stages.append(stage)
            continue
        model = load_stage(stage, target, "cpu", "torch", allow_python)
        if model.weights is None:
            raise ArtefactError(
                f"stage {stage.name}: the weights of {stage.spec} cannot be embedded; leave --embed out"
            )
        name = networks.get(model.weights_hash)
        if name is None:
            name = _written(target, f"{WEIGHTS}/{index}{model.weights_suffix}", model.weights)
        if model.exit_of is not None:
            networks[model.weights_hash] = name
        models.append(model)
        stages.append(dataclasses.replace(stage, weights_file=name))
    if names is None:
        stages = _with_onnx(stages, models, target, tell)
    save_artefact(dataclasses.replace(artefact, stages=tuple(stages)), target)
    remove_unnamed(target)
    return target


def _written(target: Path, name: str, write: Callable[[Path], Any]) -> str:
    """Write the file *name* into the folder; returns its name, which differs if the cascade there needs other content
    under that name."""
    free = free_name(target, name)
    with atomic_path(target / free) as temporary:
        write(temporary)
    if free == name or not (target / name).is_file() or sha256_file(target / free) != sha256_file(target / name):
        return free
    (target / free).unlink()
    return name


def _refuse_code(stage: Stage) -> None:
    code = None if stage.spec is None else parse_spec(stage.spec).code
    if code is not None:
        raise ArtefactError(
            f"stage {stage.name}: the weights of {stage.spec} cannot be embedded; leave --embed out: it is code, so "
            f"install its module where the cascade runs, and load it with --allow-python {code}; or save the network "
            "as a checkpoint or an ONNX file, and record that"
        )


def _with_onnx(stages: list[Stage], models: list[Model], target: Path, tell: Callable[[str], None]) -> list[Stage]:
    """The stages with ONNX files beside their weights, if all of them have an ONNX form; those that are ONNX files
    themselves are unchanged."""
    found = []
    after: dict[str, str] = {}
    try:
        runners = linked(models, ["onnxruntime"] * len(models))
        for k, (stage, model, (runner, shares)) in enumerate(zip(stages, models, runners, strict=True)):
            if model.preprocessing.resizer != "pillow":
                raise ModelError(f"{stage.name} resizes images by {model.preprocessing.resizer}")
            if model.weights_suffix == ONNX:
                found.append(stage)
                continue
            if runner is model.backend:  # of OpenVINO, what it compiles
                runner = getattr(runner, "source", None) or with_backend(model, "cpu", "onnxruntime").backend
            write = functools.partial(write_described, runner, model=model, name=stage.name, shares=shares, after=after)
            file = _written(target, f"{WEIGHTS}/{k}{ONNX}", write)
            after = {"file": file, "sha256": sha256_file(target / file)}
            found.append(dataclasses.replace(stage, onnx_file=after["file"], onnx_hash=after["sha256"]))
    except (ModelError, MissingExtraError) as error:
        tell(f"the folder runs only where pilotfish[torch] is installed, as it holds no ONNX files: {error}")
        return stages
    return found
