"""Where the figures come from."""

from __future__ import annotations

from pilotfish._version import __version__
from pilotfish.report.bench_table import brief
from pilotfish.report.format import format_cost, short_hash
from pilotfish.report.html import Markup, tag
from pilotfish.report.subject import ModelFacts, Subject
from pilotfish.text import quantity


def provenance_section(subject: Subject) -> Markup:
    """Data, models, protocol, notes and version."""
    return tag(
        "section",
        tag("h2", "Where this comes from"),
        _list(_data(subject)),
        *(part for model in subject.models for part in (tag("h3", model.name), _list(_model(model)))),
        *_notes(subject),
    )


def footer() -> Markup:
    """The version that wrote the page."""
    return tag("footer", f"Written by Pilotfish {__version__}.")


def _data(subject: Subject) -> list[tuple[str, object]]:
    fingerprint = subject.data.get("fingerprint")
    return [
        ("data", subject.data.get("data") or "not recorded"),
        ("fingerprint", _code(fingerprint, "not recorded: imported predictions carry none")),
        ("split", f"{subject.split}, {quantity(subject.n, 'sample')}"),
        ("run", subject.data.get("run") or "not at hand"),
        ("score", subject.score),
        ("protocol", subject.policy.protocol if subject.policy else "nothing was chosen"),
    ]


def _model(model: ModelFacts) -> list[tuple[str, object]]:
    costs = ", ".join(format_cost(key, value) + _where(key) for key, value in sorted(model.costs.items()))
    chain = brief(model.preprocessing) if model.preprocessing else "not recorded"
    if model.preprocessing_hash:
        chain += f" (hash {short_hash(model.preprocessing_hash)})"
    facts: list[tuple[str, object]] = [
        ("weights", _code(model.weights_hash, "not recorded")),
        ("preprocessing", chain),
        ("costs", costs or "not recorded"),
    ]
    if model.spec is not None and model.spec != model.name:
        facts.insert(0, ("loaded as", model.spec))
    if model.source is not None:
        facts.append(("source", model.source + (f", {model.created}" if model.created else "")))
    if model.failures is not None:
        facts.append(("failures", f"{quantity(model.failures, 'sample')} could not be read or answered"))
    return facts


def _where(key: str) -> str:
    _, _, where = key.partition("@")
    return f" at {where}" if where else ""


def _code(digest: object, absent: str) -> Markup | str:
    return tag("code", short_hash(str(digest)), title=digest) if digest else absent


def _notes(subject: Subject) -> list[Markup]:
    if not subject.notes:
        return []
    return [
        tag("h3", f"Notes ({len(subject.notes)})"),
        tag("ul", *(tag("li", note) for note in subject.notes)),
    ]


def _list(facts: list[tuple[str, object]]) -> Markup:
    return tag("dl", *(part for name, value in facts for part in (tag("dt", name), tag("dd", value))))
