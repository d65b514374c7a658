"""The verbs in Python: the same words, options and defaults as the command line."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.cascade import given_drop, given_share
from pilotfish.plan.analysis import Analysis
from pilotfish.plan.analysis import analyse as _analyse
from pilotfish.plan.find_chains import ChainRanking, find_chains
from pilotfish.plan.saver_ranking import SaverRanking
from pilotfish.plan.savers import rank_savers
from pilotfish.plan.shortlist import Shortlist
from pilotfish.plan.shortlist import shortlist as _shortlist
from pilotfish.plan.tune import tune as _tune
from pilotfish.plan.tuning import Tuning
from pilotfish.records import GroupBy, Run, import_file
from pilotfish.records import open_run as _open_run

if TYPE_CHECKING:
    from pilotfish.data import Dataset
    from pilotfish.flow.quantise import Quantised
    from pilotfish.recording import RecordResult
    from pilotfish.recording.options import Progress
    from pilotfish.runtime import BenchResult, Cascade, RuntimeTuning
    from pilotfish.runtime.export import ExportedCascade, ExportedStages


def open_run(path: str | Path) -> Run:
    """The run in folder *path*: ``.models()``, ``.splits()``, ``.read(model, split)``."""
    return _open_run(path)


def record(
    data: str | Dataset,
    models: str | Sequence[str],
    run: str | Path,
    *,
    alias: str | None = None,
    split: str = "val",
    batch_size: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
    store: str | None = None,
    augment: int | None = None,
    timing: bool = True,
    overwrite: bool = False,
    costs: Mapping[str, float] | None = None,
    progress: Progress | None = None,
    group_by: GroupBy | None = None,
    trained_on: str | Dataset | None = None,
) -> list[RecordResult]:
    """Record what models say about data, one Parquet file each; goes on where an interrupted call stopped.

    data        ``folder:PATH``, ``arrays:FILE.npz``, ``digits``, or a data set
    models      names such as ``timm:resnet50`` or ``lite:efficientnet_lite0@128``
    alias       a name for the records instead of the model's own
    batch_size  None: the fastest measured
    store       ``full`` keeps all logits, ``topK`` the K best; None: full up to 128 classes, else top10
    augment     seed of augmented views, the same for every model
    costs       further costs per sample of one model, such as ``{"joules": 0.8}``
    progress    called with (model, samples done, samples in all)
    group_by    samples that belong together, kept with the records: a CSV file id,group, a column of the labels, or a
                regular expression on the ids
    trained_on  data that the models were trained on: DataError when samples of *data* are in it
    """
    from pilotfish.recording import RecordOptions
    from pilotfish.recording import record as record_all

    options = RecordOptions(
        split=split,
        batch_size=batch_size,
        device=device,
        workers=workers,
        store=store,
        augment=augment,
        timing=timing,
        overwrite=overwrite,
        costs=costs or {},
        group_by=group_by,
    )
    return record_all(data, models, run, alias=alias, options=options, progress=progress, trained_on=trained_on)


def import_predictions(
    file: str | Path,
    run: str | Path,
    model: str,
    *,
    split: str = "val",
    costs: Mapping[str, float] | None = None,
    format: str = "auto",
    labels: str | Path | None = None,
    group_by: GroupBy | None = None,
) -> Path:
    """Store predictions made elsewhere as records; returns the records file. See ``docs/records.md``.

    group_by  samples that belong together, kept with the records: a CSV file id,group, a column of *file* or *labels*,
              or a regular expression on the ids
    """
    records = import_file(file, model, split, costs, format, labels, group_by)
    return Run(Path(run)).write(records)


def savers(
    run: str | Path | Run,
    base: str,
    *,
    cost: str = "macs",
    score: str = "max_prob",
    split: str = "val",
    holdout: float = 0.0,
    seed: int = 0,
    method: str = "sweep",
    max_drop: float | str = 0.0,
    guarantee: float | str | None = None,
    test: str = "auto",
    group_by: GroupBy | None = None,
) -> SaverRanking:
    """Rank the models of a run as savers for *base* by ΔC (TinySaver Eq. 6, 7, 10).

    max_drop   accuracy that may be lost: 0.005 or ``"0.5%"`` is half a point
    guarantee  confidence, 0.9 or ``"90%"``, that all savers' certified drops hold at once; they are ranked on other
               samples
    group_by   samples that belong together: a CSV file id,group, a column, a regular expression on the ids, or ``none``
    """
    return rank_savers(
        _opened(run),
        base,
        cost=cost,
        score=score,
        split=split,
        holdout=holdout,
        seed=seed,
        method=method,
        max_drop=given_drop(max_drop) or 0.0,
        guarantee=given_share(guarantee, "guarantee"),
        test=test,
        group_by=group_by,
    )


def shortlist(
    base: str,
    *,
    size: str = "native",
    cost: str | None = None,
    device: str | None = None,
    max_drop: float | str = 0.0,
    top: int = 10,
    per_family: int = 2,
) -> Shortlist:
    """Which of timm's models are worth recording as savers for *base*, from published accuracy and speed alone."""
    drop = given_drop(max_drop) or 0.0
    return _shortlist(base, size=size, cost=cost, device=device, max_drop=drop, top=top, per_family=per_family)


def chains(
    run: str | Path | Run,
    base: str,
    *,
    max_drop: float | str | None = None,
    max_cost: float | str | None = None,
    max_stages: int = 3,
    top: int = 10,
    cost: str = "macs",
    score: str = "max_prob",
    split: str = "val",
    holdout: float = 0.5,
    seed: int = 0,
    group_by: GroupBy | None = None,
) -> ChainRanking:
    """Search all chains of savers to *base* under one budget, and what each further stage buys.

    group_by  samples that belong together: a CSV file id,group, a column, a regular expression on the ids, or ``none``
    """
    return find_chains(
        _opened(run),
        base,
        max_drop=given_drop(max_drop),
        max_cost=max_cost,
        max_stages=max_stages,
        top=top,
        cost=cost,
        score=score,
        split=split,
        holdout=holdout,
        seed=seed,
        group_by=group_by,
    )


def analyse(
    run: str | Path | Run,
    base: str,
    *,
    savers: Sequence[str] | None = None,
    split: str = "val",
    train: str | None = None,
    cost: str = "macs",
    score: str = "max_prob",
    max_drop: float | str = 0.0,
    draws: int = 200,
    seed: int = 0,
    group_by: GroupBy | None = None,
) -> Analysis:
    """Why savers save or do not: failure ranking, mistakes, break-even, noise, selection, transfer.

    group_by  samples that belong together: a CSV file id,group, a column, a regular expression on the ids, or ``none``
    """
    return _analyse(
        _opened(run),
        base,
        savers=savers,
        split=split,
        train=train,
        cost=cost,
        score=score,
        max_drop=given_drop(max_drop) or 0.0,
        draws=draws,
        seed=seed,
        group_by=group_by,
    )


def tune(
    run: str | Path | Run,
    stages: Sequence[str],
    *,
    max_drop: float | str | None = None,
    max_cost: float | str | None = None,
    min_metric: float | str | None = None,
    min_accuracy: float | str | None = None,
    method: str = "sweep",
    score: str = "max_prob",
    cost: str = "macs",
    split: str = "val",
    holdout: float = 0.5,
    seed: int = 0,
    guarantee: float | str | None = None,
    test: str = "auto",
    savers_tried: int = 1,
    options: Mapping[str, Any] | None = None,
    group_by: GroupBy | None = None,
    judge_on: str = "random",
    trained_on: str | Dataset | None = None,
    allow_bad_base: bool = False,
) -> Tuning:
    """Choose the exits of (savers…, base) for one budget; ``.save(folder)`` writes the cascade.

    Drops, accuracies and confidences are fractions (0.005) or text (``"0.5%"``); a bare drop of 0.1 or more is refused.
    allow_bad_base  go on with a base that is no better than chance on its labels, which is refused otherwise

    group_by  samples that belong together: a CSV file id,group, a column, a regular expression on the ids, or ``none``
    judge_on    ``last``: the last samples of the records judge, and not a random part; for data in the order of time
    trained_on  data that the models were trained on: DataError when recorded samples are in it

    See :func:`pilotfish.plan.tune` for methods, scores and guarantees.
    """
    if trained_on is not None:
        check_trained_on(run, stages, trained_on, split)
    return _tune(
        _opened(run),
        stages,
        max_drop=given_drop(max_drop),
        max_cost=max_cost,
        min_metric=given_share(min_metric, "min_metric"),
        min_accuracy=given_share(min_accuracy, "min_accuracy"),
        method=method,
        score=score,
        cost=cost,
        split=split,
        holdout=holdout,
        seed=seed,
        guarantee=given_share(guarantee, "guarantee"),
        test=test,
        savers_tried=savers_tried,
        options=options,
        group_by=group_by,
        judge_on=judge_on,
        allow_bad_base=allow_bad_base,
    )


def check_trained_on(
    run: str | Path | Run, stages: Sequence[str], trained_on: str | Dataset, split: str = "val"
) -> None:
    """DataError when recorded samples of the last of *stages* are in the data *trained_on*, or when that cannot be
    told."""
    from pilotfish.data import refuse_trained_on

    for base in stages[-1:]:
        refuse_trained_on(trained_on, _opened(run).read(base, split, ("id", "label", "prediction", "content")))


def bench(
    cascade: Cascade | str | Path,
    data: str | Dataset,
    *,
    exit_ratio: float | None = None,
    runs: int = 5,
    samples: int = 500,
    workers: int | None = None,
    peers: bool = True,
    allow_python: Collection[str] = (),
) -> BenchResult:
    """Time a cascade beside its stages alone, and beside other ways to run it (*peers*); see
    :class:`pilotfish.runtime.times.BenchResult`. *allow_python* as for :meth:`Cascade.load`."""
    from pilotfish.data import open_data
    from pilotfish.runtime import Cascade as Loaded
    from pilotfish.runtime import bench as run_bench

    loaded = cascade if isinstance(cascade, Loaded) else Loaded.load(cascade, allow_python=allow_python)
    samples_of = open_data(data)
    return run_bench(
        loaded, samples_of, exit_ratio=exit_ratio, runs=runs, samples=samples, workers=workers, peers=peers
    )


def tune_runtime(
    cascade: str | Path,
    data: str | Dataset | None = None,
    *,
    device: str = "cpu",
    backends: Sequence[str] | None = None,
    seconds: float = 20.0,
    progress: Progress | None = None,
    allow_python: Collection[str] = (),
) -> RuntimeTuning:
    """Measure how each stage of the cascade in folder *cascade* runs fastest on *device* and keep that in the folder.

    data      samples on which the backends' answers are compared
    backends  names to try; all that need no compilation by default
    seconds   about how long each stage may take
    allow_python  as for :meth:`Cascade.load`
    """
    from pilotfish.data import open_data
    from pilotfish.runtime import tune_runtime as run_tune

    samples_of = None if data is None else open_data(data)
    return run_tune(
        cascade,
        samples_of,
        device=device,
        backends=backends,
        seconds=seconds,
        progress=progress,
        allow_python=allow_python,
    )


def quantise(
    model: str,
    data: str | Dataset,
    out: str | Path,
    *,
    samples: int = 128,
    calibration: str = "minmax",
    progress: Progress | None = None,
) -> Quantised:
    """Write *model* in int8 to the .onnx file *out*, calibrated on samples of *data*; record it as ``onnx:FILE``.

    calibration  how the range of each tensor is found: minmax, entropy or percentile
    """
    from pilotfish.data import open_data
    from pilotfish.flow.quantise import quantise as run_quantise

    samples_of = open_data(data)
    return run_quantise(model, samples_of, out, samples=samples, calibration=calibration, progress=progress)


def export(
    cascade: str | Path,
    out: str | Path,
    *,
    batched: bool = False,
    data: str | Dataset | None = None,
    samples: int = 64,
    progress: Progress | None = None,
    allow_python: Collection[str] = (),
) -> ExportedCascade:
    """Write the cascade in folder *cascade* as the single ONNX file *out*, checked against the engine.

    batched  for any number of samples at a time, instead of exactly one
    data     samples to compare and time on; random inputs otherwise
    allow_python  as for :meth:`Cascade.load`
    """
    from pilotfish.data import open_data
    from pilotfish.runtime.export import export as run_export

    samples_of = None if data is None else open_data(data)
    return run_export(
        cascade,
        out,
        batched=batched,
        data=samples_of,
        samples=samples,
        progress=progress,
        allow_python=allow_python,
    )


def export_stages(
    cascade: str | Path,
    out: str | Path,
    *,
    data: str | Dataset | None = None,
    samples: int = 64,
    allow_python: Collection[str] = (),
) -> ExportedStages:
    """Write every stage of the cascade in folder *cascade* as an ONNX file of its own into the folder *out*, with
    ``stages.json``; exits of one network become its parts. *data*: samples to compare on; random inputs otherwise.
    *allow_python* as for :meth:`Cascade.load`."""
    from pilotfish.data import open_data
    from pilotfish.runtime.export import export_stages as run_export

    samples_of = None if data is None else open_data(data)
    return run_export(cascade, out, data=samples_of, samples=samples, allow_python=allow_python)


def write_report(
    out: str | Path,
    *,
    run: str | Path | Run | None = None,
    base: str | None = None,
    stages: Sequence[str] | None = None,
    cascade: str | Path | None = None,
    cost: str | None = None,
    score: str | None = None,
    split: str | None = None,
    bench: Mapping[str, Any] | None = None,
) -> Path:
    """Write one offline HTML page about a base's savers, a pair, or a cascade folder.

    split  of the run, whose figures the page shows: ``val`` by default, and what a cascade was tuned on
    cost, score  ``macs`` and ``max_prob`` by default; a cascade brings its own
    bench  the document of ``BenchResult.to_json()``, shown when given
    """
    from pilotfish.cascade import load_artefact
    from pilotfish.report import write_report as write

    return write(
        out,
        run=None if run is None else _opened(run),
        base=base,
        stages=stages,
        artefact=None if cascade is None else load_artefact(cascade),
        cost=cost,
        score=score,
        split=split,
        bench=bench,
    )


def _opened(run: str | Path | Run) -> Run:
    return run if isinstance(run, Run) else _open_run(run)
