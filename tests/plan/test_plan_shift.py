"""A shift of scores or classes is said where it is certain and large, from quantiles as from all samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from pilotfish.cascade import Artefact, Profile, independent, load_artefact, profile_of, save_artefact
from pilotfish.errors import ArtefactError
from pilotfish.files import read_json, write_json
from pilotfish.plan import tune
from pilotfish.plan.shift import chi_square_p, ks_distance, ks_p, notes_on_shift
from support.pairs import Pair
from support.runs import write_pair

RNG = np.random.default_rng(0)


def artefact(folder: Path, n: int = 400) -> Artefact:
    rng = np.random.default_rng(1)
    ok = (rng.random(n) < 0.9).tolist()
    run = write_pair(folder, Pair(rng.normal(size=n).tolist(), ok, [True] * n))
    return tune(run, ["saver", "base"], max_drop=0.05).artefact


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (RNG.normal(size=3000), RNG.normal(size=900)),
        (RNG.normal(size=3000), RNG.normal(0.3, 1, 900)),
        (RNG.integers(0, 6, 3000), RNG.integers(0, 6, 900)),  # ties
        (RNG.integers(0, 6, 3000), RNG.integers(0, 8, 900)),
        (np.minimum(RNG.exponential(size=3000), 1), np.minimum(RNG.exponential(size=500), 1)),  # half at the end
        (RNG.normal(size=30), RNG.normal(1, 1, 40)),  # fewer than quantiles
        (np.array([1.0]), np.array([1.0, 2.0])),
    ],
)
def test_the_distance_from_quantiles_is_never_more_than_that_of_all(then: np.ndarray, now: np.ndarray) -> None:
    quantiles = profile_of([np.asarray(then, float)], len(then)).quantiles[0]
    distance, whole = ks_distance(quantiles, np.asarray(now, float)), ks_2samp(then, now).statistic
    assert whole - 0.021 <= distance <= whole + 1e-12


@pytest.mark.parametrize("moved", [0.0, 0.1, 0.3])
def test_its_chance_is_the_usual_one(moved: float) -> None:
    then, now = RNG.normal(size=2000), RNG.normal(moved, 1, 1500)
    found = ks_2samp(then, now, method="asymp")
    assert ks_p(found.statistic, 2000, 1500) == pytest.approx(found.pvalue, rel=0.25, abs=1e-12)


@pytest.mark.parametrize("sizes", [[10], [1, 1, 1, 1, 30], [1] * 30 + [200]])
def test_groups_of_unequal_sizes_cry_no_shift_where_there_is_none(sizes: list[int]) -> None:
    """All samples of a group have one score. At p < .05, 5 % of the draws are allowed."""
    rng, cries = np.random.default_rng(0), 0
    for _ in range(100):
        sizes_of = [rng.choice(sizes, 60) for _ in range(2)]
        then, now = (np.repeat(rng.random(60), n) for n in sizes_of)
        worth = [independent(np.repeat(np.arange(60), n), int(n.sum())) for n in sizes_of]
        quantiles = profile_of([then], worth[0]).quantiles[0]
        cries += ks_p(ks_distance(quantiles, now), *worth) < 0.05
    assert cries <= 10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_classes_are_compared_by_chi_square_with_rare_ones_together(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.multinomial(900, [0.5, 0.3, 0.2]), rng.multinomial(400, [0.45, 0.3, 0.25])
    assert chi_square_p(one, other) == pytest.approx(chi2_contingency([one, other], correction=False).pvalue)
    rare = np.r_[one, rng.multinomial(20, np.ones(40) / 40)], np.r_[other, rng.multinomial(9, np.ones(40) / 40)]
    together = [[*row[:3], row[3:].sum()] for row in rare]
    if np.array(together).sum(axis=0)[3] * 409 / 1329 >= 5:
        assert chi_square_p(*rare) == pytest.approx(chi2_contingency(together, correction=False).pvalue)


def test_a_profile_is_kept_in_the_folder_and_old_folders_have_none(tmp_path: Path) -> None:
    found = artefact(tmp_path / "run")
    assert found.profile is not None
    assert found.profile.n == 400
    assert [len(row) for row in found.profile.quantiles] == [101]
    assert sum(found.profile.classes) == 400
    folder = save_artefact(found, tmp_path / "cascade")
    assert load_artefact(folder).profile == found.profile
    document = read_json(folder / "cascade.json", ArtefactError)
    del document["profile"]
    write_json(folder / "cascade.json", document)
    old = load_artefact(folder)
    assert old.profile is None
    assert notes_on_shift(old, [(np.full(500, 9.0), 500)], np.zeros(500, int)) == []


@pytest.mark.parametrize(
    ("quantiles", "said"),
    [
        ((), "quantiles of 0 stages, expected 1"),
        (((1.0, 0.5),), "quantiles of stage 0"),
        (((*map(float, range(100)), 3.0),), "quantiles of stage 0"),
    ],
)
def test_a_damaged_profile_is_refused(quantiles: tuple[tuple[float, ...], ...], said: str, tmp_path: Path) -> None:
    damaged = replace(artefact(tmp_path / "run"), profile=Profile(4, quantiles))
    folder = save_artefact(damaged, tmp_path / "cascade")
    with pytest.raises(ArtefactError, match=said):
        load_artefact(folder)


@pytest.mark.parametrize(
    ("values", "n", "classes", "said"),
    [
        ("same", 2000, None, []),
        ("moved", 2000, None, ["scores of saver"]),
        ("moved", 12, None, []),  # so few say nothing
        ("slightly", 200_000, None, []),  # certain, and too small to matter
        ("same", 2000, "moved", ["classes that saver"]),
        ("missing", 2000, None, []),
    ],
)
def test_what_is_noted(values: str, n: int, classes: str | None, said: list[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    found = artefact(tmp_path, 2000 if n < 10_000 else 20_000)
    drawn = rng.normal({"moved": 0.6, "slightly": 0.03}.get(values, 0.0), 1.0, n)
    seen = rng.random(n) < (0.5 if classes == "moved" else 0.1)
    if values == "missing":
        drawn[:] = np.nan
    notes = notes_on_shift(found, [(drawn, n)], seen.astype(int))
    assert len(notes) == len(said)
    assert all(text in note and note.startswith("shift: ") for text, note in zip(said, notes, strict=True))
    if classes == "moved":
        assert "class 0" in notes[0] or "class 1" in notes[0]
