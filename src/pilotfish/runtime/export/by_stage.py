"""``pilotfish export --by-stage``: every stage as an ONNX file of its own, for programs that route by themselves.

Exits of one network become its parts: a file takes what the file before it returned, and nothing is computed twice.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.cascade import load_artefact
from pilotfish.cascade.folder import to_document
from pilotfish.data import Dataset
from pilotfish.errors import ModelError, UsageError
from pilotfish.files import atomic_path, write_json
from pilotfish.models.exits.spans import OnnxSpan
from pilotfish.models.onnx_backend import OnnxBackend, open_session
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.choice import StageRuntime
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.export.compare import random_inputs
from pilotfish.runtime.load_stage import load_stage
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import TensorSupply

MANIFEST = "stages.json"
CHECKED = 32  # samples


@dataclass(frozen=True)
class StageFile:
    """One stage.

    inputs, outputs  (name, shape) in the file's order; the first output is logits
    continues        whether the inputs are the outputs of the file before it but its logits, in their order; else the
                     input is of *preprocessing*
    """

    name: str
    file: str
    inputs: tuple[tuple[str, tuple[int | str, ...]], ...]
    outputs: tuple[tuple[str, tuple[int | str, ...]], ...]
    continues: bool
    preprocessing: dict[str, Any] | None


@dataclass(frozen=True)
class ExportedStages:
    """What :func:`export_stages` wrote. samples: on how many the files were held against the engine, without one
    difference."""

    path: Path
    stages: tuple[StageFile, ...]
    samples: int

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish export --by-stage --json``."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def export_stages(folder: str | Path, out: str | Path, *, data: Dataset | None = None) -> ExportedStages:
    """Write the stages of the cascade in *folder* into the folder *out*: ``stage1.onnx`` …, and ``stages.json`` with
    what each takes and gives, and the policy in force.

    data  samples on which the files are held against the engine; random inputs otherwise

    UsageError when *out* holds something else, ModelError for a stage without an ONNX form or when an answer differs.
    """
    target = Path(out)
    others = target.is_dir() and any(p.name != MANIFEST and p.suffix != ".onnx" for p in target.iterdir())
    if target.is_file() or others:
        raise UsageError(f"{target} holds something else; name a new folder for the stages")
    artefact = load_artefact(Path(folder))
    models = [load_stage(stage, Path(folder), "cpu", "onnxruntime") for stage in artefact.stages]
    cascade = Cascade(artefact, models, [StageRuntime("onnxruntime", CHECKED)] * len(models))
    target.mkdir(parents=True, exist_ok=True)
    written, runners = [], []
    for k, ((runner, shares), model, stage) in enumerate(zip(cascade.runners, models, artefact.stages, strict=True), 1):
        if not isinstance(runner, OnnxBackend | OnnxSpan):
            raise ModelError(f"{stage.name} has no ONNX form: it is run by {runner.name}")
        path = target / f"stage{k}.onnx"
        with atomic_path(path) as temporary:
            shutil.copyfile(runner.path, temporary)
        session = open_session(path, 1)
        inputs, outputs = (
            tuple((entry.name, tuple(entry.shape)) for entry in entries)
            for entries in (session.get_inputs(), session.get_outputs())
        )
        chain = None if shares else model.preprocessing.to_json()
        written.append(StageFile(stage.name, path.name, inputs, outputs, shares, chain))
        own = OnnxSpan(path, len(outputs)) if isinstance(runner, OnnxSpan) else OnnxBackend(path)
        runners.append(EngineStage(stage.name, own, CHECKED, shares=shares))
    tensors = _tensors(models, data)
    found, expected = (
        Engine(stages, artefact.in_force).run(TensorSupply(tensors)) for stages in (runners, cascade.engine_stages())
    )
    if not (np.array_equal(found.stage, expected.stage) and np.array_equal(found.prediction, expected.prediction)):
        raise ModelError(f"the files in {target} do not answer as the cascade does; nothing of them is to be used")
    document = to_document(artefact)
    write_json(
        target / MANIFEST,
        {
            "schema": 1,
            "stages": [dataclasses.asdict(one) for one in written],
            **{key: document[key] for key in ("score", "scores", "rule", "operating_point")},
        },
    )
    return ExportedStages(target, tuple(written), len(tensors[0]))


def _tensors(models: Any, data: Dataset | None) -> list[Any]:
    if data is None:
        return [random_inputs(model.input_shape or (), CHECKED) for model in models]
    rows = np.linspace(0, len(data) - 1, min(CHECKED, len(data))).astype(int).tolist()
    samples = [data.read(row) for row in rows]
    return [np.stack([model.preprocessing(sample) for sample in samples]) for model in models]
