"""Plots as inline SVG: drawn without global state, stripped of what a page does not need, the same bytes every time."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pilotfish.report.html import Markup, clean, escape, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1c2b3a", "#66788a", "#e6ebf0"
SAVER, BASE, CASCADE, OTHER = "#d9730d", "#27477a", "#0b8a7d", "#9aa9b7"


@dataclass(frozen=True)
class Size:
    """A drawing size in CSS pixels; text is drawn at about its final size."""

    name: str
    width: int
    height: int
    text: float

    @property
    def narrow(self) -> bool:
        """Whether it is the one for phones."""
        return self.name == "narrow"


WIDE = Size("wide", 880, 430, 12.5)
NARROW = Size("narrow", 370, 350, 11.0)

Draw = Callable[["Figure", Size], Mapping[str, str]]


def plot(draw: Draw, name: str, label: str, taller: float = 1.0) -> Markup:
    """The plot that *draw* makes, once for wide pages and once for phones; *label* says what it shows.

    ``draw`` fills the figure and returns hover texts by the ``gid`` it gave to artists.
    """
    sizes = [replace(size, height=round(size.height * taller)) for size in (WIDE, NARROW)]
    return Markup("".join(_render(draw, name, label, size) for size in sizes))


def _render(draw: Draw, name: str, label: str, size: Size) -> Markup:
    import matplotlib.style
    from matplotlib.figure import Figure

    ours = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"pilotfish-{name}-{size.name}",
        "text.parse_math": False,  # a name may hold dollars
        "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same plot on every machine
        "font.size": size.text,
        "axes.facecolor": "none",
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.unicode_minus": True,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 1.0,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.linewidth": 1.0,
    }
    written = io.BytesIO()
    with matplotlib.style.context(["default", ours]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's browser has more fonts
        figure: Figure = Figure(figsize=(size.width / 72, size.height / 72), dpi=72)
        figure.patch.set_visible(False)
        _margins(figure, size)
        hover = draw(figure, size)
        figure.savefig(written, format="svg", metadata={"Date": None})
    return _inline(written.getvalue(), f"{name}-{size.name}", label, hover, size)


def _margins(figure: Figure, size: Size) -> None:
    """Room for tick labels and axis names, by the size of the text; names of y axes are left out on phones."""
    em, left = size.text, 5.0 if size.narrow else 6.4
    figure.subplots_adjust(
        left=left * em / size.width,
        right=1 - em / size.width,
        bottom=3.7 * em / size.height,
        top=1 - em / size.height,
        hspace=0.08,
    )


def _inline(document: bytes, prefix: str, label: str, hover: Mapping[str, str], size: Size) -> Markup:
    """The drawing alone: no prologue, namespaces or metadata; ids unique on the page; fonts left to the page."""
    root = ElementTree.fromstring(document)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        if element.tag != "text" and element.text and not element.text.strip():
            element.text = None
        gid = element.get("id", "")
        element.attrib = {key.rpartition("}")[2]: _attribute(key, value, prefix) for key, value in element.items()}
        if element.tag == "g":
            element.attrib.pop("id", None)  # a group that nothing refers to
        if str(element.get("transform", "")).startswith("rotate(-0 "):
            del element.attrib["transform"]
        if gid in hover:
            title = ElementTree.Element("title")
            title.text = clean(hover[gid])
            element.insert(0, title)
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    return tag(
        "svg",
        tag("title", label),
        Markup(body),
        class_=f"plot {size.name}",
        role="img",
        aria_label=label,
        viewBox=f"0 0 {size.width} {size.height}",
    )


def _attribute(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return f"{prefix}-{value}"
    if key.endswith("href") and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    value = value.replace("url(#", f"url(#{prefix}-")
    if key == "style":
        value = re.sub(r"font-family: [^;]*(; )?", "", value)
    return re.sub(r"\s+", " ", value).strip() if key == "d" else value


def legend(*entries: tuple[str, str, object]) -> Markup:
    """A legend as HTML, which wraps at any width: (colour, shape, text), shape one of line, dash, dot, ring, box."""
    items = [
        tag(
            "li",
            tag("span", class_=f"key {shape}", style=f"--key:{colour}", aria_hidden="true"),
            escape(text),
        )
        for colour, shape, text in entries
    ]
    return tag("ul", *items, class_="legend")
