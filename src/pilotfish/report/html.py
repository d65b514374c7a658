"""HTML that is escaped unless it says it is markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

VOID = frozenset({"meta", "br", "hr", "img"})
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff"
    "\U000e0000-\U000e0fff]"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may do for a page: show it. Nothing is loaded, run or sent, whatever a name smuggled in."""


class Markup(str):
    """Text that is HTML already. Only this module and the plots make it."""


def clean(text: object) -> str:
    """*text* without what no page can hold: control characters, text-direction overrides, lone surrogates."""
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", whole)


def escape(text: object) -> Markup:
    """Text for any place of a page; markup stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(clean(text), quote=True))


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Parts as one piece of markup; each is escaped unless it is markup."""
    return Markup(escape(between).join(escape(part) for part in parts))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. ``class_`` is the class; an attribute of None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def row(cells: Sequence[object], kind: str = "td", first: str | None = None, class_: str | None = None) -> Markup:
    """A table row; *first* is the element of the first cell (a row's heading is ``th``)."""
    head = tag(first or kind, cells[0], scope="row" if first == "th" else None)
    return tag("tr", head, *(tag(kind, cell) for cell in cells[1:]), class_=class_)


def table(head: Sequence[object], rows: Iterable[Markup], foot: Markup | None = None, class_: str = "") -> Markup:
    """A table that scrolls sideways where the page is narrow."""
    parts = [tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))), tag("tbody", *rows)]
    if foot is not None:
        parts.append(tag("tfoot", foot))
    return tag("div", tag("table", *parts, class_=class_ or None), class_="scroll", tabindex="0")


def document(title: str, css: str, body: Markup) -> str:
    """A whole page."""
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=Markup(POLICY)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light"),
            tag("title", title),
            tag("style", Markup(css)),
        ],
        "\n",
    )
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n{tag("body", body)}\n</html>\n'
