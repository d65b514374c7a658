"""The whole job in one call: record → savers → tune → tune-runtime → bench → report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.cascade import check_target, given_drop, given_share, make_budget
from pilotfish.data import Dataset, open_data, refuse_trained_on
from pilotfish.errors import BudgetError, RecordsError, UsageError
from pilotfish.files import write_json
from pilotfish.models import parse_spec
from pilotfish.plan import Tuning, rank_savers, tune
from pilotfish.plan.holdout import split_rows
from pilotfish.plan.same_cost import cost_keys
from pilotfish.recording import RecordOptions, RecordResult, record
from pilotfish.recording.planned import device_kind
from pilotfish.records import Run, compare, fair_table, read_table, refuse_bad_base
from pilotfish.records.groups import NONE
from pilotfish.report import write_report
from pilotfish.runtime import BenchResult, Cascade, bench, save_with_weights, tune_runtime

RUNTIME_SECONDS = 6.0  # per stage, to find how it runs fastest here
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SingleModel:
    """One model on its own, on the samples the cascade was judged on."""

    name: str
    accuracy: float
    cost: float | None


@dataclass(frozen=True)
class BuildResult:
    """Where things are, and how the cascade did.

    tuning   thresholds and performance; ``evaluation`` is on held-out samples
    bench    times beside the ideal
    """

    cascade: Path
    report: Path
    run: Path
    records: tuple[RecordResult, ...]
    tuning: Tuning
    bench: BenchResult
    singles: tuple[SingleModel, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of the figures should know, of the records and of tuning, each once."""
        recorded = (f"{r.model}: {note}" for r in self.records for note in r.all_notes)
        return tuple(dict.fromkeys((*recorded, *self.tuning.notes)))

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish build --json``."""
        return {
            "cascade": str(self.cascade),
            "report": str(self.report),
            "run": str(self.run),
            "records": [r.to_json() for r in self.records],
            "tune": self.tuning.to_json(),
            "bench": self.bench.to_json(),
            "notes": list(self.notes),
        }


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
    cost: str = "macs",
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
) -> BuildResult:
    """Record *models* on *data*, pick the saver and threshold for the budget, time the cascade, write a report.

    models  names, or a mapping from the records' names to them
    max_drop, min_metric  fractions (0.005) or text (``"0.5%"``); ``min_accuracy`` is another name of the latter
    out   the cascade folder; ``report.html`` and ``bench.json`` go into it
    base  the model to make cheaper; by default the most accurate on the data
    judge_on    ``last``: the last samples of the data judge, and not a random part; for data in the order of time
    trained_on  data that the models were trained on: DataError when samples of *data* are in it
    run   where the records go; by default ``OUT-run`` beside the cascade
    allow_bad_base  accept a base that is no better than chance on its labels
    class_max_drop, worst_class_drop, max_latency_p95  what must hold beside the budget, as in :func:`pilotfish.tune`

    Raises BudgetError when no saver is worth running at this budget: "no saver" is then the answer; RecordsError for a
    base that is no better than chance.
    """
    if len(models) < 2:
        raise UsageError(f"a base and at least one saver are needed, found {len(models)} model")
    budget = {
        "max_drop": given_drop(max_drop),
        "max_cost": max_cost,
        "min_metric": given_share(min_metric, "min_metric"),
        "min_accuracy": given_share(min_accuracy, "min_accuracy"),
    }
    limits = {
        "class_max_drop": {name: given_drop(drop, "class_max_drop") for name, drop in (class_max_drop or {}).items()},
        "worst_class_drop": given_drop(worst_class_drop, "worst_class_drop"),
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
    _check_cost(cost, folder, settings)
    recorded: list[RecordResult] = []
    for alias, name in aliases.items():
        recorded += record(samples, name, folder, alias=alias, options=settings, progress=progress)
    names = [r.model for r in recorded]
    by = NONE if settings.group_by == NONE else None  # other groups are in the records
    chosen_base = base or most_accurate(folder, names, settings.split, by)
    if not allow_bad_base:
        refuse_bad_base(read_table(folder, [], chosen_base, settings.split, by))
    tuning = best_pair(folder, names, chosen_base, budget, cost, settings.split, holdout, seed, by, judge_on, limits)
    allowed = [spec.code for spec in map(parse_spec, aliases.values()) if spec.code is not None]  # typed by the user
    if embed:
        said: list[str] = []
        save_with_weights(tuning.artefact, target, allowed, said.append)
        tuning = dataclasses.replace(tuning, notes=(*tuning.notes, *said))
    else:
        tuning.save(target)
    tune_runtime(
        target,
        samples,
        device=settings.device,
        seconds=RUNTIME_SECONDS,
        progress=progress,
        allow_python=allowed,
    )
    loaded = Cascade.load(target, settings.device, allow_python=allowed)
    timed = bench(loaded, samples, runs=runs, peers=False, progress=progress)
    write_json(target / "bench.json", timed.to_json())
    page = write_report(
        target / "report.html",
        run=folder,
        artefact=tuning.artefact,
        cost=cost,
        split=settings.split,
        bench=timed.to_json(),
    )
    singles = single_models(folder, names, chosen_base, cost, settings.split, by)
    return BuildResult(target, page, folder.path, tuple(recorded), tuning, timed, singles)


def _check_cost(cost: str, run: Run, options: RecordOptions) -> None:
    """RecordsError, before hours of recording, for a cost that neither a recording counts nor the run knows."""
    kind = device_kind(options.device)
    metas = run.metas(options.split) if run.path.is_dir() else []
    known = {"macs", "params", *options.costs, *(key for meta in metas for key in meta.costs)}
    timed = options.timing and (cost in ("ms", f"ms@{kind}") or re.fullmatch(rf"ms@{kind}-b\d+", cost))
    if cost not in known and not timed:
        names = sorted({*known, *(("ms", f"ms@{kind}", f"ms@{kind}-b1") if options.timing else ())})
        raise RecordsError(f"no recording counts a cost {cost!r}; {cost_keys(cost, names)}")


def most_accurate(run: Run, names: Sequence[str], split: str, group_by: str | None = None) -> str:
    """The model that is right most often, of those that answered (nearly) all samples; without labels, the costliest
    by MACs."""
    table, _ = fair_table([run.read(name, split) for name in names], group_by)
    compared = [name for name in names if name in table.meta]
    if table.reference_kind == "base":
        return max(compared, key=lambda name: table.meta[name].costs.get("macs", 0.0))
    return max(compared, key=table.value)


def best_pair(
    run: Run,
    names: Sequence[str],
    base: str,
    budget: dict[str, Any],
    cost: str,
    split: str,
    holdout: float,
    seed: int,
    group_by: str | None = None,
    judge_on: str = "random",
    limits: Mapping[str, Any] | None = None,
) -> Tuning:
    """Tune every candidate saver for the budget and *limits*, what must hold beside it; take the one that does best on
    the calibration part: the cheapest, or the most accurate for a cost. BudgetError when none costs less than the base
    alone."""
    ranking = rank_savers(run, base, cost=cost, split=split, holdout=holdout, seed=seed, group_by=group_by)
    candidates = [s.saver for s in ranking.savers if s.saver in names and s.comparable]
    tunings, refusals = [], []
    for saver in candidates:
        try:
            drawn: dict[str, Any] = {"split": split, "holdout": holdout, "seed": seed, "judge_on": judge_on}
            drawn["allow_bad_base"] = True  # it was judged before, on all samples
            drawn |= limits or {}
            tunings.append(tune(run, (saver, base), cost=cost, group_by=group_by, **drawn, **budget))
        except BudgetError as error:
            refusals.append(f"{saver}: {error}")
    useful = [t for t in tunings if t.saves is not False]
    if not useful:
        why = refusals[0] if refusals and not tunings else f"none costs less than {base} alone"
        tried = f"{len(candidates)} candidate{'' if len(candidates) == 1 else 's'}"
        raise BudgetError(f"no saver: of {tried} for {base}, {why}; run the base alone")

    return min(useful, key=lambda tuning: merit(tuning, budget["max_cost"] is not None))


def merit(tuning: Tuning, for_cost: bool) -> tuple[float, float]:
    """What the best of several tunings has least of, on its calibration part: cost, then drop; *for_cost*, for a budget
    of cost, the other way round."""
    p = tuning.calibration
    effort = p.cost if p.cost is not None else p.exit_ratio[-1]
    return (p.drop, effort) if for_cost else (effort, p.drop)


def single_models(
    run: Run, names: Sequence[str], base: str, cost: str, split: str, group_by: str | None = None
) -> tuple[SingleModel, ...]:
    """Every model on its own, cheapest first."""
    rows = compare([run.read(name, split) for name in names if name != base], run.read(base, split), group_by)
    singles = [
        SingleModel(name, table.value(name), table.meta[name].costs.get(cost))
        for name, table in {**rows.tables, base: rows.common}.items()
    ]
    return tuple(sorted(singles, key=lambda s: (s.cost or 0.0, s.accuracy)))
