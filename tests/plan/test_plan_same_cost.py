"""Costs that cannot be compared: times of different machines, multiply-adds beside FLOPs, units that were mistyped."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import RecordsError
from pilotfish.plan import find_chains, rank_pool, rank_savers, tune
from pilotfish.plan.analysis import analyse
from pilotfish.plan.same_cost import check_cost, macs_notes
from pilotfish.records import RecordsMeta, Run
from support.errors import assert_one_line
from support.runs import records

H100 = {"device": "cuda", "machine": "cuda, NVIDIA H100 80GB HBM3", "backend": "torch", "cores": 16}
A100 = {"device": "cuda:1", "machine": "cuda, NVIDIA A100-SXM4-40GB", "backend": "torch", "cores": 16}
EPYC = {"device": "cpu", "machine": "cpu, AMD EPYC 9554, 2 cores", "backend": "torch", "cores": 2, "threads": 2}
XEON = {**EPYC, "machine": "cpu, Intel(R) Xeon(R) Platinum 8488C, 2 cores"}
OLD_CPU = {"device": "cpu", "backend": "torch", "cores": 2}  # as written before machines were kept
OLD_GPU = {"device": "cuda", "backend": "torch", "cores": 2}

ELSEWHERE = {
    "a GPU's beside a CPU's": (H100, EPYC, "ms", ("NVIDIA H100", "AMD EPYC 9554")),
    "two GPUs": (H100, A100, "ms@cuda-b8", ("NVIDIA H100", "NVIDIA A100")),
    "two processors": (EPYC, XEON, "ms@cpu", ("AMD EPYC", "Intel(R) Xeon(R)")),
    "old records, two devices": (OLD_GPU, OLD_CPU, "ms", ("cuda", "cpu")),
}


def a_run(folder: Path, small: dict[str, Any], big: dict[str, Any], key: str = "ms") -> Run:
    rng, run, n = np.random.default_rng(0), Run(folder), 200
    hard = rng.random(n)
    for name, timing, cost, skill in (("small", small, 1.0, 0.8), ("big", big, 9.0, 0.95)):
        wrong = (hard > skill).astype(int)
        costs = {"macs": 1e8 * cost, key: cost}
        out = {"log_odds": 1 - hard}
        run.write(records(name, wrong, label=[0] * n, outputs=out, costs=costs, timing=timing))
    return run


@pytest.mark.parametrize(("small", "big", "key", "said"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_times_of_different_machines_do_not_rank(
    small: dict[str, Any], big: dict[str, Any], key: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    run = a_run(tmp_path, small, big, key)
    for ask in (
        lambda: rank_savers(run, "big", cost=key),
        lambda: find_chains(run, "big", max_drop=0.05, cost=key),
        lambda: tune(run, ["small", "big"], max_drop=0.05, cost=key),
        lambda: rank_pool(run, cost=key),
        lambda: analyse(run, "big", cost=key, draws=2),
    ):
        with pytest.raises(RecordsError) as error:
            ask()
        assert_one_line(error.value, key, "small", "big", *said, "cannot be compared")


@pytest.mark.parametrize(("small", "big", "key", "said"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_beside_another_cost_they_are_left_out_and_named(
    small: dict[str, Any], big: dict[str, Any], key: str, said: tuple[str, ...], tmp_path: Path
) -> None:
    run = a_run(tmp_path, small, big, key)
    found = tune(run, ["small", "big"], max_drop=0.05)
    assert set(found.costs) == {"macs"}
    for notes in (found.notes, rank_savers(run, "big", max_drop=0.05).notes):
        [note] = [note for note in notes if "left out" in note]
        assert all(part in note for part in (key, "small", "big", *said))


SAME = {
    "one machine": (EPYC, EPYC),
    "old records": (OLD_CPU, OLD_CPU),
    "old beside new": (OLD_CPU, EPYC),
    "numbered devices": ({**H100, "device": "cuda:0"}, H100),
}


@pytest.mark.parametrize(("small", "big"), SAME.values(), ids=SAME)
def test_times_of_one_machine_rank(small: dict[str, Any], big: dict[str, Any], tmp_path: Path) -> None:
    found = rank_savers(a_run(tmp_path, small, big), "big", cost="ms", max_drop=0.05)
    assert found.best == "small"
    assert not any("ms" in note.split() for note in found.notes)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"backend": "onnxruntime"}, "different backend: small onnxruntime, big torch"),
        ({"threads": 1}, "different threads: small 1, big 2"),
        ({"cores": 64, "machine": "cpu, AMD EPYC 9554, 64 cores"}, "different cores: small 64, big 2"),
        ({"best_batch_size": 64}, "different batch size: small 64, big 1"),
    ],
)
def test_what_was_measured_otherwise_is_said(other: dict[str, Any], said: str, tmp_path: Path) -> None:
    base = {**EPYC, "best_batch_size": 1}
    run = a_run(tmp_path, {**base, **other}, base)
    for found in (rank_savers(run, "big", cost="ms"), tune(run, ["small", "big"], max_drop=0.05, cost="ms")):
        assert sum(said in note for note in found.notes) == 1
    assert not any("measured" in note for note in rank_savers(run, "big").notes)  # MACs are not measured


def test_times_given_by_hand_are_said_to_be(tmp_path: Path) -> None:
    found = rank_savers(a_run(tmp_path, {}, EPYC), "big", cost="ms")
    assert any("ms of small was given by hand" in note for note in found.notes)
    assert not any("by hand" in note for note in rank_savers(a_run(tmp_path / "all", {}, {}), "big", cost="ms").notes)


def test_times_added_on_another_device_are_of_that_device(tmp_path: Path) -> None:
    both = {**EPYC, "also": {"cuda": H100}}
    assert rank_savers(a_run(tmp_path / "a", both, both, "ms@cuda"), "big", cost="ms@cuda").best == "small"
    with pytest.raises(RecordsError, match=r"H100.*A100"):
        rank_savers(a_run(tmp_path / "b", both, A100, "ms@cuda"), "big", cost="ms@cuda")


def meta(model: str, macs: float, source: str = "imported:x.npz", **fields: Any) -> RecordsMeta:
    costs = {"macs": macs, **fields.pop("costs", {})}
    return RecordsMeta(model, "val", source=source, costs=costs, **fields)


FLOPS = {
    "the same name": (meta("tiny", 2.2e8), meta("onnx:tiny.onnx", 1.1e8, "recorded")),
    "the same parameters": (
        meta("api", 2.2e8, costs={"params": 5e6}),
        meta("timm:net", 1.1e8, "recorded", costs={"params": 5.0e6}),
    ),
    "the same weights": (meta("a", 2.2e8, weights_hash="1" * 64), meta("b", 1.1e8, "recorded", weights_hash="1" * 64)),
    "a published network": (meta("resnet50", 8.2e9), meta("timm:resnet18", 1.82e9, "recorded")),
    "published, at its size": (meta("resnet50@288", 13.6e9), meta("timm:resnet18", 1.82e9, "recorded")),
}


@pytest.mark.parametrize(("imported", "beside"), FLOPS.values(), ids=FLOPS)
def test_flops_beside_macs(imported: RecordsMeta, beside: RecordsMeta) -> None:
    metas = {m.model: m for m in (imported, beside)}
    [note] = check_cost(metas, list(metas), "macs")
    assert f"macs of {imported.model}" in note
    assert "FLOPs count a multiply-add as 2" in note
    assert f"--macs {imported.costs['macs'] / 2:.4g}" in note


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (meta("resnet50", 4.1e9), meta("timm:resnet18", 1.82e9, "recorded")),
        (meta("tiny@128", 4e8), meta("lite:tiny@64", 2e8, "recorded")),  # another size
        (meta("a", 2e8), meta("b", 1e8, "recorded")),  # no relation
        (meta("resnet50", 8.2e9), meta("resnet18", 3.64e9)),  # FLOPs both: their ratio is right
        (meta("net", 2e8, "recorded"), meta("net?dtype=bf16", 1e8, "recorded")),  # counted, not typed
    ],
)
def test_macs_that_are_right(one: RecordsMeta, other: RecordsMeta) -> None:
    assert macs_notes({m.model: m for m in (one, other)}, [one.model, other.model]) == []


@pytest.mark.parametrize(
    ("macs", "said"),
    [
        (3.9, "were GMACs typed? write --macs 3.9e+09"),
        (2400.0, "were MMACs typed? write --macs 2.4e+09"),
        (0.0, "are 0"),
    ],
)
def test_units_that_were_mistyped(macs: float, said: str, tmp_path: Path) -> None:
    metas = {m.model: m for m in (meta("small", macs), meta("big", 4.1e9, "recorded"))}
    [note] = check_cost(metas, list(metas), "macs")
    assert said in note


def test_a_dearer_import_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path, {}, {})
    small = run.read("small")
    dear = dataclasses.replace(small.meta, source="imported:s.csv", costs={"macs": 2e9})
    run.write(dataclasses.replace(small, meta=dear))
    found = rank_savers(run, "big")
    assert found.savers == ()
    assert any("small (macs 2e+09) does not cost less than big (9e+08)" in note for note in found.notes)


@pytest.mark.parametrize("cost", ["usd", "joules", "Macs"])
def test_a_cost_that_is_not_there_is_refused(cost: str, tmp_path: Path) -> None:
    run = a_run(tmp_path, {}, {})
    for ask in (
        lambda: rank_savers(run, "big", cost=cost),
        lambda: find_chains(run, "big", max_drop=0.05, cost=cost),
        lambda: tune(run, ["small", "big"], max_drop=0.05, cost=cost),
        lambda: tune(run, ["small", "big"], max_cost="50%", cost=cost),
        lambda: rank_pool(run, cost=cost),
        lambda: analyse(run, "big", cost=cost, draws=2),
    ):
        with pytest.raises(RecordsError) as error:
            ask()
        assert_one_line(error.value, repr(cost), "macs")


def test_a_cost_that_one_stage_lacks_names_it(tmp_path: Path) -> None:
    run = a_run(tmp_path, {}, {})
    big = run.read("big")
    run.write(dataclasses.replace(big, meta=dataclasses.replace(big.meta, costs={"macs": 9e8, "usd": 1e-3})))
    with pytest.raises(RecordsError, match=r"small: no cost 'usd'.*macs"):
        tune(run, ["small", "big"], max_drop=0.05, cost="usd")
    with pytest.raises(RecordsError, match=r"only big has a cost 'usd'.*the others have macs"):
        rank_savers(run, "big", cost="usd")


def test_what_makes_a_model_no_candidate_is_named(tmp_path: Path) -> None:
    """The base in another unit, or timed on a faster machine: then the small model seems dearer, and is still named."""
    run = a_run(tmp_path / "unit", {}, {})
    big = run.read("big")
    typed = dataclasses.replace(big.meta, source="imported:b.csv", costs={"macs": 4.1})
    run.write(dataclasses.replace(big, meta=typed))
    found = rank_savers(run, "big")
    assert any("macs of big are 4.1, of small 1e+08: were GMACs typed?" in note for note in found.notes)
    fast = a_run(tmp_path / "machine", EPYC, H100)
    for name, ms in (("small", 20.0), ("big", 5.0)):
        one = fast.read(name)
        fast.write(dataclasses.replace(one, meta=dataclasses.replace(one.meta, costs={"ms": ms})))
    with pytest.raises(RecordsError, match=r"AMD EPYC.*H100.*cannot be compared"):
        rank_savers(fast, "big", cost="ms")
    plain = rank_savers(a_run(tmp_path / "plain", {}, {}), "small")
    assert any("no model costs less than small (macs 1e+08); the cheapest other is big" in n for n in plain.notes)
