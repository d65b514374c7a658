"""How an earlier start of a recording read the model's outputs: it is not looked for again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pilotfish.data import Dataset
from pilotfish.models import Model, load_model
from pilotfish.models.names.spec import parse_spec
from pilotfish.models.outputs.reading import Reading, reading_of
from pilotfish.models.outputs.settle import settle
from pilotfish.recording.options import RecordOptions
from pilotfish.recording.parts import Parts
from pilotfish.records import Run
from pilotfish.records.parquet import read_meta
from pilotfish.records.run import PARTS_SUFFIX
from pilotfish.tasks import find_task


def load_to_record(name: str, written: str, data: Dataset, run: Run, options: RecordOptions) -> Model:
    """The model *name*, read as an earlier start of the records *written* read it, else as some samples show."""
    if not find_task(options.task).classes:
        return load_model(name, options.device)  # which output is meant, and its activation, are questions of classes
    path = run.file(written, options.split)
    known = _known(name, path, options) if reading_of(name).is_plain else None

    def read(model: Model, stated: Reading) -> tuple[Model, Reading]:
        if known is None:
            return settle(model, stated, data)
        return dataclasses.replace(model, **{k: v for k, v in known.items() if k != "spec"}), reading_of(known["spec"])

    return load_model(name, options.device, settle=read)


def as_read(model: Model) -> dict[str, Any]:
    """What a plan keeps of a model that was read."""
    names = {key: getattr(model, key) for key in ("class_names", "class_ids")}
    return {"spec": model.spec, "n_classes": model.n_classes, "notes": list(model.notes), **names}


def _known(name: str, path: Path, options: RecordOptions) -> dict[str, Any] | None:
    """Of a plan, the model as it was read; of records of a callable, which may cost money, its spec.

    None where there is no such thing, or it is of another model.
    """
    found = (Parts(path.with_suffix(PARTS_SUFFIX)).plan() or {}).get("read")
    if isinstance(found, dict) and _is_of(found.get("spec"), name):
        lists = {key: _strings(found.get(key)) for key in ("class_names", "class_ids")}
        classes = found.get("n_classes")
        notes = _strings(found.get("notes")) or ()
        return {
            "spec": found["spec"],
            "n_classes": classes if isinstance(classes, int) else None,
            "notes": notes,
            **lists,
        }
    if parse_spec(name).kind == "python" and path.is_file() and not options.overwrite:
        spec = read_meta(path).spec
        return {"spec": spec} if _is_of(spec, name) else None
    return None


def _is_of(spec: Any, name: str) -> bool:
    """Whether *spec* is *name* with a reading."""
    return isinstance(spec, str) and spec == reading_of(spec).written(name)


def _strings(found: Any) -> tuple[str, ...] | None:
    return tuple(map(str, found)) if isinstance(found, list) else None
