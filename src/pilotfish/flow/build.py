"""The whole job in one call: record → savers → tune → tune-runtime → bench → report."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.cascade import check_target, given_class_drop, given_drop, given_metric, given_share, make_budget
from pilotfish.data import Dataset, open_data, refuse_trained_on
from pilotfish.errors import BudgetError, RecordsError, UsageError
from pilotfish.files import write_json
from pilotfish.flow.best_cascade import Asked, SingleModel, best_chain, best_pair, most_accurate, single_models
from pilotfish.flow.precision_gain import FLOAT32_PAIR, Float32Pair, computes_in, gain_notes, of_precisions
from pilotfish.flow.precisions import (
    Recorder,
    calibration_data,
    given_precisions,
    record_variants,
    refuse_options,
    set_aside,
)
from pilotfish.models import parse_spec
from pilotfish.plan import Tuning
from pilotfish.plan.holdout import split_rows
from pilotfish.plan.same_cost import cost_keys, is_time
from pilotfish.recording import RecordOptions, RecordResult
from pilotfish.recording.planned import device_kind
from pilotfish.recording.side_by_side import time_side_by_side
from pilotfish.records import Run, read_table, refuse_bad_base
from pilotfish.records.groups import NONE
from pilotfish.report import write_report
from pilotfish.runtime import BenchResult, Cascade, bench, save_with_weights, tune_runtime
from pilotfish.runtime.tune_runtime import StageTuning

RUNTIME_SECONDS = 6.0  # per stage, to find how it runs fastest here
BENCH_SECONDS = 60.0  # for the turns of the bench
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BuildResult:
    """Where things are, and how the cascade did.

    tuning   thresholds and performance; ``evaluation`` is on held-out samples
    bench    times beside the ideal
    precisions    that were asked for, such as ("int8", "float32"); none where none were
    float32_pair  of a build of precisions, the best saver in float32 at the same budget; None where there is none
    said     what the build itself has to say
    """

    cascade: Path
    report: Path
    run: Path
    records: tuple[RecordResult, ...]
    tuning: Tuning
    bench: BenchResult
    singles: tuple[SingleModel, ...]
    precisions: tuple[str, ...] = ()
    float32_pair: Float32Pair | None = None
    said: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the figures should know, of the records and of tuning, each once."""
        recorded = (f"{r.model}: {note}" for r in self.records for note in r.all_notes)
        return tuple(dict.fromkeys((*self.said, *recorded, *self.tuning.notes)))

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish build --json``."""
        document: dict[str, Any] = {
            "cascade": str(self.cascade),
            "report": str(self.report),
            "run": str(self.run),
            "records": [r.to_json() for r in self.records],
            "tune": self.tuning.to_json(),
            "bench": self.bench.to_json(),
            "notes": list(self.notes),
        }
        if self.precisions:
            pair = self.float32_pair
            document["precisions"] = list(self.precisions)
            document["variants"] = [dataclasses.asdict(single) for single in self.singles]
            document["float32_pair"] = None if pair is None else pair.to_json()
        return document


def build(
    data: str | Dataset,
    models: Sequence[str] | Mapping[str, str],
    out: str | Path,
    *,
    max_drop: float | str | None = None,
    max_cost: float | str | None = None,
    min_metric: float | str | None = None,
    min_accuracy: float | str | None = None,
    base: str | None = None,
    run: str | Path | None = None,
    cost: str | None = None,
    holdout: float = 0.5,
    seed: int = 0,
    runs: int = 5,
    embed: bool = False,
    allow_bad_base: bool = False,
    options: RecordOptions | None = None,
    progress: Tell | None = None,
    judge_on: str = "random",
    trained_on: str | Dataset | None = None,
    class_max_drop: Mapping[str, float | str] | None = None,
    worst_class_drop: float | str | None = None,
    max_latency_p95: float | None = None,
    guarantee: float | str | None = None,
    precisions: str | Sequence[str] | None = None,
    calibrate: str | Dataset | None = None,
    decoder: str | None = None,
    metric: str | None = None,
) -> BuildResult:
    """Record *models* on *data*, pick the saver and threshold for the budget, time the cascade, write a report.

    models  names, or a mapping from the records' names to them
    max_drop, min_metric  fractions (0.005) or text (``"0.5%"``); ``min_accuracy`` is another name of the latter
    out   the cascade folder; ``report.html`` and ``bench.json`` go into it
    base  the model to make cheaper; by default the most accurate on the data
    judge_on    ``last``: the last samples of the data judge, and not a random part; for data in the order of time
    trained_on  data that the models were trained on: DataError when samples of *data* are in it
    run   where the records go; by default ``OUT-run`` beside the cascade
    cost  key of the costs in the records; by default ``macs``, and with precisions the time of this device
    allow_bad_base  accept a base that is no better than chance on its labels
    class_max_drop, worst_class_drop, max_latency_p95  what must hold beside the budget, as in :func:`pilotfish.tune`
    guarantee   confidence, such as 0.9 or ``"90%"``: the budget then holds on all data of this kind. The stages are
                chosen on one half of the calibration part, and certified on the other
    precisions  such as ``"int8,bf16,fp32"``: every model is recorded in these as well, as ``NAME?dtype=int8``, and the
                cascade is the best chain of up to three of them to the base in float32
    calibrate   data to calibrate int8 on; by default up to 128 samples of *data*, which are then set aside
    decoder     that savers read image files with, such as ``turbojpeg``; the base reads them as it is named
    metric      what is measured, by name, where it is not the task's first

    Raises BudgetError when no saver is worth running at this budget: "no saver" is then the answer; RecordsError for a
    base that is no better than chance.
    """
    asked_for = given_precisions(precisions)
    if len(models) < (1 if asked_for else 2):
        raise UsageError(f"a base and at least one saver are needed, found {len(models)} model")
    budget = {
        "max_drop": given_drop(max_drop),
        "max_cost": max_cost,
        "min_metric": given_metric(min_metric, "min_metric"),
        "min_accuracy": given_metric(min_accuracy, "min_accuracy"),
    }
    limits = {
        "class_max_drop": {
            name: given_class_drop(drop, f"class_max_drop[{name!r}]") for name, drop in (class_max_drop or {}).items()
        },
        "worst_class_drop": given_class_drop(worst_class_drop, "worst_class_drop"),
        "max_latency_p95": max_latency_p95,
    }
    make_budget(**budget, base_cost=1.0)  # type: ignore[arg-type]  # refused before hours of recording
    target = Path(out)
    check_target(target)
    settings = options or RecordOptions()
    samples = open_data(data)
    split_rows(len(samples), holdout, seed, judge_on=judge_on)  # refuses what is no split
    if trained_on is not None:
        refuse_trained_on(trained_on, samples)
    named = target if target.name else target.absolute()
    folder = Run(Path(run) if run is not None else named.with_name(f"{named.name}-run"))
    aliases = models if isinstance(models, Mapping) else {name: name for name in models}
    if base is not None and base not in aliases:
        raise UsageError(f"the base {base} is not among the models: {', '.join(aliases)}")
    refuse_options(aliases, asked_for, decoder)
    if calibrate is not None and "int8" not in asked_for:
        raise UsageError("samples to calibrate on are for int8: give them with --precisions int8, or leave them out")
    if asked_for and cost in ("macs", "params"):
        raise UsageError(f"{cost} are the same in every precision: leave --cost out, or give a time such as ms@cpu")
    cost = cost or (f"ms@{device_kind(settings.device)}" if asked_for else "macs")
    _check_cost(cost, folder, settings)
    calibration: Dataset | None = None
    said: list[str] = []
    if calibrate is not None:
        calibration = calibration_data(calibrate, samples)
    elif "int8" in asked_for:
        first = round(len(samples) * (1 - holdout)) if judge_on == "last" else None
        samples, calibration, said = set_aside(samples, settings.group_by, first)
    apart = bool(asked_for) and is_time(cost) and settings.timing  # all models in turn, when they are recorded
    timed_now = settings.timing and not (apart and max_latency_p95 is None)  # a latency is of single samples
    recorder = Recorder(samples, folder, dataclasses.replace(settings, timing=timed_now), progress)
    recorded = [result for alias, name in aliases.items() for result in recorder.record(name, alias)]
    names = [r.model for r in recorded]
    by = NONE if settings.group_by == NONE else None  # other groups are in the records
    float32 = [name for name in names if computes_in(recorder.meta(name)) == "float32"] if asked_for else names
    if not float32:
        raise UsageError(f"the base computes in float32, and none of the models does: {', '.join(names)}")
    chosen_base = base or most_accurate(folder, float32, settings.split, by, metric)
    if not allow_bad_base:
        refuse_bad_base(read_table(folder, [], chosen_base, settings.split, by))
    variants = record_variants(recorder, aliases, asked_for, calibration, decoder, chosen_base)
    recorded += variants.recorded
    savers = [name for name in names if name != chosen_base] if decoder is None else []
    savers += variants.sources
    if apart:
        time_side_by_side(folder, list(dict.fromkeys([*names, *savers])), samples, settings, progress)
        recorded = [dataclasses.replace(one, cost=dict(recorder.meta(one.model).costs)) for one in recorded]
    asked = Asked(
        budget, cost, settings.split, holdout, seed, judge_on, by, limits, given_share(guarantee, "guarantee"), metric
    )
    if asked_for or guarantee is not None:
        tuning = best_chain(folder, savers, chosen_base, asked, 3 if asked_for else 2)
    else:
        tuning = best_pair(folder, savers, chosen_base, asked)
    allowed = [spec.code for spec in map(parse_spec, aliases.values()) if spec.code is not None]  # typed by the user

    other: Tuning | None = None
    if asked_for:
        plain = [name for name in savers if computes_in(recorder.meta(name)) == "float32"]
        try:
            other = best_chain(folder, plain, chosen_base, asked, 2)
        except (BudgetError, RecordsError) as error:
            said.append(f"no saver in float32 to compare with: {error}")
    measured: list[StageTuning] = []
    notes: list[str] = []

    def loaded(found: Tuning, where: Path, embedded: Collection[str] | None) -> Cascade:
        """*found* in the folder *where*, each stage as it runs fastest here."""
        save_with_weights(found.artefact, where, allowed, notes.append, embedded)
        known = [one for one in measured if recorder.meta(one.stage).backbone is None]
        given: dict[str, Any] = {"progress": progress, "allow_python": allowed, "known": known}
        measured.extend(tune_runtime(where, samples, device=settings.device, seconds=RUNTIME_SECONDS, **given).stages)
        return Cascade.load(where, settings.device, allow_python=allowed)

    stages = tuning.artefact.stages
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as temporary:
        cascade = loaded(tuning, target, None if embed else variants.files)
        tuning = dataclasses.replace(tuning, notes=(*tuning.notes, *notes))
        beside = {}
        if other is not None and other.artefact.stages != stages:
            beside[FLOAT32_PAIR] = loaded(other, Path(temporary) / "cascade", ())
        timed = bench(cascade, samples, runs=runs, peers=False, progress=progress, seconds=BENCH_SECONDS, beside=beside)
    write_json(target / "bench.json", timed.to_json())
    page = write_report(
        target / "report.html",
        run=folder,
        artefact=tuning.artefact,
        cost=cost,
        split=settings.split,
        bench=timed.to_json(),
        data=None if tuning.artefact.task.classes else samples,
    )
    singles = single_models(folder, [*dict.fromkeys([*names, *savers])], chosen_base, cost, settings.split, by, metric)
    if asked_for:
        singles = of_precisions(folder, singles, variants.sources, settings.split)
        said += [*variants.notes, *gain_notes(singles, variants.sources, tuning, asked_for)]
    pair = None if other is None else Float32Pair.of(other if beside else tuning, timed)
    return BuildResult(target, page, folder.path, tuple(recorded), tuning, timed, singles, asked_for, pair, tuple(said))


def _check_cost(cost: str, run: Run, options: RecordOptions) -> None:
    """RecordsError, before hours of recording, for a cost that neither a recording counts nor the run knows."""
    kind = device_kind(options.device)
    metas = run.metas(options.split) if run.path.is_dir() else []
    known = {"macs", "params", *options.costs, *(key for meta in metas for key in meta.costs)}
    timed = options.timing and (cost in ("ms", f"ms@{kind}") or re.fullmatch(rf"ms@{kind}-b\d+", cost))
    if cost not in known and not timed:
        names = sorted({*known, *(("ms", f"ms@{kind}", f"ms@{kind}-b1") if options.timing else ())})
        raise RecordsError(f"no recording counts a cost {cost!r}; {cost_keys(cost, names)}")
