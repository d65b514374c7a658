"""The papers' tables rebuilt: from the printed costs the exit ratio, and from it cost, percentage and ΔC again.

``data/printed_costs.csv`` holds the printed cells of TinySaver's Table 5 and Little-Big's Table 2. Cells whose note
tells of a guessed cost are skipped, and so are those without a cost of the saver; both are counted.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import Rule
from pilotfish.plan import r_match
from pilotfish.plan.costs import delta_cost
from pilotfish.plan.evaluate import evaluate, measure
from pilotfish.plan.path import threshold_path
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import make_trace
from pilotfish.records import align
from pilotfish.scores import SCORES, ExitScore, Scored
from support.runs import records

N = 20_000
GUESSED = ("GMACs", "uncertain", "unreadable", "ambiguous")  # a note that says so of a cost, not of a name


@dataclass(frozen=True)
class Cell:
    """One printed cell; numbers as text, so that their rounding is known."""

    table: str
    base: str
    saver: str
    cell: str
    base_cost: str
    saver_cost: str
    cost: str
    percent: str
    note: str

    def __str__(self) -> str:
        return f"{self.table}: {self.saver} -> {self.base}, {self.cell}"


CELLS = [Cell(**row) for row in csv.DictReader((Path(__file__).parent / "data" / "printed_costs.csv").open())]
WHOLE = [c for c in CELLS if c.cost not in ("", "-") and not any(word in c.note for word in GUESSED)]
USED = [c for c in WHOLE if c.saver_cost]


def half_unit(text: str) -> Fraction:
    """Half of the last printed digit."""
    decimals = len(text.partition(".")[2])
    return Fraction(1, 2 * 10**decimals)


def rebuilt(cell: Cell) -> tuple[float, float, float]:
    """(cost, ΔC, exit ratio) of a pair that exits as the printed cost says, through the library's own functions."""
    base, saver = float(cell.base_cost), float(cell.saver_cost)
    r = 1 - (float(cell.cost) - saver) / base  # Eq. 1
    k = round(r * N)
    score = np.arange(N, 0, -1, dtype=np.float64)
    base_right = np.ones(N, bool)
    saver_right = np.arange(N) < k  # as good as the base on the k most confident samples, and wrong below
    assert r_match(score, saver_right, base_right)[0] == k / N
    wrong = (~saver_right).astype(int)
    models = [
        records("S", wrong, label=np.zeros(N, int), costs={"macs": saver}),
        records("B", np.zeros(N, int), label=np.zeros(N, int), costs={"macs": base}),
    ]
    table = align(models[:1], models[1])
    plain = (ExitScore(SCORES["max_prob"], "identity"),)
    trace = make_trace(table, ("S", "B"), Rule(), plain, [Scored(score, "identity")], "macs")
    path = sweep(score, saver_right, base_right)
    point = path.last_feasible()
    found = evaluate(trace, ((float(path.thresholds[point]),),))
    assert found.exit_ratio[0] == k / N
    frontier = measure(trace, threshold_path(path.thresholds[:, None]))
    assert frontier.cost is not None
    assert frontier.cost[point] == pytest.approx(found.cost, rel=1e-12)
    delta = delta_cost(table.meta, "S", "B", "macs", k / N)
    assert delta is not None
    assert found.cost is not None
    return found.cost, delta, k / N


@pytest.mark.parametrize("cell", USED, ids=str)
def test_a_printed_cell_follows_from_its_costs(cell: Cell) -> None:
    cost, delta, r = rebuilt(cell)
    base, printed = Fraction(cell.base_cost), Fraction(cell.cost)
    step = float(base) / N  # the nearest whole number of samples
    assert 0 <= r <= 1
    assert cost == pytest.approx(float(printed), abs=float(half_unit(cell.cost)) + step)
    assert delta == pytest.approx(cost / float(base) - 1, abs=1e-9)  # Eq. 10 is Eq. 1
    d_cost, d_base, d_percent = half_unit(cell.cost), half_unit(cell.base_cost), half_unit(cell.percent.lstrip("+"))
    low = 100 * ((printed - d_cost) / (base + d_base) - 1) - d_percent
    high = 100 * ((printed + d_cost) / (base - d_base) - 1) + d_percent
    assert float(low) - 100 / N <= float(cell.percent) <= float(high) + 100 / N
    assert float(low) - 100 / N <= 100 * delta <= float(high) + 100 / N


def test_how_many_cells_were_rebuilt_and_how_many_left_out() -> None:
    by_table = {
        table: (
            sum(c.table == table for c in USED),
            sum(c.table == table for c in WHOLE) - sum(c.table == table for c in USED),
            sum(c.table == table and c not in WHOLE for c in CELLS),
        )
        for table in ("TinySaver 5", "Little-Big 2")
    }
    assert by_table == {
        "TinySaver 5": (169, 0, 0),
        "Little-Big 2": (37, 10, 9),
    }  # (used, saver's cost unknown, guessed)
