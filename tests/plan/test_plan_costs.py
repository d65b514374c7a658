"""Costs of stages: whole models add up, exits of one network share its trunk and pay for every head they pass."""

from __future__ import annotations

import numpy as np
import pytest

from pilotfish.errors import RecordsError
from pilotfish.plan.costs import base_cost, common_keys, delta_cost, stage_costs
from pilotfish.records import Outputs, RecordsMeta, Table
from pilotfish.records.records import string_ids

# a network of three segments with a head after each: (macs of the segment, macs of its head)
SEGMENTS = ((100.0, 5.0), (200.0, 7.0), (400.0, 9.0))


def exit_meta(k: int, **kwargs: object) -> RecordsMeta:
    trunk = sum(segment for segment, _ in SEGMENTS[:k])
    costs = {"macs": trunk + SEGMENTS[k - 1][1], "head_macs": SEGMENTS[k - 1][1]}
    return RecordsMeta(f"net#{k}", "val", costs=costs, **kwargs)  # type: ignore[arg-type]


def table_of(*metas: RecordsMeta) -> Table:
    answers = Outputs(np.zeros(4, np.int64))
    return Table(
        ids=string_ids(np.arange(4)),
        outputs={m.model: answers for m in metas},
        meta={m.model: m for m in metas},
        base=metas[-1].model,
        reference=np.zeros(4, np.int64),
        reference_kind="label",
        split="val",
    )


def spent(path: list[int]) -> float:
    """What a sample costs that runs the exits *path*, counted segment by segment and head by head."""
    return sum(segment for segment, _ in SEGMENTS[: path[-1]]) + sum(SEGMENTS[k - 1][1] for k in path)


@pytest.mark.parametrize("path", [[1, 2, 3], [1, 3], [2, 3], [3], [1, 2]])
def test_exits_of_one_network_share_its_trunk(path: list[int]) -> None:
    found = stage_costs(table_of(*map(exit_meta, path)), [f"net#{k}" for k in path], "macs")
    assert found is not None
    for end in range(1, len(path) + 1):
        assert sum(found[:end]) == spent(path[:end])


def test_a_saver_before_a_network_shares_nothing_with_it() -> None:
    saver = RecordsMeta("saver", "val", costs={"macs": 30.0})
    found = stage_costs(table_of(saver, exit_meta(1), exit_meta(3)), ["saver", "net#1", "net#3"], "macs")
    assert found == [30.0, 105.0, 700.0 + 9.0 - 100.0]


@pytest.mark.parametrize("exit_ratio", [0.0, 0.1, 0.9])
def test_an_exit_sequence_saves_what_its_pair_does(exit_ratio: float) -> None:
    """TinySaver's Eq. 10 for the saver inside it, C_S / C_B - r, but for the 3 that the base's exits read."""
    saver = RecordsMeta("esn#1", "val", costs={"macs": 100.0, "head_macs": 0.0}, backbone="esn", position=1)
    base = RecordsMeta("esn#4", "val", costs={"macs": 803.0, "alone_macs": 700.0}, backbone="esn", position=4)
    table = table_of(saver, base)
    assert base_cost(table, "esn#4", "macs") == 700.0
    assert common_keys(table.meta, ["esn#1", "esn#4"]) == ["macs"]
    found = delta_cost(table.meta, "esn#1", "esn#4", "macs", exit_ratio)
    assert found == pytest.approx(100 / 700 - exit_ratio + (1 - exit_ratio) * 3 / 700)


def test_a_network_is_named_by_its_metadata_before_its_name() -> None:
    first = RecordsMeta("early", "val", costs={"macs": 105.0, "head_macs": 5.0}, backbone="net", position=1)
    last = RecordsMeta("whole", "val", costs={"macs": 709.0}, backbone="net", position=3)
    assert stage_costs(table_of(first, last), ["early", "whole"], "macs") == [105.0, 609.0]
    other = RecordsMeta("whole", "val", costs={"macs": 709.0}, backbone="another", position=3)
    assert stage_costs(table_of(first, other), ["early", "whole"], "macs") == [105.0, 709.0]


def test_exits_out_of_order_and_costs_that_are_not_cumulative_are_refused() -> None:
    with pytest.raises(RecordsError, match="name the exits in rising order"):
        stage_costs(table_of(exit_meta(2), exit_meta(1)), ["net#2", "net#1"], "macs")
    wrong = RecordsMeta("net#2", "val", costs={"macs": 60.0})
    with pytest.raises(RecordsError, match="an exit's cost is cumulative"):
        stage_costs(table_of(exit_meta(1), wrong), ["net#1", "net#2"], "macs")


@pytest.mark.parametrize("exit_ratio", [0.0, 0.3, 1.0])
def test_delta_cost_is_the_change_of_the_mean_cost(exit_ratio: float) -> None:
    metas = {m.model: m for m in (exit_meta(1), exit_meta(3), RecordsMeta("saver", "val", costs={"macs": 30.0}))}
    base = metas["net#3"].costs["macs"]
    own = spent([1]) * exit_ratio + spent([1, 3]) * (1 - exit_ratio)
    assert delta_cost(metas, "net#1", "net#3", "macs", exit_ratio) == pytest.approx(own / base - 1)
    pair = 30.0 * exit_ratio + (30.0 + base) * (1 - exit_ratio)
    assert delta_cost(metas, "saver", "net#3", "macs", exit_ratio) == pytest.approx(pair / base - 1)


def test_heads_and_sizes_are_no_costs_to_plan_by() -> None:
    metas = {m.model: m for m in (exit_meta(1), exit_meta(2))}
    assert common_keys(metas, list(metas)) == ["macs"]
