"""Semantic segmentation: a class per pixel, kept as an indexed PNG and as counts per class."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pilotfish.errors import AlignmentError, ModelError, RecordsError
from pilotfish.scores import ExitScore, ScoreKind
from pilotfish.scores.outputs import F64, I64, SampleArrays, join_outputs
from pilotfish.tasks import mask_scores as scores
from pilotfish.tasks.chance import Verdict
from pilotfish.tasks.drawing import draw_mask
from pilotfish.tasks.indexed_png import decode, encode
from pilotfish.tasks.task import Column, Metric, Quality, Task, register
from pilotfish.tasks.true_masks import counts_of, placed

UNKNOWN, KNOWN = np.int8(-1), np.int8(1)
RECORDED = ("grid", "pixels", "features")
COUNTED = 2**16
"""Pairs of masks whose counts are kept, where there are no labels and planning asks for them again and again."""


@dataclass(frozen=True)
class Masks(SampleArrays):
    """What a network for C classes said about N images.

    intersection, union  int64 (N, C), pixels of each class that answer and truth share, and that either has; 0 where
                         the truth is not known
    mask      object (N,), bytes of an indexed PNG: the class of each pixel
    grid, pixels, slic  float64 (N,), scores as log-odds of a mean confidence (see :mod:`pilotfish.tasks.mask_scores`)
    score     float64 (N,), one of any unit that was imported
    features  float64 (N, F), what a learned score looks at
    """

    intersection: I64
    union: I64
    mask: NDArray[Any] | None = None
    grid: F64 | None = None
    pixels: F64 | None = None
    slic: F64 | None = None
    score: F64 | None = None
    features: F64 | None = None


def reduce_masks(raw: Any, rows: int, model: str, keep: int | str = 1, inputs: Any = None) -> Masks:
    """Scores of classes, float (rows, C, H, W), logits or probabilities, or class numbers, int (rows, H, W); or a list
    of such arrays of single images. ``Masks`` stay as they are.

    keep    the score to compute; as ``record --store`` has it: ``full`` adds ``slic`` to the others; a number: what is
            shown of a stage that does not exit
    inputs  float (rows, 3, H, W), what the network was given: superpixels are cut out of it
    """
    if isinstance(raw, (list, tuple)) and len(raw) == rows:
        each = inputs if inputs is not None else (None,) * rows
        singles = [
            reduce_masks(np.asarray(one)[None], 1, model, keep, None if image is None else image[None])
            for one, image in zip(raw, each, strict=True)
        ]
        if len({one.intersection.shape[1] for one in singles}) > 1:
            raise ModelError(f"{model}: the images of a batch have masks of different numbers of classes")
        return join_outputs(singles)
    if isinstance(raw, Masks) and len(raw) == rows:
        return raw
    found = raw if isinstance(raw, np.ndarray) else np.asarray(raw)
    if found.ndim == 4 and found.shape[1] == 1 and found.dtype.kind in "iub":
        found = found[:, 0]
    if found.ndim == 3 and len(found) == rows and found.size and found.dtype.kind in "iub":
        return _numbered(found, model)
    if found.ndim != 4 or len(found) != rows or not found.size or found.dtype.kind != "f":
        shape = f"{found.dtype} {found.shape}" if found.dtype != object else type(raw).__name__
        raise ModelError(
            f"{model}: expected scores of classes, float ({rows}, C, H, W), or class numbers, int ({rows}, H, W), "
            f"found {shape}"
        )
    if found.shape[1] == 1:
        raise ModelError(
            f"{model}: one channel per pixel, where each class needs one; return two, background and object, such as "
            "torch.cat([torch.zeros_like(z), z], 1) for logits z"
        )
    return _scored(found.astype(np.float32) if found.dtype == np.float16 else found, _wanted(keep), inputs)


def _wanted(keep: int | str) -> tuple[str, ...]:
    if isinstance(keep, int):
        return ("grid",)
    if keep in ("auto", "full"):
        return RECORDED if keep == "auto" else (*RECORDED, "slic")
    return ("features",) if keep == "learned" else (keep,)


def _numbered(found: NDArray[Any], model: str) -> Masks:
    if (found.dtype.kind == "i" and (found < 0).any()) or int(found.max()) > np.iinfo(np.uint16).max:
        raise ModelError(f"{model}: class numbers from {found.min()} to {found.max()}; classes are numbered from 0")
    most = int(found.max()) + 1
    unknown = np.zeros((len(found), 0), np.int64)  # how many classes there are is not known yet
    return Masks(unknown, unknown, _objects([encode(one, most) for one in found]))


def _scored(raw: NDArray[Any], wanted: Sequence[str], inputs: Any) -> Masks:
    n, classes = raw.shape[:2]
    label, best = scores.peaks(raw)
    fine = np.isfinite(best).all(axis=(1, 2))
    points = scores.at_points(raw)
    soft = scores.are_probabilities(points)
    said: dict[str, F64] = {}
    if "grid" in wanted or "features" in wanted:
        classes_there = scores.at_points(label)
        doubt = scores.doubts(points, classes_there, scores.at_points(best), soft)
        if "grid" in wanted:
            said["grid"] = scores.log_odds(scores.grid_doubt(doubt, classes_there))
        if "features" in wanted:
            said["features"] = scores.features(doubt, classes_there, classes)
    if "pixels" in wanted or "slic" in wanted:
        each = [scores.doubts(*(a[i : i + 1] for a in (raw, label, best, soft))) for i in range(n)]
        if "pixels" in wanted:
            said["pixels"] = scores.log_odds(np.concatenate([scores.mean_doubt(one) for one in each]))
        if "slic" in wanted and inputs is not None:
            images = np.asarray(inputs)
            images = np.moveaxis(images, 1, -1) if images.shape[1] in (1, 3) else images
            pairs = zip(each, images, strict=True)
            said["slic"] = scores.log_odds(np.array([scores.slic_doubt(one[0], image) for one, image in pairs]))
    for values in said.values():
        values[~fine] = np.nan
    empty = np.zeros((n, classes), np.int64)
    return Masks(empty, empty.copy(), _objects([encode(one, classes) for one in label]), **said)


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def count(outputs: Masks, truth: NDArray[Any]) -> tuple[Masks, NDArray[Any]]:
    """Outputs with the counts beside the truth, and int8 (N,) whether it is known: 1, else -1. An image of which no
    pixel counts is not known.

    truth  object (N,) of :class:`pilotfish.tasks.true_masks.TrueMask`, None where unknown; or int8 (N,), -1

    ModelError where a mask has another size than the truth, or no number of classes is known.
    """
    masks = outputs.mask
    assert masks is not None
    true = truth if truth.dtype == object else _objects([None] * len(truth))
    classes = outputs.intersection.shape[1] or next((one.classes for one in true if one is not None), None)
    if classes is None:
        raise ModelError(
            "the model returns class numbers, and nothing says how many classes there are: put classes.txt, a name a "
            "line, beside the masks, or return scores (N, C, H, W)"
        )
    both, either = np.zeros((2, len(masks), classes), np.int64)
    known = np.full(len(masks), UNKNOWN)
    for i, (png, one) in enumerate(zip(masks, true, strict=True)):
        said = decode(png, "an answer").astype(np.int64)
        if int(said.max()) >= classes:
            raise ModelError(f"the model says class {said.max()}, and there are {classes} classes (0 to {classes - 1})")
        if one is None:
            continue
        mask, counts = one.read(classes)
        if mask.shape != said.shape:
            raise ModelError(_other_size(one.name, said.shape, mask.shape))
        if counts.any():
            both[i], either[i] = counts_of(said, mask, counts, classes)
            known[i] = KNOWN
    return dataclasses.replace(outputs, intersection=both, union=either), known


def _other_size(name: str, said: tuple[int, ...], true: tuple[int, ...]) -> str:
    hint = "answer at the size of the image, by interpolating the scores inside the model"
    if said[0] in true and said[1] not in true and said[1] < 64:
        hint = "are the classes the last axis? move them to the second, (N, C, H, W)"
    return f"the answer to {name} has {said[1]} x {said[0]} pixels and its mask {true[1]} x {true[0]}; {hint}"


@lru_cache(maxsize=COUNTED)
def _agreement(said: bytes, true: bytes, classes: int) -> tuple[I64, I64]:
    one, other = (decode(png, "a recorded mask").astype(np.int64) for png in (said, true))
    if one.shape != other.shape:
        raise RecordsError(f"two models answer one image with {one.shape} and {other.shape} pixels; record both again")
    return counts_of(one, other, np.ones(one.shape, bool), classes)


def counts(outputs: Masks, truth: NDArray[Any]) -> tuple[I64, I64]:
    """(intersection, union), int64 (N, C): as recorded, or beside the base's masks where these are the truth."""
    if truth.dtype != object:
        return outputs.intersection, outputs.union
    if outputs.mask is None:
        raise RecordsError("there are no labels, and an import of counts has no masks to be compared with the base's")
    classes = outputs.intersection.shape[1]
    pairs = [_agreement(said, true, classes) for said, true in zip(outputs.mask, truth, strict=True)]
    both, either = np.zeros((2, len(pairs), classes), np.int64)
    for i, (one, other) in enumerate(pairs):
        both[i], either[i] = one, other
    return both, either


def base_masks(outputs: Masks) -> NDArray[Any]:
    """object (N,): the base's masks, what is right where there are no labels."""
    if outputs.mask is None:
        raise RecordsError("there are no labels, and the base's records have no masks to compare others with")
    return outputs.mask


def states(outputs: Masks, truth: NDArray[Any]) -> F64:
    """float64 (N, 2C): intersections, then unions."""
    return np.concatenate(counts(outputs, truth), axis=1).astype(np.float64)


def miou(sums: F64) -> F64:
    """The mean over classes of intersection over union, of sums (..., 2C). Classes that neither truth nor answers have
    are left out; 0 where none is left."""
    classes = sums.shape[-1] // 2
    both, either = sums[..., :classes], sums[..., classes:]
    there = either > 0
    total = np.where(there, both / np.where(there, either, 1.0), 0.0).sum(axis=-1)
    return np.asarray(total / np.maximum(there.sum(axis=-1), 1))


def class_iou(sums: F64) -> F64:
    """float64 (C,): of each class, from sums (2C,); NaN for one that neither truth nor answers have."""
    classes = len(sums) // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[:classes] / sums[classes:])


def image_iou(outputs: Masks, truth: NDArray[Any]) -> Quality:
    """float64 (N,): the mIoU of each image alone."""
    return miou(states(outputs, truth))


def pixel_accuracy(outputs: Masks, truth: NDArray[Any]) -> Quality:
    """float64 (N,): the share of each image's pixels that have the right class."""
    both, either = (one.sum(axis=1) for one in counts(outputs, truth))
    return np.asarray(both / np.maximum((both + either) / 2, 1))  # a wrong pixel is in two unions


def named(value: Any, names: Sequence[str] | None) -> tuple[Any, str | None]:
    """(the PNG in base64, its size; how much of the image each class has, the largest first)."""
    if value is None:
        return None, None
    mask = decode(value, "an answer")
    found, pixels = np.unique(mask, return_counts=True)
    order = np.argsort(-pixels, kind="stable")
    shown = [
        f"{names[k] if names and k < len(names) else k} {100 * share:.0f}%"
        for k, share in zip(found[order].tolist(), pixels[order] / mask.size, strict=True)
    ]
    more = f", {len(shown) - 4} more" if len(shown) > 4 else ""
    png = base64.b64encode(value).decode()
    return {"width": mask.shape[1], "height": mask.shape[0], "png": png}, ", ".join(shown[:4]) + more


def _drawn(image: Image.Image, said: Mapping[str, Any], names: Sequence[str] | None) -> NDArray[np.uint8]:
    return draw_mask(image, decode(base64.b64decode(said["png"]), "an answer"), names)


def check_counts(model: str, truth: Any, outputs: Masks, n_classes: int | None) -> None:
    """RecordsError, which names a row, for counts that cannot be."""
    both, either = outputs.intersection, outputs.union
    if both.shape != either.shape:
        raise RecordsError(f"{model}: intersection has shape {both.shape} and union {either.shape}; both are (N, C)")
    if n_classes is not None and both.shape[1] != n_classes:
        raise RecordsError(f"{model}: counts of {both.shape[1]} classes, and there are {n_classes}")
    for wrong, what in (
        (both < 0, "a negative intersection"),
        (both > either, "an intersection larger than its union"),
    ):
        if wrong.any():
            row, c = (int(at[0]) for at in np.nonzero(wrong))
            raise RecordsError(f"{model}: row {row} has {what} for class {c}: {both[row, c]} of {either[row, c]}")


def same_classes(records: Any, base: Any) -> None:
    """AlignmentError where two models have other classes, or the same in another order."""
    mine, theirs = records.meta, base.meta
    few, many = records.outputs.intersection.shape[1], base.outputs.intersection.shape[1]
    if few != many:
        raise AlignmentError(f"{mine.model} has {few} classes and {theirs.model} has {many}; a cascade has one task")
    a, b = mine.class_names, theirs.class_names
    if a is not None and b is not None and a != b and set(a) & set(b):
        at = next(i for i, (one, other) in enumerate(zip(a, b, strict=True)) if one != other)
        raise AlignmentError(
            f"class {at} is {a[at]!r} for {mine.model} and {b[at]!r} for {theirs.model}; bring the classes into one "
            "order and record again"
        )


def beside_one_class(truth: Any, outputs: Masks, n_classes: int | None) -> Verdict:
    """A note where the mIoU is lower than one class for all pixels might reach."""
    known = truth != UNKNOWN
    sums = states(outputs.take(known), truth[known]).sum(axis=0)
    value, there = float(miou(sums)), int(np.count_nonzero(sums[len(sums) // 2 :]))
    n = int(known.sum())
    if there < 2 or value >= 1 / there:
        return Verdict(n, value, 0.0)
    note = (
        f"mIoU {100 * value:.1f}% is less than one class for all pixels could reach ({100 / there:.1f}% of {there} "
        "classes); are the masks numbered as the model numbers its classes?"
    )
    return Verdict(n, value, 1 / there, note=note)


def fit_learned(evidence: Any) -> dict[str, F64]:
    """Log-odds of the quality of the saver's own answer, from its features."""
    from pilotfish.scores.linear import Design, fit_linear

    quality = evidence.right.astype(np.float64)
    return fit_linear(Design(_features(evidence.outputs), (), ()), quality, scores.RIDGE, "logistic")


def learned(outputs: Masks, parameters: Mapping[str, F64]) -> F64:
    """float64 (N,): log-odds of the quality to be expected."""
    from pilotfish.scores.linear import predict_linear

    return predict_linear(_features(outputs), (), dict(parameters))


def _features(outputs: Masks) -> F64:
    if outputs.features is None:
        raise RecordsError("the score learned needs features of masks, and these records have none; record the model")
    return outputs.features


def _plain(name: str) -> ScoreKind:
    def value(outputs: Masks, _: Any) -> F64:
        found = getattr(outputs, name)
        if found is None and name == "grid":
            found = outputs.score  # an import has one score, whatever it is
        if found is None:
            have = [one for one in ("grid", "pixels", "slic", "score") if getattr(outputs, one) is not None]
            more = "; record with --store full" if name == "slic" else ""
            raise RecordsError(f"these records have no score {name} (they have {', '.join(have) or 'none'}){more}")
        return np.asarray(found)

    return ScoreKind(
        name,
        value,
        lambda outputs: "identity" if getattr(outputs, name) is None or name == "score" else "log_odds",
        can=lambda evidence: getattr(evidence.outputs, name) is not None,
        candidate=name in ("pixels", "slic"),
    )


def _keep(score: ExitScore | None) -> str:
    return "grid" if score is None else score.name


SCORES = {
    kind.name: kind
    for kind in (
        *map(_plain, ("grid", "pixels", "slic", "score")),
        ScoreKind(
            "learned",
            learned,
            "log_odds",
            fit_learned,
            can=lambda evidence: evidence.outputs.features is not None,
            candidate=True,
        ),
    )
}
MASK = register(
    Task(
        name="mask",
        metric=Metric("miou", "mIoU", "ratio", states, miou),
        metrics=(Metric("pixel_accuracy", "pixel accuracy", quality=pixel_accuracy),),
        quality=image_iou,
        outputs=Masks,
        columns={
            "intersection": Column("intersection", np.int64, dims=2),
            "union": Column("union", np.int64, dims=2),
            "mask": Column("mask", object, optional=True),
            "grid": Column("grid", np.float64, optional=True),
            "pixels": Column("pixels", np.float64, optional=True),
            "slic": Column("slic", np.float64, optional=True),
            "score": Column("score", np.float64, optional=True),
            "features": Column("features", np.float64, dims=2, optional=True),
        },
        reduce=reduce_masks,
        reference=base_masks,
        missing=None,
        answer=lambda outputs: _objects([None] * len(outputs)) if outputs.mask is None else outputs.mask,
        scores=SCORES,
        no_truth=lambda n: np.full(n, UNKNOWN),
        place=placed,
        recorded=count,
        keep=_keep,
        says=named,
        draw=_drawn,
        by_class=("IoU", lambda outputs, truth: class_iou(states(outputs, truth).sum(axis=0))),
        check=check_counts,
        match=same_classes,
        judge=beside_one_class,
        sees_inputs=True,
    )
)
