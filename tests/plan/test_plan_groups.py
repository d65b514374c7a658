"""Groups in planning: one side of every split, intervals that cover, promises that hold."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pilotfish import analyse, chains, savers, tune
from pilotfish.cascade import Performance, grouped_interval, paired_interval
from pilotfish.documents import read_as
from pilotfish.errors import ArtefactError, BudgetError, RecordsError, UsageError
from pilotfish.plan import rank_pool
from pilotfish.plan.certificate import Promise, certify, grouped, last_kept, wsr
from pilotfish.plan.evaluate import outcomes
from pilotfish.plan.holdout import split_for_certificate, split_rows
from pilotfish.plan.path import threshold_path
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import Trace
from pilotfish.records import Run
from pilotfish.scores.fit import folds
from support.runs import records

DELTA = 0.1
I64 = NDArray[np.int64]


# --- splits


def test_without_groups_the_split_is_what_it_was() -> None:
    """To the bit: rows as the first version drew them."""
    halves = split_rows(10, 0.5, 0)
    assert (halves.fit.tolist(), halves.evaluation.tolist()) == ([0, 1, 5, 8, 9], [2, 3, 4, 6, 7])
    parts = split_for_certificate(12, 0.5, 3, True)
    assert (parts.fit.tolist(), parts.certify.tolist()) == ([3, 4, 5], [6, 8, 9])
    assert parts.evaluation.tolist() == [0, 1, 2, 7, 10, 11]
    whole = split_for_certificate(9, 0.0, 1, True)
    assert (whole.fit.tolist(), whole.certify.tolist()) == ([1, 2, 4, 6], [0, 3, 5, 7, 8])
    assert folds(12, 0).tolist() == [4, 2, 2, 4, 0, 1, 0, 3, 1, 0, 3, 1]


def uneven(seed: int, groups: int = 40) -> I64:
    rng = np.random.default_rng(seed)
    return rng.permutation(np.repeat(np.arange(groups), rng.integers(1, 12, groups)))


@pytest.mark.parametrize("holdout", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_groups_stay_whole_and_shares_are_kept(seed: int, holdout: float) -> None:
    groups = uneven(seed)
    n = len(groups)
    parts = split_for_certificate(n, holdout, seed, True, groups)
    sides = [set(groups[rows].tolist()) for rows in (parts.fit, parts.certify, parts.evaluation)]
    assert sum(map(len, sides)) == len(set(groups.tolist()))
    assert np.array_equal(np.sort(np.concatenate([parts.fit, parts.certify, parts.evaluation])), np.arange(n))
    largest = np.bincount(groups).max()
    assert abs(len(parts.evaluation) - n * holdout) <= largest
    assert abs(len(parts.fit) - len(parts.certify)) <= largest
    again = split_for_certificate(n, holdout, seed, True, groups)
    assert np.array_equal(again.evaluation, parts.evaluation)
    assert not np.array_equal(split_rows(n, holdout, seed + 1, groups).evaluation, parts.evaluation)
    fold = folds(n, seed, groups)
    assert [len(set(fold[groups == g].tolist())) for g in range(40)] == [1] * 40
    assert np.abs(np.bincount(fold, minlength=5) - n / 5).max() <= largest


@pytest.mark.parametrize("sizes", [[97, 1, 1, 1], [50, 50], [1, 1, 98]])
def test_a_giant_leaves_something_on_both_sides(sizes: list[int]) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(5):
        parts = split_rows(100, 0.5, seed, groups)
        assert len(parts.fit)
        assert len(parts.evaluation)
        assert len(np.unique(folds(100, seed, groups))) >= 2


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="10 samples of one group cannot be split"):
        split_rows(10, 0.5, 0, np.zeros(10, np.int64))
    with pytest.raises(RecordsError, match="all 10 samples to fit on are in one group"):
        folds(10, 0, np.zeros(10, np.int64))


# --- intervals


def test_with_groups_of_one_the_interval_is_that_of_samples() -> None:
    gap = np.array([1] * 30 + [-1] * 10 + [0] * 20_000, np.int8)
    for one, other in zip(grouped_interval(gap, np.arange(len(gap))), paired_interval(30, 10, len(gap)), strict=True):
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("times", [2, 5, 30])
def test_copies_add_nothing(times: int) -> None:
    gap = np.random.default_rng(0).choice([1, -1, 0], 400, p=[0.05, 0.02, 0.93]).astype(np.int8)
    once = grouped_interval(gap, np.arange(400))
    often = grouped_interval(np.repeat(gap, times), np.repeat(np.arange(400), times))
    assert often == pytest.approx(once)


@pytest.mark.parametrize("sizes", [[5], [1, 2, 20], [1, 1, 1, 1, 50]])
@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_the_interval_covers(sizes: list[int], alike: float) -> None:
    """Group sizes from even to one giant in five; large groups lose four times as often; 95 % +- 3 standard errors."""
    rng, draws = np.random.default_rng(0), 300
    truth = _draw(rng, 100_000, sizes, alike)[0].mean()
    found = [grouped_interval(*_draw(rng, 100, sizes, alike)) for _ in range(draws)]
    covered = np.mean([low <= truth <= high for low, high in found])
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / draws)


def _draw(rng: np.random.Generator, groups: int, sizes: list[int], alike: float) -> tuple[NDArray[np.int8], I64]:
    """Gaps and groups: a share *alike* of a group's samples has one outcome."""
    size = rng.choice(sizes, groups)
    group = np.repeat(np.arange(groups), size)
    u = np.where(rng.random(len(group)) < alike, rng.random(groups)[group], rng.random(len(group)))
    lost = 0.05 * np.where(size == max(sizes), 2.0, 0.5)[group]
    return np.where(u < lost, 1, np.where(u < lost + 0.02, -1, 0)).astype(np.int8), group


# --- certificates


def trace_of(gap: NDArray[np.integer], group: I64, cap: int, costs: tuple[float, float] | None = (1.0, 10.0)) -> Trace:
    """A pair of which every sample exits at score 1 and has that gap; the base alone is right where it is lost."""
    gap = np.asarray(gap)
    base = gap >= 0
    right = np.stack([base & (gap == 0) | (gap < 0), base])
    return Trace(np.ones((1, len(gap))), ("identity",), right, right[1], costs, 10.0, groups=group, cap=cap)


BOTH = threshold_path(np.array([[1.0]]))  # nobody, then everybody


@pytest.mark.parametrize("eps", [0.005, 0.02, -0.01])
def test_groups_of_one_are_bet_on_as_samples_are(eps: float) -> None:
    rng = np.random.default_rng(0)
    for p in ((0.02, 0.02), (0.001, 0.05), (0.0, 0.0)):
        gap = rng.choice([1, -1, 0], 900, p=[*p, 1 - sum(p)])
        ones = np.ones(len(gap))
        assert grouped.rejects(gap.astype(float), ones, 1, eps, -1.0, DELTA) == wsr.rejects(
            (gap + 1) / 2, (eps + 1) / 2, DELTA
        )


def plain_rejects(sums: list[float], sizes: list[int], cap: int, eps: float, lowest: float) -> bool:
    """x_g = (S_g - eps N_g) / m in [lowest - eps, 1 - eps], moved to 0..1, and a bettor in plain words."""
    log_wealth, best, n = 0.0, -math.inf, len(sums)
    mean = (0 - (lowest - eps)) / (1 - lowest)
    total, squares, variance = 0.5, 0.25, 0.25
    for i, (s, size) in enumerate(zip(sums, sizes, strict=True), 1):
        y = ((s - eps * size) / cap - (lowest - eps)) / (1 - lowest)
        assert -1e-12 <= y <= 1 + 1e-12
        bet = min(math.sqrt(2 * math.log(1 / DELTA) / (n * variance)), 0.9 / (1 - mean))
        log_wealth += math.log1p(-bet * (y - mean))
        best = max(best, log_wealth)
        total += y
        squares += (y - total / (i + 1)) ** 2
        variance = squares / (i + 1)
    return best >= math.log(1 / DELTA)


@pytest.mark.parametrize("lowest", [-1.0, 0.0])
def test_rejections_equal_the_formula(lowest: float) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 8, 150)
        rate = rng.uniform(0, 0.1)
        sums = np.array([rng.binomial(n, rate) - (rng.binomial(n, 0.01) if lowest < 0 else 0) for n in sizes], float)
        for eps in (0.02, 0.05, 0.2):
            plain = plain_rejects(sums.tolist(), sizes.tolist(), 7, eps, lowest)
            assert grouped.rejects(sums, sizes.astype(float), 7, eps, lowest, DELTA) == plain


KINDS = [
    Promise("drop", 0.05, DELTA),
    Promise("agreement", 0.1, DELTA),
    Promise("accuracy", 0.85, DELTA),
    Promise("cost", 7.0, DELTA),
]


@pytest.mark.parametrize("promise", KINDS, ids=lambda p: p.kind)
def test_every_kind_is_the_last_before_the_first_failure(promise: Promise) -> None:
    """Policy by policy, without what the fast way leaves out where nothing changes."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(150), 3)
        n = len(group)
        values = rng.normal(size=(1, n))
        base = rng.random(n) < (1.0 if promise.kind == "agreement" else 0.95)
        right = np.stack([rng.random(n) < 1 / (1 + np.exp(-2 * values[0] - 3)), base])
        trace = Trace(values, ("identity",), right, base, (1.0, 9.0), 9.0, groups=group, cap=4)
        path = threshold_path(sweep(values[0], *right).thresholds[:, None])
        order = list(range(len(path)))[:: -1 if promise.kind == "cost" else 1]
        limit = {"accuracy": 1 - promise.target, "cost": promise.target / 10}.get(promise.kind, promise.target)
        bets, last = grouped.groups_of(trace), None
        for i in order:
            answered_by, gap = outcomes(trace, path.policy(i))
            loss = {
                "drop": gap,
                "agreement": np.abs(gap),
                "accuracy": ~trace.quality[answered_by, np.arange(n)],
                "cost": np.where(answered_by == 0, 0.1, 1.0),
            }[promise.kind]
            sums = bets.sums(loss.astype(float)).tolist()
            certain = promise.kind == "drop" and i == 0
            sizes = bets.sizes.astype(int).tolist()
            if not certain and not plain_rejects(sums, sizes, 4, limit, -1.0 if promise.kind == "drop" else 0.0):
                break
            last = i
        assert last_kept(trace, path, promise) == last
        found = certify(trace, path, promise, 0.9)
        assert (found.index, found.n, found.groups, found.largest) == (last, 450, 150, 4)
        assert found.bound >= promise.target if promise.kind == "accuracy" else found.bound <= promise.target
        assert found.to_json()["test"] == "wsr"


@pytest.mark.parametrize("kind", ["drop", "accuracy"])
def test_a_mixture_may_lose_where_it_wins(kind: str) -> None:
    """The last stage answers with a mixture: what stays may be lost or won, too."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(120), 4)
        right, base = rng.random((2, 480)) < [[0.9], [0.93]], rng.random(480) < 0.9
        values = rng.normal(size=(1, 480))
        trace = Trace(values, ("identity",), right, base, None, None, mixed=True, groups=group, cap=4)
        path, bets, last = threshold_path(sweep(values[0], *right).thresholds[:, None]), grouped.groups_of(trace), None
        promise = Promise("drop", 0.04, DELTA) if kind == "drop" else Promise("accuracy", 0.84, DELTA)
        for i in range(len(path)):
            answered_by, gap = outcomes(trace, path.policy(i))
            loss = gap if kind == "drop" else ~right[answered_by, np.arange(480)]
            sizes, sums = bets.sizes.astype(int).tolist(), bets.sums(loss.astype(float)).tolist()
            if not plain_rejects(sums, sizes, 4, *((0.04, -1.0) if kind == "drop" else (1 - 0.84, 0.0))):
                break
            last = i
        assert last_kept(trace, path, promise) == last


def sized_population(eps: float) -> tuple[I64, NDArray[np.float64]]:
    """Sizes and loss rates of 4,000 groups whose true drop is 1.5 eps: the large ones lose, the small ones do not."""
    size = np.repeat([1, 20], [3600, 400])
    rate = np.where(size == 20, 1.5 * eps * size.sum() / (20 * 400), 0.0)
    return size, rate


def test_losses_of_large_groups_are_not_hidden_by_small_ones() -> None:
    """Over 200 draws of 400 groups a false 1 % is certified in at most 10 %. Without the term eps N_g, group sums over
    the largest size certify it nearly always: a mean per group is no mean per sample."""
    eps, draws = 0.01, 200
    size, rate = sized_population(eps)
    broken = naive = 0
    for i in range(draws):
        rng = np.random.default_rng([5, i])
        drawn = rng.integers(0, len(size), 400)
        sums, sizes = rng.binomial(size[drawn], rate[drawn]).astype(float), size[drawn].astype(float)
        broken += grouped.rejects(sums, sizes, 20, eps, -1.0, DELTA)
        naive += wsr.rejects((sums / 20 + 1) / 2, (eps + 1) / 2, DELTA)
    assert naive >= 0.9 * draws
    assert broken / draws <= DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / draws)


def test_a_promise_that_is_true_is_given() -> None:
    gap, group = np.zeros(3000, np.int8), np.repeat(np.arange(600), 5)
    found = certify(trace_of(gap, group, 5), BOTH, Promise("drop", 0.01, DELTA), 0.9)
    assert (found.index, found.groups, found.largest) == (1, 600, 5)
    assert 0 < found.bound <= 0.01


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            [5] * 100,
            r"100 groups \(500 samples, at most 5 in one\) cannot certify a drop of 1 points .* about \d+ such",
        ),
        ([1] * 300 + [200], r"301 groups \(500 samples, at most 200 in one\) cannot certify .* about [\d,]+ such"),
        ([250, 250], r"2 groups \(500 samples, at most 250 in one\) .* about \d+ such groups are needed"),
    ],
)
def test_too_few_groups_are_told_how_many_would_do(sizes: list[int], message: str) -> None:
    group = np.repeat(np.arange(len(sizes)), sizes)
    gap = np.zeros(len(group), np.int8)
    with pytest.raises(BudgetError, match=message) as caught:
        certify(trace_of(gap, group, max(sizes)), BOTH, Promise("drop", 0.01, DELTA), 0.9)
    assert "\n" not in str(caught.value)
    needed = int(str(caught.value).partition("about ")[2].split()[0].replace(",", ""))
    assert needed > len(sizes)
    if len(set(sizes)) == 1:  # that many do
        enough = np.repeat(np.arange(needed), sizes[0])
        trace = trace_of(np.zeros(len(enough), np.int8), enough, sizes[0])
        assert certify(trace, BOTH, Promise("drop", 0.01, DELTA), 0.9).index == 1
    with pytest.raises(BudgetError, match="no number of groups can certify a drop of 0"):
        certify(trace_of(gap, group, max(sizes)), BOTH, Promise("drop", 0.0, DELTA), 0.9)


def test_a_group_beyond_the_cap_is_refused() -> None:
    group = np.repeat(np.arange(100), 5)
    with pytest.raises(UsageError, match="a group has 5 samples, more than the 4 that were fixed beforehand"):
        certify(trace_of(np.zeros(500, np.int8), group, 4), BOTH, Promise("drop", 0.2, DELTA), 0.9)


# --- through tune, savers, chains and analyse


def pool(folder: Path, groups: int = 300, times: int = 5, content: bool = False) -> Run:
    """Three savers and a base on samples that stand there several times under other ids, as ``17_3``."""
    rng, run = np.random.default_rng(0), Run(folder)
    label = rng.integers(0, 5, groups)
    ids = pa.array([f"{g}_{k}" for g in range(groups) for k in range(times)])
    copies = pa.array([f"{g:032x}" for g in range(groups) for _ in range(times)])

    def write(name: str, right: NDArray[np.bool_], cost: float, confidence: Any = None) -> None:
        answer = np.repeat(np.where(right, label, (label + 1) % 5), times)
        outputs = None if confidence is None else {"confidence": np.repeat(confidence, times)}
        made = records(name, answer, ids=ids, label=np.repeat(label, times), outputs=outputs, costs={"macs": cost})
        run.write(dataclasses.replace(made, content=copies if content else None))

    for k in range(3):
        confidence = rng.uniform(size=groups)
        write(f"s{k}", rng.random(groups) < 0.6 + 0.4 * confidence - 0.05 * k, 1.0 + k, confidence)
    write("b", rng.random(groups) < 0.97, 20.0)
    return run


GROUP = r"^(\d+)_"


def test_tuning_counts_groups(tmp_path: Path) -> None:
    run = pool(tmp_path)
    found = tune(run, ["s0", "b"], max_drop=0.02, group_by=GROUP)
    document = found.to_json()
    assert (document["calibration"]["n"], document["calibration"]["groups"]) == (750, 150)
    assert (document["evaluation"]["n"], document["evaluation"]["groups"]) == (750, 150)
    assert "1,500 samples in 300 groups (at most 5 each): intervals and certificates count groups" in document["notes"]
    assert any(note.startswith("chosen on 750 samples in 150 groups only") for note in document["notes"])
    assert any("750 samples in 150 groups resolve" in note for note in document["notes"])
    plain = tune(run, ["s0", "b"], max_drop=0.02).to_json()
    assert "groups" not in plain["calibration"]
    low, high = document["evaluation"]["drop_interval"]
    assert high - low > 1.9 * np.subtract(*plain["evaluation"]["drop_interval"][::-1])
    assert found.artefact.origin["groups"] == 300
    saved = read_as(Performance, document["evaluation"], "evaluation", ArtefactError)
    assert saved == found.evaluation


def test_copies_by_content_count_once(tmp_path: Path) -> None:
    run, once = pool(tmp_path / "a", content=True), pool(tmp_path / "b", times=1)
    found = tune(run, ["s0", "b"], max_drop=0.05)
    single = tune(once, ["s0", "b"], max_drop=0.05)
    assert found.evaluation == single.evaluation
    assert any("1,200 of 1,500 samples are exact copies of others (0_1 is 0_0)" in note for note in found.notes)
    assert tune(run, ["s0", "b"], max_drop=0.05, group_by="none").calibration.n == 750
    assert savers(run, "b").n == rank_pool(run).n == analyse(run, "b", draws=3).n == 300
    assert savers(run, "b", group_by="none").n == rank_pool(run, group_by="none").n == 1500


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"max_drop": "10%"}, "drop"),
        ({"max_drop": "10%", "test": "paired_cp"}, "drop"),
        ({"max_drop": "10%", "test": "wsr"}, "drop"),
        ({"min_accuracy": 0.85}, "accuracy"),
        ({"max_cost": "90%"}, "cost"),
    ],
)
def test_guarantees_of_groups(asked: dict[str, Any], kind: str, tmp_path: Path) -> None:
    found = tune(pool(tmp_path), ["s0", "b"], guarantee=0.9, group_by=GROUP, **asked)
    guarantee = found.guarantee
    assert guarantee is not None
    assert (guarantee["kind"], guarantee["test"], guarantee["n"]) == (kind, "wsr", 750)
    assert (guarantee["groups"], guarantee["largest_group"]) == (150, 5)
    assert any("certified on 750 samples in 150 groups by betting on the sums of groups" in n for n in found.notes)
    assert found.split == {"fit": 0, "certify": 750, "evaluation": 750}
    assert found.calibration.groups == 150


def test_what_is_fitted_is_fitted_on_other_groups_than_certified(tmp_path: Path) -> None:
    run = pool(tmp_path)
    for stages, more in (
        (["s0", "b"], {"score": "learned_right"}),
        (["s0", "s1", "b"], {}),
        (["s0", "b"], {"method": "pcee-ws"}),
    ):
        found = tune(run, stages, max_drop="20%", guarantee=0.9, group_by=GROUP, **more)
        assert found.split == {"fit": 375, "certify": 375, "evaluation": 750}
        assert found.guarantee is not None
        assert found.guarantee["groups"] == 75


def test_too_few_groups_for_tune(tmp_path: Path) -> None:
    with pytest.raises(
        BudgetError, match=r"150 groups .750 samples, at most 5 in one. cannot certify a drop of 1 points"
    ):
        tune(pool(tmp_path), ["s0", "b"], max_drop=0.01, guarantee=0.9, group_by=GROUP)


def test_auto_draws_groups(tmp_path: Path) -> None:
    """Copies do not make a score look better than noise: its standard error is that of the samples once."""
    often = tune(pool(tmp_path / "a"), ["s0", "b"], max_drop=0.05, score="auto", group_by=GROUP, holdout=0)
    once = tune(pool(tmp_path / "b", times=1), ["s0", "b"], max_drop=0.05, score="auto", holdout=0)
    for one, other in zip(often.choices, once.choices, strict=True):
        for name, (_, error) in one.advantage.items():
            assert error > 0.5 * other.advantage[name][1]


def test_savers_chains_and_analyse_count_groups(tmp_path: Path) -> None:
    run = pool(tmp_path)
    ranked = savers(run, "b", holdout=0.5, max_drop=0.05, group_by=GROUP)
    held = ranked.savers[0].held_out
    assert held is not None
    assert held["groups"] == 150
    plain = savers(run, "b", holdout=0.5, max_drop=0.05).savers[0].held_out
    assert plain is not None
    assert "groups" not in plain
    sure = savers(run, "b", max_drop="15%", guarantee=0.9, group_by=GROUP)
    assert sure.guarantee == {"confidence": 0.9, "savers": 3, "n": 750, "test": "wsr", "groups": 150}
    found = chains(run, "b", max_drop=0.05, group_by=GROUP)
    assert {p.groups for p in found.held_out} == {150}
    whole = analyse(run, "b", draws=20, group_by=GROUP).pairs[0].noise
    split = analyse(run, "b", draws=20).pairs[0].noise
    assert whole.exit_ratio.sd > split.exit_ratio.sd


@pytest.mark.parametrize("by", ["file", "column", "stored"])
def test_ways_to_say_the_groups(by: str, tmp_path: Path) -> None:
    run, asked = pool(tmp_path / "run"), None
    base = run.read("b")
    group = pa.array([one.partition("_")[0] for one in base.ids.to_pylist()])
    if by == "file":
        asked = str(tmp_path / "groups.csv")
        pairs = zip(base.ids.to_pylist(), group.to_pylist(), strict=True)
        Path(asked).write_text("id,group\n" + "".join(f"{one},{g}\n" for one, g in pairs))
    else:
        run.write(dataclasses.replace(base, group=group))
        asked = "group" if by == "column" else None
    expected = tune(run, ["s0", "b"], max_drop=0.05, group_by=GROUP)
    assert tune(run, ["s0", "b"], max_drop=0.05, group_by=asked).to_json() == expected.to_json()
