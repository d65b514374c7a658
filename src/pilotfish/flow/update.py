"""One new model for a cascade: recorded, tuned with what the cascade keeps, and shown beside the old one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.cascade import Artefact, Performance, check_target, load_artefact
from pilotfish.data import Dataset, open_data
from pilotfish.errors import BudgetError, UsageError
from pilotfish.flow.best_cascade import merit
from pilotfish.flow.old_cascade import Names, as_it_was, names_of, runs_beside, tries
from pilotfish.flow.precisions import as_recorded, is_int8
from pilotfish.flow.stage_records import StageRecords
from pilotfish.flow.tuned_with import tuned_with
from pilotfish.models import parse_spec
from pilotfish.plan import METHODS, Tuning, tune
from pilotfish.recording import RecordOptions, RecordResult
from pilotfish.recording.options import Progress
from pilotfish.records import Run, read_table
from pilotfish.runtime import save_with_weights
from pilotfish.text import quantity


@dataclass(frozen=True)
class Update:
    """What an update came to.

    cascade   folder of the new cascade; run: folder of the records
    model     the new model, as its records call it
    replaced  the stage that it stands for; None where it was tried beside the others
    before    the old cascade's stages
    old       the old cascade at its operating point: on the samples that judge the new one, or, where a note says so,
              as it was judged when it was made
    tuning    the new cascade
    """

    cascade: Path
    run: Path
    model: str
    replaced: str | None
    before: Names
    old: Performance
    tuning: Tuning
    notes: tuple[str, ...] = ()

    @property
    def new(self) -> Performance:
        """The new cascade, on held-out samples where there are some."""
        return self.tuning.evaluation or self.tuning.calibration

    @property
    def stages(self) -> Names:
        """The new cascade's stages."""
        return names_of(self.tuning.artefact)

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish update --json``."""
        tuned = self.tuning.to_json()
        return {
            "cascade": str(self.cascade),
            "run": str(self.run),
            "model": self.model,
            "replaced": self.replaced,
            "old": self.old.to_json(),
            "new": self.new.to_json(),
            "old_stages": list(self.before),
            "stages": list(self.stages),
            "thresholds": tuned["thresholds"],
            "policy": tuned["policy"],
            "guarantee": tuned["guarantee"],
            "notes": list(self.notes),
        }


def update(
    cascade: str | Path,
    model: str,
    data: str | Dataset,
    out: str | Path,
    *,
    stage: int | str | None = None,
    alias: str | None = None,
    run: str | Path | None = None,
    embed: bool = False,
    force: bool = False,
    allow_python: Collection[str] = (),
    allow_bad_base: bool = False,
    options: RecordOptions | None = None,
    progress: Progress | None = None,
) -> Update:
    """Record one new *model* on *data*, tune the cascade again with it as it was tuned before, and write it to *out*.

    Budget, limits, cost, score, method with its options, guarantee, split and seed are those that the cascade keeps.
    Stages without records of these very samples are recorded as well.

    cascade  folder of the cascade, which stays as it is
    model    name of the new model, such as ``onnx:retrained.onnx``
    stage    the stage that it replaces: its name, or its number from 0. None: the stage of the model's name; where
             there is none, the model is tried in the place of each saver and beside them, and the best of these
             cascades and the old one is taken
    alias    a name for the records instead of the model's
    run      folder of the records. None: the one beside the cascade, if it holds these samples; else ``OUT-run``
    embed    copy the models' weights into *out*
    force    allow *out* to be the cascade's own folder
    allow_python    code that stages of the cascade may run, as for :meth:`pilotfish.Cascade.load`
    allow_bad_base  accept a base that is no better than chance on its labels
    options  how to record; the split and the task are the cascade's

    Raises BudgetError when the budget that the cascade keeps cannot be met any more; RecordsError where records in the
    run are of other samples or weights; AlignmentError for a model of other classes than the other stages.
    """
    folder, target = Path(cascade), Path(out)
    artefact = load_artefact(folder)
    if target.resolve() == folder.resolve() and not force:
        raise UsageError(f"{target} is the old cascade, which an update keeps; name another folder, or give --force")
    check_target(target)
    asked = tuned_with(artefact, folder)
    before, name = names_of(artefact), alias or model
    place = _place(before, name, stage)
    _one_exit(model)
    settings = dataclasses.replace(options or RecordOptions(), split=asked["split"], task=artefact.task.name)
    samples, said = as_recorded(open_data(data), artefact, settings.group_by)
    found = Run(Path(run)) if run is not None else _run_beside(folder, target, artefact, samples, settings)
    records = StageRecords(found, samples, settings, folder, allow_python, progress)
    kept = [one for k, one in enumerate(artefact.stages) if k != place]
    records.check(kept)
    recorded = records.record_new(model, name, kept)
    for one in kept:
        records.record(one)
    candidates = _candidates(artefact, name, place, records)
    counted: list[str] = []
    if "savers_tried" in asked:
        asked["savers_tried"], counted = tries(artefact, name, candidates, asked["savers_tried"], records)
    tuning = _best(found, candidates, asked | {"allow_bad_base": allow_bad_base})
    old, notes = as_it_was(artefact, place, name, tuning, records)
    notes += [*counted, *said, *_on_data(artefact, tuning, recorded)]
    if place is None:
        notes += _on_choice(artefact, name, tuning, records)
    elif place == len(before) - 1:
        notes.append(f"the base is another one: the old drop is below {before[-1]}, the new one below {name}")
    made = _with_places(tuning.artefact, artefact, folder)
    typed = parse_spec(model).code
    copied = None if embed else [one.name for one in made.stages if is_int8(one)]
    save_with_weights(made, target, [*allow_python, *([] if typed is None else [typed])], notes.append, copied)
    told = (*tuning.notes, *(f"{name}: {note}" for note in recorded.notes), *notes)
    replaced = None if place is None else before[place]
    return Update(target, found.path, name, replaced, before, old, tuning, tuple(dict.fromkeys(told)))


def _place(before: Names, name: str, stage: int | str | None) -> int | None:
    """Index of the stage that the model *name* replaces; None where it is no stage's name and none was given."""
    if stage is None:
        return before.index(name) if name in before else None
    text = str(stage).strip()
    if text in before:
        place = before.index(text)
    elif text in (numbers := [str(k) for k in range(len(before))]):
        place = numbers.index(text)
    else:
        listed = ", ".join(f"{k}: {one}" for k, one in enumerate(before))
        raise UsageError(f"--stage {text} is no stage of the cascade; its stages are {listed}")
    if name in before and before.index(name) != place:
        raise UsageError(f"{name} is the name of stage {before.index(name)}; give the new model another one with --as")
    return place


def _one_exit(model: str) -> None:
    if model.startswith("exits:") and "#" not in model:
        from pilotfish.models.exits.exit_model import exit_names

        if len(exits := exit_names(model)) > 1:
            raise UsageError(
                f"{model} has {quantity(len(exits), 'exit')}, and an update takes one model: name one, {exits[0]}"
            )


def _run_beside(folder: Path, target: Path, artefact: Artefact, samples: Dataset, options: RecordOptions) -> Run:
    """The run beside the cascade that holds its stages on these samples; else a new one beside *target*."""
    for found in runs_beside(folder, artefact):
        if any(map(StageRecords(found, samples, options, folder).has, artefact.stages)):
            return found
    named = target if target.name else target.absolute()
    return Run(named.with_name(f"{named.name}-run"))


def _candidates(artefact: Artefact, name: str, place: int | None, records: StageRecords) -> list[Names]:
    """The cascades to try: with the model in its place; else the old one, the model for each saver, and one more stage,
    before the first saver that costs more."""
    before = names_of(artefact)
    if place is not None:
        return [(*before[:place], name, *before[place + 1 :])]
    tried = [before, *((*before[:k], name, *before[k + 1 :]) for k in range(len(before) - 1))]
    if not METHODS[artefact.method].pairs_only:
        metas = {one: records.meta(one) for one in (*before, name)}
        cost = {one: meta.costs.get(artefact.cost_key or "", 0.0) for one, meta in metas.items() if meta is not None}
        dearer = [k for k, one in enumerate(before) if cost[one] > cost[name]]
        at = min([*dearer, len(before) - 1])
        tried.append((*before[:at], name, *before[at:]))
    return tried


def _best(run: Run, candidates: Sequence[Names], asked: dict[str, Any]) -> Tuning:
    """Tune each and take the best on the samples it was chosen on; the first of equals."""
    tunings, refusals = [], []
    for stages in candidates:
        try:
            tunings.append(tune(run, stages, **asked))
        except BudgetError as error:
            refusals.append(error)
    if not tunings:
        raise refusals[0]
    return min(tunings, key=lambda tuning: merit(tuning, "max_cost" in asked))


def _on_data(artefact: Artefact, tuning: Tuning, recorded: RecordResult) -> list[str]:
    """What these samples lack that those of the old cascade had; and which of them the new model could not answer."""
    judged, notes = tuning.evaluation or tuning.calibration, []
    if artefact.origin.get("groups") and judged.groups is None:
        notes.append("the old cascade was tuned with groups of samples, and these records have none: give --group-by")
    if artefact.origin.get("reference") == "label" != tuning.reference:
        notes.append(
            "the old cascade was tuned with labels and these samples have none: the new one keeps to agreement with "
            "its base, and what it loses of the truth is not known"
        )
    if recorded.failures:
        first, count = recorded.failures[0], len(recorded.failures)
        notes.append(
            f"{recorded.model}: {count:,} of {recorded.n + count:,} samples have no row and are left out, such as "
            f"{first.id}: {first.reason}"
        )
    return notes


def _on_choice(artefact: Artefact, name: str, tuning: Tuning, records: StageRecords) -> list[str]:
    """What to know where the model was tried beside the others."""
    before, stages = names_of(artefact), names_of(tuning.artefact)
    notes = [f"{name} was tried in the place of each saver and beside them; taken: {' → '.join(stages)}"]
    if stages == before:
        notes = [f"{name} makes no cascade of these stages better: they stay as they are"]
    table = read_table(records.run, [name], before[-1], records.options.split)
    own, base = table.value(name), table.value(before[-1])
    if table.reference_kind == "label" and own > base:
        notes.append(
            f"{name} has {100 * own:.2f}% {table.task.metric.says}, the base {100 * base:.2f}%: give --stage "
            f"{len(before) - 1} to make it the base"
        )
    return notes


def _with_places(made: Artefact, old: Artefact, folder: Path) -> Artefact:
    """*made*; stages that are kept are looked for in the old cascade as well, where that holds their weights."""
    places = {}
    for stage in old.stages:
        own = () if stage.weights_file is None else (str((folder / stage.weights_file).resolve()),)
        places[stage.name, stage.weights_hash] = (*own, *stage.files[-1:])
    stages = tuple(
        dataclasses.replace(stage, files=tuple(dict.fromkeys((*places.get(key, ()), *stage.files))))
        for stage in made.stages
        for key in [(stage.name, stage.weights_hash)]
    )
    return dataclasses.replace(made, stages=stages)
