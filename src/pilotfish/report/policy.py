"""A cascade's policy and its guarantee in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotfish.cascade import Artefact
from pilotfish.report.format import (
    format_cost,
    format_threshold,
    milliseconds,
    percent,
    plain_points,
    points,
)
from pilotfish.tasks import says_of
from pilotfish.text import quantity


def describe_policy(artefact: Artefact) -> str:
    """One phrase: the thresholds, or what takes their place."""
    policy, scores = artefact.policy, [s.name for s in artefact.scores]
    kind = "thresholds" if isinstance(policy, str) else policy["kind"]
    if isinstance(policy, dict) and kind == "patience":
        return "nobody exits" if policy["patience"] is None else f"exit at patience {policy['patience']}"
    if isinstance(policy, dict) and kind == "agreement":
        share = policy["share"]
        return "nobody exits" if share is None else f"exit when {percent(share, 0)} of the savers agree"
    named = "" if set(scores) <= {"max_prob"} else f" of {', '.join(dict.fromkeys(scores))}"
    if (sets := artefact.shown_exit_sets) is not None:
        return f"exit sets{named}: {' / '.join(_intervals(bounds) for bounds in sets)}"
    thresholds = artefact.shown_thresholds
    word = "threshold" if len(thresholds) == 1 else "thresholds"
    mixed = f", ensemble weight {artefact.rule.weight:g}" if artefact.rule.kind == "ensemble" else ""
    return f"{word}{named} {' / '.join(format_threshold(t) for t in thresholds)}{mixed}"


def describe_guarantee(guarantee: Mapping[str, Any], cost_key: str | None) -> str:
    """One sentence: what holds, how surely, by how many samples."""
    if absent := [key for key in ("bound", "confidence", "n", "target") if key not in guarantee]:
        return f"Guarantee: not readable, {', '.join(absent)} are missing."
    kind, target, bound = guarantee["kind"], float(guarantee["target"]), float(guarantee["bound"])
    what = {
        "drop": f"drop at most {points(target)} (bound {points(bound)})",
        "agreement": f"differs from the base for at most {percent(target)} (bound {percent(bound)})",
        "cost": f"mean cost at most {format_cost(cost_key, target)} (bound {format_cost(cost_key, bound)})",
    }.get(kind, f"{says_of(kind)} at least {percent(target)} (bound {percent(bound)})")
    sure = percent(float(guarantee["confidence"]), 1).replace(".0%", "%")
    samples = quantity(int(guarantee["n"]), "sample")
    if guarantee.get("groups"):
        samples += f" in {quantity(int(guarantee['groups']), 'group')}"
    said = f"{what}{_beside(guarantee)}, with {sure} confidence"
    if guarantee.get("asymptotic") is True:
        return f"Guarantee (asymptotic): {said}, by a jackknife over {samples}; it holds for many samples only."
    return f"Guarantee: {said}, certified on {samples}."


def _beside(guarantee: Mapping[str, Any]) -> str:
    """What is promised beside it: of classes the one whose bound is largest."""
    classes, latency, said = guarantee.get("classes") or {}, guarantee.get("latency"), ""
    if classes:
        name, worst = max(classes.items(), key=lambda one: float(one[1]["bound"]))
        said = f", of class {name} at most {points(worst['target'])} (bound {points(worst['bound'])})"
    if len(classes) > 1:
        said = (
            f", within the limits of {quantity(len(classes), 'class', 'classes')} (largest bound: {name}, "
            f"{plain_points(worst['bound'])} of {points(worst['target'])})"
        )
    if latency:
        said += f", p95 at most {milliseconds(latency['target'])} (bound {milliseconds(latency['bound'])})"
    return said


def _intervals(bounds: tuple[float, ...]) -> str:
    if len(bounds) == 1:
        return f"≥ {format_threshold(bounds[0])}"
    ends = [*bounds, float("inf")] if len(bounds) % 2 else list(bounds)
    parts = [f"[{_end(a)}, {_end(b)})" for a, b in zip(ends[::2], ends[1::2], strict=True)]
    return " ∪ ".join(parts if len(parts) <= 3 else [*parts[:1], "…", parts[-1]])


def _end(value: float) -> str:
    return "∞" if value == float("inf") else "−∞" if value == -float("inf") else format_threshold(value)
