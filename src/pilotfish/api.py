"""The Python API: the same verbs, options and defaults as the command line.

Most functions are exported from their rooms as they are. Those of planning also take a run's folder, and drops and
shares as text ("0.5%"): :func:`as_given` converts them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pilotfish import plan
from pilotfish.cascade import given_class_drop, given_drop, given_metric, given_share
from pilotfish.records import GroupBy, Run, import_file, open_run

if TYPE_CHECKING:
    from pilotfish.data import Dataset
    from pilotfish.recording import RecordResult
    from pilotfish.recording.options import Progress

T = TypeVar("T")


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
    task: str | None = None,
) -> list[RecordResult]:
    """Run models over data and record their outputs, one Parquet file each. Repeat an interrupted call to resume it.

    data        ``folder:PATH``, ``arrays:FILE.npz``, ``digits``, or a data set
    models      names such as ``timm:resnet50`` or ``lite:efficientnet_lite0@128``
    run         folder for the records
    alias       a name for the records instead of the model's own
    split       name of the split
    batch_size  None: the fastest measured
    device      ``cpu``, ``cuda``, ``cuda:1``, …
    workers     threads that read samples; None: one per core
    store       ``full`` keeps all logits, ``topK`` the K largest; None: full up to 128 classes, else top10
    augment     seed of augmented views, the same for every model
    timing      whether to measure the time per sample first, at several batch sizes
    overwrite   whether to replace records made with other settings
    costs       more costs per sample of a single model, such as ``{"joules": 0.8}``
    progress    called with (model, samples done, total samples)
    group_by    groups of related samples, kept with the records: a CSV file id,group, a column of the labels, or a
                regular expression on the ids
    trained_on  the models' training data: DataError if it contains samples of *data*
    task        name of a task (:mod:`pilotfish.tasks`); None: that of the data or the model, else classes
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
        task=task,
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
    task: str | None = None,
) -> Path:
    """Store predictions made elsewhere as records; returns the records file. See ``docs/records.md``.

    file      ``.npz``, ``.csv`` or ``.parquet`` with the predictions
    run       folder for the records
    model     name of the records
    split     name of the split
    costs     per sample, such as ``{"macs": 3.9e8}``
    format    ``auto``, or ``timm``: what timm's inference script writes
    labels    file with the labels by id, if *file* has none
    group_by  groups of related samples, kept with the records: a CSV file id,group, a column of *file* or *labels*,
              or a regular expression on the ids
    task      name of a task (:mod:`pilotfish.tasks`); None: that of the file
    """
    target = Run(Path(run))
    classes = target.class_names(split, but=model)
    return target.write(import_file(file, model, split, costs, format, labels, group_by, task, classes))


def as_given(function: Callable[..., T], verb: str) -> Callable[..., T]:
    """Wrap a function of planning as the verb *verb* of the API: ``run`` may be a folder, drops and shares text."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*values: Any, **named: Any) -> T:
        try:
            bound = signature.bind(*values, **named)
        except TypeError as error:
            raise TypeError(f"{verb}() {error}") from None
        for name, read in _READ.items():
            if name in bound.arguments:
                bound.arguments[name] = read(bound.arguments[name], name)
        return function(*bound.args, **bound.kwargs)

    called.__name__ = called.__qualname__ = verb
    return called


def _opened(run: str | Path | Run, _: str = "run") -> Run:
    return run if isinstance(run, Run) else open_run(run)


def _class_drops(value: Mapping[Any, float | str] | None, name: str) -> dict[str, float] | None:
    if value is None:
        return None
    return {str(key): given_class_drop(drop, f"{name}[{key!r}]") for key, drop in value.items()}


_READ: Mapping[str, Callable[[Any, str], Any]] = {
    "run": _opened,
    "max_drop": given_drop,
    "min_metric": given_metric,
    "min_accuracy": given_metric,
    "guarantee": given_share,
    "class_max_drop": _class_drops,
    "worst_class_drop": given_class_drop,
}
savers = as_given(plan.rank_savers, "savers")
shortlist = as_given(plan.shortlist, "shortlist")
chains = as_given(plan.find_chains, "chains")
analyse = as_given(plan.analyse, "analyse")
_tune = as_given(plan.tune, "tune")


@functools.wraps(_tune)
def tune(
    run: str | Path | Run, stages: Sequence[str], *, trained_on: str | Dataset | None = None, **asked: Any
) -> plan.Tuning:
    if trained_on is not None:
        check_trained_on(run, stages, trained_on, asked.get("split", "val"))
    return _tune(run, stages, **asked)


_own = inspect.signature(plan.tune).parameters.values()
_also = inspect.Parameter("trained_on", inspect.Parameter.KEYWORD_ONLY, default=None)
tune.__signature__ = inspect.Signature([*_own, _also])  # type: ignore[attr-defined]
tune.__doc__ = f"""{(_tune.__doc__ or "").rstrip()}

    trained_on    the models' training data, by name or as a data set: DataError if it contains recorded samples
    """


def check_trained_on(
    run: str | Path | Run, stages: Sequence[str], trained_on: str | Dataset, split: str = "val"
) -> None:
    """Raise DataError if *trained_on* contains recorded samples of the last of *stages*, or if that cannot be
    determined."""
    from pilotfish.data import refuse_trained_on

    for base in stages[-1:]:
        refuse_trained_on(trained_on, _opened(run).read(base, split, ("id", "label", "prediction", "content")))


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
    metric: str | None = None,
    bench: Mapping[str, Any] | None = None,
    data: str | Dataset | None = None,
) -> Path:
    """Write an offline HTML report on a base's savers, a pair, or a cascade folder.

    out      HTML file to write
    run      folder of records, or a :class:`Run`; with *cascade*, for the plots that need records
    base     the model whose savers are shown
    stages   saver and base of a pair
    cascade  folder of a cascade
    split    split of the run to show; by default ``val``, or the one the cascade was tuned on
    cost     cost key; by default ``macs``, or the cascade's own
    score    exit score; by default the task's first (max_prob of classes), or the cascade's own
    metric   name of the metric; by default the task's first; a cascade has its own
    bench    document of ``BenchResult.to_json()`` to show
    data     the images, as for :func:`record`; those where saver and base differ most are drawn
    """
    from pilotfish.cascade import load_artefact
    from pilotfish.data import open_data
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
        metric=metric,
        bench=bench,
        data=None if data is None else open_data(data),
    )
