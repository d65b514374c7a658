"""The pool of candidates as a table, best first."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.plan import SaverRanking, SaverResult
from pilotfish.report.format import (
    NOTHING,
    Unit,
    cost_number,
    cost_unit,
    format_count,
    format_threshold,
    percent,
    signed_percent,
)
from pilotfish.report.html import Markup, join, row, table, tag
from pilotfish.report.subject import Subject
from pilotfish.tasks import says_of


def savers_section(subject: Subject, ranking: SaverRanking) -> Markup:
    """The table, or a line where there is no candidate."""
    costs = {point.name: point.cost for point in subject.points}
    known = [cost for cost in costs.values() if cost is not None]
    unit = cost_unit(ranking.cost, max(known)) if known else None
    measure = says_of(ranking.metric) if ranking.reference == "label" else "agreement"
    head = ["saver", measure, *([f"cost, {unit.name}", "C_S / C_B"] if unit else []), "r_match", "threshold"]
    head += ["ΔC"] if unit else []
    rows = [_row(saver, costs, unit, ranking.best) for saver in ranking.savers]
    base = [f"{ranking.base} (base)", percent(ranking.base_accuracy)]
    base += [cost_number(costs.get(ranking.base), unit), percent(1.0)] if unit else []
    base += [NOTHING] * (len(head) - len(base))
    return tag(
        "section",
        tag("h2", f"Savers for {ranking.base}"),
        table(head, rows, foot=row(base, first="th"))
        if rows
        else tag("p", "No other model in these records costs less and has a confidence."),
        tag("p", _caption(subject, ranking, unit), class_="small") if rows else "",
    )


def _row(saver: SaverResult, costs: Mapping[str, float | None], unit: Unit | None, best: str | None) -> Markup:
    cells = [saver.saver, percent(saver.accuracy)]
    cells += [cost_number(costs.get(saver.saver), unit), percent(saver.cost_ratio)] if unit else []
    cells += [percent(saver.exit_ratio), format_threshold(saver.threshold).partition(" (")[0]]
    cells += [signed_percent(saver.delta_cost)] if unit else []
    look: str | None = "best"
    if saver.saver != best:
        look = "idle" if saver.exit_ratio == 0 or (saver.delta_cost is not None and saver.delta_cost >= 0) else None
    return row(cells, first="th", class_=look)


def _caption(subject: Subject, ranking: SaverRanking, unit: Unit | None) -> Markup:
    parts = [
        "r_match is the largest share a saver can answer at no drop, at the threshold beside it (∞: nobody exits). ",
        "ΔC = C_S / C_B − r_match; below zero it saves. Grey rows save nothing. "
        if unit
        else "Costs are unknown: the largest r_match comes first. Grey rows can answer nothing. ",
        f"Thresholds were chosen on the {format_count(ranking.n)} samples they are judged on.",
    ]
    if any(saver.n != ranking.n for saver in ranking.savers):
        parts.append(" Each saver is judged on the samples that it shares with the base; see the notes.")
    elif ranking.n != subject.n:
        parts.append(" These are the samples that all the models of the table have.")
    if ranking.reference != subject.reference:
        parts.append(" Only in this table are there labels to judge by." if ranking.reference == "label" else "")
    return join(parts)
