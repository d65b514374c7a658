"""Samples that look like several of one thing, by their ids (frames of a clip, copies of a photo) or their outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pilotfish.scores.outputs import I64, Outputs

LOOK = 200  # ids that are tried first
FEWEST = 10  # ids, and half as many groups, below which nothing is said
THINGS = (
    "clip|video|vid|scene|sequence|seq|track|session|series|product|prod|sku|item|listing|patient|subject|scan|case"
)
PARTS = (
    "frame|frm|copy|crop|view|dup|duplicate|augmented|aug|angle|shot|tile|patch|slice|orig|original|flip|flipped|hflip|"
    "vflip|rot|rotated|rotate|blur|blurred|noise|noisy|bright|front|back|side|detail"
)
END = r"(?:\.[A-Za-z]\w*)?$"
# (the group in an id, what must be in the ids, the least and the largest share of the ids that it is in)
KINDS = (
    (rf"^((?:.*[^A-Za-z])?(?:{THINGS})[_\- ]?\d+)[_\-/ .].*\d", r"\d", 1.0, 1.0),  # clip_001_frame_12, patient-4/scan-2
    (rf"^(.+?)(?:[_\- /.](?:{PARTS})[_\- ]?\d*)?{END}", rf"[_\- /.](?:{PARTS})[_\- ]?\d*{END}", 0.4, 1.0),  # a_copy2
    (r"^(.+)\.rf\.[0-9a-f]{16,}", r"\.rf\.", 1.0, 1.0),  # a_jpg.rf.0f3c….jpg, an augmented copy
    (rf"^(.+?)[_\-]x?\d+[_\-]y\d+{END}", rf"[_\-]x?\d+[_\-]y\d+{END}", 1.0, 1.0),  # slide_7_x256_y512.png
    (rf"^(.+_g\d+_c\d+)_\w*\d{END}", r"_g\d+_c\d+_", 1.0, 1.0),  # v_Archery_g01_c02_f0012.png
    (rf"^(.+?)(?:[_\- ]?\(\d+\))?{END}", rf"\(\d+\){END}", 0.4, 0.9),  # a.jpg, a (1).jpg; not a (1).jpg … a (999).jpg
)


def suspected(ids: pa.Array, label: I64 | None = None) -> str | None:
    """A note that names the regular expression by which most *ids* fall into groups of two and more; None where the
    ids are not plainly of that kind. Groups that are just the classes (*label*, int64 (N,)) are none."""
    if len(ids) < FEWEST:
        return None
    few = ids.take(pa.array(np.linspace(0, len(ids) - 1, min(LOOK, len(ids))).astype(np.int64))).to_pylist()
    for text, sign, least, most in KINDS:
        pattern, wanted = re.compile(text, re.IGNORECASE), re.compile(sign, re.IGNORECASE)
        if not all(pattern.match(one) for one in few):
            continue
        if not least <= sum(wanted.search(one) is not None for one in few) / len(few) <= most:
            continue
        matches = [pattern.match(one) for one in ids.to_pylist()]
        names = np.array([match[1].lower() for match in matches if match is not None])
        if len(names) < len(ids):
            continue
        _, code, sizes = np.unique(names, return_inverse=True, return_counts=True)
        several = (sizes >= 2).mean() > 0.5 and FEWEST / 2 <= len(sizes) <= len(ids) / 2
        if not several or _are_classes(code, label):
            continue
        return (
            f"ids look like groups, such as {ids[0]!s} ({len(ids):,} samples of {len(sizes):,} things), and count as "
            f"independent: --group-by '(?i){text}' keeps them together, --group-by none says that they are"
        )
    return None


def _are_classes(code: I64, label: I64 | None) -> bool:
    """Whether each group has one label, and each label one group."""
    if label is None:
        return False
    pairs = len(np.unique(np.stack([code, label], axis=1), axis=0))
    return pairs == len(np.unique(code)) == len(np.unique(label))


def repeated(ids: pa.Array, outputs: Iterable[Outputs], label: I64 | None = None) -> str | None:
    """A note where most samples have a twin: the same log-odds, to the last bit, of every model that has some, and the
    same classes and label. None for outputs that are only coarse: few values, or one that many samples share."""
    everyone = list(outputs)
    scores = [one.log_odds for one in everyone if one.log_odds is not None]
    n = len(ids)
    if not scores or n < FEWEST or (distinct := len(np.unique(scores[0]))) > 0.75 * n:
        return None
    others = [one.prediction for one in everyone] + ([] if label is None else [label])
    rows = np.stack([*scores, *(np.asarray(column, np.float64) for column in others)], axis=1)
    _, first, member, sizes = np.unique(rows, axis=0, return_index=True, return_inverse=True, return_counts=True)
    member = member.reshape(-1)
    twins = sizes[member] >= 2
    coarse = distinct < 0.9 * len(sizes) or sizes.max() > max(0.02 * n, 2)  # samples that share a score are others
    if coarse or twins.mean() <= 0.5 or len(sizes) < FEWEST / 2:
        return None
    copy = int(np.flatnonzero(twins & (first[member] != np.arange(n)))[0])
    return (
        f"{int(twins.sum()):,} of {n:,} samples have the very outputs of another one ({ids[copy]!s} and "
        f"{ids[int(first[member[copy]])]!s}): if they are one sample, keep them together with --group-by; "
        "--group-by none says that they are independent"
    )
