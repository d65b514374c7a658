"""``pilotfish doctor``: a right answer and exit code 0 on whatever machine, in whatever environment."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

import pilotfish
from pilotfish.doctor import examination, examine
from pilotfish.doctor.examination import verdict
from pilotfish.doctor.installed import Package
from pilotfish.doctor.precision import Precision, precisions
from pilotfish.machine import cpu_count, device_name, processor
from support.process import command

KEYS = ["version", "python", "extras", "devices", "cpu", "precision", "notes"]
OLD = "model name: AMD EPYC 7551\nflags: sse2 avx2 fma"
NEW = "model name: AMD EPYC 9354\nflags: sse2 avx2 avx512_bf16 avx512_vnni"
VNNI_ALONE = "model name: 12th Gen Intel(R) Core(TM)\nflags: sse2 avx2 avx_vnni"
RUNNERS = ["float32 onnxruntime", "int8 onnxruntime", "bfloat16 openvino"]


INSTALL = "pip install 'pilotfish[onnx,openvino]'"
INT8 = "int8 runs 2.4x as fast as float32 here: try pilotfish build --precisions int8,fp32"
BOTH = (
    "int8 runs 2.4x as fast as float32 and bfloat16 runs 2.0x as fast as float32 here: "
    "try pilotfish build --precisions int8,bf16,fp32"
)
BF16 = "bfloat16 runs 2.0x as fast as float32 here: try pilotfish build --precisions bf16,fp32"
NOTHING = "int8 gains nothing on this processor"
UNMEASURED = "bfloat16 was not measured"
STAY = "stay with float32"


@pytest.mark.parametrize(
    ("cpuinfo", "ms", "said"),
    [
        (NEW, (12.0, 5.0, 6.0), [BOTH]),
        (OLD, (12.0, 12.5), [f"{NOTHING} (no VNNI; 0.96x)", f"{UNMEASURED} (no bf16)", STAY]),
        (OLD, (12.0, 5.0), [INT8, f"{UNMEASURED} (no bf16)"]),
        (VNNI_ALONE, (12.0, 5.0), [INT8, f"{UNMEASURED} (no bf16)"]),
        (NEW, (12.0, 5.0), [INT8, f"{UNMEASURED}: {INSTALL}"]),
        (NEW, (12.0, 12.0, 6.0), [BF16, f"{NOTHING} (it has VNNI; 1.00x)"]),
        (
            "",
            (12.0, 11.5),
            [
                f"{NOTHING} (whether it has VNNI is not known; 1.04x)",
                f"{UNMEASURED} (whether it has bf16 is not known)",
                STAY,
            ],
        ),
        (NEW, (), [f"precision is measured with onnx and onnxruntime, which are not there: {INSTALL}"]),
    ],
)
def test_the_verdict(cpuinfo: str, ms: tuple[float, ...], said: list[str]) -> None:
    found = dict(zip(RUNNERS, ms, strict=False))
    assert verdict(precisions(found), list(found), processor(cpuinfo)) == said


def test_no_verdict_on_what_failed() -> None:
    assert verdict([], RUNNERS, processor(NEW)) == []


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a machine says, in the place of this one: packages that are there, what they say, what was measured."""
    core = Package("numpy", "numpy>=1", ("",), "2.0", ("numpy",))
    says: dict[str, Any] = {
        "packages": {"": [core], "torch": [Package("torch", "torch>=2", ("torch",), None)]},
        "facts": {},
        "late": [],
        "ms": {},
        "failed": {},
        "modules": [],
        "cpuinfo": NEW,
    }
    monkeypatch.setattr(examination, "required", lambda: says["packages"])
    monkeypatch.setattr(examination, "imported", lambda packages, *_: (packages, says["facts"], says["late"]))
    monkeypatch.setattr(examination, "apart", lambda *_: (says["ms"], says["failed"]))
    monkeypatch.setattr(examination, "processor", lambda: processor(says["cpuinfo"]))
    monkeypatch.setattr(examination, "is_there", lambda name: name in says["modules"])
    return says


def test_a_bare_core(told: dict[str, Any], tmp_path: Path) -> None:
    ended = command(tmp_path, "doctor", "--json")
    found = json.loads(ended.stdout)
    assert (ended.returncode, list(found)) == (0, KEYS)
    assert (found["version"], found["extras"], found["precision"]) == (pilotfish.__version__, {"torch": False}, [])
    assert found["devices"] == [device_name("cpu")]
    assert found["cpu"] == {"name": "AMD EPYC 9354", "cores": cpu_count(), "vnni": True, "bf16": True}
    assert found["notes"][0].endswith("pip install 'pilotfish[onnx,openvino]'")


def test_a_machine_without_vnni(told: dict[str, Any], tmp_path: Path) -> None:
    told |= {
        "cpuinfo": OLD,
        "modules": ["onnx", "onnxruntime", "openvino"],
        "ms": dict(zip(RUNNERS, (4.0, 4.0), strict=False)),
    }
    found = json.loads(command(tmp_path, "doctor", "--json").stdout)
    assert (found["cpu"]["vnni"], found["cpu"]["bf16"]) == (False, False)
    assert found["precision"] == [
        {"dtype": "float32", "ms": 4.0, "gain": 1.0},
        {"dtype": "int8", "ms": 4.0, "gain": 1.0},
    ]
    assert "int8 gains nothing on this processor (no VNNI; 1.00x)" in found["notes"]


def test_everything_that_is_broken_is_a_note_and_the_rest_is_examined(told: dict[str, Any], tmp_path: Path) -> None:
    broken = Package("torch", "torch>=2.10", ("torch",), "2.14", ("torch",), "OSError: libcudart.so.13")
    told |= {
        "packages": {"": [], "torch": [broken], "onnx": []},
        "facts": {"PIL": {}, "torch": {"error": "RuntimeError: CUDA error"}},
        "late": ["timm", "sklearn"],
        "modules": ["onnx", "onnxruntime", "torch"],
        "failed": {"int8 onnxruntime": "it ended Python with SIGILL"},
    }
    ended = command(tmp_path, "doctor")
    assert ended.returncode == 0
    assert ended.stderr.count("note: ") == len(ended.stderr.splitlines())
    for said in (
        "torch 2.14 cannot be used: OSError: libcudart.so.13; pip install --force-reinstall 'torch>=2.10'",
        "not imported in time, and taken to work: timm, sklearn; run pilotfish doctor again",
        "torch does not say what it finds here: RuntimeError: CUDA error",
        "Pillow could not be examined (KeyError: 'jpeg')",
        "int8 by onnxruntime could not be measured: it ended Python with SIGILL",
        "not measured in time: float32 by onnxruntime; run pilotfish doctor again",
    ):
        assert said in ended.stderr
    assert "torch    ✗ no    torch" in ended.stdout


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (importlib.metadata.PackageNotFoundError("pilotfish"), "Pilotfish is run from its sources"),
        (ImportError("No module named 'packaging'"), "pip install --force-reinstall packaging"),
        (ValueError("a line\nthat is none"), "cannot be read (ValueError: a line that is none)"),
    ],
)
def test_metadata_that_cannot_be_read(
    error: Exception, said: str, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> Any:
        raise error

    monkeypatch.setattr(examination, "required", fails)
    found = examine()
    assert found.extras == {}
    assert any(said in note for note in found.notes)


def test_cards_are_devices(told: dict[str, Any]) -> None:
    card = "cuda:0, NVIDIA H100 80GB HBM3, 79 GiB, capability 9.0"
    told["facts"] = {"torch": {"devices": [card], "unfit": [], "cuda": "13.0", "hip": None, "why": ""}}
    assert examine().devices == [device_name("cpu"), card]


def test_a_terminal_without_unicode_is_shown_words(told: dict[str, Any], tmp_path: Path) -> None:
    shown = command(tmp_path, "doctor", PYTHONIOENCODING="ascii")
    assert shown.returncode == 0
    assert "\\u" not in shown.stdout
    assert "| torch | no | torch |" in " ".join(shown.stdout.replace("|", " | ").split())


@pytest.mark.parametrize("name", ["rich", "rich.progress"])
def test_where_tables_cannot_be_printed_it_is_the_document(
    name: str, told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # importing it is an ImportError
    ended = command(tmp_path, "doctor")
    assert (ended.returncode, list(json.loads(ended.stdout))) == (0, KEYS)


def test_it_is_asked_without_the_command_line(told: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_module("pilotfish.doctor", run_name="__main__")
    assert list(json.loads(capsys.readouterr().out)) == KEYS


def test_this_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing, on what is quick to import."""
    real, spec = examination.required, importlib.util.find_spec
    monkeypatch.setattr(examination, "required", lambda: {e: p for e, p in real().items() if e in ("", "onnx")})
    monkeypatch.setattr(examination, "is_there", lambda name: name != "torch" and spec(name) is not None)
    ended = command(tmp_path, "doctor", "--json")
    found = json.loads(ended.stdout)
    assert (ended.returncode, list(found)) == (0, KEYS)
    assert "traceback" not in ended.stderr.lower()
    there = all(spec(name) is not None for name in ("onnx", "onnxruntime"))
    assert found["extras"] in ({"onnx": there}, {})
    assert all(sorted(entry) == ["dtype", "gain", "ms"] for entry in found["precision"])
    if not there:
        assert found["precision"] == []


@pytest.mark.parametrize("executable", ["", "/no/such/python", "/dev/null"])
def test_no_other_python(executable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = command(tmp_path, "doctor", "--json")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["precision"] == []
    assert "not imported in time, and taken to work: " in ended.stderr


def test_dtypes_are_canonical(told: dict[str, Any]) -> None:
    told |= {"modules": ["onnx", "onnxruntime", "openvino"], "ms": dict(zip(RUNNERS, (4.0, 2.0, 3.0), strict=True))}
    found = examine()
    assert [p.dtype for p in found.precision] == ["float32", "int8", "bfloat16"]
    assert isinstance(found.precision[0], Precision)
