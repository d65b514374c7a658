"""Results of audits, shadow mode and labels of a cascade, for ``GET /v2/models/M/audit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted

OFF = "nothing is audited; serve with --audit 1% or --shadow to bound how often exits differ from the base"
NO_LABELS = "labels by id are for classes, but this cascade answers {}; judge it with pilotfish evaluate"


def audit_figures(hosted: Hosted) -> dict[str, Any]:
    """``n``, ``disagreement`` and ``bound`` of exits against the base at the operating point in force, from audits or,
    in shadow mode, from every exit; ``labels``, ``shadow`` and ``reliability``, a list of bins per stage. Unknown
    values are None."""
    point, labels = hosted.point, hosted.labels
    shadow = None if point.shadow is None else point.shadow.to_json()
    if point.audit is not None:
        found = point.audit.to_json()
    elif shadow is not None:
        found = {
            "n": round((shadow["exit_ratio"] or 0.0) * shadow["n"]),
            **{key: shadow[key] for key in ("disagreement", "bound", "confidence", "exit_ratio", "drop_bound")},
            "notes": [],
        }
    else:
        found = {"n": 0, "disagreement": None, "bound": 1.0, "confidence": 0.95, "notes": [OFF]}
    if labels is None:
        found["notes"] = [*found["notes"], NO_LABELS.format(point.artefact.task.name)]
    return {
        **found,
        "operating_point": point.id,
        "since": point.since,
        "shadow": shadow,
        "labels": None if labels is None else labels.to_json(),
        "reliability": [one.to_json() for one in point.maps],
    }
