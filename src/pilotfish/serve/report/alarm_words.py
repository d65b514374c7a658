"""The texts of an alarm in the console: what changed, what it may mean, and what to do."""

from __future__ import annotations

from pilotfish.report.format import format_count, percent
from pilotfish.serve.watch.drift import Alarm

TITLES = {
    ("exit ratio", "down"): "Fewer exits than expected",
    ("exit ratio", "up"): "More exits than expected",
    ("score", "down"): "Scores are lower than expected",
    ("score", "up"): "Scores are higher than expected",
}
LOOK = (
    "Check recent inputs and their preprocessing upstream: size, light, compression. Evaluate the cascade on new "
    "labelled samples with pilotfish evaluate, and retune it on them with pilotfish update."
)
ADVICE = {
    ("exit ratio", "down"): f"Inputs have become harder for the first stage, so cost and latency rise. {LOOK}",
    ("exit ratio", "up"): "The drop may have grown: check the audit, and move to a point with a smaller drop until the "
    f"cause is known. {LOOK}",
    (
        "score",
        "down",
    ): f"Inputs are less like those the cascade was tuned on, even if as many exit. {LOOK}",
    ("score", "up"): f"Inputs are easier than those the cascade was tuned on, or different: check the audit. {LOOK}",
}
PAGE = "docs/serving.md#alarm-drift"


def alarm_words(alarm: Alarm) -> dict[str, str]:
    """``title``, ``says``, ``advice`` and ``page`` of the docs."""
    of = (alarm.kind, alarm.direction)
    what = (
        "exit ratio of the first stage over" if alarm.kind == "exit ratio" else "mean quantile of the first scores over"
    )
    lo, hi, usual = (_shown(alarm, value) for value in (alarm.lo, alarm.hi, alarm.baseline))
    last = f"the last {format_count(alarm.lately_n)} inputs is"
    lately = "" if alarm.lately is None else f"The {what} {last} {_shown(alarm, alarm.lately)}. "
    said = f"{lately}Expected: {lo} to {hi}, based on {usual} over {format_count(alarm.n)} samples."
    says = f"{said} Raised after {format_count(alarm.seen)} inputs."
    return {"title": TITLES[of], "says": says, "advice": ADVICE[of], "page": PAGE}


def _shown(alarm: Alarm, value: float) -> str:
    return percent(value, 1) if alarm.kind == "exit ratio" else f"{value:.3f}"
