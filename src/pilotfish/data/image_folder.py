"""``folder:PATH``: images in a folder, labelled by a ``labels.csv``, by class sub-folders, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pilotfish.data.dataset import Labels, digest
from pilotfish.data.encoded import Encoded, read_encoded
from pilotfish.data.images import open_image
from pilotfish.data.labels_csv import found_files, read_labels_csv
from pilotfish.data.listing import MISSING, File, Listing, entry_size, is_dir, is_image
from pilotfish.errors import DataError, one_line

LABELS_FILE = "labels.csv"
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".xlsx")
SPLITS = frozenset(["train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"])


@dataclass(frozen=True, eq=False)
class FolderDataset:
    """Image files below *root*. The ids are paths relative to it, with "/".

    sorted_names  whether labels are places among the sorted class names, and mean nothing beside them
    label_names   name by label, where some classes from 0 to the largest label have none
    truth         what is true of each sample, where that is more than a class; and then the *task*
    """

    spec: str
    root: Path
    ids: Sequence[str] = field(repr=False)
    labels: Labels | None = field(repr=False)
    class_names: tuple[str, ...] | None = field(repr=False)
    fingerprint: str
    notes: tuple[str, ...] = ()
    sorted_names: bool = False
    label_names: Mapping[int, str] | None = field(default=None, repr=False)
    truth: Any = field(default=None, repr=False)
    task: str = "classes"

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, i: int) -> Image.Image:
        return open_image(os.path.join(self.root, self.ids[i]))

    def encoded(self, i: int) -> Encoded:
        """Sample *i*, not decoded."""
        return read_encoded(os.path.join(self.root, self.ids[i]))


def load_folder(path: str | Path) -> FolderDataset:
    """List the images of the folder *path* without opening them.

    With a ``labels.csv`` (see ``read_labels_csv``) exactly the files it lists are samples, in its order; one that is
    missing costs its own row when it is read. Else the sub-folders are the classes, in the order of their sorted
    names, and hold images at any depth; an empty one keeps its index. Else the images lie in the folder itself and
    have no labels. Hidden files are ignored; files without an image suffix are left out and counted in ``notes``, as
    are files that a ``labels.csv`` does not list, or lists and that do not exist. Links that lead back to the folder,
    or above it, are not followed.

    The fingerprint covers relative paths, sizes and labels, so a copy of the folder has the same one.

    Raises ``DataError`` for a folder that is missing or holds no images, or both images and folders of images.
    """
    root = Path(os.path.expanduser(path))
    # os.path rather than Path: it answers False where Path raises, as for a name that is too long
    if not os.path.isdir(root):
        found = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        raise DataError(f"folder:{one_line(str(path))} {found}; expected a folder of images")
    if (table := labels_file(root)) is not None:
        return _from_labels_csv(f"folder:{path}", root, table)
    return _from_listing(f"folder:{path}", root)


def labels_file(root: Path) -> Path | None:
    """The ``labels.csv`` of a folder, in whatever case it is written."""
    if os.path.isfile(root / LABELS_FILE):
        return root / LABELS_FILE
    found = sorted(entry.name for entry in Listing(root).entries(root) if entry.name.lower() == LABELS_FILE)
    return root / found[0] if found and os.path.isfile(root / found[0]) else None


def image_paths(inputs: Iterable[str | Path], *, keep_missing: bool = False) -> list[Path]:
    """Files as they are and folders as the images below them, in the order given and sorted in each folder.

    Raises ``DataError`` for a folder without images, and for a path that does not exist unless *keep_missing*: then
    it stays in the list, and reading it says what is wrong.
    """
    paths: list[Path] = []
    for given in inputs:
        path = Path(os.path.expanduser(given))
        if os.path.isdir(path):
            images = sorted(name for name, _ in Listing(path).images(path))
            if not images:
                raise DataError(f"{given} holds no images; expected files such as .jpg or .png")
            paths.extend(path / name for name in images)
        elif keep_missing or os.path.exists(path):
            paths.append(path)
        else:
            raise DataError(f"{one_line(str(given))} does not exist; expected an image file or a folder of images")
    return paths


def _from_labels_csv(spec: str, root: Path, labels: Path) -> FolderDataset:
    table = read_labels_csv(labels)
    files, lines, notes = listed_files(root, table.files)
    fingerprint = digest(lines, table.labels, table.class_names)
    said = (*table.notes, *notes)
    names = table.sorted_names, table.label_names
    return FolderDataset(spec, root, files, table.labels, table.class_names, fingerprint, said, *names)


def listed_files(root: Path, given: Sequence[str]) -> tuple[tuple[str, ...], Iterator[bytes], tuple[str, ...]]:
    """(the files that a ``labels.csv`` lists, as they are spelled below *root*; what identifies them; notes)."""
    there = dict(Listing(root).images(root))
    files, notes = found_files(given, there, root.resolve().name)
    if missing := [file for file in files if file not in there and _size(os.path.join(root, file)) == MISSING]:
        notes += (f"files that {LABELS_FILE} lists and that do not exist: {_counted(missing)}",)
    if spare := sorted(there.keys() - set(files)):
        notes += (f"images that {LABELS_FILE} does not list are left out: {_counted(spare)}",)
    return files, _lines(((file, _size(os.path.join(root, file))) for file in files), root), notes


def _counted(files: Sequence[str]) -> str:
    return f"{len(files):,} ({one_line(files[0])[:80]}{', …' if files[1:] else ''})"


def _from_listing(spec: str, root: Path) -> FolderDataset:
    listing = Listing(root)
    top = listing.entries(root)
    folders = {entry.name: entry for entry in top if is_dir(entry) and not listing.leads_back(entry, entry.name)}
    classes = sorted(folders)
    flat = sorted((entry.name, entry_size(entry)) for entry in top if is_image(entry))
    for entry in top:
        if not is_dir(entry) and not is_image(entry):
            listing.leave_out(entry.name)
    ids: list[str] = []
    counts: list[int] = []
    lines: list[bytes] = []
    for name in classes:
        files = sorted(listing.images(folders[name], f"{name}/"))
        ids.extend(file for file, _ in files)
        counts.append(len(files))
        lines.append(b"".join(_lines(files, root)))
    notes = listing.notes()
    if ids and flat:
        raise DataError(
            f"{spec} holds both images ({one_line(flat[0][0])}) and folders of images ({one_line(ids[0])}); "
            f"move the images into class folders, or list the samples in a {LABELS_FILE}"
        )
    if ids and SPLITS.issuperset(name.lower() for name in classes):
        raise DataError(
            f"{spec} holds splits ({', '.join(classes)}), which would be taken for classes; name one of them, such as "
            f"{spec}/{classes[-1]}"
        )
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        notes += (f"class folders without images keep their place among the classes: {_counted(empty)}",)
    if ids:
        labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
        fingerprint = digest(lines, labels, classes)
        return FolderDataset(spec, root, tuple(ids), labels, tuple(classes), fingerprint, notes, True)
    if not flat:
        said = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"{spec} holds no images{said}; expected class folders of files such as .jpg or .png")
    if tables := [name for entry in top if (name := entry.name).lower().endswith(TABLES) and not is_dir(entry)]:
        unread = ", ".join(one_line(name)[:60] for name in sorted(tables)[:3])
        notes += (f"samples have no labels: they come from {LABELS_FILE} (file,label), and {unread} is not read",)
    fingerprint = digest(_lines(flat, root), None, None)
    return FolderDataset(spec, root, tuple(file for file, _ in flat), None, None, fingerprint, notes)


def _lines(files: Iterable[File], root: Path) -> Iterator[bytes]:
    for file, size in files:
        try:
            yield f"{file}\0{size}\n".encode()
        except UnicodeEncodeError:
            raise DataError(f"a file name in {root} is not valid UTF-8: {one_line(file)}; rename the file") from None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return MISSING
