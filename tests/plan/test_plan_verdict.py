"""A missed budget is said first, and a model that answers everything is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import Budget, Performance
from pilotfish.plan import find_chains, tune
from pilotfish.plan.tuning import answers_alone, budget_missed, guarantee_needs, resolution
from pilotfish.records import Run
from support.pairs import Pair
from support.runs import records, write_pair


def performance(drop: float = 0.0, accuracy: float = 0.9, cost: float | None = 5.0, **fields: object) -> Performance:
    given = {"drop_interval": (drop - 0.01, drop + 0.01), "exit_ratio": (0.5, 0.5), **fields}
    return Performance(500, accuracy, accuracy + drop, drop, cost=cost, base_cost=10.0, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("judged", "budget", "said"),
    [
        (performance(drop=0.065), Budget("max_drop", 0.01), "6.5 points against 1.0"),
        (performance(drop=0.0104), Budget("max_drop", 0.01), "1.04 points against 1.00"),
        (performance(accuracy=0.885), Budget("min_metric", 0.9), "accuracy 88.5% against 90.0%"),
        (performance(cost=4.4), Budget("max_cost", 4.0), "cost 4.4 against 4 (10.0% more)"),
    ],
)
def test_a_missed_budget_says_both_numbers(judged: Performance, budget: Budget, said: str) -> None:
    line = budget_missed(judged, budget, "held-out samples")
    assert line is not None
    assert line.startswith(f"BUDGET MISSED on held-out samples: {said}")
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("judged", "budget"),
    [
        (performance(drop=5 / 500), Budget("max_drop", 0.01)),
        (performance(drop=-0.2), Budget("max_drop", 0.0)),
        (performance(accuracy=0.9), Budget("min_metric", 0.9)),
        (performance(cost=4.0 * (1 + 1e-15)), Budget("max_cost", 4.0)),
        (performance(cost=None), Budget("max_cost", 4.0)),
    ],
)
def test_a_budget_that_is_kept_is_no_news(judged: Performance, budget: Budget) -> None:
    assert budget_missed(judged, budget, "held-out samples") is None


@pytest.mark.parametrize("drop", [0.015, 0.065])
def test_nobody_who_asked_for_a_guarantee_is_told_to(drop: float) -> None:
    plain = budget_missed(performance(drop=drop), Budget("max_drop", 0.01), "held-out samples")
    promised = budget_missed(performance(drop=drop), Budget("max_drop", 0.01), "held-out samples", promised=True)
    assert "--guarantee" in str(plain)
    assert promised is not None
    assert "--guarantee" not in promised
    assert ("inside" if drop < 0.02 else "outside") in promised  # of the interval


def unlucky(folder: Path, missing: float) -> Run:
    """A saver that is surest of its mistakes on the held-out half: rows there are found by their split."""
    from pilotfish.plan.holdout import split_rows

    n = 2000
    rng = np.random.default_rng(0)
    ok = np.ones(n, bool)
    held = split_rows(n, 0.5, 0).evaluation
    ok[held[: round(missing * len(held))]] = False
    return write_pair(folder, Pair(rng.permutation(n) / n, ok.tolist(), [True] * n))


@pytest.mark.parametrize(
    "options",
    [{"max_drop": 0.01}, {"min_accuracy": 0.99}, {"max_drop": 0.01, "guarantee": 0.9}],
    ids=["drop", "accuracy", "guarantee"],
)
def test_it_is_the_first_note_of_tune(tmp_path: Path, options: dict[str, float]) -> None:
    found = tune(unlucky(tmp_path, 0.065), ["saver", "base"], **options)
    assert found.missed is not None
    assert found.notes[0] == found.to_json()["notes"][0] == found.missed
    assert found.missed.startswith("BUDGET MISSED on held-out samples: ")
    if "guarantee" in options:
        assert not any("--guarantee" in note for note in found.notes)


def test_and_it_is_said_before_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pilotfish.cli.tune_command import tune as command

    run = unlucky(tmp_path / "run", 0.065)
    command(run.path, ["saver,base"], max_drop="1%", out=tmp_path / "cascade")
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].startswith("BUDGET MISSED on held-out samples: 6.5 points against 1.0")
    assert any("Cascade written to" in line for line in lines[1:])
    assert (said.out + said.err).count("BUDGET MISSED") == 1


def pair(tmp_path: Path, saver_ok: list[bool], base_ok: list[bool]) -> Run:
    scores = (np.arange(len(saver_ok), 0, -1) / (len(saver_ok) + 1)).tolist()
    return write_pair(tmp_path, Pair(scores, saver_ok, base_ok))


def test_the_saver_alone_is_named(tmp_path: Path) -> None:
    found = tune(pair(tmp_path, [True] * 40, [True] * 39 + [False]), ["saver", "base"], max_drop=0)
    assert found.calibration.exit_ratio == (1.0, 0.0)
    assert any(note.startswith("the saver alone meets it: run saver alone") for note in found.notes)


def test_the_base_alone_is_named(tmp_path: Path) -> None:
    found = tune(pair(tmp_path, [False] * 40, [True] * 40), ["saver", "base"], max_drop=0)
    assert found.calibration.exit_ratio == (0.0, 1.0)
    assert any("run the base alone" in note for note in found.notes)


def test_without_costs_the_base_alone_is_named_too(tmp_path: Path) -> None:
    run = Run(tmp_path)
    confidence = {"confidence": np.linspace(0.1, 0.9, 40)}
    run.write(records("saver", [1] * 40, label=[0] * 40, outputs=confidence))
    run.write(records("base", [0] * 40, label=[0] * 40))
    assert any("run base alone" in note for note in tune(run, ["saver", "base"], max_drop=0).notes)


@pytest.mark.parametrize(
    ("ratio", "met", "said"),
    [
        ((1.0, 0.0), True, "the saver alone meets it: run a alone"),
        ((0.0, 1.0, 0.0), True, "b alone meets it: run b alone"),
        ((1.0, 0.0, 0.0), False, "this is a alone"),
        ((0.0, 0.0, 1.0), True, "run c alone"),
        ((0.9, 0.1), True, None),
    ],
)
def test_who_answers_alone(ratio: tuple[float, ...], met: bool, said: str | None) -> None:
    line = answers_alone("abc"[: len(ratio)], performance(exit_ratio=ratio), met)
    assert line is None if said is None else said in str(line)


@pytest.mark.parametrize("cost", [10.5, 40.0, 1e6])
def test_stages_in_the_wrong_order_are_named(cost: float, tmp_path: Path) -> None:
    run = write_pair(tmp_path, Pair(list(range(40)), [True] * 40, [True] * 40), saver_cost=cost)
    found = tune(run, ["saver", "base"], max_drop=0.05)
    assert "saver costs more than base: savers are named first, and the base last" in found.notes
    assert not any("meets it: run" in note for note in found.notes)  # which would advise the dearer one
    run = write_pair(tmp_path, Pair(list(range(40)), [True] * 40, [True] * 40))
    assert not any("savers are named first" in note for note in tune(run, ["saver", "base"], max_drop=0.05).notes)


@pytest.mark.parametrize(
    ("n", "groups", "budget", "said"),
    [
        (250, None, 0.005, "at least 460 samples to choose on, not 250"),
        (60, None, 0.02, "samples to choose on, not 60"),
        (5000, 5, 0.02, "groups to choose on, not 5"),
        (460, None, 0.005, ""),
        (120, None, 0.02, ""),
        (250, None, 0.0, ""),
    ],
)
def test_a_guarantee_is_advised_with_the_samples_that_it_takes(
    n: int, groups: int | None, budget: float, said: str
) -> None:
    chosen = replace(performance(), n=n, groups=groups)
    limit = Budget("max_drop", budget)
    needs = guarantee_needs(chosen, limit)
    assert said in needs
    assert bool(needs) == bool(said)
    line = budget_missed(performance(drop=0.1), limit, "held-out samples", chosen=chosen)
    assert f"--guarantee 90%{needs}" in str(line)
    wide = performance(drop=0.01, drop_interval=(-0.1, 0.1))
    assert str(resolution(wide, limit, chosen=chosen)).endswith(f"use --guarantee{needs}")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["ms"], "the cascade costs 100% of the base by ms: it saves by macs and not by ms"),
        (
            ["ms", "usd", "joules"],
            "the cascade costs 100% of the base by joules, 100% by ms, 100% by usd: it saves by macs and not by these",
        ),
        ([], ""),
    ],
)
def test_costs_by_which_a_cascade_does_not_save_are_one_note(tmp_path: Path, keys: list[str], said: str) -> None:
    rng = np.random.default_rng(0)
    n = 400
    wrong = (rng.random(n) < 0.1).astype(int)
    run = Run(tmp_path)
    for name, macs in (("saver", 1.0), ("base", 2.0)):
        run.write(
            records(
                name,
                label=np.zeros(n, int).tolist(),
                prediction=wrong.tolist(),
                outputs={"confidence": rng.random(n)},
                costs={"macs": macs, **dict.fromkeys(keys, 1.0)},
            )
        )
    found = tune(run, ("saver", "base"), max_drop=0.01)
    assert [note for note in found.notes if "it saves by" in note][:1] == ([said] if said else [])


def test_what_a_session_shows_of_a_tuning_is_short(tmp_path: Path) -> None:
    found = tune(unlucky(tmp_path, 0.1), ["saver", "base"], max_drop=0.05)
    assert repr(found).startswith("Tuning(stages=('saver', 'base'), thresholds=(")
    assert repr(found.artefact).startswith("Artefact(stages=('saver', 'base'), score='max_prob'")
    assert max(map(len, (repr(found), repr(found.artefact)))) < 400
    assert replace(found) == found


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (80, 100, "first → second without base would do"),  # the second answers all that the first leaves
        (100, 100, "no cascade is needed: first alone keeps to the budget"),
        (80, 60, None),
    ],
)
def test_a_chain_that_never_asks_its_base_is_said(first: int, second: int, said: str | None, tmp_path: Path) -> None:
    """Each saver is right and sure about so many of 100 samples, the first ones; the base about all."""
    run, label = Run(tmp_path), np.zeros(100, np.int64)
    for name, able, macs in (("first", first, 1.0), ("second", second, 2.0), ("base", 100, 10.0)):
        right = np.arange(100) < able
        outputs = {"confidence": np.where(right, 0.9, 0.1)}
        run.write(records(name, (~right).astype(int), label=label, outputs=outputs, costs={"macs": macs}))
    notes = find_chains(run, "base", max_drop=0.0, holdout=0.0).notes
    found = [note for note in notes if "would do" in note or "alone keeps" in note]
    assert len(found) == (said is not None)
    assert all(said in note for note in found if said is not None)
