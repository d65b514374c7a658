"""Names and notes of a cascade or a run held HTML: tags, event handlers, entities, a style that loads a picture.

Taught: everything is escaped unless the page itself made it, and the page forbids the browser to load, run or send
anything, should something be missed.
"""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pilotfish.cascade import load_artefact
from pilotfish.records import Run
from pilotfish.report import write_report

EVIL = (
    "<script>fetch('https://evil.example')</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>body{background:url(https://evil.example/x)}</style>",
    "</title><meta http-equiv=refresh content='0;url=https://evil.example'>",
    "&lt;script&gt;\u202e\x1b[2J\ufeff<svg/onload=alert(1)>",
)


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def harmless(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    seen = Seen()
    seen.feed(text)
    assert "script" not in {tag for tag, _ in seen.tags}
    for tag, attributes in seen.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert not any((attributes.get(name) or "").startswith("http") for name in ("src", "href", "action")), tag
    policies = [a.get("content") for tag, a in seen.tags if a.get("http-equiv") is not None]
    (policy,) = policies  # nothing else says what the browser is to do
    assert policy is not None
    assert {"default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"} <= set(policy.split("; "))
    assert "script-src" not in policy
    assert not any(c in text for c in "\u202e\x1b\ufeff")


@pytest.mark.parametrize("text", ["".join(EVIL[:2]), EVIL[2] + EVIL[3], EVIL[4]], ids=ascii)
def test_a_page_about_names_that_are_markup(text: str, run: Run, cascade: Path, edit: Any, tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        for stage in document["stages"]:
            stage.update(name=text + stage["name"], spec=f"timm:{text}", records_created=text)
            stage.update(preprocessing={text: text}, preprocessing_hash=text, weights_hash=text)
        document.update(method=text)
        document["origin"].update(data=text, fingerprint=text, run=text, split=text)

    write_report(tmp_path / "cascade.html", artefact=load_artefact(edit(change)), bench={"machine": {text: text}})
    harmless(tmp_path / "cascade.html")
    for name in ("saver", "base"):
        records = run.read(name)
        meta = dataclasses.replace(records.meta, model=text + name, notes=(text,), data={"spec": text})
        run.file(name).unlink()
        run.write(dataclasses.replace(records, meta=meta))
    write_report(tmp_path / "run.html", run=run, base=f"{text}base")
    harmless(tmp_path / "run.html")
