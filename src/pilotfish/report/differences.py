"""The images where saver and base differ most, with the answers of both drawn on them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from pilotfish.errors import MissingExtraError, UnreadableSample, UsageError
from pilotfish.plan.sweep import I64
from pilotfish.plan.trace import Trace, numbers
from pilotfish.records import Table
from pilotfish.report.format import format_count, percent
from pilotfish.report.html import Markup, tag
from pilotfish.tasks.drawing import as_image, enlarged, with_caption

SHOWN = 6
WIDTH = 400  # pixels of a picture in the page


class Images(Protocol):
    """The part of a data set that is needed here: samples by id, images or arrays of them."""

    @property
    def spec(self) -> str: ...

    @property
    def ids(self) -> Sequence[str]: ...

    def read(self, i: int) -> Any: ...


@dataclass(frozen=True)
class Difference:
    """One image: its id, the pictures of both answers as PNG or JPEG files, their quality, and who answers it."""

    name: str
    pictures: tuple[bytes, ...]
    quality: tuple[float, ...]
    exits: bool


def differences_of(
    table: Table,
    pair: Trace,
    answered_by: I64,
    data: Images,
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """The images whose answers differ most in quality, and notes of what cannot be shown.

    pair         the saver and the base, as they are named in the table
    answered_by  int64 (N,), the stage that answers each sample
    data         the images, by the ids of the table
    """
    gap = np.abs(np.diff(numbers(pair.quality).astype(float), axis=0)[0])
    sure = np.nan_to_num(pair.values[0], nan=-np.inf)
    order = np.lexsort((-sure, -gap))[: 4 * SHOWN]
    places = {name: i for i, name in enumerate(data.ids)}
    ids = table.ids.to_pylist()
    found: list[Difference] = []
    missing = 0
    for row in order[gap[order] > 0].tolist():
        if len(found) == SHOWN:
            break
        at = places.get(ids[row])
        try:
            image = None if at is None else as_image(data.read(at), ids[row])
            pictures = () if image is None else tuple(_picture(table, name, row, image) for name in pair.names)
        except UnreadableSample:
            image = None
        except (MissingExtraError, UsageError) as error:  # the page is worth having without them
            return (), (f"no images are drawn: {error}",)
        if image is None:
            missing += 1
            continue
        quality = tuple(float(one[row]) for one in pair.quality)
        found.append(Difference(ids[row], pictures, quality, bool(answered_by[row] == 0)))
    if found or not missing:
        return tuple(found), ()
    return (), (f"no images are drawn: {data.spec} has none of the ids in the records, such as {ids[order[0]]}",)


def _picture(table: Table, model: str, row: int, image: Image.Image) -> bytes:
    """The answer of *model* to a sample, drawn and written below it."""
    task, names = table.task, table.meta[model].class_names
    outputs = table.outputs[model].take(np.array([row]))
    prediction, name = task.says(task.answer(outputs)[0], names)
    drawn = enlarged(image)[0] if task.draw is None or prediction is None else task.draw(image, prediction, names)
    whole = with_caption(drawn, str(prediction) if name is None else name or "nothing")
    if whole.width > WIDTH:
        whole = whole.resize((WIDTH, round(whole.height * WIDTH / whole.width)), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    whole.save(written, "JPEG", quality=85)
    return written.getvalue()


def differences_figure(found: Sequence[Difference], saver: str, base: str, says: str) -> Markup:
    """Two pictures for each image, the saver's answer and the base's; nothing without images."""
    if not found:
        return Markup("")
    return tag(
        "figure",
        tag("h2", "Where the two differ most"),
        tag("div", *(_row(one, saver, base) for one in found), class_="pairs"),
        tag(
            "figcaption",
            f"The {format_count(len(found))} images whose answers differ most, the surest of the saver first among "
            f"equals: left {saver}, right {base}, each with its {says} of this image alone.",
        ),
    )


def _row(one: Difference, saver: str, base: str) -> Markup:
    cells = [
        tag(
            "div",
            tag(
                "img",
                src=f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}",
                alt=f"{one.name} as {name} answers it",
                width="100%",
            ),
            tag("p", f"{name}: {percent(quality, 1)}", class_="small"),
        )
        for name, picture, quality in zip((saver, base), one.pictures, one.quality, strict=True)
    ]
    where = "exits: the saver's answer stands" if one.exits else "goes to the base"
    return tag("div", tag("p", f"{one.name} {where}", class_="small"), tag("div", *cells, class_="two"))
