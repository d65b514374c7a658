"""The page: what it is made from, and its sections in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotfish.cascade import Artefact
from pilotfish.errors import UsageError
from pilotfish.files import write_text
from pilotfish.records import Run
from pilotfish.report.bench_table import bench_section
from pilotfish.report.classes_table import classes_section
from pilotfish.report.details_plot import details_sections
from pilotfish.report.differences import Images, differences_figure
from pilotfish.report.exited_plot import exited_figure
from pilotfish.report.from_cascade import about_cascade
from pilotfish.report.from_records import about_records
from pilotfish.report.frontier_plot import frontier_figure
from pilotfish.report.headline import default_title, headline
from pilotfish.report.html import CSS, Markup, document, tag
from pilotfish.report.mistakes_plot import mistakes_figure
from pilotfish.report.provenance import footer, provenance_section
from pilotfish.report.savers_table import savers_section
from pilotfish.report.subject import Subject


def write_report(
    out: str | Path,
    *,
    run: Run | None = None,
    base: str | None = None,
    stages: Sequence[str] | None = None,
    artefact: Artefact | None = None,
    cost: str | None = None,
    score: str | None = None,
    split: str | None = None,
    metric: str | None = None,
    bench: Mapping[str, Any] | None = None,
    title: str | None = None,
    data: Images | None = None,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Write one HTML page, which needs nothing else to be read, and return its path.

    run, base       the savers of a base, the best one in detail
    run, stages     the pair (saver, base) in detail, beside the pool
    artefact        the cascade's frontier and operating point; with *run*, everything
    cost, score     by which records are judged: ``macs`` and the task's first score by default. A cascade brings
                    its own
    split           of the run, ``val`` by default; for a cascade what it was tuned on. The figures are of this
                    split; a cascade without a run has those of its own split only
    metric          what is measured, by name, where it is not the task's first; a cascade has its own
    bench           the document of ``pilotfish bench --json``, shown when given
    data            the images, as ``record`` takes them: those that saver and base answer most differently are drawn
    tell            called with each note of the page

    Equal input gives equal bytes, and a page that cannot be finished leaves an older one as it is. Raises UsageError
    for arguments that do not fit together, RecordsError for records that are missing or cannot be scored.
    """
    target = Path(out)
    if target.is_dir():
        raise UsageError(f"{target} is a folder; give a file name such as {target / 'report.html'}")
    if bench is not None and not isinstance(bench, Mapping):
        raise UsageError(f"bench is a JSON object as `pilotfish bench --json` writes, found {type(bench).__name__}")
    if data is not None and run is None:
        raise UsageError("the images are found by the records; give the run (--run) beside the data")
    subject = _subject(run, base, stages, artefact, cost, score, split, metric, data)
    timed = None if bench is None else bench.get("stages")
    if isinstance(timed, list | tuple) and tuple(timed) != subject.stages:
        raise UsageError(
            f"the times are of {' → '.join(map(str, timed))}, and the page is about {' → '.join(subject.stages)}; "
            "give the bench of these stages, or leave it out"
        )
    write_text(target, document(title or default_title(subject), CSS, _body(subject, title, bench)))
    if tell is not None:
        for note in subject.notes:
            tell(note)
    return target


def _subject(
    run: Run | None,
    base: str | None,
    stages: Sequence[str] | None,
    artefact: Artefact | None,
    cost: str | None,
    score: str | None,
    split: str | None,
    metric: str | None,
    data: Images | None,
) -> Subject:
    given = None if stages is None else tuple(stages)
    if artefact is not None:
        own = tuple(stage.name for stage in artefact.stages)
        if (given is not None and given != own) or (base is not None and base != own[-1]):
            raise UsageError(f"the cascade is {' → '.join(own)}; leave out base and stages, or give the same")
        tuned = artefact.origin.get("split")
        measured = artefact.task.metric.name
        for what, asked, its in (
            ("score", score, artefact.score),
            ("cost", cost, artefact.cost_key),
            ("metric", metric, measured),
        ):
            if asked is not None and its is not None and asked != its:
                raise UsageError(
                    f"the cascade was tuned by {what} {its}, not {asked}; leave --{what} out, or tune again"
                )
        if run is None:
            if split is not None and split != tuned:
                raise UsageError(
                    f"the cascade's figures are of split {tuned or 'unknown'}, and split {split} was asked for; "
                    "give its run (--run) to judge the cascade on that split"
                )
            return about_cascade(artefact)
        on = split or str(tuned or "val")
        key = artefact.cost_key or cost or "macs"
        return about_records(run, own[-1], own, artefact, key, artefact.score, on, measured, data)
    if given is not None and (len(given) != 2 or given[0] == given[1]):
        raise UsageError(f"two different stages are needed, the saver and the base; found {', '.join(given) or 'none'}")
    if given is not None and base is not None and base != given[-1]:
        raise UsageError(f"the base is {base}, but the last stage is {given[-1]}; give one of the two")
    last = given[-1] if given is not None else base
    if run is None or last is None:
        raise UsageError("a report needs a run with a base or stages, or a cascade")
    return about_records(run, last, given, None, cost or "macs", score, split or "val", metric, data)


def _body(subject: Subject, title: str | None, bench: Mapping[str, Any] | None) -> Markup:
    parts: list[object] = [headline(subject, title, bench)]
    if bench is not None:
        parts.append(bench_section(bench, subject.stages, subject.precisions))
    parts.append(frontier_figure(subject))
    if subject.pair is not None:
        parts += [exited_figure(subject, subject.pair), mistakes_figure(subject, subject.pair)]
    if subject.differences and subject.saver is not None:
        says = "quality" if subject.reference == "label" else "agreement"
        parts.append(differences_figure(subject.differences, subject.saver, subject.base, says))
    parts += [details_sections(subject), classes_section(subject)]
    if subject.ranking is not None:
        parts.append(savers_section(subject, subject.ranking))
    return tag("main", *parts, provenance_section(subject), footer())
