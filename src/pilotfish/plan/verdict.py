"""What the figures come to, in words: a budget that was missed, and a model that does all the work alone."""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.cascade import Budget, Performance
from pilotfish.cascade.budget import SLACK
from pilotfish.tasks import says_of

MISSED = "BUDGET MISSED"


def budget_missed(
    judged: Performance, budget: Budget | None, where: str, promised: bool = False, chosen: Performance | None = None
) -> str | None:
    """One line when *judged* does not keep to *budget*, else None.

    where     the samples it was judged on, such as ``held-out samples``
    promised  whether a guarantee was asked for: then the line does not advise one
    chosen    where the thresholds were chosen: a guarantee that needs more samples is advised with their number
    """
    if budget is None:
        return None
    if budget.kind == "max_cost":
        if judged.cost is None or judged.cost <= budget.value * (1 + SLACK):
            return None
        over = judged.cost / budget.value - 1 if budget.value else float("inf")
        return (
            f"{MISSED} on {where}: cost {judged.cost:,.6g} against {budget.value:,.6g} ({100 * over:.1f}% more): "
            "these samples exit less often than those it was chosen on"
        )
    if budget.kind == "min_metric":
        if judged.value >= budget.value - SLACK:
            return None
        found, limit = _apart(judged.value, budget.value)
        return f"{MISSED} on {where}: {says_of(judged.metric)} {found}% against {limit}% ({judged.n:,} samples)"
    if judged.drop <= budget.value + SLACK:
        return None
    found, limit = _apart(judged.drop, budget.value)
    low, high = judged.drop_interval
    more = "" if promised or chosen is None else guarantee_needs(chosen, budget)
    interval = f"95 % interval {100 * low:.2f} to {100 * high:.2f}, {judged.n:,} samples"
    if low > budget.value:
        why = f"the budget lies outside the {interval}"
        advice = "" if promised else f"; ask for a smaller drop, or for --guarantee 90%{more}"
    else:
        why = f"the budget lies inside the {interval}"
        advice = ": chance may explain it" + (
            "" if promised else f", and --guarantee 90%{more} would leave room for it"
        )
    return f"{MISSED} on {where}: {found} points against {limit}; {why}{advice}"


def guarantee_needs(chosen: Performance, budget: Budget) -> str:
    """What to say beside the advice to use ``--guarantee 90%``: how many samples it takes at least, where *chosen* has
    fewer; else nothing."""
    if budget.kind != "max_drop" or budget.value <= 0:
        return ""
    from pilotfish.plan.certificate import fewest_samples

    grouped = chosen.groups is not None
    needed = fewest_samples(budget.value, 0.1, "wsr" if grouped else "binomial")
    have = chosen.groups if chosen.groups is not None else chosen.n
    if have >= needed:
        return ""
    return f" (with at least {needed:,} {'groups' if grouped else 'samples'} to choose on, not {have:,})"


def answers_alone(stages: Sequence[str], chosen: Performance, met: bool) -> str | None:
    """A line when one stage answers every sample, so that no cascade is needed; None otherwise."""
    whole = [k for k, share in enumerate(chosen.exit_ratio) if share == 1]
    if not whole:
        return None
    name, last = stages[whole[0]], len(stages) - 1
    if whole[0] == last:
        return f"nobody exits at this budget: run {name} alone"
    if not met:
        return f"{name} answers every sample, and {stages[last]} is never asked: this is {name} alone"
    what = "the saver alone" if len(stages) == 2 else f"{name} alone"
    return f"{what} meets it: run {name} alone (every sample exits there, and {stages[last]} is never asked)"


def _apart(found: float, limit: float) -> tuple[str, str]:
    """Two shares in percent, with as many decimals as it takes to tell them apart."""
    for decimals in (1, 2, 3, 6):
        texts = f"{100 * found:.{decimals}f}", f"{100 * limit:.{decimals}f}"
        if texts[0] != texts[1]:
            break
    return texts
