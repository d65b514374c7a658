"""``masks:IMAGES,MASKS``: images and, in another folder, a PNG mask of each under the same name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pilotfish.data.dataset import digest
from pilotfish.data.encoded import Encoded, read_encoded
from pilotfish.data.images import read_image_file
from pilotfish.data.listing import File, Listing
from pilotfish.errors import DataError, UnreadableSample, one_line
from pilotfish.files import parse_json
from pilotfish.tasks.indexed_png import size
from pilotfish.text import quantity

CLASS_FILES = ("classes.txt", "classes.json")
MOST_BYTES = 2**20
"""Of a file of class names."""
_ENDINGS = re.compile(
    r"[_.-](?:left_?img8bit|image|img|(?:gtfine|gtcoarse)[_-](?:label|labeltrain)ids|mask|masks|gt|label|labels|seg|"
    r"segmentation|target|annotation)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class MaskDataset:
    """Image files below *root*, and the mask of each. The ids are paths relative to it, with "/"."""

    spec: str
    root: Path
    ids: Sequence[str] = field(repr=False)
    masks: Sequence[Path] = field(repr=False)
    class_names: tuple[str, ...] | None
    fingerprint: str
    notes: tuple[str, ...] = ()

    task = "mask"
    labels = None

    @property
    def truth(self) -> npt.NDArray[Any]:
        """object (N,): the masks' paths."""
        found = np.empty(len(self.masks), object)
        found[:] = self.masks
        return found

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, i: int) -> Image.Image:
        found = self.encoded(i).decode()
        assert isinstance(found, Image.Image)
        return found

    def encoded(self, i: int) -> Encoded:
        """Sample *i*, not decoded. ``UnreadableSample`` where its mask is damaged or has another size."""
        sample = read_encoded(os.path.join(self.root, self.ids[i]))
        decoded: Any = sample.decode()  # kept, so that it is decoded once
        mask = self.masks[i]
        try:
            width, height = size(read_image_file(mask), f"its mask {one_line(mask.name)}")
        except DataError as error:
            raise UnreadableSample(f"{one_line(self.ids[i])}: {error}") from None
        if (width, height) != decoded.size:
            own = "{} x {}".format(*decoded.size)
            raise UnreadableSample(
                f"{one_line(self.ids[i])} has {own} pixels, its mask {one_line(mask.name)} {width} x {height}; give "
                "both the same size"
            )
        return sample


def load_masks(text: str) -> MaskDataset:
    """List the images of a folder and their masks in another one, ``IMAGES,MASKS``, without opening them.

    A mask is a PNG file of the same relative path as its image, but for the suffix; where no name is the same, usual
    endings such as ``_mask`` or Cityscapes' are left out of both. Images without a mask and masks without an image are
    left out and noted. Class names come from a ``classes.txt``, a name a line, or a ``classes.json``, a list, among the
    masks or beside their folder.

    The fingerprint covers relative paths, sizes and class names.

    Raises ``DataError`` where a folder is missing, nothing fits together, or two files have one name.
    """
    images_at, masks_at = _folders(text)
    listing, of_masks = Listing(images_at), Listing(masks_at)
    images = sorted(listing.images(images_at))
    masks = sorted(file for file in of_masks.images(masks_at) if file[0].lower().endswith(".png"))
    if not images or not masks:
        where, what = (images_at, "images") if not images else (masks_at, "masks; they are PNG files")
        raise DataError(f"masks:{one_line(text)}: {one_line(str(where))} holds no {what}")
    pairs, notes = _pairs(text, images, masks)
    names, said = _class_names(masks_at)
    lines = [f"{image[0]}\0{image[1]}\0{mask[0]}\0{mask[1]}\n" for image, mask in pairs]
    try:
        parts = [line.encode() for line in lines]
    except UnicodeEncodeError:
        raise DataError(f"a file name in {one_line(text)} is not valid UTF-8; rename the file") from None
    return MaskDataset(
        spec=f"masks:{text}",
        root=images_at,
        ids=tuple(image[0] for image, _ in pairs),
        masks=tuple(masks_at / mask[0] for _, mask in pairs),
        class_names=names,
        fingerprint=digest(parts, None, names),
        notes=(*listing.notes(), *notes, *said),
    )


def _folders(text: str) -> tuple[Path, Path]:
    """The two folders; either may have commas in its name."""
    parts = text.split(",")
    for k in range(1, len(parts)):
        both = [Path(os.path.expanduser(",".join(some).strip())) for some in (parts[:k], parts[k:])]
        if all(str(one) != "." and os.path.isdir(one) for one in both):
            return both[0], both[1]
    if len(parts) == 1:
        raise DataError(f"masks:{one_line(text)} names one folder; expected two, masks:IMAGES,MASKS")
    missing = next((one for one in parts if not os.path.isdir(os.path.expanduser(one.strip()))), parts[0])
    raise DataError(
        f"masks:{one_line(text)}: {one_line(missing) or '(nothing)'} is no folder; expected masks:IMAGES,MASKS"
    )


def _pairs(text: str, images: list[File], masks: list[File]) -> tuple[list[tuple[File, File]], tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    by_image, by_mask = _by_stem(text, images, _stem), _by_stem(text, masks, _stem)
    if not by_image.keys() & by_mask.keys():
        by_image, by_mask = _by_stem(text, images, _bare), _by_stem(text, masks, _bare)
        if shared := sorted(by_image.keys() & by_mask.keys()):
            pair = f"{by_image[shared[0]][0]} and {by_mask[shared[0]][0]}"
            notes = (
                f"no mask is named as an image is: endings are left out, so that {one_line(pair)} belong together",
            )
    both = sorted(by_image.keys() & by_mask.keys())
    if not both:
        raise DataError(
            f"masks:{one_line(text)}: no mask has the name of an image ({one_line(images[0][0])[:80]}, … and "
            f"{one_line(masks[0][0])[:80]}, …); give both the same name but for the suffix"
        )
    for found, others, what in (
        (by_image, by_mask, "images without a mask"),
        (by_mask, by_image, "masks without an image"),
    ):
        if left := sorted(found[stem][0] for stem in found.keys() - others.keys()):
            notes += (f"{what} are left out: {len(left):,} ({one_line(left[0])[:80]}{', …' if left[1:] else ''})",)
    return [(by_image[stem], by_mask[stem]) for stem in both], notes


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _bare(name: str) -> str:
    return _ENDINGS.sub("", _stem(name))


def _by_stem(text: str, files: list[File], stem: Any) -> dict[str, File]:
    found: dict[str, File] = {}
    for file in files:
        other = found.setdefault(stem(file[0]), file)
        if other is not file:
            raise DataError(
                f"masks:{one_line(text)}: {one_line(other[0])} and {one_line(file[0])} have one name; remove one"
            )
    return found


def _class_names(masks: Path) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    path = next((at / name for at in (masks, masks.parent) for name in CLASS_FILES if os.path.isfile(at / name)), None)
    if path is None:
        return None, ()
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: {path.stat().st_size:,} bytes of class names, more than the {MOST_BYTES:,} allowed")
    try:
        document: Any = path.read_text(encoding="utf-8-sig").splitlines()
        if path.suffix == ".json":
            document = parse_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not readable ({one_line(str(error))[:100]}); expected a class name a line") from None
    if isinstance(document, dict) and set(document) == {str(i) for i in range(len(document))}:
        document = [document[str(i)] for i in range(len(document))]
    if not isinstance(document, list) or not all(isinstance(name, str) for name in document):
        raise DataError(f"{path}: expected a list of class names, in the order of their numbers")
    names = tuple(name.strip() for name in document)
    while names and not names[-1]:
        names = names[:-1]
    if not names or not all(names) or len(set(names)) < len(names):
        raise DataError(
            f"{path}: class names that are empty or stand twice; expected one a line, in the order of their numbers"
        )
    return names, (f"{quantity(len(names), 'class', 'classes')} by {path}, from 0: {names[0]!r} on",)
