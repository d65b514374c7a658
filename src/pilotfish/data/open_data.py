"""From a name on the command line to a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pilotfish.data.arrays import load_arrays
from pilotfish.data.coco import load_coco
from pilotfish.data.dataset import Dataset
from pilotfish.data.digits import load_digits
from pilotfish.data.idx import load_idx
from pilotfish.data.image_folder import load_folder
from pilotfish.data.label_folder import load_label_folder
from pilotfish.data.masks import load_masks
from pilotfish.data.scenes import load_scenes
from pilotfish.errors import DataError, nearest, one_line


@dataclass(frozen=True)
class DataForm:
    """A form of names. patterns: what is written, and what it gives; load: what opens REST of ``KIND:REST``."""

    patterns: tuple[tuple[str, str], ...]
    load: Callable[[str], Dataset]


KINDS: Mapping[str, DataForm] = {
    "folder": DataForm(
        (("folder:PATH", "images in class sub-folders, or listed in PATH/labels.csv (file,label), or unlabelled"),),
        load_folder,
    ),
    "arrays": DataForm(
        (("arrays:FILE.npz", "x (N, …), with label (N), id (N) and class_names where there are any"),), load_arrays
    ),
    "idx": DataForm(
        (("idx:FILE", "MNIST's own form, such as train-images-idx3-ubyte.gz, with the labels' file beside it"),),
        load_idx,
    ),
    "digits": DataForm(
        (
            ("digits", "scikit-learn's 1,797 hand-written digits, 8 by 8 pixels"),
            ("digits:train", "half of the digits"),
            ("digits:val", "the other half"),
        ),
        lambda split: load_digits(split or None),
    ),
    "scenes": DataForm(
        (
            ("scenes:val", "1,000 small scenes of digits with clutter, and their masks"),
            ("scenes:train?task=T&n=N", "N of other digits, for the task mask, boxes or labels"),
        ),
        load_scenes,
    ),
    "masks": DataForm(
        (("masks:IMAGES,MASKS", "images, and PNG masks of the same names with a class number per pixel"),), load_masks
    ),
    "coco": DataForm(
        (("coco:ANNOTATIONS.json[,IMAGES]", "COCO's instances, and the folder of their images: boxes are the truth"),),
        load_coco,
    ),
    "labels": DataForm(
        (("labels:PATH", "images listed in PATH/labels.csv with several labels each (cat;dog), or 0 and 1 by class"),),
        load_label_folder,
    ),
}
"""The forms of names, by kind."""
DATA_FORMS = tuple(pattern for form in KINDS.values() for pattern in form.patterns)
"""What ``--data`` takes: (form, description)."""


def load_data(spec: str) -> Dataset:
    """Open the data that *spec* names, in one of ``DATA_FORMS``; the bare path of a folder or ``.npz`` file will do.

    Raises ``DataError`` for an unknown form and for data that cannot be used.
    """
    kind, _, rest = spec.partition(":")
    if kind in KINDS and (rest or spec in dict(DATA_FORMS)):
        return KINDS[kind].load(rest)
    path = os.path.expanduser(spec)
    if os.path.isdir(path):
        return load_folder(spec)
    if os.path.isfile(path) and path.lower().endswith(".npz"):
        return load_arrays(spec)
    what = (
        "is a file, but no .npz file of arrays" if os.path.isfile(path) else "is no form of data and no existing path"
    )
    known = nearest(kind if rest else spec, (form for form, _ in DATA_FORMS))
    raise DataError(f"the data '{one_line(spec)}' {what}; {known}")


def open_data(data: str | Dataset) -> Dataset:
    """*data* itself, or what its name opens."""
    return load_data(data) if isinstance(data, str) else data
