"""A cascade over new samples, and its base over those that exit before it: does what was promised still hold?"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.cascade import ALONE, Artefact, load_artefact
from pilotfish.data import Dataset, Encoded, content_hash, open_data, sample_reader
from pilotfish.errors import DataError, RecordsError, UsageError
from pilotfish.machine import cpu_count
from pilotfish.plan.adjust import adjusted_as
from pilotfish.plan.check_promise import Everybody, check_promise
from pilotfish.plan.verdict import Evaluation
from pilotfish.recording.finished import data_groups
from pilotfish.recording.options import Progress
from pilotfish.recording.placed_truth import truth_for
from pilotfish.records import Records, RecordsMeta, Run, Table, align, open_run, read_table
from pilotfish.records.groups import NONE, GroupBy
from pilotfish.records.records import string_ids
from pilotfish.runtime import Cascade
from pilotfish.runtime.answers import Answers
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.single_times import time_answers
from pilotfish.runtime.supply import DecodingSupply
from pilotfish.scores.outputs import join_outputs
from pilotfish.text import listed, quantity

Rows = NDArray[np.intp]
SPLIT = "new"


def evaluate(
    cascade: str | Path | Cascade,
    data: str | Dataset | None = None,
    *,
    run: str | Path | Run | None = None,
    split: str = "val",
    audit: float | None = None,
    seed: int = 0,
    group_by: GroupBy | None = None,
    device: str = "cpu",
    workers: int | None = None,
    allow_python: Collection[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Whether a cascade still holds on new samples: its drop, exit ratios, cost and time beside what was promised.

    The limit is the guarantee's target, else the upper end of the drop's interval that tune printed. The cascade runs
    as it does in use; what exits before the base is given to the base as well, so that both can be compared.

    cascade       a folder, or a loaded cascade at its operating point
    data          ``folder:PATH``, …, or a data set. Without labels the base's answers are the reference, and
                  disagreement bounds the drop
    run, split    instead of data: a folder with records of all stages on that split, and nothing is run
    audit         share of what exits that the base answers as well, drawn at random by *seed*: 0.1 costs a tenth. The
                  verdict then rests on that share of the samples. None: all of them
    group_by      samples that belong together (see :func:`pilotfish.record`); intervals and tests then count groups
    device, workers  as for :func:`pilotfish.record`
    allow_python  ``python:`` models that the cascade may run, as MODULE:OBJECT
    progress      called with (what runs, samples done, samples in all)

    Raises UsageError for neither or both of data and run, DataError where no sample can be answered.

    >>> import pilotfish, tempfile
    >>> stages = ["lite:efficientnet_lite0@160", "lite:efficientnet_lite2@300"]
    >>> tuned = pilotfish.tune("imagenet_lite", stages, max_drop="1%")
    >>> found = pilotfish.evaluate(tuned.save(tempfile.mkdtemp()), run="imagenet_lite")
    >>> found.verdict, found.n, found.found.drop
    ('holds', 500, 0.008)
    """
    if (data is None) == (run is None):
        raise UsageError("give data to run the cascade on, or a run that has records of all its stages; one of the two")
    if audit is not None and run is not None:
        raise UsageError("audit is a share of new data that the base answers, and records of a run hold all of them")
    if seed < 0:
        raise UsageError(f"a seed is a whole number of at least 0, found {seed}")
    if audit is not None and not 0 < audit <= 1:
        raise UsageError(f"audit is a share of the data above 0 and up to 1, such as 0.1 (10%), found {audit}")
    if run is not None:
        artefact = cascade.artefact if isinstance(cascade, Cascade) else load_artefact(cascade)
        table = _recorded(artefact, run if isinstance(run, Run) else open_run(run), split, group_by)
        failed = {failure.id for meta in table.meta.values() for failure in meta.failures}
        found = check_promise(artefact, adjusted_as(table, artefact), unanswered=artefact.task.unknown(len(failed)))
        return _with_notes(found, _unused({"device": device != "cpu", "workers": workers, "seed": seed}, "with a run"))
    unused = _unused({"split": split != "val"}, "without a run")
    unused += _unused({"seed": seed}, "without audit") if audit is None else []
    loaded = cascade if isinstance(cascade, Cascade) else Cascade.load(cascade, device, allow_python=allow_python)
    samples = open_data(data or "")
    job = _Job(loaded, samples, workers or cpu_count(), progress or (lambda *_: None))
    return _with_notes(job.evaluate(audit, seed, group_by), unused)


def _unused(given: dict[str, Any], where: str) -> list[str]:
    """A note on options that change nothing; those that are set are named."""
    names = [name for name, value in given.items() if value]
    return [f"{listed(names)} {'changes' if len(names) == 1 else 'change'} nothing {where}"] if names else []


def _with_notes(found: Evaluation, notes: Iterable[str]) -> Evaluation:
    return replace(found, notes=tuple(dict.fromkeys((*notes, *found.notes))))


def _recorded(artefact: Artefact, run: Run, split: str, group_by: GroupBy | None) -> Table:
    """The stages' records. RecordsError where they are of other weights or another preprocessing than the cascade's."""
    names = [stage.name for stage in artefact.stages]
    table = read_table(run, names[:-1], names[-1], split, group_by)
    for stage in artefact.stages:
        meta = table.meta[stage.name]
        for what, then, now in (
            ("weights", stage.weights_hash, meta.weights_hash),
            ("preprocessing", stage.preprocessing_hash, meta.preprocessing_hash),
        ):
            if then and now and then != now:
                raise RecordsError(
                    f"the records of {stage.name} in {run.path} are of other {what} ({now[:12]}) than the cascade's "
                    f"({then[:12]}); record the cascade's own model, or tune again"
                )
    return table


class _Witness:
    """What every stage says of every sample. rows: of the samples that are run now, in the data."""

    def __init__(self, stages: int) -> None:
        self.batches: list[list[tuple[Rows, Any]]] = [[] for _ in range(stages)]
        self.rows: Rows = np.empty(0, np.intp)
        self.first = 0  # the stage that the engine calls 0

    def __call__(self, stage: int, rows: Rows, outputs: Any) -> None:
        self.batches[self.first + stage].append((self.rows[rows], outputs))

    def of(self, stage: int, rows: Rows) -> Any:
        """The outputs of a stage for *rows*, all of which it has seen."""
        seen = np.concatenate([some for some, _ in self.batches[stage]])
        outputs = join_outputs([found for _, found in self.batches[stage]])
        found, at = np.unique(seen, return_index=True)
        return outputs.take(at[np.searchsorted(found, rows)])


@dataclass(frozen=True)
class _Job:
    """A cascade over data."""

    cascade: Cascade
    data: Dataset
    workers: int
    tell: Progress

    def evaluate(self, audit: float | None, seed: int, group_by: GroupBy | None) -> Evaluation:
        artefact, data = self.cascade.artefact, self.data
        matched = truth_for(artefact.task, data, self.cascade.models[-1])
        named = None if group_by is None else data_groups(data, group_by)
        witness, content, last = _Witness(len(artefact.stages)), [""] * len(data), len(artefact.stages) - 1
        everyone, begun = np.arange(len(data)), time.perf_counter()
        answers = self._cascade(witness, everyone, content)
        ms = 1000 * (time.perf_counter() - begun) / len(data)
        errors = dict(answers.errors)
        known = artefact.task.known(matched.labels)
        labelled = known.any() and artefact.origin.get("reference") != "base"  # else its base is the reference
        drawn = _drawn(np.flatnonzero(known) if labelled else everyone, audit, seed)
        errors |= self._others(witness, content, drawn[answers.stage[drawn] >= 0], answers.stage)
        failed = np.isin(drawn, np.fromiter(errors, np.intp, len(errors)))
        judged = drawn[~failed]
        if not len(judged):
            row, why = next(iter(errors.items()))
            raise DataError(f"none of the {quantity(len(drawn), 'sample')} could be answered; {data.ids[row]}: {why}")

        def records(stage: int, rows: Rows, labels: NDArray[Any]) -> Records:
            ids = string_ids([data.ids[row] for row in rows.tolist()])
            group = None if named is None else string_ids([named[one] for one in ids.to_pylist()])
            hashes = pa.array([content[row] for row in rows.tolist()], pa.string())
            outputs = witness.of(stage, rows)
            if artefact.task.recorded is not None:
                outputs, labels = artefact.task.recorded(outputs, labels)
            return Records(ids, labels, outputs, self._meta(stage), hashes, group)

        by = NONE if group_by is not None and named is None else None
        stages = [records(k, judged, matched.labels[judged]) for k in range(last + 1)]
        table, everybody = align(stages[:-1], stages[-1], by), None
        if len(drawn) < len(data):
            answered = np.flatnonzero(answers.stage >= 0)
            first = align((), records(0, answered, artefact.task.unknown(len(answered))), by)
            at = pc.index_in(first.ids, value_set=string_ids([data.ids[row] for row in answered.tolist()]))
            everybody = Everybody(first, answers.stage[answered[np.asarray(at)]], len(data) - len(answered))
        found = check_promise(
            artefact, table, everybody, ms, unanswered=matched.labels[drawn[failed]], requests=self._requests(judged)
        )
        notes = self._notes(errors, answers, drawn, audit)
        if labelled and not known.all():
            without = quantity(int((~known).sum()), "sample without a label counts", "samples without a label count")
            notes.append(f"{without} for exit ratio, cost and shifts only")
        if audit is not None and found.needed is not None and found.needed <= len(data):
            notes.append(f"a larger share would tell: --audit {math.ceil(100 * found.needed / len(data))}%")
        notes += [*getattr(data, "notes", ()), *matched.notes]
        return _with_notes(found, (*notes, *self.cascade.notes))

    def _requests(self, rows: Rows) -> NDArray[np.float64] | None:
        """What single requests take here, in ms; None where no limit was promised."""
        limits = self.cascade.artefact.limits
        if limits is None or limits.latency_p95 is None:
            return None
        found = time_answers(self.cascade, self.cascade.reader(self.data), rows)
        return found if len(found) else None

    def _meta(self, k: int) -> RecordsMeta:
        stage, model, artefact = self.cascade.artefact.stages[k], self.cascade.models[k], self.cascade.artefact
        return RecordsMeta(
            model=stage.name,
            split=SPLIT,
            spec=stage.spec,
            n_classes=stage.n_classes or model.n_classes,
            class_names=stage.class_names,
            costs=stage.costs,
            data={"spec": self.data.spec, "fingerprint": self.data.fingerprint, "n": len(self.data)},
            task=artefact.task.name,
        )

    def _notes(self, errors: dict[int, str], answers: Answers, drawn: Rows, audit: float | None) -> list[str]:
        notes, last = [], len(self.cascade.artefact.stages) - 1
        if errors:
            row, why = next(iter(errors.items()))
            notes.append(
                f"{len(errors):,} of {len(self.data):,} samples could not be answered and are left out, such as "
                f"{self.data.ids[row]}: {why}"
            )
        if audit is not None:
            exits = int(np.count_nonzero((answers.stage >= 0) & (answers.stage < last)))
            asked = int(np.count_nonzero((answers.stage[drawn] >= 0) & (answers.stage[drawn] < last)))
            notes.append(
                f"the base also answered {asked:,} of the {quantity(exits, 'sample that exits', 'samples that exit')} "
                "before it (--audit "
                f"{100 * audit:g}%): the verdict is of {len(drawn):,} of {quantity(len(self.data), 'sample')}, "
                "exit ratio and "
                "cost are of all"
            )
        return notes

    def _cascade(
        self, witness: _Witness, rows: Rows, content: list[str], forced: NDArray[np.int64] | None = None
    ) -> Answers:
        """The cascade's answers to *rows*, as in use; *forced* sends them on to a stage whatever their scores."""
        point = self.cascade.artefact.in_force
        engine = Engine(self.cascade.engine_stages(), point, forced, witness=witness)
        preprocessing = [model.preprocessing for model in self.cascade.models]
        return self._answers(engine, witness, 0, rows, preprocessing, content, "cascade")

    def _others(self, witness: _Witness, content: list[str], rows: Rows, stage: NDArray[np.int64]) -> dict[int, str]:
        """Give *rows* to all stages that they did not reach. Returns why some could not be answered.

        stage  int64 (N,), the stage that answered each sample of the data
        """
        cascade, last = self.cascade, len(self.cascade.artefact.stages) - 1
        errors: dict[int, str] = {}
        if any(one.shares for one in cascade.engine_stages()):  # features are not kept: from the start
            some = rows[stage[rows] < last]
            found = self._cascade(witness, some, content, np.full(len(some), last)) if len(some) else None
            return {} if found is None else {int(some[i]): why for i, why in found.errors.items()}
        for k in range(1, last + 1):
            some = rows[stage[rows] < k]
            if not len(some):
                continue
            alone, name = replace(ALONE, task=cascade.artefact.task), cascade.artefact.stages[k].name
            engine = Engine(
                [cascade.engine_stages()[k]], alone, witness=witness, keep=cascade.artefact.in_force.keep(k)
            )
            chain = [cascade.models[k].preprocessing]
            found = self._answers(engine, witness, k, some, chain, content, f"{name}, what exits before it")
            errors |= {int(some[i]): why for i, why in found.errors.items()}
        return errors

    def _answers(
        self, engine: Engine, witness: _Witness, first: int, rows: Rows, chain: list[Any], content: list[str], what: str
    ) -> Answers:
        witness.rows, witness.first, parts, done = rows, first, [], 0
        self.tell(what, 0, len(rows))
        with engine:
            for part in engine.stream(DecodingSupply(self._reader(content), rows.tolist(), chain, self.workers)):
                parts.append(part)
                done += len(part)
                self.tell(what, done, len(rows))
        return Answers.join(parts, self.cascade.artefact.task.missing)

    def _reader(self, content: list[str]) -> Any:
        """Reads the samples as the stages want them, and notes the hash of each as recording does."""
        read, as_file = sample_reader(self.data, True), self.cascade.decodes_itself

        def opened(row: int) -> Any:
            sample = read(row)
            content[row] = content[row] or content_hash(sample)
            return sample.decode() if isinstance(sample, Encoded) and not as_file else sample

        return opened


def _drawn(rows: Rows, audit: float | None, seed: int) -> Rows:
    """The rows whose answers are compared with the base's: a random share, which says as much of those that exit as
    drawing from them would. Rising."""
    if audit is None:
        return rows
    return np.sort(np.random.default_rng([seed, 3]).permutation(rows)[: max(1, round(audit * len(rows)))])
