"""The shortlist against a loop over the table's own text, its errors, and the command."""

from __future__ import annotations

import csv
import json
import math
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from pilotfish.errors import ModelError, PilotfishError, UsageError
from pilotfish.plan.shortlist import Shortlist, shortlist
from pilotfish.plan.shortlist.rank import family
from support.errors import assert_one_line
from support.process import command

BASE = "convnextv2_large.fcmae_ft_in1k"
TEXT = (resources.files("pilotfish") / "plan" / "shortlist" / "published.csv").read_text(encoding="utf-8")
ROWS = list(csv.DictReader(line for line in TEXT.splitlines() if not line.startswith("#")))
KEYS = ["saver", "img_size", "top1", "macs", "cost", "cost_ratio", "exit_ratio", "delta_cost"]
DOCUMENT = [
    "base", "cost", "device", "max_drop", "source", "savers", "size", "base_img_size", "base_top1", "base_macs",
    "base_cost", "considered", "notes",
]  # fmt: skip


def cost_of(row: dict[str, str], device: str | None) -> float | None:
    if device is None:
        return float(row["macs"])
    rate = row[f"samples_per_s@{device}"]
    return 1000 / float(rate) if rate else None


def brute(base: str, base_size: int, size: int | None, device: str | None, drop: float, per_family: int) -> list[Any]:
    """(name, size, ΔĈ) of every saver, best first, in plain loops."""
    own = {row["model"]: min(int(r["img_size"]) for r in ROWS if r["model"] == row["model"]) for row in ROWS}
    (b,) = [row for row in ROWS if row["model"] == base and int(row["img_size"]) == base_size]
    c_b, found = cost_of(b, device), []
    assert c_b is not None
    for row in ROWS:
        c_s = cost_of(row, device)
        wanted = own[row["model"]] if size is None else size
        if int(row["img_size"]) != wanted or c_s is None or c_s >= c_b:
            continue
        gap, error = float(b["top1_percent"]) - float(row["top1_percent"]), 100 - float(row["top1_percent"])
        r = 1.0
        if gap > 100 * drop:
            z = 0.6838 - 1.4475 * math.log(gap) + 0.4855 * math.log(error) + 1.3407 * math.sqrt(100 * drop)
            r = 1 / (1 + math.exp(-z))
        found.append((c_s / c_b - r, -float(row["top1_percent"]), row["model"], wanted, row["macs"]))
    kept: list[Any] = []
    for delta, minus_top1, model, pixels, macs in sorted(found):
        twins = [k for k in kept if k[3] == model.split(".")[0] or k[4:] == (family(model), minus_top1, macs)]
        if not twins and sum(k[4] == family(model) for k in kept) < per_family:
            kept.append((model, pixels, delta, model.split(".")[0], family(model), minus_top1, macs))
    own_or_at = [(f"timm:{k[0]}" + ("" if k[1] == own[k[0]] else f"@{k[1]}"), k[1], k[2]) for k in kept]
    return own_or_at


@pytest.mark.parametrize(
    ("base", "base_size", "size", "device", "drop", "per_family", "top"),
    [
        (BASE, 224, None, None, 0.0, 2, 10),
        (BASE, 224, 224, None, 0.005, 2, 10),
        (BASE, 224, 288, "rtx4090", 0.0, 1, 25),
        ("resnet50.a1_in1k", 288, None, "cpu-i7-12700h", 0.0, 3, 400),
        ("efficientnet_b0.ra_in1k", 224, 224, "rtx4090-compiled", 0.02, 99, 1000),
        ("mobilenetv3_small_050.lamb_in1k", 224, None, None, 0.0, 2, 10),
    ],
)
def test_ranking_equals_a_loop(
    base: str, base_size: int, size: int | None, device: str | None, drop: float, per_family: int, top: int
) -> None:
    found = shortlist(
        f"timm:{base}@{base_size}",
        size=size or "native",
        device=device,
        max_drop=drop,
        per_family=None if per_family == 99 else per_family,
        top=top,
    )
    expected = brute(base, base_size, size, device, drop, per_family)[:top]
    assert [(s.saver, s.img_size) for s in found.savers] == [(name, pixels) for name, pixels, _ in expected]
    assert [s.delta_cost for s in found.savers] == pytest.approx([delta for *_, delta in expected], abs=1e-9)
    assert found.considered >= len(expected)


def test_what_a_saver_says() -> None:
    found = shortlist(BASE, device="rtx4090", max_drop=0.005)
    assert (found.base, found.cost, found.device) == (f"timm:{BASE}", "ms@rtx4090", "rtx4090")
    assert found.base_top1 == 0.85762
    assert found.base_macs == 34.4e9
    for s in found.savers:
        assert s.cost_ratio == s.cost / found.base_cost < 1
        assert s.delta_cost == s.cost_ratio - s.exit_ratio
    assert [s.delta_cost for s in found.savers] == sorted(s.delta_cost for s in found.savers)
    assert found.worthwhile == found.savers


def test_few_of_a_family_and_one_of_an_architecture() -> None:
    for per_family in (1, 2, 3):
        names = [s.saver.removeprefix("timm:") for s in shortlist(BASE, per_family=per_family, top=40).savers]
        families = [family(name) for name in names]
        assert max(families.count(name) for name in families) == per_family
        assert len({name.split(".")[0] for name in names}) == len(names) == 40
    assert len(shortlist(BASE, per_family=None, top=40).savers) == 40


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("resnet50.a1_in1k", "resnet"),
        ("resnet50d.ra2_in1k", "resnet"),
        ("resnetv2_50.a1h_in1k", "resnetv2"),
        ("seresnext101d_32x8d.ah_in1k", "seresnext"),
        ("tf_efficientnet_b0.ns_jft_in1k", "efficientnet"),
        ("efficientnet_b0.ra_in1k", "efficientnet"),
        ("tf_efficientnetv2_s.in1k", "efficientnetv2"),
        ("mobilenetv3_large_100.ra_in1k", "mobilenetv3"),
        ("vit_base_patch16_224.augreg_in1k", "vit"),
        ("convnextv2_large.fcmae_ft_in1k", "convnextv2"),
    ],
)
def test_families(model: str, named: str) -> None:
    assert family(model) == named


def test_names_are_what_record_takes() -> None:
    """A model's own size is what it runs at when none is asked for; another size is in the name."""
    assert shortlist("timm:resnet50.a1_in1k").base == "timm:resnet50.a1_in1k"
    assert shortlist("resnet50.a1_in1k").base_img_size == 224
    assert shortlist("resnet50.a1_in1k@288").base == "timm:resnet50.a1_in1k@288"
    assert shortlist("resnet50.a1_in1k", size=288).base == "timm:resnet50.a1_in1k@288"
    at_288 = shortlist("resnet152.a1_in1k", size="288", top=30).savers
    own = {row["model"]: min(int(r["img_size"]) for r in ROWS if r["model"] == row["model"]) for row in ROWS}
    assert {s.img_size for s in at_288} == {288}
    for s in at_288:
        name, _, pixels = s.saver.removeprefix("timm:").partition("@")
        assert pixels == ("" if own[name] == 288 else "288")


def _weights(architecture: str) -> int:
    return len({row["model"] for row in ROWS if row["model"].split(".")[0] == architecture})


def test_one_set_of_weights_needs_no_tag() -> None:
    architecture = next(a for a in sorted({row["model"].split(".")[0] for row in ROWS}) if _weights(a) == 1)
    assert shortlist(architecture).base.startswith(f"timm:{architecture}.")


@pytest.mark.parametrize(
    ("base", "options", "kind", "said"),
    [
        ("timm:resnet50.a1in1k", {}, ModelError, "nearest names: resnet50.a1_in1k"),
        ("resnet50", {}, ModelError, "name its weights: resnet50.a1_in1k"),
        ("torchvision:resnet50", {}, ModelError, "timm:NAME@SIZE"),
        ("timm:resnet50.a1_in1k?weights=random", {}, ModelError, "pretrained weights"),
        ("resnet50.a1_in1k@200", {}, ModelError, "only at 224, 288 px"),
        ("bat_resnext26ts.ch_in1k", {"device": "cpu-i7-12700h"}, ModelError, "measured on: pro6000maxq, rtx4090"),
        (BASE, {"size": 320}, ModelError, "no published result at 320 px"),
        (BASE, {"size": "big"}, UsageError, "found 'big'"),
        (BASE, {"size": 0}, UsageError, "found '0'"),
        (BASE, {"cost": "joules"}, UsageError, "valid are macs, and ms@DEVICE with DEVICE of cpu-i7-12700h"),
        (BASE, {"cost": "macs@rtx4090"}, UsageError, "'macs@rtx4090' is not published"),
        (BASE, {"cost": "ms"}, UsageError, "needs a device: ms@DEVICE"),
        (BASE, {"cost": "ms@rtx409"}, UsageError, "nearest names: rtx4090"),
        (BASE, {"cost": "macs", "device": "rtx4090"}, UsageError, "ms@rtx4090"),
        (BASE, {"cost": "ms@rtx4090", "device": "pro6000maxq"}, UsageError, "two devices"),
        (BASE, {"max_drop": -0.01}, UsageError, "max_drop is a fraction"),
        (BASE, {"max_drop": float("nan")}, UsageError, "max_drop is a fraction"),
        (BASE, {"top": 0}, UsageError, "top is how many"),
        (BASE, {"per_family": 0}, UsageError, "per_family is 1 or more"),
    ],
)
def test_errors(base: str, options: dict[str, Any], kind: type[PilotfishError], said: str) -> None:
    with pytest.raises(kind) as raised:
        shortlist(base, **options)
    assert_one_line(raised.value, said)


def test_cost_ms_with_a_device_is_the_same_as_one_key() -> None:
    one = shortlist(BASE, cost="ms@rtx4090")
    assert shortlist(BASE, device="rtx4090") == shortlist(BASE, cost="ms", device="rtx4090") == one


def test_notes() -> None:
    assert any("could be replaced" in note for note in shortlist("resnet152.tv_in1k").notes)
    assert any("extrapolated for" in note for note in shortlist("test_vit.r160_in1k").notes)
    assert any("at most 1 point" in note for note in shortlist(BASE, max_drop=0.03).notes)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return command(Path.cwd(), "shortlist", *arguments)


def test_the_command_prints_a_table_and_the_next_step() -> None:
    ended = run("--base", f"timm:{BASE}", "--size", 224, "--top", 5)
    assert ended.returncode == 0, ended.stderr
    found = shortlist(BASE, size=224, top=5)
    assert all(s.saver in ended.stdout for s in found.savers)
    assert "A prior from published results, not a measurement" in ended.stdout
    names = ",".join([*(s.saver for s in found.savers[:4]), found.base])
    assert f"pilotfish record --model {names} --run run --data folder:photos\n" in ended.stdout


def test_the_command_as_json() -> None:
    ended = run("--base", BASE, "--device", "rtx4090-compiled", "--max-drop", "0.5%", "--top", 3, "--json")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert list(document) == DOCUMENT
    assert [list(saver) for saver in document["savers"]] == [KEYS] * 3
    assert document == json.loads(
        json.dumps(shortlist(BASE, cost="ms@rtx4090-compiled", max_drop=0.005, top=3).to_json())
    )
    assert document["max_drop"] == 0.005


def test_the_command_on_an_own_table(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "# pilotfish published results, version 1\n# source: mine\nmodel,img_size,top1_percent,macs,params\n"
        "big.x,224,84,1e10,1e8\nlittle.x,224,80,1e9,1e7\npoor.x,224,20,9e9,1e7\n",
        encoding="utf-8",
    )
    ended = run("--base", "big.x", "--table", table, "--json")
    assert [s["saver"] for s in json.loads(ended.stdout)["savers"]] == ["timm:little.x", "timm:poor.x"]
    assert json.loads(ended.stdout)["source"] == "mine"
    ended = run("--base", "little.x", "--table", table)
    assert "No published model costs less" in ended.stdout
    with pytest.raises(UsageError, match="no device"):
        shortlist("big.x", cost="ms", table=table)


def test_nothing_saves(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "# pilotfish published results, version 1\nmodel,img_size,top1_percent,macs,params\n"
        "big.x,224,84,1e10,1e8\npoor.x,224,20,9e9,1e7\n",
        encoding="utf-8",
    )
    found: Shortlist = shortlist("big.x", table=table)
    assert (len(found.savers), found.worthwhile) == (1, ())
    ended = run("--base", "big.x", "--table", table)
    assert "None is expected to save anything: run timm:big.x alone." in ended.stdout
    assert "Next" not in ended.stdout
