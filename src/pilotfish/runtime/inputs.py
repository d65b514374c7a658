"""Inputs of a cascade: paths, bytes, PIL images and arrays, single or mixed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pilotfish.data import Dataset, Encoded, image_paths, open_image, read_encoded, sample_reader, upright
from pilotfish.errors import UnreadableSample, UsageError, reason
from pilotfish.models import Preprocessing
from pilotfish.models.preprocessing import Sample

Input = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""One input: an image file by path or as bytes, a PIL image, or an array (or tensor) of one sample."""
FILES, CONTENTS = (str, os.PathLike), (bytes, bytearray, memoryview)


@dataclass(frozen=True)
class Given:
    """N inputs to answer.

    names   the name of each: a path, an id, or the position in the list
    reader  called with whether some stage decodes files itself; returns what reads the i-th input
    named   whether the names identify the inputs, as those of files and data sets do
    """

    names: list[str]
    reader: Callable[[bool], Callable[[int], Any]]
    named: bool = True


def takes_images(chains: Iterable[Preprocessing]) -> bool:
    """Whether some stage takes images; otherwise arrays are used unchanged."""
    return any(chain.kind != "tensor" for chain in chains)


def opened(item: Any, encoded: bool, images: bool) -> Sample:
    """One input as the stages take it. UnreadableSample, in one line, for what is not an input or cannot be read.

    encoded  whether files are left undecoded, for a stage that decodes them itself
    images   as :func:`takes_images` says: a PIL image is then turned and flattened as its file would be
    """
    if isinstance(item, np.ndarray):
        return item
    if isinstance(item, FILES):
        path = os.path.expanduser(_path(item))
        return read_encoded(path) if encoded else open_image(path)
    if isinstance(item, CONTENTS):
        return Encoded(bytes(item), "the image") if encoded else open_image(bytes(item))
    if isinstance(item, Image.Image):
        return upright(item) if images else item
    if hasattr(item, "__array__"):
        return _as_array(item)
    raise UnreadableSample(f"expected a path, bytes, an image or an array, found {type(item).__name__}")


def name_of(item: Any, place: int) -> str:
    """The name of an input: its path, or its position."""
    try:
        return str(Path(_path(item))) if isinstance(item, FILES) else str(place)
    except UnreadableSample:
        return str(place)


def _path(item: str | os.PathLike[str]) -> str:
    """The path of a file. UnreadableSample if an object that should have one does not return it."""
    try:
        return os.fsdecode(item)
    except Exception as error:  # of the caller's own class
        raise UnreadableSample(f"{type(item).__name__} gives no path: {reason(error)}") from error


def sorted_out(inputs: Any, chains: Sequence[Preprocessing], shape: tuple[int, ...] | None = None) -> Given:
    """*inputs* as ``Cascade.predict`` takes them, one by one.

    chains  the preprocessing of the stages; shape: of one input of a model that takes arrays, if known

    Folders become the images in them. UsageError for ambiguous inputs, and for what is not an input.
    """
    if hasattr(inputs, "ids") and hasattr(inputs, "read"):
        data: Dataset = inputs
        return Given(list(data.ids), lambda encoded: sample_reader(data, encoded))
    if isinstance(inputs, (*FILES, *CONTENTS, Image.Image)):
        items: Sequence[Any] = [inputs]
    elif hasattr(inputs, "__array__"):
        items = _samples(inputs, chains, shape)
    elif isinstance(inputs, Sequence):
        items = inputs
    else:
        raise UsageError(
            f"predict takes a path, bytes, an image or an array, or a list of them; found {type(inputs).__name__} "
            "(for inputs that arrive one by one, use stream)"
        )
    images = takes_images(chains)
    names: list[str] = []
    found: list[Any] = []
    for place, item in enumerate(items):
        several = _files_of(item) if isinstance(item, FILES) else [item]
        names += [name_of(one, place) for one in several]
        found += several
    named = all(isinstance(item, FILES) for item in items)
    return Given(names, lambda encoded: lambda i: opened(found[i], encoded, images), named)


def _files_of(item: Any) -> Sequence[Any]:
    """The images in a folder; anything else unchanged: reading it reports what is wrong."""
    try:
        return image_paths([Path(_path(item))], keep_missing=True)
    except UnreadableSample:
        return [item]


def _samples(given: Any, chains: Sequence[Preprocessing], shape: tuple[int, ...] | None) -> Sequence[Any]:
    """The samples of one array, which may be one sample itself."""
    try:
        array = _as_array(given)
    except UnreadableSample as error:
        raise UsageError(f"predict takes an array of numbers; {error}") from None
    if array.ndim == 1 and array.dtype.kind in "OU":  # names in an array, or in a column of a table
        names: list[Any] = array.tolist()
        return names
    pictures = array.dtype == np.uint8  # for stages that take arrays whatever they hold
    images = any(pictures if chain.kind == "arrays" else chain.kind != "tensor" for chain in chains)
    if images and array.ndim == 3 and array.shape[2] not in (1, 3):
        _refuse_two_meanings(array.shape, {chain.channels for chain in chains} == {1})
    if images:
        alone = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    else:
        alone = shape is not None and array.shape == tuple(shape)
        if shape is None and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            raise UsageError(
                f"an array {array.shape} may be one image or {len(array)} samples {array.shape[1:]}; write "
                "predict([array]) for the one, predict(list(array)) for the others"
            )
    if alone:
        return [array]
    if array.ndim < 2:
        raise UsageError(f"an array of inputs has its samples along the first axis; found shape {array.shape}")
    return list(array)


def _refuse_two_meanings(shape: tuple[int, ...], grey: bool) -> None:
    """Refuse arrays that may be one image or several grey ones; *grey*: whether the stages take grey images."""
    if shape[2] == 4:
        what, one = "with transparency", "[:, :, :3]"
    elif shape[0] == 3 and not grey:
        what, one = "with its channels first", ".transpose(1, 2, 0)"
    else:
        return
    raise UsageError(
        f"an array {shape} may be one image {what} or {shape[0]} grey ones; write predict([array{one}]) for the one, "
        "predict(list(array)) for the others"
    )


def _as_array(item: Any) -> NDArray[Any]:
    try:
        return np.asarray(item)
    except Exception as error:  # of any library: a tensor may be on a device
        raise UnreadableSample(f"{type(item).__name__} cannot be read as an array: {reason(error)}") from error
