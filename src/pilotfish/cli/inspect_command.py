"""``pilotfish inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish.cli.options import AsJson

if TYPE_CHECKING:
    from pilotfish.cascade import Artefact
    from pilotfish.records import Records, Run, SampleTimes
    from pilotfish.scores import ScoreKind

ALONE = "single, p50 / p95"


def inspect(
    source: Annotated[Path, typer.Argument(help="A run folder or a cascade folder.", metavar="RUN_OR_CASCADE")],
    as_json: AsJson = False,
) -> None:
    """Show the contents of a run or a cascade.

    Example: pilotfish inspect run
    """
    from pilotfish.cascade import load_artefact
    from pilotfish.errors import RecordsError
    from pilotfish.records import open_run

    if (source / "cascade.json").is_file():
        _show_cascade(load_artefact(source), source, as_json)
    elif source.is_dir():
        _show_run(open_run(source), as_json)
    else:
        raise RecordsError(f"{source}: expected a run folder (*.parquet) or a cascade folder (cascade.json)")


def _show_run(run: Run, as_json: bool) -> None:
    from pilotfish.cli.output import console, notes, print_json
    from pilotfish.cli.tables import table
    from pilotfish.records import judge_records, labelled_in
    from pilotfish.report.format import format_cost, format_count, percent

    rows, entries = [], []
    said: list[str] = []
    for meta in run.metas():
        records, of = labelled_in(run, run.read(meta.model, meta.split))
        verdict = judge_records(records)
        found = [*meta.notes, *([] if verdict.note is None else [verdict.note])]
        found += [] if of is None else [f"it has no labels of its own; those of {of} are taken"]
        said += [f"{meta.model}: {note}" for note in found]
        value, score = records.value, _scores_in(records)
        classes = "" if meta.n_classes is None else str(meta.n_classes)
        cells = [meta.model, meta.split, format_count(len(records)), classes, percent(value), score]
        costs = [format_cost(key, meta.costs.get(key)) for key in ("macs", "params", "ms")]
        single = [_single_times(times) for times in meta.single_times]
        costs.append(", ".join(f"{one['p50']:.1f} / {one['p95']:.1f} ms" for one in single))
        rows.append(
            [*cells, *costs, str(len(meta.failures)) if meta.failures else "", _loaded_as(meta.model, meta.spec)]
        )
        said += _spec_notes(meta.model, meta.spec)
        entries.append(
            {
                "model": meta.model,
                "split": meta.split,
                "n": len(records),
                "n_classes": meta.n_classes,
                "accuracy" if records.task.classes else "value": value,
                **({} if records.task.classes else {"task": meta.task, "metric": records.task.metric.name}),
                "score": score,
                "costs": dict(meta.costs),
                "single_ms": single,
                "failures": len(meta.failures),
                "data": meta.data.get("spec"),
                "spec": meta.spec,
                "weights_hash": meta.weights_hash,
                "path": str(run.find(meta.model, meta.split)),
                "notes": found,
            }
        )
    columns = [("model", "left"), ("split", "left"), ("rows", "right"), ("classes", "right"), (_heading(run), "right")]
    columns += [("scores", "left"), ("MACs", "right"), ("parameters", "right"), ("time", "right")]
    columns += [(ALONE, "right"), ("unread", "right")]
    columns, rows = _without_empty([*columns, ("loaded as", "left")], rows, ALONE, "loaded as")
    table(console(as_json), columns, rows, title=f"Run {run.path}")
    unfinished = [path.name for path in run.unfinished()]
    said += [f"unfinished: {name}; the record command that began it resumes it" for name in unfinished]
    notes(said)
    if as_json:
        print_json({"run": str(run.path), "records": entries, "unfinished": unfinished, "notes": said})


def _show_cascade(artefact: Artefact, path: Path, as_json: bool) -> None:
    from pilotfish.cascade.folder import to_document
    from pilotfish.cli.output import console, notes, print_json, say, verdict
    from pilotfish.cli.tables import table
    from pilotfish.report.format import format_cost, format_threshold, percent, plain_points
    from pilotfish.report.from_cascade import about_cascade, tuned_on
    from pilotfish.report.policy import describe_guarantee, describe_policy
    from pilotfish.tasks import says_of

    target = console(as_json)
    about = about_cascade(artefact)
    missed = None if about.policy is None else about.policy.missed
    left = verdict(target, [] if missed is None else [missed])
    thresholds = [format_threshold(t) for t in artefact.shown_thresholds]
    names = [s.name for s in artefact.scores] or [artefact.rule.kind] * len(thresholds)
    exits = [f"{name} >= {t}" for name, t in zip(names, thresholds, strict=True)]
    shown = [*(exits if artefact.is_threshold_vector else names), "answers the rest"]
    rows = [
        [
            str(k),
            s.name,
            shown[k],
            format_cost("macs", s.costs.get("macs")),
            (s.weights_hash or "")[:12],
            "embedded" if s.weights_file else "imported" if s.spec is None else "by name",
            _loaded_as(s.name, s.spec),
        ]
        for k, s in enumerate(artefact.stages)
    ]
    columns = [("stage", "right"), ("model", "left"), ("exits at", "right"), ("MACs", "right")]
    columns, rows = _without_empty(
        [*columns, ("weights", "left"), ("", "left"), ("loaded as", "left")], rows, "loaded as"
    )
    table(target, columns, rows, title=f"Cascade {path}")
    for what, p in (("calibration", artefact.calibration), ("held out", artefact.evaluation)):
        if p is not None:
            cost = format_cost(artefact.cost_key, p.cost)
            ratio = " / ".join(percent(r, 1) for r in p.exit_ratio)
            measured = f"{says_of(p.metric)} {percent(p.value)}, drop {plain_points(p.drop)} points"
            say(target, f"{what:>11}: n {p.n:,}, {measured}, cost {cost}, exits {ratio}")
    say(target, f"   tuned on: {tuned_on(artefact)}")
    budget = artefact.operating_point.budget
    chosen = "thresholds as given" if budget is None else budget.says(says_of(artefact.calibration.metric))
    chosen += "" if artefact.limits is None else f", with {artefact.limits}"
    say(target, f"   frontier: {len(artefact.frontier)} operating points; in force: {chosen}")
    say(target, f"     policy: method {artefact.method}, {describe_policy(artefact)}")
    if artefact.guarantee is not None:
        say(target, describe_guarantee(artefact.guarantee, artefact.cost_key))
    said = [] if missed is None else [missed]
    specs = [note for s in artefact.stages for note in _spec_notes(s.name, s.spec)]
    notes([*left, *specs])
    if as_json:
        print_json({**to_document(artefact), "notes": [*said, *specs]})


def _scores_in(records: Records) -> str:
    """The exit scores that the records allow."""
    if not records.task.classes:
        return ", ".join(name for name, kind in records.task.scores.items() if _can_have(records, name, kind))
    if records.outputs.log_odds is not None:
        return "logits"
    return "confidence" if records.outputs.confidence is not None else "class only"


def _can_have(records: Records, name: str, kind: ScoreKind) -> bool:
    """Whether the records allow a score; a fitted score is decided by its fit."""
    from pilotfish.errors import RecordsError

    try:
        return kind.fit is not None or bool(len(records.task.scored(name, records.outputs).values))
    except RecordsError:
        return False


def _heading(run: Run) -> str:
    """The metric of the records, or several."""
    from pilotfish.tasks import find_task

    return ", ".join(dict.fromkeys(find_task(meta.task).metric.says for meta in run.metas())) or "accuracy"


def _single_times(times: SampleTimes) -> dict[str, Any]:
    """Times of single samples, from file to output."""
    p50, p95 = times.percentiles().tolist()
    return {"device": times.device, "machine": times.machine, "n": len(times), "p50": p50, "p95": p95}


def _loaded_as(name: str, spec: str | None) -> str:
    """The spec that loads the model, if it is not the name."""
    return "" if spec is None or spec == name else spec


def _spec_notes(name: str, spec: str | None) -> list[str]:
    """Notes on a model's spec: it runs code, or cannot be read."""
    from pilotfish.errors import ModelError
    from pilotfish.models import parse_spec

    try:
        code = None if spec is None else parse_spec(spec).code
    except ModelError as error:
        return [f"{name} cannot be loaded: {error}"]
    if code is None:
        return []
    return [f"{name} runs code of {spec} when it is loaded; a cascade of it needs --allow-python {code}"]


def _without_empty(
    columns: list[tuple[str, str]], rows: list[list[str]], *names: str
) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """The table without those of the columns *names* that are empty."""
    kept = [k for k, (name, _) in enumerate(columns) if name not in names or any(row[k] for row in rows)]
    return [columns[k] for k in kept], [[row[k] for k in kept] for row in rows]
