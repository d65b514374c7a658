"""Answers drawn on the images that they are about."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pilotfish.errors import UsageError, needs
from pilotfish.text import one_line

SMALLEST = 320  # pixels of the shorter side: what is smaller is enlarged, so that names can be read
FAINT = 0.3  # boxes of a lower score are not drawn
BACKGROUNDS = ("background", "__background__", "bg", "void")
STRIP, PAPER = (28, 43, 58), (255, 255, 255)
Picture = NDArray[np.uint8]


def as_image(sample: Any, name: str) -> Image.Image:
    """A sample as an image. UsageError, which calls it *name*, for what is none."""
    if isinstance(sample, Image.Image):
        return sample
    array = np.asarray(sample)
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))):
        raise UsageError(
            f"answers are drawn on images, and {name} is an array {array.dtype} {array.shape}; leave this out, or give "
            "image files or arrays uint8 (H, W, 3)"
        )
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def enlarged(image: Image.Image) -> tuple[Picture, int]:
    """(uint8 (H, W, 3), by how much it was enlarged)."""
    times = -(-SMALLEST // max(1, min(image.size)))
    size = (image.width * times, image.height * times)
    bigger = image if times == 1 else image.resize(size, Image.Resampling.NEAREST)
    return np.array(bigger.convert("RGB")), times


def draw_boxes(image: Image.Image, boxes: Sequence[Mapping[str, Any]]) -> Picture:
    """The boxes of score 0.3 and more, in the colour of their class, with its name and the score.

    boxes  as ``predict --json`` has them: label, name, score, and box as x, y, width, height in pixels
    """
    picture, times = enlarged(image)
    shown = [one for one in boxes if one["score"] >= FAINT][::-1]  # the surest on top
    if not shown:
        return picture
    sv = _supervision()
    corners = np.array([one["box"] for one in shown], float)
    corners[:, 2:] += corners[:, :2]
    found = sv.Detections(
        xyxy=corners * times,
        confidence=np.array([one["score"] for one in shown], float),
        class_id=np.array([one["label"] for one in shown], int),
    )
    texts = [f"{one_line(str(_called(one)))} {one['score']:.2f}" for one in shown]
    thickness = max(2, round(min(picture.shape[:2]) / 200))
    picture = sv.BoxAnnotator(thickness=thickness).annotate(picture, found)
    labels = sv.RichLabelAnnotator(font_size=_font_size(picture), smart_position=True, text_padding=3)
    return np.asarray(labels.annotate(picture, found, texts))


def draw_mask(image: Image.Image, mask: NDArray[Any], names: Sequence[str] | None) -> Picture:
    """The classes of a mask (H, W) as colours over the image, with a name in each; the background is left as it is."""
    picture, times = enlarged(image)
    if mask.shape != (image.height, image.width):
        mask = np.array(Image.fromarray(mask.astype(np.int32)).resize(image.size, Image.Resampling.NEAREST))
    classes = [k for k in np.unique(mask).tolist() if not _background(k, names)]
    if not classes:
        return picture
    sv = _supervision()
    inside = np.repeat(np.repeat(mask, times, 0), times, 1) == np.array(classes)[:, None, None]
    found = sv.Detections(xyxy=sv.mask_to_xyxy(inside).astype(float), mask=inside, class_id=np.array(classes))
    picture = sv.MaskAnnotator(opacity=0.55).annotate(picture, found)
    texts = [one_line(names[k]) if names and k < len(names) else str(k) for k in classes]
    centre = sv.Position.CENTER_OF_MASS
    labels = sv.RichLabelAnnotator(font_size=_font_size(picture), text_position=centre, text_padding=3)
    return np.asarray(labels.annotate(picture, found, texts))


def with_caption(picture: Picture, text: str) -> Image.Image:
    """*picture* with *text* on a strip below it, in as many lines as it needs."""
    font = ImageFont.load_default(_font_size(picture))
    lines = _wrapped(one_line(text), font, picture.shape[1] - 12)
    height = _font_size(picture) + 6
    whole = Image.new("RGB", (picture.shape[1], picture.shape[0] + height * len(lines) + 8), STRIP)
    whole.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(whole)
    for k, line in enumerate(lines):
        draw.text((6, picture.shape[0] + 4 + k * height), line, font=font, fill=PAPER)
    return whole


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines[:6] or [""]


def _font_size(picture: Picture) -> int:
    return int(max(13, min(picture.shape[:2]) // 28))


def _called(box: Mapping[str, Any]) -> Any:
    return box["label"] if box.get("name") is None else box["name"]


def _background(k: int, names: Sequence[str] | None) -> bool:
    return names[k].casefold() in BACKGROUNDS if names and k < len(names) else k == 0


def _supervision() -> Any:
    with needs("supervision", "vision", "drawing boxes and masks"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it also works without OpenCV
        import supervision
    return supervision
