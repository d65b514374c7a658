"""The table of published results: what is in it, its format, and the script that makes it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from pilotfish.errors import DataError
from pilotfish.plan.shortlist import read_published
from pilotfish.plan.shortlist.table import FIRST_LINE
from support.errors import assert_one_line
from support.runs import REAL_DATA

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "make_published_table.py"
PACKAGED = resources.files("pilotfish") / "plan" / "shortlist" / "published.csv"

ACCURACY = """model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation
net_b.x_in1k,288,81.240,18.760,95.112,4.888,25.56,1.000,bicubic
net_b.x_in1k,224,80.382,19.618,94.598,5.402,25.56,0.950,bicubic
giant.y_in1k,224,89.500,10.500,98.698,1.302,"1,013.01",1.000,bicubic
lost.z_in1k,224,50.000,50.000,70.000,30.000,5.00,1.000,bicubic
"""
HEAD = (
    "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts\n"
)
BENCHMARKS = {
    "benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv": "net_b,224,4000.5,1,1024,25.56,9.99,11.1\n",
    "benchmark-infer-amp-nchw-pt2100-cu128-4090.csv": "net_b,224,4302.84,1,1024,25.56,4.11,11.1\n"
    "net_b,288,2631.0,1,512,25.56,6.8,18.4\ngiant,224,152.02,1,64,1013.01,1016,99\n",
    "benchmark-infer-amp-nchw-pt291-cu128-4090-dynamo.csv": "net_b,288,4865.17,1,1024,25.56,6.8,18.4\n",
    "benchmark-infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo.csv": "net_b,224,30.48,1,1,25.56,4.11,11.1\n",
    "benchmark-infer-fp32-nhwc-pt240-cu124-rtx3090.csv": "net_b,224,77,1,256,25.56,4.11,11.1\n",
}
MADE = """\
# pilotfish published results, version 1
# source: accuracy and speed published by PyTorch Image Models (huggingface/pytorch-image-models, Apache-2.0); results-imagenet.csv
# device cpu-i7-12700h: fp32 nchw, PyTorch 2.4.0 compiled, batch 1; benchmark-infer-fp32-nchw-pt240-cpu-i7_12700h-dynamo.csv
# device rtx3090-fp32-nhwc: fp32 nhwc, PyTorch 2.4.0 eager, batch 256; benchmark-infer-fp32-nhwc-pt240-cu124-rtx3090.csv
# device rtx4090: amp nchw, PyTorch 2.10.0 eager, batches up to 1024; benchmark-infer-amp-nchw-pt2100-cu128-4090.csv
# device rtx4090-compiled: amp nchw, PyTorch 2.9.1 compiled, batch 1024; benchmark-infer-amp-nchw-pt291-cu128-4090-dynamo.csv
model,img_size,top1_percent,macs,params,samples_per_s@cpu-i7-12700h,samples_per_s@rtx3090-fp32-nhwc,samples_per_s@rtx4090,samples_per_s@rtx4090-compiled
giant.y_in1k,224,89.5,1.016e12,1.01301e9,,,152.02,
net_b.x_in1k,224,80.382,4.11e9,2.556e7,30.48,77,4302.84,
net_b.x_in1k,288,81.24,6.8e9,2.556e7,,,2631,4865.17
"""  # noqa: E501


def results(folder: Path, accuracy: str = ACCURACY, benchmarks: Mapping[str, str] = BENCHMARKS) -> Path:
    folder.mkdir()
    (folder / "results-imagenet.csv").write_text(accuracy, encoding="utf-8")
    for name, rows in benchmarks.items():
        (folder / name).write_text(HEAD + rows, encoding="utf-8")
    return folder


def make(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    if not TOOL.is_file():
        pytest.skip(f"the script is not here (looked for {TOOL})")
    return subprocess.run([sys.executable, TOOL, folder, out], capture_output=True, text=True, check=False)


def test_the_packaged_table_is_sound() -> None:
    table = read_published()
    assert len(table) > 1_500
    assert len(set(zip(table.models, table.img_size.tolist(), strict=True))) == len(table)
    assert list(zip(table.models, table.img_size.tolist(), strict=True)) == sorted(
        zip(table.models, table.img_size.tolist(), strict=True)
    )
    assert all(re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_.]+", model) for model in table.models)
    assert (table.img_size >= 64).all()
    assert (table.img_size <= 1024).all()
    assert 0.35 < table.top1.min() < table.top1.max() < 0.95
    assert 1e7 < table.macs.min() < table.macs.max() < 2e13
    assert 1e5 < table.params.min() < table.params.max() < 1e10
    assert set(table.samples_per_s) == {"cpu-i7-12700h", "pro6000maxq", "rtx4090", "rtx4090-compiled"}
    assert set(table.devices) == set(table.samples_per_s)
    for name, least in {
        "cpu-i7-12700h": 1_400,
        "pro6000maxq": 1_556,
        "rtx4090": 1_556,
        "rtx4090-compiled": 1_554,
    }.items():
        rate = table.samples_per_s[name]
        assert np.isfinite(rate).sum() >= least
        assert np.nanmin(rate) > 0.01
        assert np.nanmax(rate) < 1e6
    assert (table.own_size <= table.img_size).all()
    assert "Apache-2.0" in table.source


def test_the_packaged_table_is_small_and_names_its_licence() -> None:
    assert len(PACKAGED.read_bytes()) < 300_000
    notice = (resources.files("pilotfish") / "plan" / "shortlist" / "NOTICE").read_text(encoding="utf-8")
    assert "huggingface/pytorch-image-models" in notice
    assert "Apache License" in notice


@pytest.mark.parametrize(
    ("model", "size", "top1", "macs", "params", "rtx4090", "cpu"),
    [
        ("resnet50.a1_in1k", 224, 0.80382, 4.11e9, 25.56e6, 4302.84, 30.48),
        ("resnet50.a1_in1k", 288, 0.8124, 6.8e9, 25.56e6, 2631.02, 20.27),
        ("resnet152.tv_in1k", 224, 0.7833, 11.56e9, 60.19e6, None, None),
        ("convnextv2_large.fcmae_ft_in1k", 224, 0.85762, 34.4e9, 197.96e6, None, None),
        ("vit_base_patch16_224.augreg_in1k", 224, 0.79154, None, 86.57e6, None, None),
    ],
)
def test_known_published_figures(
    model: str, size: int, top1: float, macs: float | None, params: float, rtx4090: float | None, cpu: float | None
) -> None:
    table = read_published()
    row = next(i for i, key in enumerate(zip(table.models, table.img_size, strict=True)) if key == (model, size))
    assert table.top1[row] == top1
    assert table.params[row] == params
    assert macs is None or table.macs[row] == macs
    assert rtx4090 is None or table.samples_per_s["rtx4090"][row] == rtx4090
    assert cpu is None or table.samples_per_s["cpu-i7-12700h"][row] == cpu


def test_a_models_own_size_is_the_one_it_runs_at() -> None:
    """timm names a model's default input in its configuration; the smallest published size must be that one."""
    timm_models = pytest.importorskip("timm.models")
    table, known = read_published(), 0
    for model, own in set(zip(table.models, table.own_size.tolist(), strict=True)):
        config = timm_models.get_pretrained_cfg(model)
        if config is not None:  # a release may know fewer models than the table
            assert config.input_size[-1] == own, model
            known += 1
    assert known > 1_000


def test_a_small_folder_gives_the_very_bytes(tmp_path: Path) -> None:
    """Newest PyTorch per device (2.10 after 2.4), a device's unusual setting in its name, commas in numbers."""
    ended = make(results(tmp_path / "results"), tmp_path / "table.csv")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "table.csv").read_bytes().decode() == MADE
    assert "3 rows" in ended.stdout
    assert "1 rows left out" in ended.stdout
    table = read_published(tmp_path / "table.csv")
    assert table.models == ("giant.y_in1k", "net_b.x_in1k", "net_b.x_in1k")
    assert table.own_size.tolist() == [224, 224, 224]
    assert np.isnan(table.samples_per_s["rtx4090-compiled"]).tolist() == [True, True, False]
    assert table.macs.tolist() == [1.016e12, 4.11e9, 6.8e9]


def test_the_published_folder_gives_the_packaged_bytes(tmp_path: Path) -> None:
    folder = REAL_DATA / "timm"
    if not folder.is_dir():
        pytest.skip(f"timm's results are not here (looked in {folder})")
    assert make(folder, tmp_path / "table.csv").returncode == 0
    assert (tmp_path / "table.csv").read_bytes() == PACKAGED.read_bytes()


@pytest.mark.parametrize(
    ("accuracy", "benchmarks", "said"),
    [
        ("model,top1\na,1\n", BENCHMARKS, "columns img_size, param_count"),
        (ACCURACY, {}, "no benchmark-infer"),
        (ACCURACY, {"benchmark-infer-my-own.csv": "net_b,224,1,1,1,1,1,1\n"}, "cannot read precision"),
        (ACCURACY.replace("80.382", "many"), BENCHMARKS, "'many' is no number"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, accuracy: str, benchmarks: dict[str, str], said: str) -> None:
    ended = make(results(tmp_path / "results", accuracy, benchmarks), tmp_path / "table.csv")
    assert ended.returncode == 1
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (FIRST_LINE, "# something else", "its first line is not"),
        ("model,img_size", "name,img_size", "the columns must be model, img_size"),
        ("giant.y_in1k,224,89.5", "giant.y_in1k,224", "row 1 has 8 cells, the header has 9"),
        ("80.382", "eighty", "column top1_percent holds something that is no number"),
        ("80.382", "803.82", "top1_percent goes to 100, found 803.82"),
        ("4.11e9", "-4.11e9", "column macs must hold positive numbers"),
        ("4.11e9", "nan", "column macs must hold positive numbers"),
        ("4.11e9", "", "column macs holds something that is no number"),
        ("net_b.x_in1k,288", "net_b.x_in1k,224", "a model appears twice at one size"),
    ],
)
def test_damaged_tables(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in MADE
    (tmp_path / "table.csv").write_text(MADE.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError) as raised:
        read_published(tmp_path / "table.csv")
    assert_one_line(raised.value, "table.csv", said)


def test_tables_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "rowless.csv").write_text(MADE[: MADE.index("giant")], encoding="utf-8")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    for name, said in {
        "t.csv": "not UTF-8",
        "rowless.csv": "no rows",
        "empty.csv": "first line",
        "none": "No such",
    }.items():
        with pytest.raises(DataError) as raised:
            read_published(tmp_path / name)
        assert_one_line(raised.value, name, said)
