"""The console page: one HTML document built from the files in ``console/``, with its security policy."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("console")
SCRIPTS = ("words.js", "charts.js", "panels.js", "point.js", "live.js")


@cache
def console_page() -> tuple[bytes, dict[str, str]]:
    """The page and its response headers.

    Style and script are part of the page; the policy lets a browser use only these two, by their hashes, and connect
    only to the server of the page.
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
