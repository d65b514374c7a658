"""Samples that a model was trained on are no samples to choose thresholds by: overlap is found by content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.data.dataset import Dataset
from pilotfish.data.encoded import Encoded, content_hash, sample_reader
from pilotfish.data.open_data import open_data
from pilotfish.errors import DataError, UnreadableSample
from pilotfish.text import quantity

if TYPE_CHECKING:
    from pilotfish.records import Records

THREADS = 4
FILES, ARRAYS, PICTURES = "image files", "arrays", "pictures"


@dataclass(frozen=True)
class Use:
    """What other samples were used for. option: by which they are named; data: what they are called; harm: what comes
    of samples that are in both, and what to do."""

    option: str
    data: str
    harm: str


TRAINING = Use(
    "--trained-on",
    "training data",
    "thresholds chosen there lose more on new data; leave these samples out, or use others",
)
CALIBRATING = Use(
    "--calibrate",
    "calibration data",
    "int8 models are judged on samples that they were not calibrated on; name other samples, or leave --calibrate out",
)


def refuse_trained_on(training: str | Dataset, calibration: Dataset | Records, use: Use = TRAINING) -> None:
    """DataError when samples of *calibration* are in the *training* data, or when that cannot be found out.

    use  what *training* was used for, if something else

    Samples are the same when their content is (see :func:`pilotfish.data.content_hash`): the bytes of an image file, or
    an array's type, shape and values. A copy that was resized or encoded anew is another sample. Records from before
    contents were kept are refused, unless they are of the training data itself.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from pilotfish.records import Records

    trained = open_data(training)
    if isinstance(calibration, Records):
        ids, data = calibration.ids, calibration.meta.data
        fingerprint, spec = data.get("fingerprint"), str(data.get("spec") or "")
    else:
        ids, fingerprint, spec = pa.array(calibration.ids, pa.string()), calibration.fingerprint, calibration.spec
    if fingerprint is not None and fingerprint == trained.fingerprint:
        raise DataError(_found(len(ids), len(ids), trained.spec, f"{ids[0]!s}, as it is the same data", use))
    if isinstance(calibration, Records):
        if calibration.content is None:
            raise DataError(
                f"whether samples of {calibration.meta.model} are in {trained.spec} cannot be told: its records hold "
                f"no hashes of the samples; record it again (--overwrite), or leave {use.option} out"
            )
        content, sizes = calibration.content, None
        form = (FILES if spec.startswith("folder:") else ARRAYS) if spec else None
    else:
        content = pa.array([digest or "" for _, digest in contents(calibration)], pa.string())
        sizes = _file_sizes(calibration)
        form = _form(calibration)
    theirs = _form(trained)
    if form is not None and theirs is not None and not theirs.startswith(form):
        raise DataError(
            f"whether samples of {spec} are in {trained.spec} cannot be told: the first are {form}, the others "
            f"{theirs}; name the {use.data} in the form that the samples have, or leave {use.option} out"
        )
    known = {digest: name for name, digest in contents(trained, sizes) if digest is not None}
    inside = pc.is_in(content, value_set=pa.array(list(known), pa.string()))
    if count := int(pc.sum(inside).as_py() or 0):
        row = pc.index(inside, pa.scalar(True)).as_py()
        raise DataError(_found(count, len(ids), trained.spec, f"{ids[row]!s} ({known[str(content[row])]} there)", use))


def _found(count: int, n: int, spec: str, example: str, use: Use) -> str:
    return (
        f"{count:,} of {quantity(n, 'sample')} {'is' if count == 1 else 'are'} in the "
        f"{use.data} {spec}, such as {example}: {use.harm}"
    )


def contents(data: Dataset, sizes: frozenset[int] | None = None) -> Iterator[tuple[str, str | None]]:
    """(id, content hash) of each sample; None for one that cannot be read, or whose file has none of *sizes*."""
    read = sample_reader(data, True)
    root = getattr(data, "root", None) if sizes is not None else None

    def one(row: int) -> tuple[str, str | None]:
        name = data.ids[row]
        try:
            if root is not None and sizes is not None and os.path.getsize(os.path.join(root, name)) not in sizes:
                return name, None
            sample = read(row)
            return name, None if isinstance(sample, Encoded) and not sample.content else content_hash(sample)
        except (UnreadableSample, OSError):
            return name, None

    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(one, range(len(data)))


def _file_sizes(data: Dataset) -> frozenset[int] | None:
    """The sizes of the image files; None where the samples are none. Files of other sizes need not be read."""
    root = getattr(data, "root", None)
    if root is None:
        return None
    paths = (os.path.join(root, name) for name in data.ids)
    return frozenset(os.path.getsize(path) for path in paths if os.path.isfile(path))


def _form(data: Dataset) -> str | None:
    """What its samples are read as: image files, or arrays of one type and shape; None where none can be read."""
    read = sample_reader(data, True)
    for row in range(min(len(data), 20)):
        try:
            sample = read(row)
        except UnreadableSample:
            continue
        if isinstance(sample, np.ndarray):
            return f"{ARRAYS} of {sample.dtype} {sample.shape}"
        return FILES if isinstance(sample, Encoded) else PICTURES
    return None
