"""Routes for operators: the operating point, audits, drift and labels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilotfish.errors import BudgetError, UsageError, nearest
from pilotfish.serve.http.body import read_body
from pilotfish.serve.http.endpoint import route
from pilotfish.serve.http.exchange import caller_of, hosted_of, server_of
from pilotfish.serve.http.json_body import bad, json_of, read_aside, shown
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.report.audit_figures import NO_LABELS, audit_figures

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted
    from pilotfish.serve.watch.drift import Drift
    from pilotfish.serve.watch.labels import Labels

LABELS = 'expected an object such as {"labels": [{"id": "a7", "label": "cat"}]}; a label is a class name or number'
AIMS = ("max_drop", "max_cost", "min_metric")
LONGEST = 60  # characters of a limit


def control_routes() -> list[Route]:
    """The routes of the operating point, audits, drift and labels."""
    routes = [
        ("operating_point", operating_point, "GET"),
        ("operating_point", move, "PUT"),
        ("audit", audit, "GET"),
        ("drift", drift, "GET"),
        ("drift", acknowledge, "DELETE"),
        ("labels", labels, "POST"),
    ]
    models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    return [route(f"{model}/{end}", answer, methods=[method]) for model in models for end, answer, method in routes]


def _hosted(request: Request, changes: bool = False) -> Hosted:
    """The requested cascade, if the client may use this route."""
    server_of(request).access.check(request.scope, changes)
    return hosted_of(request)


async def operating_point(request: Request) -> Response:
    """The operating point in force."""
    return JSONResponse(_hosted(request).point.to_json())


async def move(request: Request) -> Response:
    """Move to the best point of the frontier within a limit. If that is the point in force, nothing changes."""
    hosted = _hosted(request, changes=True)
    asked = json_of(await read_body(request, hosted.options.limits))
    if not isinstance(asked, dict) or len(asked) != 1 or not set(asked) <= set(AIMS):
        raise Refusal(400, f"expected an object with exactly one of {', '.join(AIMS)}", "bad_request")
    if isinstance(limit := next(iter(asked.values())), str) and len(limit) > LONGEST:
        raise bad(f"a limit is a number, or a text such as 0.5%; found {shown(limit)}")
    try:
        return JSONResponse(hosted.move(**asked, by=caller_of(request)).to_json())
    except (BudgetError, UsageError) as error:
        raise Refusal(400, str(error), "bad_request") from None


async def audit(request: Request) -> Response:
    """Results of audits, shadow mode and labels for the operating point in force."""
    return JSONResponse(await asyncio.to_thread(audit_figures, _hosted(request)))


async def drift(request: Request) -> Response:
    """The state of drift detection at the first stage, and its alarm."""
    return JSONResponse(_watched(_hosted(request)).to_json())


async def acknowledge(request: Request) -> Response:
    """Acknowledge the drift alarm and restart drift detection."""
    hosted = _hosted(request, changes=True)
    watch = _watched(hosted)
    known = watch.alarm
    watch.quiet()
    if known is not None:
        hosted.log("alarm", f"{hosted.name}: acknowledged, drift detection restarts: {known}", model=hosted.name)
    return JSONResponse(watch.to_json())


def _watched(hosted: Hosted) -> Drift:
    found = hosted.point.drift
    if found is None:
        raise Refusal(404, f"{hosted.name} has no drift detection; omit --drift-average-run 0", "not_found")
    return found


async def labels(request: Request) -> Response:
    """Add true labels of earlier answers, and count the ids that are known, unknown or labelled already."""
    hosted = _hosted(request, changes=True)
    if hosted.labels is None:
        raise Refusal(400, NO_LABELS.format(hosted.artefact.task.name), "bad_request")
    body, base, kept = await read_body(request, hosted.options.limits), hosted.artefact.stages[-1], hosted.labels
    return JSONResponse(
        await read_aside(
            len(body), lambda: _told(kept, given_labels(json_of(body), base.class_names or (), base.n_classes))
        )
    )


def _told(kept: Labels, given: Sequence[tuple[str, int]]) -> dict[str, int]:
    counts = {"known": 0, "unknown": 0, "duplicate": 0}
    for key, label in given:
        counts[kept.truth(key, label)] += 1
    return counts


def given_labels(asked: Any, names: Sequence[str], classes: int | None) -> list[tuple[str, int]]:
    """(id, class index) of the entries of a body. Refusal of the whole body if any entry is invalid.

    names    class names; classes: how many there are, None if unknown
    """
    entries = asked.get("labels") if isinstance(asked, dict) and set(asked) == {"labels"} else None
    if not isinstance(entries, list):
        raise Refusal(400, LABELS, "bad_request")
    index = {name: at for at, name in enumerate(names)}
    found = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or set(entry) != {"id", "label"} or not isinstance(entry["id"], str):
            raise Refusal(400, f"entry {i} of labels must have a string id and a label; {LABELS}", "bad_request")
        label = entry["label"]
        at = index.get(label) if isinstance(label, str) else label
        if type(at) is not int or not 0 <= at < (2**31 if classes is None else classes):
            known = (
                nearest(label, names)
                if isinstance(label, str) and names
                else f"a number from 0 to {'n' if classes is None else classes - 1}"
            )
            raise Refusal(400, f"entry {i} of labels: {shown(label)} is not a class; {known}", "bad_request")
        found.append((entry["id"], at))
    return found
