"""Which output of a model is meant, of those that it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError, nearest
from pilotfish.models.outputs.activation import COARSE, OUTSIDE

NAMED = ("logits", "output_logits", "probabilities", "output_probability", "probability", "probs", "scores")
BESIDE = ("aux", "embed", "feature", "hidden", "pooler", "attention", "loss")  # parts of names of what is no answer
WHOLE = ""  # the name of an output that has none, being the only one


@dataclass(frozen=True)
class Output:
    """One output of a model for a batch.

    name    as ``?output=`` takes it; empty where the model returns one thing
    values  (N, …) on the host
    dtype   what the model returned, by name
    ending  the activation that it is known to come from, of ``activation.ACTIVATIONS``; None where that is not known
    class_names  of its columns, where it names them
    mapped  whether the model returns a dictionary for each sample, of which these are the values
    """

    name: str
    values: NDArray[Any]
    dtype: str
    ending: str | None = None
    class_names: tuple[str, ...] | None = None
    mapped: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, dimensions of 1 left out."""
        return tuple(d for d in self.values.shape[1:] if d != 1)

    @property
    def classes(self) -> int:
        """How many classes it can be the answer to; 0 where it is no answer."""
        if self.values.dtype.kind != "f" or self.values.ndim == 0 or len(self.shape) > 1:
            return 0
        return self.shape[0] if self.shape else 2

    @property
    def tolerance(self) -> float:
        """How far rounding may take its probabilities."""
        return COARSE if self.dtype in ("float16", "bfloat16") or "float8" in self.dtype else OUTSIDE

    @property
    def matrix(self) -> NDArray[Any]:
        """(N, C), or (N, 1)."""
        return self.values.reshape(len(self.values), -1)

    def __str__(self) -> str:
        return f"{self.name or 'the output'} {self.dtype} ({', '.join(['N', *map(str, self.values.shape[1:])])})"

    @property
    def is_irregular(self) -> bool:
        """Whether it must be reshaped or completed to be (N, C)."""
        return self.mapped or self.values.ndim != 2 or self.values.shape[1] == 1

    def joined(self, more: Output) -> Output:
        """The same output for these samples and for *more*."""
        if self.values.ndim == 0 or self.values.shape[1:] != more.values.shape[1:]:
            return self
        return dataclasses.replace(self, values=np.concatenate([self.values, more.values]))


def named(found: Any, rows: int) -> list[tuple[str, Any]]:
    """What a model returned for *rows* samples, as (name, array) pairs.

    Names are keys of a dictionary or a ModelOutput, fields of a named tuple or a dataclass, places in a tuple; what is
    no container has none.
    """
    if isinstance(found, Mapping):
        pairs = [(str(key), value) for key, value in found.items()]
    elif isinstance(found, tuple) and hasattr(found, "_fields"):
        pairs = list(zip(found._fields, found, strict=True))
    elif dataclasses.is_dataclass(found) and not isinstance(found, type):
        pairs = [(field.name, getattr(found, field.name)) for field in dataclasses.fields(found)]
    elif isinstance(found, tuple | list) and _is_several(found, rows):
        pairs = [(str(i), value) for i, value in enumerate(found)]
    elif not hasattr(found, "shape") and hasattr(found, "logits"):
        pairs = [(key, value) for key, value in vars(found).items() if not key.startswith("_")]
        pairs = pairs or [("logits", found.logits)]
    else:
        return [(WHOLE, found)]
    return [(name, value) for name, value in pairs if hasattr(value, "shape") or _is_matrix(value, rows)]


def _is_several(found: Sequence[Any], rows: int) -> bool:
    """Whether a tuple or list holds several outputs, and not the rows of one."""
    if any(isinstance(value, Mapping) or value is None for value in found):
        return True
    shapes = [tuple(value.shape) for value in found if hasattr(value, "shape")]
    if not shapes:
        return isinstance(found, tuple) and all(_is_matrix(value, rows) for value in found)
    return any(len(shape) >= 2 for shape in shapes) or (len(found) != rows and all(s == (rows,) for s in shapes))


def _is_matrix(value: Any, rows: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == rows and all(isinstance(v, list | tuple) for v in value)


def place_of(names: Sequence[str], wanted: str) -> int | None:
    """Where the output called *wanted*, or of that number, stands among *names*; None where there is none."""
    if wanted in names:
        return list(names).index(wanted)
    return int(wanted) if wanted.isdecimal() and len(wanted) < 10 and int(wanted) < len(names) else None


def pick(found: Any, output: str | None, rows: int, where: str) -> Any:
    """The output called *output* of what a model returned; ModelError lists those that there are."""
    pairs = named(found, rows)
    if output is None and len(pairs) == 1:
        return pairs[0][1]
    if output is not None and (at := place_of([name for name, _ in pairs], output)) is not None:
        return pairs[at][1]
    names = [name or "one without a name" for name, _ in pairs]
    wanted = "several outputs and no ?output=NAME" if output is None else f"no output {output!r}"
    hint = "" if output is None or not names else f"; {nearest(output, names)}"
    raise ModelError(f"{where}: {wanted}; there are {', '.join(names) or 'none that are arrays'}{hint}")


def as_array(value: Any) -> NDArray[Any]:
    """*value* on the host, floating point of 16 bits and fewer as float32: a tensor of any device, with a gradient or
    without, a list, whatever numpy can read."""
    if hasattr(value, "detach"):  # torch's
        value = value.detach()
        if value.dtype.is_floating_point and value.element_size() < 4:
            value = value.float()
        value = value.cpu().numpy()
    found = np.asarray(value)
    kind = found.dtype.kind
    if (kind == "f" and found.dtype.itemsize < 4) or (kind == "V" and "float" in found.dtype.name):
        found = found.astype(np.float32)
    return found


def output_of(
    name: str,
    value: Any,
    ending: str | None = None,
    class_names: tuple[str, ...] | None = None,
    mapped: bool = False,
) -> Output:
    """*value* as an :class:`Output`."""
    dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
    array = as_array(value)
    return Output(name, array, dtype or array.dtype.name, ending, class_names, mapped)


def choose(outputs: Sequence[Output], rows: int, classes: int | None, where: str) -> Output:
    """The one of *outputs* for *rows* samples that answers the classes.

    classes  how many the model or the data name, where that is known: an output of as many is taken before others,
             one of fewer is none

    ModelError where several fit, with what to write; where none does, with what was found.
    """
    fitting = [o for o in outputs if o.classes and len(o.values) == rows]
    if len(fitting) > 1:
        fitting = [o for o in fitting if o.classes >= (classes or 2)] or fitting
    if len(fitting) > 1:
        fitting = [o for o in fitting if not any(part in o.name.lower() for part in BESIDE)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ModelError(f"{where}: {_none(outputs, rows)}")
    exact = [o for o in fitting if o.classes == classes]
    by_name = sorted((o for o in fitting if _rank(o) < len(NAMED)), key=_rank)
    both = [o for o in by_name if o in exact]
    if both and (len(both) == 1 or _rank(both[0]) < _rank(both[1])):
        return both[0]
    if len(exact) == 1 and not by_name:
        return exact[0]
    if not exact and by_name and (len(by_name) == 1 or _rank(by_name[0]) < _rank(by_name[1])):
        return by_name[0]
    listed = ", ".join(str(o) for o in fitting)
    known = "" if classes is None else f", {classes} classes are known"
    raise ModelError(
        f"{where}: several outputs may be the answer ({listed}{known}); say which, as in ?output={fitting[0].name}"
    )


def place(outputs: Sequence[Output], wanted: str, rows: int, where: str) -> int:
    """Where the output called *wanted*, or of that number, stands; ModelError when it is not there or is no answer."""
    at = place_of([o.name for o in outputs], wanted)
    if at is None:
        there = ", ".join(str(o) for o in outputs)
        raise ModelError(f"{where}: no output {wanted!r}; there are {there or 'none that are arrays'}")
    if not outputs[at].classes:
        raise ModelError(f"{where}: {_none([outputs[at]], rows)}")
    return at


def _rank(output: Output) -> int:
    name = output.name.lower().rpartition("/")[2].split(":")[0]
    return NAMED.index(name) if name in NAMED else len(NAMED)


def _none(outputs: Sequence[Output], rows: int) -> str:
    found = ", ".join(str(o) if o.values.shape[:1] == (rows,) else f"{o.dtype} {o.values.shape}" for o in outputs)
    kinds = {o.values.dtype.kind for o in outputs}
    if kinds and kinds <= set("iubUS") and all(len(o.shape) == 0 for o in outputs):
        return (
            f"returns class numbers or names alone ({found}) and no scores; expected logits or probabilities (N, C): "
            "write its predictions to a file and use `pilotfish import`"
        )
    return (
        "expected floating-point logits or probabilities (N, C) with C >= 2, "
        f"found {found or 'nothing that is an array'} for {rows} samples"
    )
