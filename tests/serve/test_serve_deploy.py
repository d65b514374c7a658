"""What is in deploy/ and docs/serving.md is true: options, routes, files and metrics that they name are there."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

pytest.importorskip("starlette")

from pilotfish.cli.main import app
from support.server import Serving, serving

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
METRIC = re.compile(r"\b(?:pilotfish|nv|process)_[a-z_]+\b")
TOKEN = "0123456789abcdef"
EVERYTHING: dict[str, Any] = {
    "audit": 0.5,
    "escalation_rate": 100.0,
    "max_cost_per_hour": 1e12,
    "tokens": {TOKEN: "me"},
}


@pytest.fixture(scope="module")
def at(cascade_folder: Path, photos: list[bytes]) -> Iterator[Serving]:
    """A server that watches all it can."""
    with serving({"pair": cascade_folder}, **EVERYTHING) as found:
        for photo in photos:
            assert found.ask("POST", "/predict", photo, {"content-type": "image/png"}).status == 200
        instance = {"b64": base64.b64encode(photos[0]).decode(), "id": "one"}
        assert found.ask("POST", "/predict", {"instances": [instance]}).status == 200
        labels, bearer = {"labels": [{"id": "one", "label": 0}]}, {"Authorization": f"Bearer {TOKEN}"}
        assert found.ask("POST", "/v2/models/pair/labels", labels, bearer).status == 200
        yield found


@pytest.fixture(scope="module")
def metrics(
    at: Serving, cascade_folder: Path, photos: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> set[str]:
    """Names on the page at /metrics, of that server and of one in shadow mode."""
    state = tmp_path_factory.mktemp("state") / "served.db"
    with serving({"pair": cascade_folder}, shadow=True, state=state) as other:
        assert other.ask("POST", "/predict", photos[0], {"content-type": "image/png"}).status == 200
        pages = [one.get("/metrics").body.decode() for one in (at, other)]
    lines = "".join(pages).splitlines()
    return {re.match("[a-z_]+", line)[0] for line in lines if not line.startswith("#")}  # type: ignore[index]


def options() -> dict[str, Any]:
    """The options of ``pilotfish serve``, by what is typed."""
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return {name: one for one in command.params for name in one.opts if name.startswith("--")}


def check_arguments(arguments: list[str]) -> dict[str, str]:
    """What follows ``pilotfish serve``: folders, and options that are there. The values of options, by name."""
    known, found = options(), {}
    left = iter(arguments)
    for given in left:
        name, _, value = given.partition("=")
        if not given.startswith("-"):
            assert given.startswith("/"), f"{given} is no folder"
            continue
        assert name in known, f"serve has no option {name}"
        if not known[name].is_flag:
            found[name] = value or next(left)
    return found


def seconds_to_end(given: dict[str, str]) -> float:
    """From SIGTERM to the end, at most."""
    known = options()
    return sum(float(given.get(name, known[name].default)) for name in ("--drain-delay", "--drain-limit"))


# Docker


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of a Dockerfile; continued lines are one."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_dockerfile_copies_what_is_there_and_is_let_through() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [shlex.split(rest)[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    assert copied
    for source in (name for names in copied for name in names):
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored, f"{source} does not reach the build"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml", "src"}
    assert needed <= {name for names in copied for name in names}


def test_the_dockerfile_installs_extras_that_are_there() -> None:
    extras = next(rest for word, rest in instructions() if word == "ARG").partition("=")[2].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"serve", "onnx"} == set(extras)
    assert set(extras) <= set(project["optional-dependencies"])


def test_the_dockerfile_s_commands_are_commands(at: Serving) -> None:
    words = {
        "FROM",
        "ARG",
        "COPY",
        "RUN",
        "ENV",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    found = instructions()
    assert {word for word, _ in found} <= words
    for _, rest in (one for one in found if one[0] == "RUN"):
        assert subprocess.run(["bash", "-n", "-c", rest], check=False).returncode == 0
    last = dict(found)
    assert json.loads(last["ENTRYPOINT"]) == ["pilotfish", "serve"]
    given = check_arguments(json.loads(last["CMD"]))
    assert given["--host"] == "0.0.0.0"
    assert given["--state"].startswith(last["VOLUME"] + "/")
    python, flag, code = json.loads(last["HEALTHCHECK"].partition(" CMD ")[2])
    assert (python, flag) == ("python", "-c")
    assert compile(code, "health", "exec")
    assert f"127.0.0.1:{last['EXPOSE']}" in code
    assert at.get(re.search(r"8000(/[^']*)'", code)[1]).status == 200  # type: ignore[index]
    assert last["USER"] != "root"


# systemd and Kubernetes


def test_the_unit_starts_what_is_there_and_waits_for_its_end() -> None:
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / "pilotfish.service").read_text())
    settings = dict(line.split("=", 1) for line in text.splitlines() if re.match("[A-Z][A-Za-z]+=", line))
    program, verb, *arguments = shlex.split(settings["ExecStart"])
    assert (Path(program).name, verb) == ("pilotfish", "serve")
    given = check_arguments(arguments)
    assert float(settings["TimeoutStopSec"]) > seconds_to_end(given)
    assert given["--state"].startswith(f"/var/lib/{settings['StateDirectory']}/")
    assert given["--token-file"] == "${CREDENTIALS_DIRECTORY}/" + settings["LoadCredential"].split(":")[0]


def test_kubernetes_probes_routes_that_are_there(at: Serving) -> None:
    yaml = pytest.importorskip("yaml")
    deployment, service = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    given = check_arguments(container["args"])
    (port,) = container["ports"]
    assert int(given["--port"]) == port["containerPort"]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]
        assert at.get(container[probe]["httpGet"]["path"]).status == 200
    assert pod["spec"]["terminationGracePeriodSeconds"] > seconds_to_end(given)
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["spec"]["volumes"]}
    for value in (container["args"][0], given["--state"], given["--token-file"]):
        assert any(value.startswith(path) for path in mounted.values())
    assert service["spec"]["selector"] == pod["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    scraped = pod["metadata"]["annotations"]
    assert at.get(scraped["prometheus.io/path"]).status == 200
    assert int(scraped["prometheus.io/port"]) == port["containerPort"]


# Prometheus and Grafana


def expressions(node: Any) -> Iterator[str]:
    """All ``expr`` of a document, and the queries of its variables."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "definition") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def named(expression: str) -> set[str]:
    return set(METRIC.findall(re.sub(r'"[^"]*"', '""', expression)))


def anchors() -> set[str]:
    """Of the headings of docs/serving.md, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", PAGE, re.M)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_panel_of_grafana_draws_metrics_that_are_there(metrics: set[str]) -> None:
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    found = list(expressions(board))
    assert len(found) > 25
    for expression in found:
        assert named(expression), expression
        assert named(expression) <= metrics, expression
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


def test_every_alert_is_of_metrics_that_are_there_and_has_a_page(metrics: set[str]) -> None:
    yaml = pytest.importorskip("yaml")
    (group,) = yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text())["groups"]
    known = anchors()
    for rule in group["rules"]:
        assert named(rule["expr"]) <= metrics, rule["expr"]
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (page, anchor in known) == ("docs/serving.md", True)
        assert f"`{rule['alert']}`" in PAGE, rule["alert"]
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert f'job="{job["job_name"]}"' in group["rules"][0]["expr"]


# The page


def test_the_page_lists_every_option_and_no_other() -> None:
    table = PAGE.partition("## Options")[2].partition("\n## ")[0]
    assert set(re.findall(r"(--[a-z][a-z-]+)", table)) == set(options()) - {"--help"}
    ours = {name for command in get_command(app).commands.values() for one in command.params for name in one.opts}  # type: ignore[attr-defined]
    theirs = {"--data-binary", "--config", "--cpus"}
    assert set(re.findall(r"(?<![a-z-])(--[a-z][a-z-]+)", PAGE)) <= ours | theirs


def test_the_page_lists_every_metric_and_no_other(metrics: set[str]) -> None:
    table = PAGE.partition("## Metrics")[2].partition("\n## ")[0]
    families = {re.sub("_(bucket|sum|count)$", "", name) if name.endswith("_bucket") else name for name in metrics}
    histograms = {re.sub("_bucket$", "", name) for name in metrics if name.endswith("_bucket")}
    families = {name for name in families if re.sub("_(sum|count)$", "", name) not in histograms} | histograms
    said = set(METRIC.findall(table))
    assert {name for name in families if name.startswith(("pilotfish_", "nv_"))} <= said
    assert {name for name in said if not name.startswith("process_")} <= families


def test_the_page_s_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert target.startswith("http") or (ROOT / "docs" / target).exists(), target
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors()
