"""An alarm as the console says it: what has changed, what it may mean, and what to do."""

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
    "Look at recent inputs and at what is done to them before they come: size, light, compression. Judge the cascade "
    "on new labelled samples with pilotfish evaluate, and tune it on them with pilotfish update."
)
ADVICE = {
    ("exit ratio", "down"): f"Inputs have become harder for the first stage: cost and latency rise. {LOOK}",
    ("exit ratio", "up"): "The drop may be larger than it was: look at the audit, and move to a point with less drop "
    f"until it is clear why. {LOOK}",
    ("score", "down"): f"Inputs are less like those that the cascade was tuned on, even if as many exit. {LOOK}",
    ("score", "up"): f"Inputs are easier than those that the cascade was tuned on, or others: see the audit. {LOOK}",
}
PAGE = "docs/serving.md#alarm-drift"


def alarm_words(alarm: Alarm) -> dict[str, str]:
    """``title``, ``says``, ``advice`` and ``page`` of the docs."""
    of = (alarm.kind, alarm.direction)
    what = "share that exits at the first stage" if alarm.kind == "exit ratio" else "mean place of the first scores"
    lo, hi, usual = (_shown(alarm, value) for value in (alarm.lo, alarm.hi, alarm.baseline))
    last = f"of the last {format_count(alarm.lately_n)} inputs is"
    lately = "" if alarm.lately is None else f"The {what} {last} {_shown(alarm, alarm.lately)}. "
    said = f"{lately}Expected is {lo} to {hi}, from {usual} on {format_count(alarm.n)} samples."
    says = f"{said} Noticed {format_count(alarm.seen)} inputs after the watch began."
    return {"title": TITLES[of], "says": says, "advice": ADVICE[of], "page": PAGE}


def _shown(alarm: Alarm, value: float) -> str:
    return percent(value, 1) if alarm.kind == "exit ratio" else f"{value:.3f}"
