"""``coco:ANNOTATIONS.json[,IMAGES]``: images, and the boxes that are in them, as COCO has them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from pilotfish.data.dataset import digest
from pilotfish.data.encoded import Encoded, read_encoded
from pilotfish.data.images import open_image
from pilotfish.errors import DataError
from pilotfish.files import sha256_file
from pilotfish.reading.coco_json import read_instances
from pilotfish.tasks.boxes import BOXES


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """The images of COCO's instances, in the order of their ids.

    files        their names below *root*
    class_names  by category id, "N/A" where no category has the number
    truth        the boxes that are in them (:class:`pilotfish.tasks.box_matching.TrueBoxes`)
    """

    spec: str
    root: Path
    ids: Sequence[str] = field(repr=False)
    files: Sequence[str] = field(repr=False)
    class_names: tuple[str, ...] | None = field(repr=False)
    truth: Any = field(repr=False)
    fingerprint: str
    notes: tuple[str, ...] = ()
    task: str = BOXES.name

    @property
    def labels(self) -> None:
        """There are none but the boxes."""
        return None

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, i: int) -> Image.Image:
        return open_image(os.path.join(self.root, self.files[i]))

    def encoded(self, i: int) -> Encoded:
        """Sample *i*, not decoded."""
        return read_encoded(os.path.join(self.root, self.files[i]))


def load_coco(rest: str) -> CocoDataset:
    """Open ``ANNOTATIONS.json[,IMAGES]``. IMAGES is the folder of the images; where it is not named, it is looked for
    beside the annotations, by the name of the first image.

    The fingerprint covers the annotations' file, and no image.

    Raises DataError for a file that is none of COCO's instances, and where no image is found.
    """
    name, _, folder = rest.partition(",")
    path = Path(os.path.expanduser(name))
    there = read_instances(path, DataError)
    if not there.files[0]:
        raise DataError(f"{path}: its images have no file_name; expected COCO's instances")
    tried = [Path(os.path.expanduser(folder))] if folder else _beside(path)
    root = next((one for one in tried if os.path.isfile(one / there.files[0])), None)
    if root is None:
        looked = ", ".join(dict.fromkeys(str(one) for one in tried))
        advice = f"write the folder that the images are in, as in coco:{name},IMAGES"
        raise DataError(f"coco:{rest}: no {there.files[0]} in {looked}; {advice}")
    from pilotfish.records.coco import true_boxes  # the room of records is heavy

    return CocoDataset(
        spec=f"coco:{rest}",
        root=root,
        ids=tuple(str(i) for i in there.images),
        files=there.files,
        class_names=there.class_names,
        truth=true_boxes(there),
        fingerprint=digest([sha256_file(path).encode()], None, None),
        notes=there.notes,
    )


def _beside(path: Path) -> list[Path]:
    """Folders that images may be in: COCO's own layout, annotations/instances_val2017.json beside val2017/."""
    split = path.stem.removeprefix("instances_")
    above = path.parent.parent
    return [
        path.parent,
        path.parent / "images",
        path.parent / split,
        above / split,
        above / "images" / split,
        above / "images",
    ]
