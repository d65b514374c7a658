"""The models of a build in other precisions: calibrated on samples that are set aside, recorded like any other model.

A variant is a model of its own: ``NAME?dtype=int8`` is recorded, ranked and tuned as a saver, of its own float32 self
too.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pilotfish.cascade import Artefact, Stage
from pilotfish.data import Dataset, open_data
from pilotfish.data.subset import Subset
from pilotfish.data.trained_on import CALIBRATING, contents, refuse_trained_on
from pilotfish.errors import DataError, MissingExtraError, ModelError, RecordsError, UsageError
from pilotfish.files import encode_name, read_json, sha256_file, sha256_json, write_json
from pilotfish.flow.quantise import Tell, quantise
from pilotfish.machine import BF16_PRODUCTS, FP16_PRODUCTS, processor
from pilotfish.models import parse_spec
from pilotfish.models.dtypes import SHORT, dtype_named
from pilotfish.models.names.spec import with_option
from pilotfish.recording import RecordOptions, RecordResult, record
from pilotfish.recording.finished import data_groups
from pilotfish.records import RecordsMeta, Run
from pilotfish.records.groups import NONE, GroupBy
from pilotfish.records.parquet import read_meta

ASIDE, SHARE = 128, 0.2  # samples that are set aside to calibrate on, at most, and of all
FLAGS = {"bfloat16": BF16_PRODUCTS, "float16": FP16_PRODUCTS}  # without these a CPU imitates such products, slowly
FOLDER = "int8"  # of the run, for the files that were quantised


def given_precisions(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """``int8,bf16,fp32`` as (int8, bfloat16, float32), float32 added where it is missing; none for None."""
    if given is None:
        return ()
    names = [name for name in (given.split(",") if isinstance(given, str) else given) if name.strip()]
    found = tuple(dict.fromkeys(map(dtype_named, names)))
    if not set(found) - {"float32"}:
        raise UsageError("precisions name int8, bf16 or fp16 beside fp32, found none of them: leave --precisions out")
    return found if "float32" in found else (*found, "float32")


def refuse_options(models: Mapping[str, str], precisions: Sequence[str], decoder: str | None) -> None:
    """UsageError where a model's name says already what is to be varied."""
    for name in models.values():
        options = parse_spec(name).options
        for option, asked in (("dtype", "--precisions" if precisions else None), ("decoder", decoder and "--decoder")):
            if option in options and asked:
                raise UsageError(
                    f"{name} states {option}={options[option]}, and {asked} makes such variants itself; leave one out"
                )


def set_aside(
    data: Dataset, group_by: GroupBy | None, before: int | None = None
) -> tuple[Dataset, Dataset | None, list[str]]:
    """(the others, up to 128 samples at random and at most a fifth of *data*, what to know of that).

    Groups stay whole, and so do copies of one sample. The same samples every time.

    before  only samples before this row, for data in the order of time
    """
    n = len(data)
    by = None if group_by is None else data_groups(data, group_by)
    if by is None:  # copies of a sample are on one side, but for --group-by none
        known = None if group_by == NONE else dict(contents(data))
        keys = [(known or {}).get(name) or name for name in data.ids]
    else:
        keys = [by[name] for name in data.ids]
    _, member, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    last = np.zeros(len(sizes), np.intp)
    np.maximum.at(last, member, np.arange(n))
    order = np.random.default_rng(0).permutation(np.flatnonzero(last < (n if before is None else before)))
    wanted = min(ASIDE, int(SHARE * n))
    inside = np.isin(member, order[np.cumsum(sizes[order]) <= wanted])
    if not inside.any():
        return (
            data,
            None,
            [f"int8 left out: none of {n:,} samples can be set aside for it; name others with --calibrate"],
        )
    rows = np.flatnonzero(inside)
    said = f"{len(rows)} of {n:,} samples are set aside to calibrate int8 on, and neither recorded nor judged"
    return Subset(data, np.flatnonzero(~inside)), Subset(data, rows), [said]


def as_recorded(data: Dataset, artefact: Artefact, group_by: GroupBy | None) -> tuple[Dataset, list[str]]:
    """(the part of *data* that the cascade was tuned on, a note), where the rest was set aside for its int8 stages;
    else (*data*, nothing)."""
    origin = artefact.origin
    if data.fingerprint == origin.get("fingerprint") or not any(map(is_int8, artefact.stages)):
        return data, []
    first = round(len(data) * (1 - float(origin.get("holdout", 0.5)))) if origin.get("judge_on") == "last" else None
    rest, aside, _ = set_aside(data, group_by, first)
    if aside is None or rest.fingerprint != origin.get("fingerprint"):
        return data, []
    return rest, [f"{len(aside)} of {len(data):,} samples calibrated the int8 stages, and are left out"]


def is_int8(stage: Stage) -> bool:
    """Whether the stage computes in int8, with weights that lie nowhere but in runs and cascades."""
    return (stage.preprocessing or {}).get("dtype") == "int8"


def calibration_data(spec: str | Dataset, data: Dataset) -> Dataset:
    """The samples *spec* to calibrate on. DataError where some of them are in *data*, or that cannot be told."""
    found = open_data(spec)
    refuse_trained_on(found, data, CALIBRATING)
    return found


@dataclass(frozen=True)
class Recorder:
    """Records models on *samples* into *run*."""

    samples: Dataset
    run: Run
    options: RecordOptions
    progress: Tell | None = None

    def record(self, spec: str, alias: str, overwrite: bool = False) -> list[RecordResult]:
        """The records of *spec* under the name *alias*, of each exit of a network."""
        options = dataclasses.replace(self.options, overwrite=self.options.overwrite or overwrite)
        return record(self.samples, spec, self.run, alias=alias, options=options, progress=self.progress)

    def meta(self, name: str) -> RecordsMeta:
        """What is known of the records of *name*."""
        return read_meta(self.run.file(name, self.options.split))


@dataclass(frozen=True)
class Variants:
    """Other precisions of models, recorded.

    sources  by the name of a variant, the records of the same model as it is named
    files    variants whose weights lie in the run alone
    notes    what could not be had
    """

    recorded: tuple[RecordResult, ...]
    sources: Mapping[str, str]
    files: tuple[str, ...]
    notes: tuple[str, ...]


def record_variants(
    recorder: Recorder,
    models: Mapping[str, str],
    precisions: Sequence[str],
    calibration: Dataset | None,
    decoder: str | None,
    base: str,
) -> Variants:
    """Record *models*, whose records in float32 are there, in every one of *precisions* that can be had.

    models       specs by the names of their records
    calibration  samples for int8; without any there is no int8
    decoder      that the variants read images with; the models but *base* are then recorded with it in float32 too
    """
    recorded: list[RecordResult] = []
    sources: dict[str, str] = {}
    files: list[str] = []
    notes: list[str] = []
    read = [] if decoder is None else [f"decoder={decoder}"]
    for precision in SHORT:
        if precision not in precisions and not (read and precision == "float32"):
            continue
        if (
            recorder.options.device == "cpu"
            and (flags := processor().flags)
            and not flags & FLAGS.get(precision, flags)
        ):
            notes.append(f"{SHORT[precision]} left out: {processor().name} has no instructions for it")
            continue
        computed = [] if precision == "float32" else [f"dtype={SHORT[precision]}"]
        for alias, spec in models.items():
            options = [*read, *computed]
            if not options or (alias == base and not computed) or (precision == "int8" and calibration is None):
                continue
            name = functools.reduce(with_option, options, alias)
            try:
                new, varied = False, functools.reduce(with_option, read, spec)
                if precision == "int8" and calibration is not None:
                    file, new = _int8_file(recorder, name, varied, recorder.meta(alias), calibration, notes)
                    varied = f"onnx:{file}"
                elif computed:
                    varied = with_option(varied, f"dtype={precision}")
                made = recorder.record(varied, name, overwrite=new)
            except MissingExtraError as error:
                notes.append(f"{SHORT[precision]} left out: {error}")
                break
            except (ModelError, DataError) as error:
                notes.append(f"{name} left out: {error}")
                continue
            recorded += made
            sources |= {result.model: result.model.replace(name, alias, 1) for result in made}
            files += [name] if precision == "int8" else []
    return Variants(tuple(recorded), sources, tuple(files), tuple(dict.fromkeys(notes)))


def _int8_file(
    recorder: Recorder, name: str, spec: str, float32: RecordsMeta, calibration: Dataset, notes: list[str]
) -> tuple[Path, bool]:
    """(the int8 file of a model in the run, whether it is new). It is kept for the same weights and samples."""
    file = recorder.run.path / FOLDER / f"{encode_name(name)}.onnx"
    kept = file.with_suffix(".json")
    versions = {library: float32.versions.get(library) for library in ("pilotfish", "onnxruntime")}
    made_of = {"spec": spec, "weights": float32.weights_hash, "data": calibration.fingerprint, "versions": versions}
    key = sha256_json(made_of)
    if file.is_file() and kept.is_file():
        document = read_json(kept, RecordsError)
        if document.get("key") == key and document.get("sha256") == sha256_file(file):
            notes += [f"{name}: {note}" for note in document.get("notes", [])]
            return file, False
    file.parent.mkdir(parents=True, exist_ok=True)
    found = quantise(spec, calibration, file, samples=ASIDE, progress=recorder.progress)
    write_json(kept, {"key": key, "sha256": sha256_file(file), **found.to_json()})
    notes += [f"{name}: {note}" for note in found.notes]
    return file, True
