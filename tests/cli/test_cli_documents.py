"""``--json``: one document on stdout with the keys that outside scripts rely on; tables and notes elsewhere."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.records import Run
from support.process import command
from support.runs import records

P_KEYS = {
    *("n", "metric", "value", "base_value", "accuracy", "base_accuracy"),
    *("drop", "drop_interval", "cost", "base_cost", "exit_ratio"),
}
ALLOWED = ["--allow-python", "cli_pair:saver", "--allow-python", "cli_pair:base"]
PAIR = ["python:cli_pair:saver", "python:cli_pair:base"]


def document(ended: subprocess.CompletedProcess[str]) -> Any:
    assert ended.returncode == 0, ended.stderr

    def no_constant(name: str) -> None:
        raise AssertionError(f"JSON has no {name}")

    return json.loads(ended.stdout, parse_constant=no_constant)


def test_import(imported: Path, tmp_path: Path) -> None:
    costs = ["--macs", "390000000", "--latency-ms", "2.5", "--cost", "usd=0.0004"]
    file = imported / "small.npz"
    found = document(
        command(tmp_path, "import", file, "--run", "r", "--model", "a/b", "--split", "s", *costs, "--json")
    )
    assert {k: found[k] for k in ("run", "model", "split", "n")} == {"run": "r", "model": "a/b", "split": "s", "n": 400}
    assert found["cost"] == {"macs": 390000000, "ms": 2.5, "usd": 0.0004}
    assert found["path"] == "r/a%2Fb.s.parquet"
    assert (tmp_path / found["path"]).is_file()


def test_savers(imported: Path) -> None:
    found = document(command(imported, "savers", "run", "--base", "big", "--json"))
    assert {"base", "cost", "n", "best", "savers"} <= found.keys()
    assert (found["base"], found["cost"], found["n"], found["best"]) == ("big", "macs", 400, "small")
    (saver,) = found["savers"]
    assert {"saver", "exit_ratio", "threshold", "cost_ratio", "delta_cost"} <= saver.keys()
    assert saver["cost_ratio"] == pytest.approx(0.1)
    assert saver["delta_cost"] == pytest.approx(0.1 - saver["exit_ratio"])
    without = document(command(imported, "savers", "run", "--base", "small", "--json"))
    assert (without["best"], without["savers"]) == (None, [])


def test_tune(imported: Path, tmp_path: Path) -> None:
    arguments = ["tune", "run", "--stages", "small,big", "--max-drop", "2%", "--json"]
    found = document(command(imported, *arguments, "--out", tmp_path / "cascade"))
    keys = {"stages", "method", "score", "thresholds", "policy", "split", "calibration", "evaluation", "guarantee"}
    assert keys <= found.keys()
    assert (found["stages"], found["method"], found["score"]) == (["small", "big"], "sweep", "max_prob")
    assert found["split"] == {"fit": 200, "certify": 0, "evaluation": 200}
    for part in (found["calibration"], found["evaluation"]):
        assert set(part) == P_KEYS
        assert sum(part["exit_ratio"]) == pytest.approx(1)
        assert part["drop_interval"][0] <= part["drop"] <= part["drop_interval"][1]
        assert part["base_cost"] == 1e9
    assert found["calibration"]["drop"] <= 0.02
    shown = document(command(tmp_path, "inspect", "cascade", "--json"))
    assert shown["operating_point"]["shown"] == found["thresholds"]
    assert [stage["name"] for stage in shown["stages"]] == ["small", "big"]


@pytest.mark.parametrize(("budget", "threshold"), [("--max-drop=-100%", None), ("--max-drop=100%", "-inf")])
def test_thresholds_without_a_number_are_strings(budget: str, threshold: str | None, imported: Path) -> None:
    ended = command(imported, "tune", "run", "--stages", "small,big", budget, "--holdout", "0", "--json")
    if threshold is None:
        assert (ended.returncode, ended.stdout) == (1, "")
    else:
        found = document(ended)
        assert (found["thresholds"], found["evaluation"], found["split"]["fit"]) == ([threshold], None, 400)
        assert "holdout 0" in ended.stderr


def test_report_and_inspect(imported: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    told = document(command(imported, "report", "run", "--base", "big", "--out", page, "--json"))
    assert (told.keys(), told["report"]) == ({"report", "notes"}, str(page))
    assert page.read_text().lower().startswith("<!doctype html>")
    found = document(command(imported, "inspect", "run", "--json"))
    assert (found["run"], found["unfinished"]) == ("run", [])
    assert {(e["model"], e["split"], e["n"], e["costs"]["macs"]) for e in found["records"]} == {
        ("small", "val", 400, 1e8),
        ("big", "val", 400, 1e9),
    }


@pytest.mark.parametrize(
    ("known", "names", "accuracy"),
    [(400, "ab", 0.75), (380, "ab", 0.75), (300, "ab", None), (400, "ba", None), (0, "ab", None)],
)
def test_inspect_takes_labels_that_the_run_knows(
    known: int, names: str, accuracy: float | None, tmp_path: Path
) -> None:
    """Of 90 % of the samples and of the same classes; else there is no accuracy to be shown."""
    run, label = Run(tmp_path / "run"), np.arange(400) % 2
    named = {"n_classes": 2, "class_names": tuple(names)}
    run.write(records("labelled", label, label=np.where(np.arange(400) < known, label, -1).tolist(), **named))
    answers = np.where(np.arange(400) % 4 == 3, 1 - label, label)
    run.write(records("api", answers, label=[-1] * 400, n_classes=2, class_names=("a", "b")))
    found = document(command(tmp_path, "inspect", "run", "--json"))
    api = next(entry for entry in found["records"] if entry["model"] == "api")
    if accuracy is None:
        assert (api["accuracy"], api["notes"]) == (None, [])
    else:
        assert api["accuracy"] == pytest.approx(accuracy, abs=0.01)
        assert api["notes"] == ["it has no labels of its own; those of labelled are taken"]


def test_record(pictures: Path, tmp_path: Path) -> None:
    arguments = ["--data", "data.npz", "--model", ",".join(PAIR), "--run", tmp_path / "run", "--batch-size", "50"]
    first = document(command(pictures, "record", *arguments, "--json"))
    assert [entry["model"] for entry in first] == PAIR
    for entry in first:
        assert {"run", "model", "split", "n", "cost", "path"} <= entry.keys()
        assert (entry["n"], entry["split"], entry["skipped"]) == (200, "val", False)
        assert entry["cost"]["ms"] > 0
        assert Path(entry["path"]).is_file()
    again = document(command(pictures, "record", *arguments, "--json"))
    assert [entry["skipped"] for entry in again] == [True, True]
    one = document(command(pictures, "record", *arguments[:2], "--model", PAIR[0], "--run", "run", "--json"))
    assert [entry["model"] for entry in one] == PAIR[:1]


def test_bench(pictures: Path, tmp_path: Path) -> None:
    arguments = ["--data", "data.npz", "--exit-ratio", "50%", "--runs", "2", "--samples", "40"]
    out = tmp_path / "bench.json"
    ended = command(pictures, "bench", "cascade", *arguments, *ALLOWED, "--out", out, "--json", PYTHONPATH=".")
    found = document(ended)
    assert {"machine", "exit_ratio", "model_only", "end_to_end", "speedup"} <= found.keys()
    assert found["exit_ratio"] == [0.5, 0.5]
    for times in (found["model_only"], found["end_to_end"]):
        assert {"stages_ms", "ideal_ms", "realised_ms", "efficiency"} <= times.keys()
    single = found["single"]
    assert {"saver_ms", "cascade_ms", "overhead_ms"} <= single.keys()
    assert (single["n"], single["exit_ratio"]) == (40, [0.5, 0.5])
    for key in ("saver", "base", "cascade"):
        assert 0 < single[key]["p50"] <= single[key]["p95"] <= single[key]["p99"]
    assert "40 requests, file to answer, exit ratio 50.0% / 50.0% (forced)" in ended.stderr
    assert json.loads(out.read_text()) == found


def test_models(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    found = document(command(tmp_path, "models", "timm:test_v*", "--json"))
    assert {"forms", "models"} <= found.keys()
    assert "timm:test_vit.r160_in1k" in found["models"]
    assert all(name.startswith("timm:test_v") for name in found["models"])


def test_documents_and_tables_hold_any_name(imported: Path, tmp_path: Path) -> None:
    """Markup, other scripts and names that are not valid Unicode: JSON stays JSON and tables stay tables."""
    for name in ("[bold]m[/]", "模型", "émodèle"):
        found = document(command(tmp_path, "import", imported / "big.npz", "--run", "r", "--model", name, "--json"))
        assert found["model"] == name
    shown = command(tmp_path, "inspect", "r", PYTHONIOENCODING="utf-8")
    assert all(name in shown.stdout for name in ("[bold]m[/]", "模型", "émodèle"))
    plain = command(tmp_path, "inspect", "r", "--json", PYTHONIOENCODING="ascii")
    assert {entry["model"] for entry in document(plain)["records"]} == {"[bold]m[/]", "模型", "émodèle"}
    assert command(tmp_path, "inspect", "r", PYTHONIOENCODING="ascii").returncode == 0


def test_notes_and_tables_go_to_stderr_beside_a_document(imported: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", prediction=np.arange(5), confidence=np.linspace(0, 1, 5))
    np.savez(tmp_path / "b.npz", prediction=np.arange(5))
    for name in ("a", "b"):
        assert command(tmp_path, "import", f"{name}.npz", "--run", "r", "--model", name).returncode == 0
    ended = command(tmp_path, "savers", "r", "--base", "b", "--json")
    found = document(ended)
    assert (found["best"], found["savers"][0]["cost_ratio"], found["savers"][0]["delta_cost"]) == (None, None, None)
    assert found["savers"][0]["exit_ratio"] == 1
    assert "b has no cost 'macs'; savers are ranked by exit ratio" in ended.stderr
