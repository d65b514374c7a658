"""The governor, turns, the budget and the drift alarm in a server that runs."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.errors import UsageError
from pilotfish.runtime import Cascade
from pilotfish.serve import Limits, ServeOptions, Server
from support.server import ALLOWED, TOKENS, Serving, pictures, serving

PNG = {"Content-Type": "image/png"}


def png(image: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(image).save(held, "PNG")
    return held.getvalue()


@pytest.fixture(scope="module")
def hard(cascade_folder: Path) -> list[bytes]:
    """Images that all go on to the base."""
    cascade = Cascade.load(cascade_folder, allow_python=ALLOWED)
    images = [png(image) for image in pictures(120, seed=9)]
    found = [image for image, said in zip(images, cascade.predict(list(images)), strict=True) if said.stage == 1]
    assert len(found) >= 20
    return found


def answers(server: Serving, images: list[bytes], **headers: str) -> list[dict[str, Any]]:
    return [server.ask("POST", "/predict", image, {**PNG, **headers}).json["answers"][0] for image in images]


def test_beyond_its_tokens_the_saver_answers_and_says_so(cascade_folder: Path, hard: list[bytes]) -> None:
    with serving({"pair": cascade_folder}, escalation_rate=0.0, escalation_burst=5.0) as server:
        found = answers(server, hard[:12])
        assert [said["stage"] for said in found] == [1] * 5 + [0] * 7
        assert [said["flags"] for said in found] == [[]] * 5 + [["governed"]] * 7
        assert all(said["error"] is None for said in found)
        assert server.server.models["pair"].governor.granted == 5


def test_or_they_are_refused_with_when_to_come_again(cascade_folder: Path, hard: list[bytes]) -> None:
    with serving({"pair": cascade_folder}, escalation_rate=0.01, escalation_burst=1.0, when_empty="reject") as server:
        first, second = (server.ask("POST", "/predict", image, PNG) for image in hard[:2])
        assert (first.status, first.json["answers"][0]["stage"]) == (200, 1)
        assert second.status == 503
        assert int(second.headers["retry-after"]) == 60  # at most; a token comes every 100 seconds
        assert second.json["error"] == "the base of pair takes no more inputs now; try again later"
    limits = {"escalation_rate": 9.0, "client_escalation_rate": 0.0, "client_escalation_burst": 1.0}
    with serving({"pair": cascade_folder}, **limits, when_empty="reject") as server:
        _, mine = (server.ask("POST", "/predict", image, PNG) for image in hard[:2])
        assert mine.json["error"] == "the base of pair takes no more inputs of yours now; try again later"


@pytest.mark.parametrize(
    "alone", [{"when_empty": "reject"}, {"client_escalation_rate": 1.0}, {"escalation_burst": 2.0}]
)
def test_what_says_nothing_without_a_rate_is_refused(alone: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="needs escalation_rate"):
        ServeOptions(**alone)


def test_of_a_request_of_many_those_without_a_token_fail_alone(cascade_folder: Path, hard: list[bytes]) -> None:
    import base64

    body = {"instances": [{"b64": base64.b64encode(image).decode()} for image in hard[:6]]}
    with serving({"pair": cascade_folder}, escalation_rate=0.0, escalation_burst=2.0, when_empty="reject") as server:
        found = server.ask("POST", "/predict", body)
        assert found.status == 200
        assert sorted(said["error"] is None for said in found.json["answers"]) == [False] * 4 + [True] * 2


def test_escalations_stay_below_burst_and_rate_under_a_flood(cascade_folder: Path, hard: list[bytes]) -> None:
    """b + rho T, with T from before the first request to after the last answer."""
    rate, burst = 5.0, 4.0
    with serving({"pair": cascade_folder}, escalation_rate=rate, escalation_burst=burst) as server:
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda image: answers(server, [image])[0], hard * 5))
        seconds = time.monotonic() - began
    escalated = sum(said["stage"] == 1 for said in found)
    assert burst <= escalated <= burst + rate * seconds
    assert all(said["flags"] == ([] if said["stage"] == 1 else ["governed"]) for said in found)


def test_each_client_has_tokens_of_its_own(cascade_folder: Path, hard: list[bytes]) -> None:
    """Clients are told apart by the proxy's header."""
    options = {"escalation_rate": 0.0, "escalation_burst": 100.0, "client_escalation_rate": 0.0, "trusted_proxy": True}
    with serving({"pair": cascade_folder}, **options, client_escalation_burst=2.0) as server:
        greedy = answers(server, hard[:6], **{"X-Forwarded-For": "192.0.2.1"})
        modest = answers(server, hard[:2], **{"X-Forwarded-For": "192.0.2.2"})
    assert [said["stage"] for said in greedy] == [1, 1, 0, 0, 0, 0]
    assert [said["stage"] for said in modest] == [1, 1]


def test_in_shadow_mode_nobody_is_limited_and_a_note_says_so(cascade_folder: Path, hard: list[bytes]) -> None:
    with serving({"pair": cascade_folder}, escalation_rate=0.0, shadow=True) as server:
        assert [said["stage"] for said in answers(server, hard[:4])] == [1] * 4
        assert any("shadow" in note for note in server.server.notes)


def test_inputs_that_changed_raise_the_alarm(
    cascade_folder: Path, hard: list[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    """Hard ones alone; it is logged, counted, shown and acknowledged, and gone at another operating point."""
    with serving({"pair": cascade_folder}, drift_average_run=1000.0, log_format="json", tokens=TOKENS) as server:
        hosted = server.server.models["pair"]
        answers(server, (hard * 8)[:120])
        point = hosted.point
        assert point.drift.alarm is not None
        assert (point.drift.alarm.kind, point.drift.alarm.direction) == ("exit ratio", "down")
        assert point.drift.alarm.seen <= point.drift.n == 120
        assert hosted.meter.alarms["exit ratio down"] == 1
        said = server.as_operator.get("/v2/models/pair/drift").json
        assert (said["alarm"]["kind"], said["alarm"]["seen"]) == ("exit ratio", point.drift.alarm.seen)
        assert said["exit_ratio"]["n"] == point.drift.band.n
        assert sum(said["score"]["histogram"]) == pytest.approx(1)
        assert "T / 1,000" in said["promise"]
        assert server.ask("DELETE", "/v2/models/pair/drift").status == 401
        assert server.as_operator.ask("DELETE", "/v2/models/pair/drift").json["alarm"] is None
        assert (point.drift.alarm, point.drift.n) == (None, 0)
        answers(server, hard)
        assert point.drift.alarm is not None  # no false one
        moved = server.as_operator.ask("PUT", "/v2/models/pair/operating_point", {"max_drop": "50%"})
        assert moved.status == 200, moved.json
        assert hosted.point is not point
        assert (hosted.point.drift.alarm, hosted.point.drift.n) == (None, 0)
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    alarm, known, again = [event for event in events if event["event"] == "alarm"]
    assert (alarm["level"], known["level"], again["level"]) == ("warning", "info", "warning")
    assert (alarm["operating_point"], alarm["kind"], alarm["model"]) == (point.id, "exit ratio", "pair")


def test_alarm_and_tokens_survive_a_restart(cascade_folder: Path, hard: list[bytes], tmp_path: Path) -> None:
    options = {"state": tmp_path / "state.db", "drift_average_run": 1000.0, "escalation_rate": 0.0}
    with serving({"pair": cascade_folder}, **options, escalation_burst=25.0) as server:
        answers(server, (hard * 2)[:30])
        drift = server.server.models["pair"].point.drift
        assert drift.alarm is not None
    with serving({"pair": cascade_folder}, **options, escalation_burst=25.0) as server:
        hosted = server.server.models["pair"]
        assert hosted.point.drift.to_state() == drift.to_state()
        assert [alarm["in_force"] for alarm in server.get("/console.json").json["model"]["alarms"]] == [True]
        [said] = answers(server, hard[:1])
        assert (said["stage"], said["flags"]) == (0, ["governed"])


def test_usual_inputs_raise_none(cascade_folder: Path) -> None:
    with serving({"pair": cascade_folder}) as server:
        answers(server, [png(image) for image in pictures(150, seed=21)])
        drift = server.server.models["pair"].point.drift
        assert (drift.alarm, drift.n) == (None, 150)
        assert drift.recent.exit_ratio == pytest.approx(drift.band.middle, abs=0.2)


def test_nothing_is_watched_where_that_is_asked_for(cascade_folder: Path, hard: list[bytes]) -> None:
    with serving({"pair": cascade_folder}, drift_average_run=0.0) as server:
        answers(server, hard[:2])
        assert server.server.models["pair"].point.drift is None
        assert server.get("/v2/models/pair/drift").status == 404


def test_a_budget_per_hour_moves_the_operating_point(cascade_folder: Path, hard: list[bytes]) -> None:
    """Far below what inputs cost: it moves to a cheaper point, and says so as any move does."""
    with serving({"pair": cascade_folder}) as server:
        costs = server.server.models["pair"].artefact.frontier.cost
    if costs is None or not np.ptp(costs):
        pytest.skip("the small cascade has one point")
    options = {"max_cost_per_hour": float(costs.min()) / 1000, "tokens": TOKENS}
    with serving({"pair": cascade_folder}, **options) as server:
        hosted = server.server.models["pair"]
        dearest = hosted.move(max_cost=float(costs.max())).point
        clock = [time.monotonic()]
        hosted.spending._clock = lambda: clock[0]
        for image in hard[:3]:
            clock[0] += 10
            answers(server, [image])
        assert hosted.point.id != dearest.id
        assert hosted.point.artefact.operating_point.budget.kind == "max_cost"
        back = server.as_operator.ask("PUT", "/v2/models/pair/operating_point", {"max_cost": float(costs.max())}).json
        assert back["moved"]
        assert f"will move it at its next check, to a point that costs {costs.min():,.0f}" in back["notes"][0]
        assert "as 0% of an hour's budget is left" in back["notes"][0]


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({"max_cost_per_hour": 50}, r"--max-cost-per-hour 50 is less than one answer costs .*, 1,000,000 \(macs\)"),
        ({"escalation_rate": 2, "client_escalation_rate": 3}, r"\(3 a second, 3 at once\) has no effect"),
        ({"escalation_rate": 0}, "--escalation-rate 0 lets 1 input go on to the base in all"),
        ({"max_cost_per_hour": 50, "shadow": True}, "--max-cost-per-hour has no effect in shadow mode"),
        ({"escalation_rate": 0, "shadow": True}, None),
        ({"max_cost_per_hour": 2e6}, None),
        ({"escalation_rate": 2, "client_escalation_rate": 2, "client_escalation_burst": 1}, None),
    ],
)
def test_limits_that_cannot_work_are_told_at_the_start(
    cascade_folder: Path, options: dict[str, float], note: str | None
) -> None:
    notes = Server({"pair": cascade_folder}, ServeOptions(allow_python=ALLOWED, **options)).notes
    found = [one for one in notes if "--" in one]
    assert len(found) == (note is not None)
    assert note is None or re.search(note, found[0])


def test_a_client_that_floods_leaves_places_and_turns_to_others(cascade_folder: Path) -> None:
    """A queue of 16 that one client fills; another one gets in, and the flood is told to come again."""
    options = {"queue": 16, "trusted_proxy": True, "max_wait_ms": 0.0}
    with serving({"pair": cascade_folder}, **options) as server:
        hosted, image = server.server.models["pair"], png(pictures(1)[0])
        with hosted.engine._lanes.lock:  # nothing goes on meanwhile
            waiting = [
                threading.Thread(target=answers, args=(server, [image]), kwargs={"X-Forwarded-For": "192.0.2.1"})
                for _ in range(14)
            ]
            for _ in range(14):
                assert hosted.fair.enter("192.0.2.1") is not None
            assert hosted.fair.enter("192.0.2.1") is None
            assert hosted.fair.enter("192.0.2.2") is not None
        refused = server.ask("POST", "/predict", image, {**PNG, "X-Forwarded-For": "192.0.2.1"})
        assert (refused.status, "one client" in refused.json["error"]) == (503, True)
        assert "retry-after" in refused.headers
        assert answers(server, [image], **{"X-Forwarded-For": "192.0.2.3"})[0]["error"] is None
        hosted.fair.left("192.0.2.1", 14)
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join()
        hosted.fair.left("192.0.2.2")
        assert hosted.fair.under_way == 0


@pytest.mark.parametrize(
    "options",
    [
        {"escalation_burst": 3.0},
        {"client_escalation_rate": 1.0},
        {"escalation_rate": 1.0, "client_escalation_burst": 1.0},
        {"escalation_rate": -1.0},
        {"escalation_rate": 1.0, "client_escalation_rate": -1.0},
        {"max_cost_per_hour": 0.0},
        {"drift_average_run": 1.0},
        {"drift_average_run": float("nan")},
        {"drift_average_run": float("inf")},
        {"escalation_rate": float("inf")},
        {"escalation_rate": 1.0, "escalation_burst": float("inf")},
        {"max_cost_per_hour": float("inf")},
        {"max_wait_ms": float("inf")},
        {"max_wait_ms": float("nan")},
        {"max_wait_ms": 1000.0, "timeout": 1.0},
        {"timeout": float("inf")},
        {"timeout": 1e300},
        {"queue": 10**20},
        {"drain_delay": float("inf")},
        {"drain_limit": float("inf")},
        {"audit": float("nan")},
        {"unsure_below": float("nan")},
        {"port": 65536},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="|".join(options)):
        ServeOptions(**options)


def test_a_limit_of_bodies_that_could_never_be_taken_is_refused() -> None:
    with pytest.raises(UsageError, match="in_flight must be at least twice the limit body"):
        Limits(body=1 << 30)
