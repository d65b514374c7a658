"""What a task is, and the tasks by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import PilotfishError, RecordsError, UsageError, nearest
from pilotfish.scores import ExitScore, Scored, ScoreKind, compute, plain_score
from pilotfish.scores.outputs import Mask, SampleArrays, join_rows
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks.chance import Verdict

Quality = NDArray[Any]
"""bool where answers are right or wrong, else float64 in [0, 1]."""


USUAL_SCORE = "max_prob"
PROMISES = (
    "drop",
    "agreement",
    "cost",
)  # kinds of guarantees; any other is a metric's name: it is at least so much


@dataclass(frozen=True)
class Metric:
    """What is measured over samples, from a state per sample.

    name    in documents and on the command line: ``accuracy``, ``micro_f1``
    says    in prose: "accuracy", "micro F1"
    kind    ``mean``: the mean of the task's quality, which is the state; ``ratio``: *value* of the sum of the samples'
            states; ``rank``: *value* of the states of whoever answers each sample
    states  (outputs, truth) of N samples -> their states; None for a mean. For a ratio float64 (N, S) that can be added
            up; for a rank anything with ``take(rows)``
    value   for a ratio: sums of states, float64 (..., S) -> values in [0, 1], float64 (...). For a rank: (states of
            each of K models, int64 (N,) which of them answers each sample) -> the value in [0, 1]
    along   for a rank: (states, routings, one after the other, each as *value* takes it and -1 where a sample is left
            out) -> their values, float64 (P,), in less time than each alone takes where neighbours differ in few
            samples; None: each alone
    quality  (outputs, truth) -> the quality of each answer, where it is not the task's own: what a mean is the mean of
    parts   of a ratio that is a single fraction, value = sum of good / sum of (good + bad), for guarantees that hold at
            any n: states (N, S) -> (good float64 (N,), bad float64 (N,), the most good and the most bad that one sample
            can have, whatever is answered). The last two must be known before any sample is seen, such as from the
            number of classes; the largest that were seen are no such bounds
    """

    name: str
    says: str
    kind: Literal["mean", "ratio", "rank"] = "mean"
    states: Callable[[Any, Any], Any] | None = None
    value: Callable[..., Any] | None = None
    along: Callable[[Any, Iterable[Any]], Any] | None = None
    quality: Callable[[Any, Any], Quality] | None = None
    parts: Callable[[Any], tuple[Any, Any, float, float]] | None = None


@dataclass(frozen=True)
class Column:
    """Where records keep one array of outputs.

    name      of the Parquet column; two-dimensional arrays are lists of one length
    dtype     that the array has in memory; a file may hold other widths of it. ``object``: bytes
    dims      1, or 2 for lists
    optional  whether records may lack it
    planning  whether planning reads it; what it does not read may be large
    ragged    whether a sample has a list of any length: of numbers, or of lists of one length where dims is 2
    """

    name: str
    dtype: Any
    dims: int = 1
    optional: bool = False
    planning: bool = True
    ragged: bool = False


@dataclass(frozen=True)
class Adjustment:
    """What is fitted to a model's answers before anything else looks at them: decision thresholds of labels, say.

    fit    (outputs, truth) of the samples that may be used for it -> parameters by name, float64 (P,);
           of every model some
    apply  (outputs, parameters=…) -> the outputs as they are scored, judged and answered
    check  parameters of a cascade's file, finite -> None; ValueError, in words, for such as *fit* never gives
    """

    fit: Callable[[Any, Any], Mapping[str, NDArray[np.float64]]]
    apply: Callable[..., Any]
    check: Callable[[Mapping[str, NDArray[np.float64]]], None] | None = None


def _not_named(value: Any, names: Sequence[str] | None) -> tuple[Any, str | None]:
    plain = value.tolist() if isinstance(value, np.generic | np.ndarray) else value  # the living engine's are
    return plain, None


@dataclass(frozen=True, eq=False)  # a task is itself: it can be a key, whatever it holds
class Task:
    """What an answer is: one instance binds everything that depends on it.

    An answer's arrays are *outputs*, a frozen dataclass that is a :class:`pilotfish.scores.outputs.SampleArrays`. The
    *truth* is an array (N,), a matrix (N, C) or arrays like the outputs, with a bool array ``known``.

    name       as records and cascades carry it
    metric     what is measured; drops are in its points
    metrics    further ones, by which it can be measured as well
    quality    (outputs, truth) of N samples -> bool (N,) where an answer is right or wrong, else float64 (N,) in [0, 1]
    outputs    makes the outputs of their arrays by name
    columns    where records keep each array of the outputs
    reduce     (raw, n, model, keep) -> outputs: what a model returned for n samples, checked. *model* is named in the
               ModelError for anything else; *keep* is how much detail is wanted: a number of best classes, or what
               ``record --store`` took (tasks without such a choice leave it alone)
    reference  outputs -> truth: the answers of a base without labels are what is right
    missing    what stands for no truth and for no answer, in the dtype of both: int64 -1, float64 NaN; None where
               answers are objects
    answer     outputs -> array (N,): what ``predict`` answers
    of_answers  values of *answer* -> outputs that say the same, as far as ``quality`` and ``reference`` look at them;
               None: answers are compared as they are
    no_truth   n -> the truth of n samples of which nothing is known, where it is no array (N,) of *missing*
    truth_columns  where records keep the arrays of the truth, where it is no array (N,); of a matrix the one column is
               called ``label``
    truth_of   makes the truth of its arrays by name, where it is none itself
    place      (the truth as the data have it, the data, the model's classes) -> (truth, notes); DataError where they do
               not belong together. None: by the numbers or names of classes
    recorded   (outputs, truth) of a batch that was computed -> both as records keep them
    adjustment  what is fitted to the answers of every model
    keep       the score of a stage (None: of the last) -> what *reduce* is told to keep for it when a cascade runs;
               None: as many of the best classes as the score looks at
    scores     by name, the first by default; ``max_prob`` is that one where a task has no score of this name
    says       (one value of *answer*, the model's class names) -> (prediction as JSON, its name or None)
    draw       (image, prediction as *says* has it, the model's class names) -> uint8 (H, W, 3), the answer drawn on the
               image, perhaps enlarged; None: it is written below the image alone
    by_class   (what it is called, (outputs, truth) -> float64 (C,), NaN for classes that neither has): for reports
    figures    (outputs, truth) -> further figures in [0, 1], by name
    curves     (outputs, truth) -> curves (x, y) by name: precision at each recall
    finite     outputs -> bool (N,): False where a model's outputs are not finite; such a sample never exits. None:
               every float array of the outputs says it
    sees_inputs  whether *reduce* is given what the model was given as well, as ``inputs``: an array or None
    classes    whether a raw answer is logits of numbered classes: then the recorder finds out which output is meant and
               matches labels by the names of the classes, and devices may reduce
    same       (outputs, outputs) -> bool (N,): whether two answers agree; None: no votes and no patience
    mix        (outputs of several models, weights, how many of the best classes of each it may look at) -> outputs;
               None: no ensembles and no averages
    check      (model, truth, outputs, n_classes) -> None; RecordsError for values that cannot be
    match      (records, records) -> None; AlignmentError where two models do not answer the same question
    judge      (truth, outputs, n_classes) -> Verdict against chance; None: nothing is said of chance
    """

    name: str
    metric: Metric
    quality: Callable[[Any, Any], Quality]
    outputs: Callable[..., Any]
    columns: Mapping[str, Column]
    reduce: Callable[..., Any]
    reference: Callable[[Any], Any]
    missing: np.generic | None
    answer: Callable[[Any], NDArray[Any]]
    scores: Mapping[str, ScoreKind]
    metrics: tuple[Metric, ...] = ()
    of_answers: Callable[[Sequence[Any]], Any] | None = None
    no_truth: Callable[[int], Any] | None = None
    truth_columns: Mapping[str, Column] = field(default_factory=dict)
    truth_of: Callable[..., Any] | None = None
    place: Callable[[Any, Any, Any], tuple[Any, tuple[str, ...]]] | None = None
    recorded: Callable[[Any, Any], tuple[Any, Any]] | None = None
    adjustment: Adjustment | None = None
    keep: Callable[[ExitScore | None], int | str] | None = None
    says: Callable[[Any, Sequence[str] | None], tuple[Any, str | None]] = _not_named
    draw: Callable[[Any, Any, Sequence[str] | None], NDArray[np.uint8]] | None = None
    by_class: tuple[str, Callable[[Any, Any], NDArray[np.float64]]] | None = None
    figures: Callable[[Any, Any], Mapping[str, float]] | None = None
    curves: Callable[[Any, Any], Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]] | None = None
    finite: Callable[[Any], Mask] | None = None
    sees_inputs: bool = False
    classes: bool = False
    same: Callable[[Any, Any], Mask] | None = None
    mix: Callable[[Sequence[Any], Sequence[float], int], Any] | None = None
    check: Callable[[str, Any, Any, int | None], None] | None = None
    match: Callable[[Any, Any], None] | None = None
    judge: Callable[[Any, Any, int | None], Verdict] | None = None

    def known(self, truth: Any) -> Mask:
        """bool (N,): where the truth is known."""
        if isinstance(truth, SampleArrays):
            return np.asarray(vars(truth)["known"], bool)
        if truth.dtype.kind == "f":
            return np.asarray(~np.isnan(truth))
        if truth.dtype == object:
            return np.array([one is not None for one in truth], bool)
        missing = -1 if self.missing is None else self.missing
        return np.asarray((truth != missing).all(axis=tuple(range(1, truth.ndim))))

    def reduced(self, raw: Any, rows: int, model: str, keep: int | str, inputs: Any = None) -> Any:
        """What *model* returned for *rows* samples, as outputs; see ``reduce``. *inputs* are the batch's, or None."""
        return self.reduce(raw, rows, model, keep, **({"inputs": inputs} if self.sees_inputs else {}))

    def unknown(self, n: int) -> Any:
        """The truth of *n* samples of which nothing is known."""
        return np.full(n, self.missing) if self.no_truth is None else self.no_truth(n)

    def truth(self, labels: NDArray[Any] | None, n: int) -> Any:
        """The truth of *n* samples, from labels int64 (n,), -1 where unknown, or float64, NaN where unknown; None:
        nothing is known."""
        found = self.unknown(n)
        if labels is not None:
            known = ~np.isnan(labels) if labels.dtype.kind == "f" else labels >= 0
            found[known] = labels[known]
        return found

    def filled(self, truth: Any, theirs: Any) -> Any:
        """*truth* of N samples, and where it is not known *theirs*."""
        known = self.known(truth)
        if known.all():
            return truth
        if not known.any():
            return theirs
        return join_rows([truth, theirs])[np.where(known, 0, len(known)) + np.arange(len(known))]

    def by_metric(self, name: str | None) -> Task:
        """This task, measured by the metric called *name*; None: as it is. UsageError lists the names."""
        if name is None or name == self.metric.name:
            return self
        own = next((task for (task, _), one in _MEASURED.items() if one is self), self)  # its quality is the task's
        every = (own.metric, *own.metrics)
        metric = next((one for one in every if one.name == name), None)
        if metric is None:
            raise UsageError(f"unknown metric {name!r} of task {self.name}; {nearest(name, [m.name for m in every])}")
        if metric is own.metric:
            return own
        others = tuple(one for one in every if one is not metric)
        measured = replace(own, metric=metric, metrics=others, quality=metric.quality or own.quality)
        return _MEASURED.setdefault((own, name), measured)

    def value(self, outputs: Any, truth: NDArray[Any]) -> float:
        """The metric's value where one model answers N samples."""
        if self.metric.states is None:
            return float(self.quality(outputs, truth).mean())
        assert self.metric.value is not None
        states = self.metric.states(outputs, truth)
        if self.metric.kind == "ratio":
            return float(self.metric.value(states.sum(axis=0)))
        return float(self.metric.value((states,), np.zeros(len(truth), np.int64)))

    def score(self, name: str | None = None) -> ScoreKind:
        """The score called *name*; None, or ``max_prob`` where the task has none of that name: the first. UsageError,
        with the nearest name, for any other."""
        if name is not None and name in self.scores:
            return self.scores[name]
        if name in (None, USUAL_SCORE):
            return next(iter(self.scores.values()))
        whose = "" if self.classes else f" of task {self.name}"
        raise UsageError(f"unknown score {name!r}{whose}; {nearest(name, [*self.scores, 'auto'])}")

    def score_name(self, name: str | None) -> str:
        """The name of the score that *name* asks for: ``auto`` as it is."""
        return name if name == "auto" else self.score(name).name

    def needs_fit(self, name: str | None) -> bool:
        """Whether the score is fitted to data."""
        return name == "auto" or self.score(name).fit is not None

    def scored(self, name: str | None, outputs: Any) -> Scored:
        """A score that needs no fitting, of N samples. RecordsError, which says what is lacking, where the outputs do
        not have it."""
        return compute(plain_score(self.score(name), outputs), outputs)

    def disagreement(self, answer: Any, base: Any) -> float:
        """How far one value of ``answer`` is from the base's, in [0, 1]: 1 - its quality where the base's is the truth,
        or whether the two differ."""
        if self.of_answers is None:
            return float(not np.array_equal(answer, base))
        both = self.of_answers([answer, base])
        return 1 - float(self.quality(both[:1], self.reference(both[1:]))[0])

    def confidence(self, outputs: Any) -> Scored | None:
        """The first of the scores, where it can be had from these outputs: what a last stage shows. A model without it
        can be no saver."""
        kind = self.score()
        try:
            return compute(ExitScore(kind, kind.scale_of(outputs)), outputs)
        except RecordsError:
            return None

    def usable(self, outputs: Any) -> Mask:
        """bool (N,): False where a model's outputs are not finite."""
        if self.finite is not None:
            return self.finite(outputs)
        arrays = [a for a in vars(outputs).values() if a is not None and a.dtype.kind == "f"]
        fine = [
            a.all_true(np.isfinite(a.values))
            if isinstance(a, Ragged)
            else np.isfinite(a).all(axis=tuple(range(1, a.ndim)))
            for a in arrays
        ]
        return np.all(fine, axis=0) if fine else np.ones(len(outputs), bool)

    def adjuster(self, parameters: Mapping[str, Any]) -> Callable[[Any], Any] | None:
        """What applies an adjustment with these parameters to outputs; None where there is nothing to apply."""
        if self.adjustment is None or not parameters:
            return None
        return partial(self.adjustment.apply, parameters=_arrays(parameters))

    def check_adjustment(self, parameters: Mapping[str, Any]) -> None:
        """ValueError, in words, for parameters that were not fitted by this task."""
        if self.adjustment is None and parameters:
            raise ValueError(f"task {self.name} has no adjustment, found {', '.join(sorted(parameters))[:60]}")
        if self.adjustment is None or not parameters:
            return
        arrays = _arrays(parameters)
        if wrong := [name for name, values in arrays.items() if not np.isfinite(values).all()]:
            raise ValueError(f"adjustment {wrong[0]!r} has numbers that are not finite")
        if self.adjustment.check is not None:
            self.adjustment.check(arrays)


def _arrays(parameters: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    return {name: np.asarray(values, np.float64) for name, values in parameters.items()}


_TASKS: dict[str, Task] = {}
_MEASURED: dict[tuple[Task, str], Task] = {}


def register(task: Task) -> Task:
    """Make *task* known by its name, in this process. UsageError where another task has the name, or its metric the
    name of another kind of promise."""
    if clash := [m.name for m in (task.metric, *task.metrics) if m.name in PROMISES]:
        raise UsageError(f"a metric called {clash[0]!r} would be read as a promise of that kind; rename it")
    if _TASKS.setdefault(task.name, task) is not task:
        raise UsageError(f"there is a task {task.name!r} already; give yours another name")
    return task


def find_task(name: str) -> Task:
    """The task called *name*. UsageError lists the names."""
    if name not in _TASKS:
        raise UsageError(f"unknown task {name!r}; {nearest(name, _TASKS)}")
    return _TASKS[name]


def says_of(metric: str) -> str:
    """What the metric called *metric* is called in prose; of one that is not known here, its name with spaces."""
    known = {one.name: one.says for task in _TASKS.values() for one in (task.metric, *task.metrics)}
    return known.get(metric, metric.replace("_", " "))


def task_in(name: Any, where: str, error: type[PilotfishError]) -> Task:
    """The task that a file names; *error*, which names the file as *where*, for one that is not known here."""
    if not isinstance(name, str) or name not in _TASKS:
        raise error(
            f"{where}: its task {str(name)[:60]!r} is not known here (known: {', '.join(_TASKS)}); register it with "
            "pilotfish.tasks.register first, or install a newer Pilotfish"
        )
    return _TASKS[name]
