"""Planning from the command line, on the records that the examples ship."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.process import command, refusal

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "examples" / "imagenet_lite"
SMALL, MIDDLE, BASE = (f"lite:efficientnet_{name}" for name in ("lite0@128", "lite0@224", "lite2@300"))
PAIR, CHAIN = f"{SMALL},{BASE}", f"{SMALL},{MIDDLE},{BASE}"


def document(folder: Path, *arguments: object) -> Any:
    ended = command(folder, *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_guarantee(tmp_path: Path) -> None:
    found = document(
        tmp_path, "tune", RUN, "--stages", PAIR, "--max-drop", "3%", "--guarantee", "90%", "--holdout", 0.2
    )
    assert found["guarantee"]["kind"] == "drop"
    assert found["guarantee"]["confidence"] == 0.9
    assert found["guarantee"]["bound"] <= 0.03
    assert found["split"] == {"fit": 0, "certify": 400, "evaluation": 100}
    shown = command(tmp_path, "tune", RUN, "--stages", PAIR, "--max-drop", "3%", "--guarantee", "90%")
    assert "Guarantee: drop at most 3.00 points" in shown.stdout
    message = refusal(tmp_path, "tune", RUN, "--stages", PAIR, "--max-drop", "0.5%", "--guarantee", "90%")
    assert "at least 460 are needed" in message


@pytest.mark.parametrize(
    ("method", "options", "kind"),
    [
        ("sweep", [], "thresholds"),
        ("dyce", ["search=one_pass"], "thresholds"),
        ("pcee-ws", ["diagram=survivors", "neighbours=20"], None),
        ("patience", [], "patience"),
        ("agreement", [], "agreement"),
        ("ensemble", ["weight=0.9"], "ensemble"),
    ],
)
def test_methods(method: str, options: list[str], kind: str | None, tmp_path: Path) -> None:
    extra = [word for option in options for word in ("--option", option)]
    arguments = ["tune", RUN, "--stages", CHAIN, "--method", method, "--max-drop", "3%", *extra]
    found = document(tmp_path, *arguments, "--out", "cascade")
    policy = found["policy"] if isinstance(found["policy"], str) else found["policy"]["kind"]
    if kind is not None:
        assert policy == kind
    assert (found["thresholds"] is None) == (policy in ("patience", "agreement", "intervals"))
    assert sum(found["calibration"]["exit_ratio"]) == pytest.approx(1)
    shown = command(tmp_path, "inspect", "cascade")
    assert f"policy: method {method}" in shown.stdout
    assert command(tmp_path, "report", "cascade", "--out", "report.html").returncode == 0


def test_the_readme_quotes_what_is_printed() -> None:
    text = (ROOT / "README.md").read_text()
    typed, _, quoted = text[text.index("$ pilotfish tune") :].partition("```")[0].partition("\n part ")
    shown = command(ROOT, *shlex.split(typed.removeprefix("$ pilotfish").replace("\\\n", " ")))
    lines = [" ".join(line.split()) for line in f" part {quoted}".splitlines() if line.strip()]
    assert len(lines) == 5
    assert set(lines) <= {" ".join(line.split()) for line in shown.stdout.splitlines()}


def test_scores(tmp_path: Path) -> None:
    for score in ("margin", "learned", "auto"):
        found = document(tmp_path, "tune", RUN, "--stages", PAIR, "--score", score, "--max-drop", "2%")
        assert found["score"] == score
        assert len(found["scores"]) == 1
    assert {"macs", "ms"} <= set(found["costs"])


def test_chains(tmp_path: Path) -> None:
    found = document(tmp_path, "chains", RUN, "--base", BASE, "--max-drop", "2%", "--top", 3)
    best = found["chains"][0]
    assert best["stages"][-1] == BASE
    assert best["drop"] <= 0.02
    assert best["cost"] <= min(c["cost"] for c in found["chains"])
    tuned = document(tmp_path, "tune", RUN, "--stages", ",".join(best["stages"]), "--max-drop", "2%")
    assert tuned["calibration"]["cost"] == pytest.approx(best["cost"])
    assert tuned["evaluation"]["drop"] == pytest.approx(best["held_out"]["drop"])


@pytest.mark.parametrize("metric", [(), ("--metric", "pixel_accuracy"), ("--metric", "miou")])
@pytest.mark.parametrize("verb", ["savers", "chains"])
def test_what_to_do_next_is_measured_alike(verb: str, metric: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    union = rng.integers(50, 100, (60, 3))
    for name, macs in (("small", "1"), ("big", "10")):
        np.savez(tmp_path / f"{name}.npz", intersection=union // 2, union=union, score=rng.random(60))
        assert (
            command(tmp_path, "import", f"{name}.npz", "--run", "run", "--model", name, "--macs", macs).returncode == 0
        )
    budget = ("--max-drop", "1%")
    shown = command(tmp_path, verb, "run", "--base", "big", *budget, *metric).stdout
    following = shlex.split(shown.partition("Next: pilotfish ")[2].splitlines()[0])
    assert following[-len(metric) :] == list(metric) if metric else "--metric" not in following
    assert command(tmp_path, *following).returncode == 0


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run ``my run`` whose split ``test`` holds 200 groups of two, and costs of another key."""
    folder = tmp_path_factory.mktemp("grouped")
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 400)
    ids = [f"c{i // 2}_{i}" for i in range(400)]
    for name, noise, usd in (("small one", 1.0, 1), ("middle", 0.7, 3), ("big", 0.5, 10)):
        logits = 3 * np.eye(3)[label] + noise * rng.normal(size=(400, 3))
        np.savez(folder / "a.npz", logits=logits, label=label, id=ids)
        typed = ["--run", "my run", "--model", name, "--macs", 11 - usd, "--split", "test", "--cost", f"usd={usd}"]
        assert command(folder, "import", "a.npz", *typed).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("verb", "typed", "also"),
    [
        ("savers", ["--score", "margin", "--seed", "3"], ["--max-drop", "0.5%"]),
        ("savers", ["--max-drop", "2%", "--holdout", "0.4", "--method", "pcee"], []),
        ("savers", ["--max-drop", "8%", "--guarantee", "90%"], ["--savers-tried", "2"]),
        ("chains", ["--max-drop", "2%", "--score", "margin", "--seed", "3"], []),
        ("chains", ["--max-cost", "60%", "--holdout", "0.3"], []),
    ],
)
def test_what_to_do_next_has_the_options_that_were_given(
    verb: str, typed: list[str], also: list[str], grouped: Path
) -> None:
    always = ["--cost", "usd", "--split", "test", "--group-by", "(c[0-9]+)_"]
    ended = command(grouped, verb, "my run", "--base", "big", *typed, *always)
    assert ended.returncode == 0, ended.stderr
    following = shlex.split(ended.stdout.partition("Next: pilotfish ")[2].splitlines()[0])
    expected = [*typed, *always, *also]
    given = dict(zip(following[2::2], following[3::2], strict=True))
    assert given.pop("--stages").endswith(",big")
    assert given == dict(zip(expected[::2], expected[1::2], strict=True))
    assert following[:2] == ["tune", "my run"]
    tuned = command(grouped, *following)
    assert tuned.returncode == 0, tuned.stderr


def test_all_bases_and_certified_savers(tmp_path: Path) -> None:
    found = document(tmp_path, "savers", RUN, "--all-bases")
    assert found["best"][BASE] == document(tmp_path, "savers", RUN, "--base", BASE)["best"]
    found = document(tmp_path, "savers", RUN, "--base", BASE, "--guarantee", "90%", "--max-drop", "5%")
    assert found["guarantee"]["savers"] == len(found["savers"]) == 11
    assert all(s["certified"]["bound"] <= 0.05 for s in found["savers"])


def test_a_shortlist_needs_no_records(tmp_path: Path) -> None:
    found = document(tmp_path, "shortlist", "--base", "timm:resnet50.a1_in1k")
    assert {"base", "cost", "device", "max_drop", "source", "savers"} <= set(found)
    deltas = [s["delta_cost"] for s in found["savers"]]
    assert deltas == sorted(deltas)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--max-drop", "1%", "--guarantee", "120%"], 2, "is not a confidence"),
        (["--max-drop", "1%", "--option", "bins"], 2, "expected KEY=VALUE"),
        (["--max-drop", "1%", "--option", "bins=3"], 1, "method sweep has no option 'bins'"),
        (["--max-drop", "1%", "--method", "pce"], 1, "unknown method 'pce'; nearest names: pcee"),
        (["--max-drop", "1%", "--score", "margn"], 1, "unknown score 'margn'; nearest names: margin"),
        (["--max-drop", "5%", "--guarantee", "90%", "--test", "exat"], 1, "unknown test 'exat'; nearest names: exact"),
        (["--max-drop", "5%", "--test", "exat"], 1, "unknown test 'exat'; nearest names: exact"),
        (["--max-cost", "60%", "--guarantee", "90%", "--test", "exat"], 1, "unknown test 'exat'; nearest names: exact"),
        (["--max-drop", "1%", "--method", "patience"], 1, "at least three stages"),
        (["--max-drop", "1%", "--savers-tried", "0", "--guarantee", "90%"], 1, "savers_tried"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, "tune", RUN, "--stages", PAIR, *arguments, code=code)
