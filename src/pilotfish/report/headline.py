"""The top of the page: what it is about, the verdict, the tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotfish.report.bench_table import number
from pilotfish.report.format import (
    capital,
    format_cost,
    format_threshold,
    milliseconds,
    percent,
    plain_points,
    points,
    signed_percent,
)
from pilotfish.report.html import Markup, join, tag
from pilotfish.report.subject import Policy, Subject
from pilotfish.tasks import ACCURACY, says_of
from pilotfish.text import quantity

FISH = Markup(
    '<svg viewBox="0 0 60 32" aria-hidden="true"><path d="M2 6 14 16 2 26C1 18 1 14 2 6Z" fill="#27477a"/>'
    '<path d="M11 16C20 3 44 2 58 15 46 30 20 29 11 16Z" fill="#0b8a7d"/>'
    '<path d="M24 7q5 9 0 18M33 5q6 11 0 22M42 7q5 9 0 18" fill="none" stroke="#fff" stroke-width="3"/>'
    '<circle cx="50" cy="13" r="1.8" fill="#fff"/></svg>'
)


def headline(subject: Subject, title: str | None, bench: Mapping[str, Any] | None) -> Markup:
    """Header, verdict and tiles."""
    return join(
        [
            tag(
                "header",
                tag("div", FISH, "Pilotfish report", class_="brand"),
                tag("h1", title or default_title(subject)),
                tag("p", _what_counts(subject), class_="small"),
            ),
            tag("p", subject.policy.missed, class_="verdict lead no")
            if subject.policy and subject.policy.missed
            else "",
            _verdict(subject),
            tag("p", f"The nearest pair, {' → '.join(subject.stages)}:") if _nearest(subject) else "",
            tag("ul", *_tiles(subject, bench), class_="tiles"),
            tag("p", subject.policy.protocol, class_="small") if subject.policy else "",
        ]
    )


def default_title(subject: Subject) -> str:
    """The cascade, or the base where nothing in the pool saves."""
    return subject.base if _nearest(subject) else " → ".join(subject.stages)


def _nearest(subject: Subject) -> bool:
    """Whether the pair is shown only because nothing better is there."""
    return subject.chosen == "best" and subject.saver is not None and subject.saves is False


def _what_counts(subject: Subject) -> str:
    where = f"{quantity(subject.n, 'sample')} of split {subject.split}"
    if subject.reference == "label":
        if subject.metric == ACCURACY.name:
            return f"On {where}. Accuracy is the share of samples whose answer is the label."
        return f"On {where}, judged against their labels by {subject.measure}."
    return (
        f"On {where}. There are no labels: the answers of {subject.base} are the reference, and "
        f"{says_of(subject.metric)} means agreement with them."
    )


def _verdict(subject: Subject) -> Markup:
    if subject.policy is None:
        return _no_saver(
            f"No saver. The records hold no other model that costs less than {subject.base} and has a confidence: "
            f"run {subject.base} alone, or record smaller models."
        )
    if subject.saves is False:
        return _no_saver(_why_not(subject))
    judged = subject.policy.judged
    answered = " and ".join(
        f"{name} answers {percent(share, 1)}" for name, share in zip(subject.stages, judged.exit_ratio, strict=True)
    )
    if judged.exit_ratio[0] == 1:
        answered = f"{subject.saver} answers everything and can replace {subject.base}"
    if subject.saves is None:
        text = f"{answered}, {_drop_in_words(subject.policy)}. Costs are unknown, so nothing is said about savings."
    else:
        assert judged.cost is not None  # saves is known only where both costs are
        assert judged.base_cost is not None
        saving = 1 - judged.cost / judged.base_cost
        text = (
            f"Saves {percent(saving, 1)} of the cost of {subject.base}, {_drop_in_words(subject.policy)}: {answered}."
        )
    return tag("p", text, class_="verdict lead")


def _why_not(subject: Subject) -> str:
    ranking = subject.ranking
    base = subject.base
    if subject.chosen == "best" and ranking is not None:
        many = len(ranking.savers)
        who = "The only candidate does not save" if many == 1 else f"None of the {many} candidates saves"
        return f"No saver. {who} anything without a drop of {subject.measure}: run {base} alone."
    pair = " → ".join(subject.stages)
    advice = f"run {base} alone"
    if ranking is not None and ranking.best is not None and ranking.best not in subject.stages:
        advice = f"{ranking.best} would save (see the table)"
    return f"No saver. At this operating point {pair} costs as much as {base} alone, or more: {advice}."


def _no_saver(text: str) -> Markup:
    return tag("p", text, class_="verdict lead no")


def _drop_in_words(policy: Policy) -> str:
    drop = policy.judged.drop
    if drop > 0:
        return f"with a drop of {points(drop)}"
    return "with no drop" if drop == 0 else f"with {points(-drop)} gained"


def _tiles(subject: Subject, bench: Mapping[str, Any] | None) -> list[Markup]:
    tiles = []
    policy = subject.policy
    if policy is None:
        tiles.append(_tile(f"{subject.measure} of the base", percent(subject.base_accuracy), subject.base))
        if subject.stage_costs:
            tiles.append(_tile("cost of the base", format_cost(subject.cost, subject.stage_costs[-1]), "per input"))
    else:
        tiles += _policy_tiles(subject, policy)
    speedup = number((bench or {}).get("speedup"))
    if speedup is not None:
        tiles.append(_tile("speed-up", f"{speedup:.2f}×", "measured, end to end, against the base alone"))
    return tiles


def _policy_tiles(subject: Subject, policy: Policy) -> list[Markup]:
    judged = policy.judged
    tiles = [
        _tile(subject.measure, percent(judged.value), f"{percent(judged.base_value)} by the base alone"),
        _tile("drop", points(judged.drop), _interval(policy)),
    ]
    if subject.cost is not None and judged.cost is not None and judged.base_cost:
        against = signed_percent(judged.cost / judged.base_cost - 1, 1)
        base_cost = format_cost(subject.cost, judged.base_cost)
        tiles.append(_tile("cost per input", format_cost(subject.cost, judged.cost), f"{against} against {base_cost}"))
    if judged.latency_p95 is not None:
        tiles.append(_tile("p95 of a request", milliseconds(judged.latency_p95), "alone, by times of single samples"))
    if len(judged.exit_ratio) == 2:
        ratio, more = percent(judged.exit_ratio[0], 1), "answered by the saver alone"
    else:
        ratio = percent(1 - judged.exit_ratio[-1], 1)
        more = ", ".join(f"{n} {percent(r, 1)}" for n, r in zip(subject.stages, judged.exit_ratio, strict=True))
    tiles.append(_tile("exit ratio", ratio, more))
    shown = [format_threshold(t) for t in policy.shown]
    if len(shown) == 1:
        value, _, meaning = shown[0].partition(" (")
        tiles.append(_tile("threshold", value, meaning.rstrip(")") or f"exit where {subject.score} ≥ this"))
    else:
        tiles.append(_tile("thresholds", ", ".join(t.partition(" (")[0] for t in shown), f"on {subject.score}"))
    return tiles


def _interval(policy: Policy) -> str:
    if policy.interval is None:
        return "no interval: see the note below"
    low, high = policy.interval
    return f"95% interval {plain_points(low)} to {plain_points(high)}"


def _tile(what: str, value: str, more: str) -> Markup:
    amount, _, unit = value.partition(" ")
    return tag(
        "li",
        tag("div", capital(what), class_="what"),
        tag("div", amount, *([" ", tag("small", unit)] if unit else []), class_="value"),
        tag("div", more, class_="more"),
    )
