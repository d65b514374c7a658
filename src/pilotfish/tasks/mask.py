"""Semantic segmentation: a class per pixel, kept as an indexed PNG and as counts per class."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pilotfish.errors import AlignmentError, ModelError, RecordsError
from pilotfish.scores import ExitScore, ScoreKind
from pilotfish.scores.outputs import F64, I64
from pilotfish.tasks import mask_scores as scores
from pilotfish.tasks.chance import Verdict
from pilotfish.tasks.drawing import draw_mask
from pilotfish.tasks.indexed_png import decode
from pilotfish.tasks.mask_answers import Masks, objects, reduce_masks
from pilotfish.tasks.task import Column, Metric, Quality, Task, register
from pilotfish.tasks.true_masks import counts_of, placed

UNKNOWN, KNOWN = np.int8(-1), np.int8(1)
COUNTED = 2**15
"""Pairs of masks whose counts are kept, where there are no labels and planning asks for them again and again."""


def count(outputs: Masks, truth: NDArray[Any]) -> tuple[Masks, NDArray[Any]]:
    """Outputs with the counts beside the truth, and int8 (N,) whether it is known: 1, else -1. An image of which no
    pixel counts is not known.

    truth  object (N,) of :class:`pilotfish.tasks.true_masks.TrueMask`, None where unknown; or int8 (N,), -1

    ModelError where a mask has another size than the truth, or no number of classes is known.
    """
    masks = outputs.mask
    assert masks is not None
    true = truth if truth.dtype == object else objects([None] * len(truth))
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


def of_answers(said: Sequence[Any]) -> Masks:
    """Masks that were answered, as outputs for as many classes as they say between them."""
    classes = 1 + max(int(decode(png, "an answer").max()) for png in said)
    none = np.zeros((len(said), classes), np.int64)
    return Masks(none, none, objects(list(said)))


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
        f"{names[k] if names and k < len(names) else k} {_share(share)}"
        for k, share in zip(found[order].tolist(), pixels[order] / mask.size, strict=True)
    ]
    more = f", {len(shown) - 4} more" if len(shown) > 4 else ""
    png = base64.b64encode(value).decode()
    return {"width": mask.shape[1], "height": mask.shape[0], "png": png}, ", ".join(shown[:4]) + more


def _share(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.005 else "<1%"


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
        answer=lambda outputs: objects([None] * len(outputs)) if outputs.mask is None else outputs.mask,
        of_answers=of_answers,
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
