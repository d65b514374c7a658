"""The form of input that a callable takes, found on a first real sample of the data.

A call may cost money: what is declared is not tried, and all trials together are calls for at most eight samples.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.data import Dataset
from pilotfish.errors import ModelError, reason
from pilotfish.models.backends.python_backend import BATCH, MANY, TAKES, PythonBackend, outputs_in
from pilotfish.models.model import Model
from pilotfish.models.names.stated import options_in
from pilotfish.models.outputs.said import said_by
from pilotfish.models.preprocessing import WHOLE, Preprocessing, draw_rows, sample_inputs
from pilotfish.text import one_line

MOST = 8  # samples, over all calls
LOOKED_AT = 4
READ = 64  # samples that are read for it, at most, where some cannot be


@dataclass(frozen=True)
class First:
    """The form that a callable takes, and what it returned for the first sample.

    inputs, rows  some samples in that form, and their numbers
    calls         that it took; notes: on what was found
    """

    takes: str
    inputs: list[Any]
    rows: list[int]
    answer: Any
    calls: int
    notes: tuple[str, ...]


def find_form(model: Model, backend: PythonBackend, data: Dataset) -> First | None:
    """The form that the callable declares, or the first in which it answers a real sample."""
    if backend.takes is not None:
        return _declared(model, backend, data)
    failed: dict[str, ModelError] = {}
    calls, read = 0, list[str]()
    for form in (forms := _forms(model, backend, data)):
        inputs = _inputs(model, data, form)
        if not inputs:
            continue  # there are no such samples
        calls += 1
        rows, held = [row for row, _ in inputs], [one for _, one in inputs]
        try:
            answer = backend.changed(takes=form).answers(held[0][None])
        except ModelError as error:
            failed[form] = error
            continue
        fault = _misfit(answer, model, form, held[0][None])
        if fault is None or (form == BATCH == forms[0] and backend.reads is None and _says_numbers(answer)):
            return First(form, held, rows, answer, calls, _found(form, failed, data))
        failed[form] = fault
        read.append(form)
    if len(failed) < 2 or _runs_on_others(model, backend, data, MOST - calls):
        return None
    raise failed[read[0]] if read else ModelError(_no_form(failed))


def _declared(model: Model, backend: PythonBackend, data: Dataset) -> First | None:
    """The first sample that it answers; None where it answers none of four."""
    form = str(backend.takes)
    inputs = _inputs(model, data, form)
    for k, (_, one) in enumerate(inputs):
        try:
            answer = backend.answers(one[None])
        except ModelError:
            continue
        fault = _misfit(answer, model, form, one[None])
        if fault is not None and backend.reads is not None and k + 1 < len(inputs):
            continue  # of an odd sample perhaps
        if fault is not None and (form != BATCH or backend.reads is not None):
            raise fault
        rest = inputs[k:]
        return First(form, [one for _, one in rest], [row for row, _ in rest], answer, k + 1, ())
    return None


def _forms(model: Model, backend: PythonBackend, data: Dataset) -> Sequence[str]:
    """The forms to try, in order: what its annotation says; then a batch, unless samples have several shapes and so
    make none."""
    if _is_stated(model):
        return (BATCH, "arrays", "array")
    shapes = {one.shape for _, one in _inputs(model, data, BATCH)}
    forms = list(TAKES) if len(shapes) < 2 else [*list(TAKES)[1:], BATCH]
    return sorted(forms, key=lambda form: form != _annotated(backend.function))


def _annotated(function: Any) -> str | None:
    """The form that the type of its first parameter is: of images and paths, one or many. None for another type."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()))
    except (StopIteration, TypeError, ValueError):
        return None
    kind = first.annotation.__name__ if isinstance(first.annotation, type) else str(first.annotation)
    many = "[" in kind
    if "Image" in kind:
        return "images" if many else "image"
    inner = kind.partition("[")[2].rstrip("]") if many else kind
    return ("paths" if many else "path") if inner.rpartition(".")[2] in ("str", "Path", "PathLike") else None


def _is_stated(model: Model) -> bool:
    """Whether anybody said how samples become arrays."""
    return model.preprocessing.kind == "image" or "layout" in options_in(model.spec)


def chain_of(takes: str, model: Model) -> Preprocessing:
    """How samples become what it *takes*."""
    kind = takes if takes in MANY else f"{takes}s"
    if takes == BATCH or (kind == "arrays" and _is_stated(model)) or model.preprocessing.kind in WHOLE:
        return model.preprocessing
    return WHOLE[kind]


def _inputs(model: Model, data: Dataset, takes: str) -> list[tuple[int, Any]]:
    """Up to four samples (row, input), drawn at random."""
    rows = draw_rows(len(data), READ).tolist()
    return list(itertools.islice(sample_inputs(data, chain_of(takes, model), rows), LOOKED_AT))


def _misfit(answer: Any, model: Model, form: str, batch: Any) -> ModelError | None:
    """Why *answer* is none to one sample; None where it is one."""
    reads = getattr(model.backend, "reads", None)
    if reads is not None:
        try:
            reads(answer, batch, model.spec)
        except ModelError as error:
            return error
        return None
    return None if _fits(answer, model, batch) else ModelError(unreadable(model, form, answer))


def _fits(answer: Any, model: Model, batch: Any) -> bool:
    """Whether *answer* says the class of one sample, or scores of all classes."""
    if said_by(answer, 1) is not None:
        return True
    try:
        outputs = outputs_in(answer, 1, model.spec, batch)
    except ModelError:
        return False
    return any(one.classes and len(one.values) == 1 for one in outputs)


def unreadable(model: Model, form: str, answer: Any, samples: int = 1) -> str:
    """One line about an answer of no known form to so many samples."""
    given = "one sample" if samples == 1 else f"{samples} samples"
    shape = getattr(answer, "shape", None)
    try:
        shown = one_line(" ".join(repr(answer).split()))[:120] if shape is None else f"{answer.dtype} {tuple(shape)}"
    except Exception:  # objects of others may raise anything when they are shown
        shown = f"an object of class {type(answer).__name__} that cannot be shown"
    advice = ": write its predictions to a file and use `pilotfish import`" if _says_numbers(answer) else ""
    return (
        f"{model.spec}, given {given} as {TAKES[form]}, returns {shown}; expected for each sample scores of all "
        f"classes, in order or by name, or its class with a confidence{advice}"
    )


def _says_numbers(answer: Any) -> bool:
    """Whether it answered one sample with a class alone: other forms would give no more."""
    return getattr(answer, "shape", None) in ((1,), (1, 1)) or (
        isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], int | str)
    )


def _runs_on_others(model: Model, backend: PythonBackend, data: Dataset, most: int) -> bool:
    """Whether it takes a batch after all, and the first sample alone broke it."""
    for _, one in _inputs(model, data, BATCH)[1 : 1 + most]:
        try:
            answer = backend.answers(one[None])
        except ModelError:
            continue
        return _misfit(answer, model, BATCH, one[None]) is None or (backend.reads is None and _says_numbers(answer))
    return False


def _found(form: str, failed: dict[str, ModelError], data: Dataset) -> tuple[str, ...]:
    """The note on a form that was tried and not declared."""
    if form == BATCH:
        return ()
    before = "; ".join(f"not {TAKES[other]}" for other in failed)
    shown = f"it takes {TAKES[form]}, as a sample of {data.spec} shows{f' ({before})' if before else ''}"
    return (f"{shown}: state it with takes = {form!r} on the function, or ?takes={form}",)


def _no_form(failed: dict[str, ModelError]) -> str:
    first, *others = failed
    said = str(failed[first])
    why = [f"{TAKES[form]}: {_cause(failed[form])}" for form in others if _cause(failed[form]) not in said]
    tried = f"; nor does it take {'; '.join(why)}" if why else f"; {len(failed)} forms of input were tried, all alike"
    return f"{said}{tried}; state what it takes, as in takes = 'images' on the function"


def _cause(error: ModelError) -> str:
    cause = error.__cause__
    return reason(error, 100) if cause is None else f"{type(cause).__name__}: {reason(cause, 80)}"
