"""The tables of ``pilotfish analyse``: headings and cells, one row per saver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotfish.plan.analysis import Analysis, BreakEven, PairAnalysis
from pilotfish.report.format import NOTHING, format_count, format_threshold, percent, plain_points, signed_percent
from pilotfish.tasks import says_of

Columns = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class TextTable:
    """columns: (heading, "left" or "right"); after: sentences below the table."""

    title: str
    columns: Columns
    rows: list[list[str]]
    after: tuple[str, ...] = ()


def analysis_tables(analysis: Analysis) -> list[TextTable]:
    """All tables that are not empty."""
    tables = [_ranking(analysis), _mistakes(analysis)]
    if any(pair.break_even is not None for pair in analysis.pairs):
        tables.append(_break_even(analysis))
    tables.append(_noise(analysis))
    if analysis.selection is not None:
        tables.append(_selection(analysis))
    if any(pair.transfers for pair in analysis.pairs):
        tables.append(_transfer(analysis))
    return tables


def _columns(*headings: str) -> Columns:
    return [("saver", "left"), *((heading, "right") for heading in headings)]


def _within(analysis: Analysis) -> str:
    return "no drop" if analysis.max_drop == 0 else f"drop ≤ {plain_points(analysis.max_drop)} points"


def _number(value: float | None, decimals: int = 3) -> str:
    return NOTHING if value is None else f"{value:.{decimals}f}"


def _ranking(analysis: Analysis) -> TextTable:
    rows = []
    for p in analysis.pairs:
        r, g = p.ranking.right, p.ranking.as_good
        cells = [percent(p.references.saver_accuracy)]
        cells += [NOTHING] * 3 if r is None else [_number(r.auroc), _number(r.aurc, 4), _number(r.e_aurc, 4)]
        cells += [_number(g.auroc), _number(g.aurc, 4), percent(p.ranking.ece, 1)]
        rows.append([p.saver, *cells, percent(p.references.captured, 0)])
    headings = (
        says_of(analysis.metric),
        "AUROC right",
        "AURC",
        "E-AURC",
        "AUROC as good",
        "AURC",
        "ECE",
        "of oracle's gain",
    )
    title = f"Failure ranking by {analysis.score}, base {analysis.base} ({percent(analysis.base_accuracy)}), "
    return TextTable(title + f"split {analysis.split}, n = {format_count(analysis.n)}", _columns(*headings), rows)


def _mistakes(analysis: Analysis) -> TextTable:
    rows = []
    for p in analysis.pairs:
        m = p.mistakes
        at, lowest = dict(m.confidence_at), dict(m.found_in_lowest)
        cells = [NOTHING if k is None else format_count(k) for k in (m.correctable, m.uncorrectable, m.lost)]
        cells += [format_threshold(at.get(q)) for q in (0.5, 0.9)]
        rows.append([p.saver, *cells, *(percent(lowest.get(q), 0) for q in (0.1, 0.3, 0.5))])
    headings = ("correctable", "uncorrectable", "lost", "half below", "90% below", "in lowest 10%", "30%", "50%")
    return TextTable("The saver's mistakes, and where the correctable ones lie", _columns(*headings), rows)


def _break_even(analysis: Analysis) -> TextTable:
    rows = []
    for p in analysis.pairs:
        e = p.break_even
        if e is None:
            continue
        ratio = e.saver_cost / e.base_cost
        cells = [f"{ratio:.4f}", percent(e.exit_ratio, 1), signed_percent(ratio - e.exit_ratio, 1)]
        cells += [percent(e.oracle_ratio, 1)]
        cells += [_of_saver(limit, e) for limit in (e.router_equal, e.router_oracle, e.evaluator_oracle)]
        rows.append([p.saver, *cells, *(_needs(r, e) for _, r in e.router_needs)])
    limits = ("equal router <", "any router <", "evaluator <")
    headings = ("C_S/C_B", "exit ratio", "ΔC", "oracle", *limits, "router of 10% needs", "50%", "100%")
    after = (
        "Limits are multiples of C_S. A router of 10% of C_S must let more than this exit to win; so for 50%, 100%.",
    )
    return TextTable(f"Break-even with a router or an evaluator, {_within(analysis)}", _columns(*headings), rows, after)


def _of_saver(limit: float, e: BreakEven) -> str:
    if limit <= 0:
        return "never"
    return f"{limit / e.saver_cost:,.2f}" if e.saver_cost > 0 else NOTHING


def _needs(ratio: float, e: BreakEven) -> str:
    return percent(max(ratio, 0.0), 1) if ratio < e.oracle_ratio else "never"


def _noise(analysis: Analysis) -> TextTable:
    rows = []
    for p in analysis.pairs:
        r, d = p.noise.exit_ratio, p.noise.drop
        exits = f"{percent(r.mean, 1)} ± {percent(r.sd, 1)} [{percent(r.low, 1)}, {percent(r.high, 1)}]"
        drop = f"{plain_points(d.mean)} ± {plain_points(d.sd)} [{plain_points(d.low)}, {plain_points(d.high)}]"
        plain = f"{percent(p.noise.plain[0], 1)}, {plain_points(p.noise.plain[1])}"
        rows.append([p.saver, exits, drop, percent(p.noise.broken, 0), plain])
    one = analysis.pairs[0].noise
    title = f"Noise of tuning: {one.draws} draws of {format_count(one.n_fit)}, judged on {format_count(one.n_judged)}"
    headings = ("exit ratio ± sd [5%, 95%]", "drop, points", "over budget", "without resampling")
    return TextTable(f"{title}, {_within(analysis)}", _columns(*headings), rows)


def _selection(analysis: Analysis) -> TextTable:
    chosen = analysis.selection
    assert chosen is not None
    priced = chosen.by == "delta_cost"
    rows = []
    for s in chosen.savers:
        values = (s.train_delta, s.delta, s.own_delta)
        if not priced:
            values = (s.train_exit_ratio, s.exit_ratio, s.own_exit_ratio)
        train, there, own = (signed_percent(v, 1) if priced else percent(v, 1) for v in values)
        rows.append([s.saver, _number(s.cost_ratio, 4), train, there, plain_points(s.drop), own])
    what = "ΔC" if priced else "exit ratio"
    headings = ("C_S/C_B", f"{what} on train", f"{what} realised", "drop", f"{what} its own")
    counts = [format_count(n) for n in (chosen.n_train, chosen.n_judged)]
    title = f"Choosing a saver: {analysis.train or 'half'} ({counts[0]}) → {analysis.split} ({counts[1]})"
    ranks = (
        f"Spearman {_number(chosen.spearman, 2)} with what is realised, {_number(chosen.spearman_own, 2)} with its own"
    )
    picked = f"chosen {chosen.selected or 'no saver'}, best {chosen.best or 'no saver'}"
    after = (f"{ranks}; {picked}, regret {plain_points(chosen.regret, 1)} points of {what}.",)
    return TextTable(f"{title}, {_within(analysis)}", _columns(*headings), rows, after)


def _transfer(analysis: Analysis) -> TextTable:
    rows = [row for p in analysis.pairs for row in _transfer_rows(p)]
    headings = ("threshold", "exit ratio there", "here", "its own", "drop [95%]", "cost shift", "z", "p")
    columns = [("saver", "left"), ("tuned on → judged on", "left"), *((h, "right") for h in headings)]
    after = ("Cost shift: what the same threshold costs more on the second split, as a share of C_B.",)
    return TextTable(f"Transfer between splits, {_within(analysis)}", columns, rows, after)


def _transfer_rows(pair: PairAnalysis) -> list[list[str]]:
    rows = []
    for t in pair.transfers:
        low, high = t.drop_interval
        cells = [format_threshold(t.threshold), percent(t.tuned_exit_ratio, 1), percent(t.exit_ratio, 1)]
        cells += [percent(t.own_exit_ratio, 1), f"{plain_points(t.drop)} [{plain_points(low)}, {plain_points(high)}]"]
        cells += [signed_percent(t.cost_shift, 1), f"{t.z:+.1f}", f"{t.p_value:.1g}"]
        rows.append([pair.saver, f"{t.tuned_on} → {t.judged_on}", *cells])
    return rows
