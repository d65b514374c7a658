"""``pilotfish export --by-stage``: every stage as an ONNX file of its own, for programs with their own routing.

Exits of one network become its parts: a file takes what the file before it returned, and nothing is computed twice.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.cascade import Stage, load_artefact
from pilotfish.cascade.folder import to_document
from pilotfish.data import Dataset, open_data
from pilotfish.errors import ModelError, UsageError
from pilotfish.files import unwritable, write_json
from pilotfish.models import Model
from pilotfish.models.backends.onnx_backend import OnnxBackend, open_session
from pilotfish.models.exits.spans import OnnxSpan
from pilotfish.models.onnx.onnx_metadata import write_described
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.choice import StageRuntime
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.export.export import example_tensors
from pilotfish.runtime.export.parts import refuse_code
from pilotfish.runtime.load_stage import check_code, load_stage
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import TensorSupply

MANIFEST = "stages.json"
BATCH = 32


@dataclass(frozen=True)
class StageFile:
    """One stage.

    inputs, outputs  (name, shape) in the file's order; the first output is logits
    continues        whether the inputs are the outputs of the file before it except its logits, in order; otherwise the
                     input is made by *preprocessing*
    """

    name: str
    file: str
    inputs: tuple[tuple[str, tuple[int | str, ...]], ...]
    outputs: tuple[tuple[str, tuple[int | str, ...]], ...]
    continues: bool
    preprocessing: dict[str, Any] | None


@dataclass(frozen=True)
class ExportedStages:
    """What :func:`export_stages` wrote. samples: how many were compared with the engine, without a difference."""

    path: Path
    stages: tuple[StageFile, ...]
    samples: int

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish export --by-stage --json``."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def export_stages(
    cascade: str | Path,
    out: str | Path,
    *,
    data: str | Dataset | None = None,
    samples: int = 64,
    allow_python: Collection[str] = (),
) -> ExportedStages:
    """Write the stages of the cascade in folder *cascade* into the folder *out*: ``stage1.onnx`` …, and ``stages.json``
    with what each takes and returns, and the policy in force.

    data     samples on which the files are compared with the engine; random inputs otherwise
    samples  how many, at most
    allow_python  as for :meth:`pilotfish.Cascade.load`

    UsageError when *out* holds something else, ModelError for a stage without an ONNX form or when an answer differs.
    """
    target = Path(out)
    if not _may_be_written(target):
        raise UsageError(f"{target} holds something else; name a new folder for the stages")
    folder, data = Path(cascade), None if data is None else open_data(data)
    artefact = load_artefact(folder)
    check_code(artefact.stages, allow_python)
    models = [_named(load_stage(one, folder, "cpu", "onnxruntime", allow_python), one) for one in artefact.stages]
    loaded = Cascade(artefact, models, [StageRuntime("onnxruntime", BATCH)] * len(models))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(target, error) from error
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as made:
        files = [
            _written(runner, shares, model, stage.name, Path(made) / f"stage{k}.onnx")
            for k, ((runner, shares), model, stage) in enumerate(
                zip(loaded.runners, models, artefact.stages, strict=True), 1
            )
        ]
        tensors, _ = example_tensors(models, data, samples, lambda *_: None)
        _compare(Path(made), files, loaded, tensors)
        document = to_document(artefact)
        policy = {key: document[key] for key in ("score", "scores", "rule", "operating_point")}
        write_json(Path(made) / MANIFEST, {"schema": 1, "stages": [dataclasses.asdict(one) for one in files], **policy})
        if target.exists():  # an earlier export, or an empty folder
            shutil.rmtree(target)
        shutil.copytree(made, target)
    return ExportedStages(target, tuple(files), len(tensors[0]))


def _named(model: Model, stage: Stage) -> Model:
    """*model* with the classes that its records name, such as the data's folders, if it names none itself."""
    return model if model.class_names else dataclasses.replace(model, class_names=stage.class_names)


def _may_be_written(target: Path) -> bool:
    """Whether there is nothing, an empty folder, or an earlier export and nothing else."""
    if target.is_symlink() or not target.is_dir():
        return not (target.exists() or target.is_symlink())
    names = {path.name for path in target.iterdir()}
    others = {name for name in names if name != MANIFEST and not re.fullmatch(r"stage\d+\.onnx", name)}
    return not names or (MANIFEST in names and not others)


def _written(runner: Any, shares: bool, model: Any, name: str, path: Path) -> StageFile:
    """Write a stage's file to *path*; returns its inputs and outputs."""
    refuse_code(name, runner)
    if not isinstance(runner, OnnxBackend | OnnxSpan):
        raise ModelError(f"{name} has no ONNX form: it is run by {runner.name}")
    write_described(runner, path, model, name, shares)
    session = open_session(path, 1)
    inputs, outputs = (
        tuple((entry.name, tuple(entry.shape)) for entry in entries)
        for entries in (session.get_inputs(), session.get_outputs())
    )
    return StageFile(name, path.name, inputs, outputs, shares, None if shares else model.preprocessing.to_json())


def _compare(folder: Path, files: list[StageFile], cascade: Cascade, tensors: list[Any]) -> None:
    """Compare the files with the engine, each stage answering some of the samples. ModelError if they differ."""
    own = [
        EngineStage(
            one.name,
            OnnxSpan(folder / one.file) if len(one.outputs) > 1 else OnnxBackend(folder / one.file),
            BATCH,
            shares=one.continues,
        )
        for one in files
    ]
    forced = np.arange(len(tensors[0]), dtype=np.int64) % len(files)
    found, expected = (
        Engine(stages, cascade.artefact.in_force, forced).run(TensorSupply(tensors))
        for stages in (own, cascade.engine_stages())
    )
    same = np.array_equal(found.stage, expected.stage) and np.array_equal(found.prediction, expected.prediction)
    if not same or not np.allclose(found.confidence, expected.confidence, atol=1e-4):
        raise ModelError("the stages' files do not answer as the cascade does; nothing was written")
