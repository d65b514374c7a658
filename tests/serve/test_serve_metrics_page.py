"""The page at /metrics of a real server: what it says, and that Prometheus and OpenMetrics read it."""

from __future__ import annotations

import ast
import re
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

import pilotfish.serve
from pilotfish.serve import Limits
from pilotfish.serve.report.metrics import ERRORS, SHED
from support.server import TOKENS, Serving, serving

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
LABELS = {"model", "stage", "cause", "outcome", "le"}
MORE = {  # facts, and what others gave their names
    "pilotfish_build_info": {"version"},
    "pilotfish_operating_point_info": {"model", "operating_point", "cost"},
    "nv_inference_pending_request_count": {"model", "version"},
}


def figures(at: Serving) -> dict[str, dict[tuple[str, ...], float]]:
    """By name and label values, in the order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in read_text(at.get("/metrics").body.decode()):
        for sample in family.samples:
            values = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[values] = sample.value
    return found


@pytest.fixture(scope="module")
def asked(cascade_folder: Path, photos: list[bytes]) -> Any:
    """(server, answers): after forty good requests, one bad image, an empty body and an unknown path."""
    with serving({"pair": cascade_folder}) as at:
        send = {"content-type": "image/png"}
        answers = [at.ask("POST", "/predict", photo, send).json["answers"][0] for photo in photos]
        at.ask("POST", "/predict", b"no image", send)
        at.ask("POST", "/predict", b"", send)
        at.get("/nowhere")
        yield at, answers


def test_it_counts_what_was_asked(asked: Any) -> None:
    at, answers = asked
    by_stage = [sum(answer["stage"] == k for answer in answers) for k in range(2)]
    assert min(by_stage) > 0
    found = figures(at)
    for k, n in enumerate(by_stage):
        stage = ("pair", str(k))
        assert found["pilotfish_answers_total"][stage] == n
        assert found["pilotfish_answer_seconds_count"][stage] == n
        assert found["pilotfish_exit_ratio"][stage] == pytest.approx(n / len(answers))
    assert found["pilotfish_escalations_total"][("pair", "0")] == by_stage[1]
    assert found["pilotfish_inputs_total"][("pair",)] == len(answers) + 1
    assert found["pilotfish_replies_total"] == {("pair", "answered"): len(answers), ("pair", "failed"): 1}
    errors = {values: n for values, n in found["pilotfish_errors_total"].items() if n}
    assert errors == {("bad_input", "pair"): 1, ("bad_request", "pair"): 1, ("not_found", ""): 1}
    assert not any(found["pilotfish_shed_total"].values())


def test_batches_and_waits_are_those_of_all_inputs(asked: Any) -> None:
    at, answers = asked
    found = figures(at)
    for k, n in enumerate([len(answers), sum(answer["stage"] == 1 for answer in answers)]):
        stage = ("pair", str(k))
        assert found["pilotfish_queue_seconds_count"][stage] == n
        assert found["pilotfish_batch_inputs_sum"][stage] == n
        assert found["pilotfish_compute_seconds_count"][stage] == found["pilotfish_batch_inputs_count"][stage] <= n
        assert found["pilotfish_compute_seconds_sum"][stage] > 0
        assert found["pilotfish_queue_depth"][stage] == found["pilotfish_queue_oldest_age_seconds"][stage] == 0
    assert found["nv_inference_pending_request_count"] == {("pair", "1"): 0}
    assert found["pilotfish_ready"] == {("pair",): 1}


@pytest.mark.parametrize(
    ("accept", "content_type", "read"),
    [
        ("", "text/plain; version=0.0.4", read_text),
        ("*/*", "text/plain; version=0.0.4", read_text),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0", read_openmetrics),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0", read_openmetrics),
        ("application/openmetrics-text; version=x", "application/openmetrics-text; version=1.0.0", read_openmetrics),
        ("application/openmetrics-text; version=9", "application/openmetrics-text; version=1.0.0", read_openmetrics),
        ("text/plain; version=x", "text/plain; version=0.0.4", read_text),
    ],
)
def test_openmetrics_is_spoken_if_asked(asked: Any, accept: str, content_type: str, read: Any) -> None:
    response = asked[0].ask("GET", "/metrics", headers={"Accept": accept} if accept else None)
    assert response.status == 200
    assert response.headers["content-type"].startswith(content_type)
    names = {family.name for family in read(response.body.decode())}
    assert {"pilotfish_answers", "pilotfish_answer_seconds", "pilotfish_queue_depth"} <= names


def test_names_units_and_labels_follow_the_conventions(asked: Any) -> None:
    """The rules of ``promtool check metrics``, and few label values."""
    abbreviated = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "m", "h", "d"}
    types = {"counter", "gauge", "histogram", "summary"}
    for family in read_openmetrics(asked[0].ask("GET", "/metrics", headers={"Accept": OPENMETRICS}).body.decode()):
        assert family.documentation.strip(), family.name
        if family.name.startswith("process_"):
            continue  # prometheus-client's own
        labels = {name for sample in family.samples for name in sample.labels}
        for sample in family.samples:
            assert set(sample.labels) <= MORE.get(sample.name, LABELS), sample
        assert len(family.samples) < 400
        if family.name.startswith("nv_"):
            continue  # Triton's name
        words = family.name.split("_")
        assert words[0] == "pilotfish"
        assert re.fullmatch("[a-z]+(_[a-z]+)*", family.name)
        assert not abbreviated & set(words)
        assert not types & set(words)
        assert not {"minutes", "hours", "milliseconds", "bits"} & set(words)
        assert not family.name.endswith(("_total", "_bucket", "_count", "_sum"))
        assert ("le" in labels) == (family.type == "histogram")


def test_a_move_is_counted_and_exit_ratios_begin_anew(cascade_folder: Path, photos: list[bytes]) -> None:
    with serving({"pair": cascade_folder}, tokens=TOKENS) as at:
        at.ask("POST", "/predict", photos[0], {"content-type": "image/png"})
        before = figures(at)
        assert sum(before["pilotfish_exit_ratio"].values()) == 1
        moved = at.as_operator.ask("PUT", "/v2/models/pair/operating_point", {"max_drop": 0}).json
        found = figures(at)
        assert "pilotfish_exit_ratio" not in found
        assert found["pilotfish_operating_point_moves_total"] == {("pair",): 1}
        assert [values[2] for values in found["pilotfish_operating_point_info"]] == [moved["id"]]
        expected = {("pair", str(k)): share for k, share in enumerate(moved["exit_ratio"])}
        assert found["pilotfish_exit_ratio_expected"] == pytest.approx(expected)
        assert found["pilotfish_operating_point_drop"] == {("pair",): pytest.approx(moved["drop"])}


def test_what_no_route_sees_is_counted(cascade_folder: Path) -> None:
    sent = {
        "bad_request": b"GARBAGE\r\n\r\n",
        "too_large": b"GET /metrics HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        "slow": b"GET /metrics HTTP/1.1\r\nhost: x\r\n",
    }
    with serving({"pair": cascade_folder}, limits=Limits(request_seconds=1)) as at:
        for request in sent.values():
            with socket.create_connection((at.host, at.port)) as connection:
                connection.sendall(request)
                assert connection.recv(4096).startswith(b"HTTP/1.1 4")
        found = figures(at)
        errors = {values: n for values, n in found["pilotfish_errors_total"].items() if n}
        assert errors == {(cause, ""): 1 for cause in sent}
        assert found["pilotfish_connections"][()] >= 1


@pytest.mark.parametrize("tokens", [TOKENS, {}], ids=["tokens", "open"])
def test_what_operators_are_refused_is_no_error_of_the_cascade(cascade_folder: Path, tokens: dict[str, str]) -> None:
    """Nor is a page that is not there. A request for answers that is refused is one."""
    control = [
        ("PUT", "operating_point"),
        ("POST", "labels"),
        ("DELETE", "drift"),
        ("GET", "infer"),
        ("GET", "nothing"),
    ]
    refused = [(method, f"/v2/models/pair/{end}") for method, end in control]
    asked = ["/predict", "/v2/models/pair/infer", "/v2/models/pair/versions/2/infer", "/v1/models/pair:predict"]
    with serving({"pair": cascade_folder}, tokens=tokens) as at:
        statuses = [at.ask(method, path, b"{}").status for method, path in [*refused, ("GET", "/favicon.ico")]]
        assert set(statuses) <= {401, 403, 404, 405}
        statuses += [at.ask("POST", path, b"{}").status for path in asked]
        assert min(statuses) >= 400
        found = figures(at)["pilotfish_errors_total"]
    by_model = {model: sum(n for (_, name), n in found.items() if name == model) for model in ("", "pair")}
    assert by_model == {"": len(refused) + 1, "pair": len(asked)}


CALLS = {"Refusal": 2, "busy": 1, "refused": 0}  # where the cause stands


def test_every_cause_in_the_code_is_one_that_is_counted() -> None:
    found = set()
    for path in Path(pilotfish.serve.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            if name in CALLS and len(node.args) > CALLS[name]:
                cause = node.args[CALLS[name]]
                found |= {part.value for part in ast.walk(cause) if isinstance(part, ast.Constant)}
    texts = {cause for cause in found if isinstance(cause, str)}
    assert {"full", "bad_request", "too_large", "unauthorized"} <= texts
    assert texts <= {*SHED, *ERRORS}


def test_names_of_models_are_escaped(cascade_folder: Path) -> None:
    name = "a\"b{c}'d e"
    with serving({name: cascade_folder, "other": cascade_folder}) as at:
        assert figures(at)["pilotfish_ready"] == {(name,): 1, ("other",): 1}
