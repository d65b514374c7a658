"""HTML that is escaped unless it says it is markup, and the page's style."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from pilotfish.text import UNSAFE

VOID = frozenset({"meta", "br", "hr", "img"})
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may do for a page: show it. Nothing is loaded, run or sent, whatever a name smuggled in."""


class Markup(str):
    """Text that is HTML already. Only this module and the plots make it."""


def clean(text: object) -> str:
    """*text* without what no page can hold: control characters, text-direction overrides, lone surrogates."""
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return UNSAFE.sub(lambda found: found[0] if found[0] in "\t\n\r" else "\N{REPLACEMENT CHARACTER}", whole)


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


CSS = """
:root{--ink:#1c2b3a;--muted:#5a6b7b;--line:#dde4ea;--paper:#fff;--wash:#f5f8fa;--teal:#0b8a7d;--warn:#9a5b00}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--wash);color:var(--ink);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:960px;margin:0 auto;padding:28px 20px 48px}
header{margin-bottom:20px}
.brand{display:flex;align-items:center;gap:8px;color:var(--muted);font-size:.85rem;letter-spacing:.04em}
.brand svg{width:30px;height:16px}
h1{font-size:1.7rem;line-height:1.2;margin:.35em 0 .3em;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:0 0 .4em;overflow-wrap:anywhere}
p{margin:.4em 0}
.lead{font-size:1.08rem;overflow-wrap:anywhere}
.small,figcaption{color:var(--muted);font-size:.88rem}
.verdict{border-left:4px solid var(--teal);background:#eef8f6;padding:10px 14px;border-radius:0 6px 6px 0;margin:14px 0;
 overflow-wrap:anywhere}
.verdict.no{border-color:var(--warn);background:#fdf4e3}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin:16px 0;
 padding:0;list-style:none}
.tiles li{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.tiles .what{color:var(--muted);font-size:.82rem}
.tiles .value{font-size:1.5rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}
.tiles .value small{font-size:.95rem;font-weight:500;color:var(--muted)}
.tiles .more{color:var(--muted);font-size:.82rem;overflow-wrap:anywhere}
figure,section{background:var(--paper);border:1px solid var(--line);border-radius:8px;margin:18px 0;padding:16px 18px}
.plot{display:block;width:100%;height:auto;overflow:visible}
.plot text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif!important;
 paint-order:stroke;stroke:#fff;stroke-width:2.5px;stroke-linejoin:round}
.plot *{stroke-linejoin:round;stroke-linecap:butt}
.plot.narrow{display:none}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;list-style:none;margin:0 0 6px;padding:0;font-size:.85rem}
.legend li{display:flex;align-items:center;gap:7px;overflow-wrap:anywhere}
.key{flex:none;width:20px;height:0;border-top:3px solid var(--key)}
.key.dash{border-top:2px dashed var(--key)}
.key.dot{width:11px;height:11px;border:0;border-radius:50%;background:var(--key)}
.key.ring{width:13px;height:13px;border:2.5px solid var(--key);border-radius:50%}
.key.box{width:12px;height:12px;border:0;background:var(--key)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
tbody th,tfoot th,td.text{font-weight:400;white-space:normal;overflow-wrap:anywhere;min-width:9em}
thead th{white-space:normal;overflow-wrap:break-word;min-width:4.5em;
 color:var(--muted);font-weight:600;border-bottom:2px solid var(--line)}
tr.best{background:#eaf6f4}tr.best th,tr.best td{font-weight:650}
tr.idle th,tr.idle td{color:#75838f}
tfoot th,tfoot td{border-top:2px solid var(--line);border-bottom:0}
dl{margin:0;display:grid;grid-template-columns:minmax(7em,max-content) 1fr;gap:3px 16px;font-size:.9rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
.pairs{display:grid;grid-template-columns:repeat(auto-fit,minmax(330px,1fr));gap:6px 22px}
.two{display:grid;grid-template-columns:1fr 1fr;gap:8px}.two img{display:block;border-radius:4px}
h3{font-size:.98rem;margin:1em 0 .3em;overflow-wrap:anywhere}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
footer{color:var(--muted);font-size:.82rem;margin-top:20px}
@media (max-width:640px){main{padding:18px 12px 32px}figure,section{padding:12px}h1{font-size:1.35rem}
 .plot.wide{display:none}.plot.narrow{display:block}.tiles{grid-template-columns:repeat(2,1fr)}
 th,td{padding:4px 7px}dl{grid-template-columns:1fr}dd{margin-bottom:4px}}
@media print{@page{margin:14mm}body{background:#fff;font-size:11pt}main{max-width:none;padding:0}
 figure,.tiles,tr,.verdict{break-inside:avoid}figure,section{border-color:#ccc}.scroll{overflow:visible}
 .plot.wide{display:block!important}.plot.narrow{display:none!important}
 *{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
