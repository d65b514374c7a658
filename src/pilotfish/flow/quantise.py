"""int8 models: static quantisation of an ONNX model on samples of your own (TinySaver 4.4).

The result is a model like any other, ``onnx:FILE``, with preprocessing of its own (dtype int8), so it has records, an
accuracy and costs of its own, and planning sees what it is really worth.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset, open_data
from pilotfish.errors import DataError, ModelError, UsageError
from pilotfish.files import atomic_path
from pilotfish.machine import processor
from pilotfish.models.backends.onnx_backend import OnnxBackend
from pilotfish.models.costs.timing import time_batches
from pilotfish.models.model import F32, Model
from pilotfish.models.names.load_model import load_model
from pilotfish.models.onnx.int8_agreement import Judge
from pilotfish.models.onnx.onnx_export import softmax
from pilotfish.models.onnx.onnx_metadata import described, write_metadata
from pilotfish.models.onnx.quantise_onnx import CALIBRATIONS, quantise_onnx
from pilotfish.models.outputs.own_size import fit_images
from pilotfish.models.outputs.raw_answers import EXPECTED, Size
from pilotfish.models.outputs.reading import Reading
from pilotfish.models.outputs.settle import settle
from pilotfish.models.outputs.settle_task import settle_task
from pilotfish.models.preprocessing import sample_inputs, stacked
from pilotfish.text import quantity

LEAST = 8  # samples to calibrate on
COMPARED = 3  # samples calibrated on for each one that is compared
MAY_DIFFER = 3  # of the samples that are compared, where an agreement is asked for
MOST_COMPARED = 512
BATCH = 16  # of samples that are compared
PIXELS = 4096  # of a mask that are compared, at most
COUNTED = {"mask": "pixels", "labels": "labels"}
LOW = 0.5  # agreement below which a model is another one
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Quantised:
    """An int8 model and how it compares with its source, on samples that it was not calibrated on.

    agreement        share of equal predictions
    max_difference   largest difference of a probability; mean_difference of the winner's
    float_bytes, bytes, float_ms, ms  size, and milliseconds per sample with all cores at work, before and after
    reduced_range    whether weights were kept to 7 bits, for processors whose 8-bit products saturate
    min_agreement    the agreement that was asked for
    kept_float32     the nodes that stayed in float32 for it
    notes            how the source was read, and what is odd about the result, a line each
    task             what the two answer; of masks the pixels are compared, of labels each label
    """

    path: Path
    source: str
    samples: int
    compared: int
    agreement: float
    max_difference: float
    mean_difference: float
    float_bytes: int
    bytes: int
    float_ms: float
    ms: float
    calibration: str
    reduced_range: bool
    min_agreement: float | None = None
    kept_float32: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    task: str = "classes"

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish quantise --json``."""
        model = f"onnx:{self.path}" + (f"?task={self.task}" if self.task in EXPECTED else "")
        return {**dataclasses.asdict(self), "path": str(self.path), "model": model}


def quantise(
    model: str,
    data: str | Dataset,
    out: str | Path,
    *,
    samples: int = 128,
    calibration: str = "minmax",
    min_agreement: float | None = None,
    progress: Tell | None = None,
) -> Quantised:
    """Write *model* in int8 to the .onnx file *out*, calibrated on up to *samples* samples spread over *data*.

    calibration    how the range of each tensor is found: minmax, entropy or percentile
    min_agreement  the share of other samples of *data* that the int8 model is to give its source's class, such as 0.98:
                   nodes that harm most then stay in float32

    ModelError for a model that has no float32 ONNX form or cannot reach *min_agreement*, DataError when too few samples
    can be read.
    """
    if calibration not in CALIBRATIONS:
        raise UsageError(f"calibration is one of {', '.join(CALIBRATIONS)}; found {calibration!r}")
    if samples < LEAST:
        raise UsageError(f"at least {LEAST} samples are needed to calibrate, found {samples}")
    if min_agreement is not None and not 0 < min_agreement <= 1:
        raise UsageError(f"the least agreement is a share above 0 and up to 1, such as 0.98; found {min_agreement:g}")
    tell, path = progress or (lambda *_: None), Path(out)
    if path.suffix != ".onnx":
        raise UsageError(f"an int8 model is written as .onnx, found {path.name!r}")
    data = open_data(data)
    loaded = load_model(model, backend=None, settle=functools.partial(_settled, data=data))
    backend = loaded.backend
    if not isinstance(backend, OnnxBackend) or loaded.preprocessing.dtype != "float32":
        said = loaded.details.get("backend", f"it is run by {backend.name} in {loaded.preprocessing.dtype}")
        raise ModelError(f"{model} cannot be quantised: {said}; expected a float32 model that ONNX Runtime can run")
    if loaded.task == "boxes":
        raise ModelError(
            f"{model} cannot be quantised: how far two sets of boxes agree is not measured here; quantise it in other "
            "ways, and record it as a model of its own"
        )
    inputs, held = _inputs(loaded, backend.pixels, data, samples, _compared(samples, min_agreement), tell)
    p, reduced = _probabilities(backend, inputs[held]), not processor().vnni
    plain: list[tuple[float, float]] = []  # agreement and time with every node in int8

    def judge(file: Path) -> float:
        run = _run_as(backend, file)
        found = _agreement(p, _probabilities(run, inputs[held]))
        plain.append((found, _ms(run, inputs)) if not plain else plain[0])
        return found

    with atomic_path(path) as temporary:
        tell("quantising", 0, 1)
        kept = _write(loaded, backend, inputs[~held], temporary, calibration, reduced, judge, min_agreement, tell)
        after = _run_as(backend, temporary)
        q = _probabilities(after, inputs[held])
        before_ms, after_ms = _ms(backend, inputs), _ms(after, inputs)
        size = temporary.stat().st_size
        tell("quantising", 1, 1)
    gap, agreement = np.nan_to_num(np.abs(p - q), nan=1.0), _agreement(p, q)
    notes = [*loaded.notes, *_oddities(inputs[~held], p, q, agreement)]
    if loaded.task in COUNTED:
        notes.append(f"the agreement is that of {COUNTED[loaded.task]} of {quantity(int(held.sum()), 'sample')}")
    if kept:
        notes.append(
            f"{quantity(len(kept), 'node stays', 'nodes stay')} in float32, for an agreement of "
            f"{agreement:.1%} where all in int8 have "
            f"{plain[0][0]:.1%}: {after_ms:.2f} ms per sample, not {plain[0][1]:.2f}"
        )
    if min_agreement is not None and min_agreement < 1 and len(p) * (1 - min_agreement) < 1 - 1e-9:
        notes.append(
            f"{len(p)} samples do not tell {min_agreement:.1%} from 100%: none may differ; give more data, such as "
            f"{_enough(min_agreement)} samples and those to calibrate on"
        )
    if after_ms >= before_ms:
        at_hand = processor()
        notes.append(
            f"int8 gains nothing on this processor ({at_hand.name}, {'with' if at_hand.vnni else 'without'} "
            f"instructions for it): {before_ms:.2f} ms per sample in float32, {after_ms:.2f} in int8"
        )
    return Quantised(
        path=path,
        source=model,
        samples=int((~held).sum()),
        compared=int(held.sum()),
        agreement=agreement,
        max_difference=float(gap.max()),
        mean_difference=float(gap[np.arange(len(p)), p.argmax(axis=1)].mean()),
        float_bytes=backend.path.stat().st_size,
        bytes=size,
        float_ms=before_ms,
        ms=after_ms,
        calibration=calibration,
        reduced_range=reduced,
        min_agreement=min_agreement,
        kept_float32=kept,
        notes=tuple(notes),
        task=loaded.task,
    )


def _settled(model: Model, reading: Reading, data: Dataset) -> tuple[Model, Reading]:
    return (settle_task if model.task in EXPECTED else settle)(model, reading, data)


def _run_as(backend: OnnxBackend, file: Path) -> OnnxBackend:
    """*file*, run as *backend* runs its own."""
    return OnnxBackend(file, shape=backend.shape, reads=backend.reads)


def _compared(samples: int, least: float | None) -> int:
    """How many samples to compare: enough that a few of them may differ where an agreement is asked for."""
    return max(samples // COMPARED, 0 if least is None else _enough(least))


def _enough(least: float) -> int:
    """Samples of which three may differ at an agreement of *least*."""
    return MOST_COMPARED if least == 1 else min(MOST_COMPARED, math.ceil(round(MAY_DIFFER / (1 - least), 6)))


def _inputs(
    model: Model, pixels: Size | None, data: Dataset, samples: int, compared: int, tell: Tell
) -> tuple[F32, NDArray[np.bool_]]:
    """(inputs float32 (n, ...) of readable samples spread over the data, which of them are compared).

    pixels  (height, width) that images at their own size are resized to; None where the file takes any: then those of
            the size of the first are used
    """
    wanted = min(len(data), samples + compared)
    rows = np.linspace(0, len(data) - 1, wanted).round().astype(int).tolist()
    found: list[F32] = []
    for _, one in sample_inputs(data, model.preprocessing, rows):
        found.append(fit_images(one[None], pixels)[0] if model.preprocessing.own_size else one)
        tell("reading samples", len(found), wanted)
    inputs = np.asarray(stacked(found) if found else ())
    held = min(compared, max(len(inputs) - samples, len(inputs) // (COMPARED + 1)))
    if len(inputs) - held < LEAST or held < LEAST // COMPARED:
        raise DataError(
            f"{quantity(len(inputs), 'sample')} of {data.spec} can be read; at least "
            f"{LEAST + LEAST // COMPARED} are needed to "
            "calibrate"
        )
    before = np.arange(len(inputs) + 1) * held // len(inputs)
    return inputs, np.diff(before) > 0


def _write(
    model: Model,
    backend: OnnxBackend,
    inputs: F32,
    target: Path,
    calibration: str,
    reduced: bool,
    judge: Judge,
    least: float | None,
    tell: Tell,
) -> tuple[str, ...]:
    """Quantise into *target*: one file, with what is needed to run it as ``onnx:FILE``; returns what stayed float32."""
    import onnx

    name, size = backend.input.name, backend.fixed_batch or 1
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as folder:
        source = backend.path
        if backend.is_rewritten:
            source = Path(folder) / "source.onnx"
            backend.write(source)
        kept = quantise_onnx(
            source,
            target,
            ({name: backend.fed(np.repeat(one[None], size, axis=0))} for one in inputs),
            called=model.spec,
            calibration=calibration,
            reduced=reduced,
            judge=judge,
            least=least,
            tell=tell,
        )
    written = onnx.load(str(target))
    int8 = dataclasses.replace(model, preprocessing=dataclasses.replace(model.preprocessing, dtype="int8"))
    write_metadata(
        written,
        **described(int8),
        source={"spec": model.spec, "weights_hash": model.weights_hash, "samples": len(inputs), "method": calibration},
    )
    onnx.save(written, str(target))
    return kept


def _probabilities(backend: OnnxBackend, inputs: F32) -> NDArray[np.float64]:
    """(rows, C): a row for each sample; of masks one for some pixels, of labels one for each label."""
    task = backend.reads.task if backend.reads is not None else "classes"
    parts = [_rows(backend.step(inputs[at : at + BATCH])[0], task) for at in range(0, len(inputs), BATCH)]
    found = np.concatenate(parts)
    with np.errstate(invalid="ignore"):
        return found if task == "labels" else softmax(found)


def _rows(raw: Any, task: str) -> Any:
    if task == "labels":
        p = raw.astype(np.float64).reshape(-1)
        return np.stack([1 - p, p], axis=1)
    if task != "mask":
        return raw
    if raw.dtype.kind != "f":
        raise ModelError("returns class numbers, of which nothing can be compared but equality; return logits")
    step = max(1, math.ceil(math.sqrt(raw.shape[2] * raw.shape[3] / PIXELS)))
    return np.moveaxis(raw[:, :, ::step, ::step], 1, -1).reshape(-1, raw.shape[1])


def _agreement(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """The share of samples with the same class, NaN agreeing with nothing."""
    sound = np.isfinite(p).all(axis=1) & np.isfinite(q).all(axis=1)
    return float((sound & (p.argmax(axis=1) == q.argmax(axis=1))).mean())


def _ms(backend: OnnxBackend, inputs: F32) -> float:
    return time_batches(backend, inputs.shape[1:], seconds=0.6).throughput


def _oddities(inputs: F32, p: NDArray[np.float64], q: NDArray[np.float64], agreement: float) -> list[str]:
    """What is odd about the samples or the answers, a line each."""
    flat, notes = inputs.reshape(len(inputs), -1), []
    if not np.ptp(flat, axis=0).any() or not np.ptp(flat, axis=1).any():
        notes.append(
            f"the {len(flat)} samples calibrated on are all alike or blank, so the ranges found hold for nothing else; "
            "give --data with samples such as those to come"
        )
    for what, values in (("source", p), ("int8 model", q)):
        if broken := int((~np.isfinite(values)).any(axis=1).sum()):
            notes.append(
                f"the {what} returns NaN or infinities on {broken} of {len(values)} samples, which count as differing; "
                "look at its preprocessing and at the samples"
            )
    if agreement < LOW:
        notes.append(
            f"the int8 model agrees with its source on {agreement:.1%} of the samples: it is of no use as it is; give "
            "--min-agreement 98%, or more samples, such as those to come, to calibrate on"
        )
    return notes
