"""The records of a cascade's stages, and of a model that joins them, on some samples: those that are there, or new."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from pilotfish.cascade import Stage
from pilotfish.data import Dataset
from pilotfish.errors import AlignmentError, RecordsError
from pilotfish.models import Model
from pilotfish.recording import RecordOptions, RecordResult
from pilotfish.recording.options import Progress
from pilotfish.recording.planned import load_to_record
from pilotfish.recording.record import record_model
from pilotfish.records import RecordsMeta, Run
from pilotfish.records.parquet import read_meta
from pilotfish.runtime.load_stage import check_code, load_stage
from pilotfish.text import examples


@dataclass(frozen=True)
class StageRecords:
    """Records of models on *samples* in *run*.

    folder        of the cascade, where its models may lie
    allow_python  code that its stages may run
    """

    run: Run
    samples: Dataset
    options: RecordOptions
    folder: Path
    allow_python: Collection[str] = ()
    progress: Progress | None = None

    def meta(self, name: str) -> RecordsMeta | None:
        """What is known of the records of *name*, or None."""
        path = self.run.find(name, self.options.split) if self.run.path.is_dir() else None
        return None if path is None else read_meta(path)

    def has(self, stage: Stage) -> bool:
        """Whether the records of *stage* on these samples are there."""
        meta = self.meta(stage.name)
        return meta is not None and self._differs(meta, stage) is None

    def check(self, stages: Iterable[Stage]) -> None:
        """RecordsError or ArtefactError, before anything is recorded, where the records of one of *stages* are of other
        samples or weights, or are missing and cannot be made."""
        missing = []
        for stage in stages:
            if (meta := self.meta(stage.name)) is None:
                missing.append(stage)
            elif (other := self._differs(meta, stage)) is not None:
                raise RecordsError(
                    f"{self.run.path} holds records of {stage.name} of other {other}; name another folder with --run"
                )
        for stage in missing:
            if stage.spec is None:
                command = ["pilotfish", "import", "FILE", "--run", str(self.run.path), "--model", stage.name]
                raise RecordsError(
                    f"stage {stage.name} was planned from imported predictions: import those of these samples "
                    f"({shlex.join([*command, '--split', self.options.split])}), and run this again"
                )
        check_code(missing, self.allow_python)

    def record(self, stage: Stage) -> None:
        """Record a stage, held against its old records; nothing where its records are there."""
        self.check([stage])
        if not self.has(stage):
            model = load_stage(stage, self.folder, self.options.device, allow_python=self.allow_python)
            record_model(self.samples, model, self.run, stage.name, self.options, self.progress)

    def record_new(self, spec: str, name: str, beside: Iterable[Stage]) -> RecordResult:
        """Record the model *spec* as *name*. AlignmentError where its classes are others than those of the stages that
        it is to stand beside."""
        model = load_to_record(spec, name, self.samples, self.run, self.options)
        for stage in beside:
            _same_classes(model, name, stage)
        there = self.meta(name)
        if there is not None and there.weights_hash != model.weights_hash:
            raise RecordsError(
                f"{self.run.path} holds records of {name} with other weights than {spec} has now; give the records of "
                f"the new model a name of their own: --as NAME --stage '{name}'"
            )
        return record_model(self.samples, model, self.run, name, self.options, self.progress)

    def _differs(self, meta: RecordsMeta, stage: Stage) -> str | None:
        """In what records are others than those of *stage* on these samples; None where they are these."""
        if meta.weights_hash != stage.weights_hash:
            return "weights"
        if meta.preprocessing_hash != stage.preprocessing_hash:
            return "preprocessing"
        if meta.fingerprint is None and stage.spec is None:
            return None  # imported: joined by the samples' ids
        return None if meta.fingerprint == self.samples.fingerprint else "samples"


def _same_classes(model: Model, name: str, stage: Stage) -> None:
    if model.n_classes is None or stage.n_classes is None or model.n_classes == stage.n_classes:
        return  # another order of the same classes is found when the records are joined
    mine, theirs = model.class_names or (), stage.class_names or ()
    more = sorted({*mine} ^ {*theirs}) if mine and theirs else []
    culprit = f" (not in both: {examples([*map(repr, more)])})" if more else ""
    raise AlignmentError(
        f"{name} has {model.n_classes} classes and stage {stage.name} {stage.n_classes}{culprit}: all models of a "
        "cascade answer with one list of classes; train the others for these classes too, and build a new cascade "
        "with pilotfish build"
    )
