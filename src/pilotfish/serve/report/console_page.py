"""The console page: one HTML document made of the files in ``console/``, and what a browser may do for it."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("console")
SCRIPTS = ("words.js", "charts.js", "panels.js", "point.js", "live.js")


@cache
def console_page() -> tuple[bytes, dict[str, str]]:
    """The page, and the headers that it goes out with.

    Style and script stand in the page itself; the policy lets a browser run these two texts, by their hashes, and
    nothing else, and talk to the server that the page came from alone.
    """
    script = '"use strict";\n' + "".join(_text(name) for name in SCRIPTS)
    style = _text("page.css")
    page = _text("page.html").replace("/*STYLE*/", style, 1).replace("/*SCRIPT*/", script, 1)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return page.encode(), {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": policy,
        "cache-control": "no-cache",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
