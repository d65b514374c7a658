"""Every way to make a policy path against its rule in plain Python, one sample at a time."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.cascade import Budget, Rule, decide
from pilotfish.errors import UsageError
from pilotfish.plan.evaluate import count, measure
from pilotfish.plan.methods import METHODS, DyceOptions, PceeOptions, PceeWsOptions, find_method, read_options
from pilotfish.plan.methods.dyce import _losses, dyce_path
from pilotfish.plan.methods.grids import geometric_thresholds
from pilotfish.plan.methods.pcee import exit_sets, pcee_path
from pilotfish.plan.path import densify, route, threshold_path
from pilotfish.plan.trace import Trace
from pilotfish.records import Outputs, from_probabilities
from pilotfish.scores import SCORES, ExitScore
from pilotfish.scores.mixture import mix
from support.pairs import pairs

ANY = Budget("max_drop", 0.01)


def trace_of(seed: int, n: int, stages: int = 3, ties: bool = False) -> Trace:
    """Probabilities that tell, with noise, where a stage is right; the last stage is best."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(size=(stages - 1, n))
    if ties:
        values = np.round(values, 1)
    right = np.stack([*(rng.uniform(size=n) < values[k] ** 0.7 for k in range(stages - 1)), rng.uniform(size=n) < 0.9])
    costs = tuple(float(4**k) for k in range(stages))
    return Trace(values, ("identity",) * (stages - 1), right, right[-1], costs, costs[-1])


def exits_at(trace: Trace, i: int, leaves: list[list[bool]]) -> int:
    return next((k for k in range(trace.stages - 1) if leaves[k][i]), trace.stages - 1)


# --- counting


@given(pairs(), st.lists(st.floats(-2, 2, width=16), max_size=4))
def test_counting_a_pair_is_counting_sample_by_sample(pair, thresholds) -> None:  # type: ignore[no-untyped-def]
    score, saver, base = pair.arrays
    mixed = ~saver  # what answers those that stay may differ from the base alone
    trace = Trace(score[None], ("identity",), np.stack([saver, mixed]), base)
    path = threshold_path(np.array([math.inf, *thresholds, -math.inf])[:, None])
    found = count(trace, path)
    for i, t in enumerate(path.thresholds[:, 0]):
        answers = [s if v >= t else m for v, s, m in zip(score, saver, mixed, strict=True)]
        assert found.answered[i, 0] == sum(v >= t for v in score)
        assert found.lost[i] == sum(b and not a for a, b in zip(answers, base, strict=True))
        assert found.won[i] == sum(a and not b for a, b in zip(answers, base, strict=True))


def test_counting_a_chain_is_counting_sample_by_sample() -> None:
    trace = trace_of(0, 200, 4, ties=True)
    trace.values[0, :5] = np.nan
    grid = np.array(list(itertools.product([math.inf, 0.8, 0.3, -math.inf], repeat=3)))
    found = measure(trace, threshold_path(grid))
    for i, row in enumerate(grid):
        leaves = [[bool(v >= t) for v in values] for values, t in zip(trace.values, row, strict=True)]
        stage = [exits_at(trace, j, leaves) for j in range(len(trace))]
        right = sum(bool(trace.quality[k, j]) for j, k in enumerate(stage))
        assert found.drop[i] == (int(trace.base_quality.sum()) - right) / len(trace)
        assert found.exit_ratio[i] == pytest.approx([stage.count(k) / len(trace) for k in range(4)])
        assert found.cost is not None
        assert found.cost[i] == pytest.approx(sum(sum(4**j for j in range(k + 1)) for k in stage) / len(trace))


# --- PCEE


def plain_diagram(values: list[float], right: list[bool], bins: int) -> list[float]:
    """Heights of equal-width bins on [0, 1]; sparse ones never exit."""
    inside = [min(int(v * bins + 1e-12), bins - 1) for v in values]
    heights = []
    for b in range(bins):
        hits = [r for r, where in zip(right, inside, strict=True) if where == b]
        heights.append(sum(hits) / len(hits) if len(hits) >= 5 else -math.inf)
    return heights


@pytest.mark.parametrize("delta", [0.3, 0.6, 0.85, 0.99])
@pytest.mark.parametrize("population", ["everybody", "survivors"])
def test_pcee_exits_at_the_first_stage_whose_diagram_says_so(delta: float, population: str) -> None:
    trace, bins = trace_of(1, 800), 8
    found = route(trace, exit_sets(trace, delta, PceeOptions(diagram=population, bins=bins)))  # type: ignore[arg-type]
    here = list(range(len(trace)))
    expected = [trace.stages - 1] * len(trace)
    for k in range(trace.stages - 1):
        drawn = here if population == "survivors" else range(len(trace))
        heights = plain_diagram([trace.values[k, i] for i in drawn], [trace.quality[k, i] for i in drawn], bins)
        leaving = [i for i in here if heights[min(int(trace.values[k, i] * bins + 1e-12), bins - 1)] >= delta]
        for i in leaving:
            expected[i] = k
        here = [i for i in here if i not in set(leaving)]
    assert found.tolist() == expected


def test_a_diagram_that_falls_makes_intervals_and_no_threshold() -> None:
    values = np.repeat([0.1, 0.4, 0.6, 0.9], 50)
    right = np.repeat([True, False, True, False], 50)
    trace = Trace(values[None], ("identity",), np.stack([right, ~right]), ~right)
    sets = exit_sets(trace, 0.5, PceeOptions(bins=4))
    assert len(sets[0]) == 4
    assert (route(trace, sets) == 0).tolist() == right.tolist()


@pytest.mark.parametrize("smoothing", ["neighbours", "kernel", "isotonic"])
def test_smoothed_diagrams_follow_the_accuracy(smoothing: str) -> None:
    trace = trace_of(2, 20_000, 2)
    options = PceeWsOptions(smoothing=smoothing, width=0.05)  # type: ignore[arg-type]
    for delta in (0.5, 0.8):
        exits = route(trace, exit_sets(trace, delta, options)) == 0
        cut = delta ** (1 / 0.7)  # where the true accuracy is delta
        assert (exits == (trace.values[0] >= cut)).mean() > 0.9


def test_a_lower_bound_lets_fewer_exit_and_the_mean_more() -> None:
    trace = trace_of(3, 1500, 2)
    share = {
        name: float((route(trace, exit_sets(trace, 0.8, options)) == 0).mean())
        for name, options in {
            "plain": PceeWsOptions(),
            "bound": PceeWsOptions(lower_bound=0.95),
            "mean": PceeWsOptions(control="mean"),
        }.items()
    }
    assert share["bound"] < share["plain"] < share["mean"]
    exits = route(trace, exit_sets(trace, 0.8, PceeWsOptions(control="mean"))) == 0
    assert trace.quality[0][exits].mean() == pytest.approx(0.8, abs=0.02)


def test_a_pcee_path_starts_with_nobody_and_lets_ever_more_exit() -> None:
    trace = trace_of(4, 1000, 2)
    for options in (PceeOptions(), PceeOptions(binning="mass"), PceeWsOptions()):
        path = pcee_path(trace, ANY, options)
        exited = count(trace, path).answered[:, 0]
        assert exited[0] == 0
        assert (np.diff(exited) >= 0).all()
        assert path.at is not None
        assert (np.diff(path.at[1:]) < 0).all()


# --- DyCE


def objective(trace: Trace, loss: np.ndarray, thresholds: tuple[float, ...]) -> float:
    stage = route(trace, tuple((t,) for t in thresholds))
    return float(loss[stage, np.arange(len(trace))].sum())


def every_cut(values: np.ndarray) -> list[float]:
    return [math.inf, *sorted(set(values.tolist()), reverse=True)]


@pytest.mark.parametrize("seed", range(3))
def test_dyce_one_pass_sets_each_threshold_best_with_later_exits_off(seed: int) -> None:
    trace = trace_of(seed, 40, 3, ties=True)
    path = dyce_path(trace, ANY, DyceOptions("one_pass"))
    assert path.at is not None
    for row, weight in list(zip(path.thresholds.tolist(), path.at.tolist(), strict=True))[1:]:
        loss = _losses(trace, weight)
        first = min(objective(trace, loss, (t, math.inf)) for t in every_cut(trace.values[0]))
        assert objective(trace, loss, (row[0], math.inf)) == pytest.approx(first)
        second = min(objective(trace, loss, (row[0], t)) for t in every_cut(trace.values[1]))
        assert objective(trace, loss, tuple(row)) == pytest.approx(second)


@pytest.mark.parametrize("seed", range(3))
def test_dyce_iterative_ends_where_no_single_change_helps(seed: int) -> None:
    trace = trace_of(seed, 40, 3, ties=True)
    path = dyce_path(trace, ANY, DyceOptions("iterative"))
    assert path.at is not None
    for row, weight in list(zip(path.thresholds.tolist(), path.at.tolist(), strict=True))[1:]:
        loss = _losses(trace, weight)
        here = objective(trace, loss, tuple(row))
        for k in (0, 1):
            for t in every_cut(trace.values[k]):
                changed = [*row]
                changed[k] = t
                assert objective(trace, loss, tuple(changed)) >= here - 1e-6 * abs(here)


def test_dyce_on_a_pair_is_the_best_threshold_of_all() -> None:
    trace = trace_of(5, 60, 2)
    path = dyce_path(trace, ANY, DyceOptions())
    assert path.at is not None
    for (t,), weight in list(zip(path.thresholds.tolist(), path.at.tolist(), strict=True))[1:]:
        loss = _losses(trace, weight)
        best = min(objective(trace, loss, (cut,)) for cut in every_cut(trace.values[0]))
        assert objective(trace, loss, (t,)) == pytest.approx(best)


# --- MSDNet


def released_thresholds(trace: Trace, p: int) -> list[float]:
    """The released loop: q_k of (p/20)^k; the n_k-th most confident of those not yet filtered."""
    n, stages = len(trace), trace.stages
    powers = [(p / 20) ** k for k in range(1, stages + 1)]
    filtered, thresholds = [False] * n, []
    for k in range(stages - 1):
        left = sorted((trace.values[k, i] for i in range(n) if not filtered[i]), reverse=True)
        wanted = math.floor(powers[k] / sum(powers) * n)
        t = math.inf if wanted == 0 or not left else left[min(wanted, len(left)) - 1]
        thresholds.append(t)
        filtered = [f or bool(trace.values[k, i] >= t) for i, f in enumerate(filtered)]
    return thresholds


@pytest.mark.parametrize("p", [1, 5, 20, 39])
@pytest.mark.parametrize("stages", [2, 3, 5])
def test_msdnet_is_the_released_loop(p: int, stages: int) -> None:
    trace = trace_of(p, 137, stages)
    assert geometric_thresholds(trace, p / 20).tolist() == released_thresholds(trace, p)


# --- votes and mixtures


def said(*predictions: list[int]) -> list[Outputs]:
    return [Outputs(np.array(p, np.int64)) for p in predictions]


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=3, max_size=6))
def test_patience_counts_as_pabee_does(columns: list[list[int]]) -> None:
    outputs = said(*columns)
    for i in range(6):
        counter = 0
        for k, column in enumerate(columns):
            counter = counter + 1 if k and column[i] == columns[k - 1][i] else 0
            found = decide(Rule("patience"), (), k, outputs[: k + 1], len(columns))
            assert found.values[i] == counter
            assert found.outputs.prediction[i] == column[i]


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=3, max_size=6))
def test_agreement_is_the_plurality_of_the_savers(columns: list[list[int]]) -> None:
    outputs, savers = said(*columns), len(columns) - 1
    found = decide(Rule("agreement"), (), savers - 1, outputs[:savers], len(columns))
    for i in range(6):
        votes = Counter(column[i] for column in columns[:savers])
        most = max(votes.values())
        latest = next(c[i] for c in reversed(columns[:savers]) if votes[c[i]] == most)
        assert found.values[i] == pytest.approx(most / savers)
        assert found.outputs.prediction[i] == latest
    for k in range(savers - 1):
        assert np.isneginf(decide(Rule("agreement"), (), k, outputs[: k + 1], len(columns)).values).all()


def probabilities(seed: int, n: int = 50, classes: int = 6) -> np.ndarray:
    raw = np.random.default_rng(seed).gamma(0.4, size=(n, classes))
    return raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8, 1.0])
def test_the_ensemble_is_little_bigs_equation_8(weight: float) -> None:
    little, big = probabilities(0), probabilities(1)
    outputs = [from_probabilities(p, top_k=6) for p in (little, big)]
    scores = (ExitScore(SCORES["max_prob"], "log_odds"),)
    found = decide(Rule("ensemble", weight), scores, 1, outputs, 2)
    assert found.outputs.prediction.tolist() == ((1 - weight) * little + weight * big).argmax(axis=1).tolist()
    first = decide(Rule("ensemble", weight), scores, 0, outputs[:1], 2)
    assert first.outputs.prediction.tolist() == little.argmax(axis=1).tolist()


def test_the_average_is_of_all_so_far() -> None:
    all_p = [probabilities(k) for k in range(3)]
    outputs = [from_probabilities(p, top_k=6) for p in all_p]
    scores = (ExitScore(SCORES["max_prob"], "log_odds"),) * 2
    for k in range(3):
        found = decide(Rule("average"), scores, k, outputs[: k + 1], 3)
        mean = np.mean(all_p[: k + 1], axis=0)
        assert found.outputs.prediction.tolist() == mean.argmax(axis=1).tolist()
        assert found.shown == pytest.approx(mean.max(axis=1))


def test_a_mixture_of_full_records_is_the_dense_mean_and_of_short_ones_a_lower_bound() -> None:
    little, big = probabilities(2, classes=8), probabilities(3, classes=8)
    dense = 0.4 * little + 0.6 * big
    full = mix([from_probabilities(p, top_k=8) for p in (little, big)], [0.4, 0.6])
    assert np.exp(np.asarray(full.top_logits))[:, :8] == pytest.approx(-np.sort(-dense, axis=1), abs=1e-6)
    assert (np.exp(np.asarray(full.top_logits))[:, 8:] == 0).all()
    short = mix([from_probabilities(p, top_k=3) for p in (little, big)], [0.4, 0.6])
    top = 1 / (1 + np.exp(-np.asarray(short.log_odds)))
    assert (top <= dense.max(axis=1) + 1e-6).all()


# --- what all share


def test_finer_steps_keep_the_policies_and_their_order() -> None:
    trace = trace_of(6, 500, 3)
    path = threshold_path(np.array([[0.9, 0.95], [0.5, 0.6], [0.1, -np.inf]]))
    fine = densify(path, trace)
    rows = [fine.thresholds.tolist().index(row) for row in path.thresholds.tolist()]
    assert rows == sorted(rows)
    assert rows[0] == 0
    assert len(fine) > 50
    answered = count(trace, fine).answered[:, 0]
    assert np.abs(np.diff(answered)).max() <= 0.02 * len(trace)


@pytest.mark.parametrize(
    ("method", "given_options", "said_so"),
    [
        ("pcee", {"binz": "3"}, "method pcee has no option 'binz'; it has diagram, control, bins"),
        ("pcee", {"diagram": "survivers"}, "is one of everybody, survivors"),
        ("pcee", {"bins": "2.5"}, "whole number"),
        ("pcee-ws", {"lower_bound": "90"}, "a share from 0 to 1"),
        ("pcee-ws", {"smoothing": "isotonic", "lower_bound": "90%"}, "needs counts"),
        ("sweep", {"bins": "3"}, "it has none"),
    ],
)
def test_options_that_are_none_are_refused(method: str, given_options: dict[str, str], said_so: str) -> None:
    with pytest.raises(UsageError, match=said_so):
        read_options(METHODS[method].options, given_options, method)


def test_options_are_read_as_typed() -> None:
    assert read_options(PceeWsOptions, {"lower_bound": "90%", "neighbours": "40"}, "pcee-ws") == PceeWsOptions(
        lower_bound=0.9, neighbours=40
    )
    assert read_options(PceeOptions, {"bins": 7, "diagram": "survivors"}, "pcee").bins == 7


def test_methods_of_too_few_stages_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown method 'sweeep'; nearest names: sweep"):
        find_method("sweeep", 2)
    with pytest.raises(UsageError, match="grid50 is defined for a saver and a base, found 3 stages"):
        find_method("grid50", 3)
    for name in ("patience", "agreement"):
        with pytest.raises(UsageError, match="at least"):
            METHODS[name].path(trace_of(0, 10, 2), ANY, METHODS[name].options())


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_the_exact_sweep_of_three_stages_is_the_best_of_all_thresholds(seed: int) -> None:
    trace = trace_of(seed, 25, 3, ties=True)
    frontier = measure(trace, METHODS["sweep"].path(trace, ANY, METHODS["sweep"].options()))
    grid = np.array(list(itertools.product(*(every_cut(v) for v in trace.values))))
    every = measure(trace, threshold_path(grid))
    assert every.cost is not None
    assert frontier.cost is not None
    best = every.cost[every.drop <= 0.01 + 1e-12].min()
    assert frontier.cost[frontier.drop <= 0.01 + 1e-12].min() == pytest.approx(best)
