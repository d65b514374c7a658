"""All that the console shows, as one JSON object: the current and recent figures of one cascade."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pilotfish._version import __version__
from pilotfish.report.format import cost_unit
from pilotfish.report.policy import describe_guarantee
from pilotfish.serve.report.alarm_words import alarm_words
from pilotfish.serve.report.latencies import quantiles_of
from pilotfish.serve.watch.bands import band_of
from pilotfish.tasks import says_of

if TYPE_CHECKING:
    from pilotfish.serve.hosted import Hosted
    from pilotfish.serve.point import Point
    from pilotfish.serve.server import Server
    from pilotfish.serve.watch.governor import Governor

Access = Literal["open", "locked", "token"]
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
POINTS = 80  # of a frontier shown, roughly


def snapshot(server: Server, name: str | None = None, access: Access | None = None) -> dict[str, Any]:
    """Everything that the console shows of the cascade *name*, by default the first: ``GET /console.json``.

    access  what the client may do: ``token``, everything; ``locked``, not see ids and answers, as the server has tokens
            and none was sent; ``open``, see everything and change nothing, as the server has no tokens. None: ``open``
            or ``locked``

    The time it takes does not grow, and it holds no input, token or client. Unknown values are null. Shares, ratios,
    drops and bounds are fractions; times are in seconds, points in time in seconds since 1970.

    ======================  ===========================================================================================
    version, now, started   of Pilotfish; the server's clock; its start
    models                  the names of all cascades
    access                  see above
    unwritten               whether the state file cannot be written now, so that a restart would lose what is newer.
                            null: there is no file
    model                   the cascade shown:
    .name, .state           its name; ``warming``, ``ready`` or ``draining``
    .stages                 by stage: ``name``; ``answered`` in the last minutes, with the quantiles
                            ``p50``, ``p90``, ``p99`` of their latency; ``waiting`` inputs and ``computing``
                            batches now, and how long the ``oldest`` has waited
    .base_cost, .unit       mean cost of the base alone; the unit for costs: ``name`` and ``divisor``
    .point                  the operating point in force: ``id``, ``since``, ``drop``, ``cost``, ``exit_ratio`` (of all
                            stages before the base), ``value`` of the metric, ``guarantee`` in words
    .frontier               the points it can move to, cheapest first, measured on ``n`` samples: lists ``drop``,
                            ``cost``, ``exit_ratio``, ``value``; the ``metric``; ``at``: the index of the point in force
    .band                   where the first stage's exit ratio is expected: ``lo``, ``hi``, ``baseline``, from ``n``
    .drift                  see :meth:`pilotfish.serve.watch.drift.Drift.to_json`. null: off
    .traffic                see :meth:`pilotfish.serve.report.history.History.traffic`
    .answered, .failed      inputs since the start with an answer, and with an error; invalid requests included
    .refused                requests, and inputs of accepted ones, shed since the start
    .in_flight              inputs neither answered nor dropped
    .saved                  share of the base's cost saved since the start
    .audit                  see :meth:`pilotfish.serve.watch.audit.Audit.to_json`, and ``marks``, lists of audits,
                            disagreement and bound over time. null: off
    .labels                 see :meth:`pilotfish.serve.watch.labels.Labels.to_json`. null: not for this task
    .reliability            of the first stage, see :meth:`pilotfish.serve.watch.online_map.OnlineMap.to_json`
    .governor               ``tokens`` now, ``burst``, ``rate`` a second, ``empty``: inputs that found none. null: off
    .shadow                 see :meth:`pilotfish.serve.watch.shadow.Shadow.to_json`. null: off
    .alarms                 the last ones, oldest first: ``at``, the id of the operating ``point``, ``title``, ``says``,
                            ``advice``, ``page`` of the docs, and whether it is still ``in_force``
    .flagged                the last answers with flags or errors, oldest first: ``at``, ``id``, ``request`` (its id),
                            ``name``, ``stage``, ``confidence``, ``flags``, ``error``; null where ``access`` is
                            ``locked``
    ======================  ===========================================================================================
    """
    access = access or ("locked" if server.options.tokens else "open")
    hosted = next(iter(server.models.values())) if name is None else server.hosted(name)
    flagged = None if access == "locked" else hosted.history.flagged()
    return {
        "version": __version__,
        "now": time.time(),
        "started": hosted.meter.began,
        "models": list(server.models),
        "access": access,
        "unwritten": server.unwritten(),
        "model": _model(hosted, server.draining) | {"flagged": flagged},
    }


def _model(hosted: Hosted, draining: bool) -> dict[str, Any]:
    point, history = hosted.point, hosted.history
    artefact = point.artefact
    band = band_of(artefact) if point.drift is None else point.drift.band
    base_cost, key = artefact.base_cost, artefact.cost_key
    unit = None if base_cost is None or key is None else cost_unit(key, base_cost)
    return {
        "name": hosted.name,
        "state": "draining" if draining else hosted.state.lower(),
        "stages": _stages(hosted),
        "base_cost": base_cost,
        "unit": None if unit is None else {"name": unit.name, "divisor": unit.divisor},
        **_points(point),
        "band": {"lo": band.lo, "hi": band.hi, "baseline": band.middle, "n": band.n},
        "drift": None if point.drift is None else point.drift.to_json(),
        "traffic": history.traffic(),
        "answered": sum(stage.answered for stage in hosted.meter.stages),
        "failed": sum(hosted.meter.causes.errors.values()),
        "refused": sum(hosted.meter.causes.shed.values()),
        "in_flight": hosted.engine.under_way,
        "saved": hosted.meter.saved(),
        "audit": None if point.audit is None else point.audit.to_json() | {"marks": history.marks(point.id)},
        "labels": None if hosted.labels is None else hosted.labels.to_json(),
        "reliability": point.maps[0].to_json() if point.maps else None,
        "governor": None if hosted.governor is None else _tokens(hosted.governor),
        "shadow": None if point.shadow is None else point.shadow.to_json(),
        "alarms": _alarms(point, history.alarms()),
    }


def _alarms(point: Point, remembered: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The alarms in *remembered*, and the one in force, which may be older than this process."""
    now = None if point.drift is None else point.drift.alarm
    if now is not None and all(alarm["at"] != now.at for alarm in remembered):
        remembered = [{"at": now.at, "point": point.id, **alarm_words(now)}, *remembered]
    return [{**alarm, "in_force": now is not None and alarm["at"] == now.at} for alarm in remembered]


def _tokens(governor: Governor) -> dict[str, float]:
    found = {"tokens": governor.tokens, "burst": governor.burst, "rate": governor.rate}
    return {**found, "empty": governor.denied}


def _stages(hosted: Hosted) -> list[dict[str, Any]]:
    found, recent = [], hosted.meter.recent()
    for stage, depth, counts in zip(hosted.artefact.stages, hosted.engine.depths(), recent, strict=False):
        quantiles = quantiles_of(counts, list(QUANTILES.values()))
        found.append(
            {
                "name": stage.name,
                "answered": int(counts.sum()),
                **(dict.fromkeys(QUANTILES) if quantiles is None else dict(zip(QUANTILES, quantiles, strict=True))),
                "waiting": depth.waiting,
                "computing": depth.running,
                "oldest": depth.oldest,
            }
        )
    return found


def _points(point: Point) -> dict[str, Any]:
    """``point`` and ``frontier``."""
    artefact, said, held = point.artefact, point.to_json(), point.artefact.guarantee
    row, whole = artefact.frontier_row, artefact.frontier
    found = whole.pareto(POINTS, row)
    here: list[int] = []
    if row is not None:
        here = np.flatnonzero((found.drop == whole.drop[row]) & (found.effort == whole.effort[row])).tolist()
    shown = {
        "metric": says_of(found.metric),
        "n": artefact.calibration.n,
        "drop": found.drop.tolist(),
        "cost": None if found.cost is None else found.cost.tolist(),
        "exit_ratio": (1 - found.exit_ratio[:, -1]).tolist(),
        "value": found.value.tolist(),
        "at": here[0] if here else None,
    }
    in_force = {
        "id": point.id,
        "since": point.since,
        "drop": said["drop"],
        "cost": said["cost"],
        "exit_ratio": 1 - said["exit_ratio"][-1],
        "value": artefact.calibration.value if row is None else float(whole.value[row]),
        "guarantee": None if held is None else describe_guarantee(held, artefact.cost_key),
    }
    return {"point": in_force, "frontier": shown}
