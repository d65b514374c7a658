"""What is odd about a machine is said, with what to do, and nothing is said of one that is not."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from pilotfish.doctor import surroundings
from pilotfish.machine import Processor

FOUR = Processor("Some Processor", 4, frozenset({"avx2"}))
TORCH = {"devices": [], "unfit": [], "cuda": None, "hip": None, "why": ""}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, []),
        ({"OMP_NUM_THREADS": "4"}, []),
        ({"OMP_NUM_THREADS": "4,1"}, []),
        ({"OMP_NUM_THREADS": "1"}, ["OMP_NUM_THREADS=1 holds torch to 1 of 4 cores"]),
        ({"MKL_NUM_THREADS": "64"}, ["MKL_NUM_THREADS=64 is more threads than this process has cores (4)"]),
        ({"OMP_NUM_THREADS": "many\n"}, ["OMP_NUM_THREADS is 'many\\\\n', expected a number of threads"]),
        ({"OMP_NUM_THREADS": "0", "MKL_NUM_THREADS": ""}, ["OMP_NUM_THREADS is '0'", "MKL_NUM_THREADS is ''"]),
    ],
)
def test_threads(environment: dict[str, str], said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "cpu_quota", lambda: None)
    _are(list(surroundings.cores(FOUR, environment)), said, "unset")


@pytest.mark.parametrize(
    ("quota", "flags", "said"),
    [
        (None, {"avx2"}, []),
        (1.0, {"avx2"}, []),
        (0.25, {"avx2"}, ["this container may use 0.25 of a core"]),
        (None, set(), ["does not list the instructions"]),
        (0.5, set(), ["this container may use 0.5 of a core", "does not list the instructions"]),
    ],
)
def test_the_processor(quota: float | None, flags: set[str], said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "cpu_quota", lambda: quota)
    _are(list(surroundings.cores(Processor("x", 2, frozenset(flags)), {})), said, ":")


@pytest.mark.parametrize(
    ("load", "before", "now", "governor", "said"),
    [
        (0.5, (100, 1000), (100, 2000), None, []),
        (None, None, None, None, []),
        (4.0, None, (0, 1), None, ["load 4.0 on 4 cores"]),
        (0.0, (100, 1000), (300, 2000), None, ["the hypervisor gives 20% of this machine's time to others"]),
        (0.0, (100, 1000), (100, 1000), None, []),
        (0.0, None, None, ("powersave", "acpi-cpufreq"), ["lowest frequency"]),
        (0.0, None, None, ("powersave", "intel_pstate"), []),
        (0.0, None, None, ("performance", "acpi-cpufreq"), []),
    ],
)
def test_noise(
    load: float | None,
    before: tuple[int, int] | None,
    now: tuple[int, int] | None,
    governor: tuple[str, str] | None,
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(surroundings, "times_of_cpu", lambda: now)
    monkeypatch.setattr(surroundings, "GOVERNOR", tmp_path)
    for name, text in zip(("scaling_governor", "scaling_driver"), governor or (), strict=False):
        (tmp_path / name).write_text(text + "\n")
    _are(list(surroundings.noise(FOUR, load, before)), said, ":")


@pytest.mark.parametrize(
    ("torch", "driver", "said"),
    [
        (None, False, []),
        (TORCH, False, []),
        (None, True, ["torch is not there to use it: pip install 'pilotfish[torch]'"]),
        (TORCH, True, ["torch is built for the CPU alone: pip install"]),
        (TORCH | {"hip": "6.4"}, True, []),
        (TORCH | {"cuda": "13.0"}, True, ["torch (CUDA 13.0) sees no card: CUDA_VISIBLE_DEVICES may hide it"]),
        (TORCH | {"cuda": "13.0", "why": "driver too old"}, True, ["sees no card: driver too old"]),
        (TORCH | {"cuda": "13.0", "devices": ["cuda:0, A"]}, True, []),
        (
            TORCH | {"cuda": "13.0", "devices": ["cuda:0, A"], "unfit": ["GTX 980 (capability 5.2)"]},
            True,
            ["torch is built without kernels for GTX 980 (capability 5.2): install"],
        ),
    ],
)
def test_cards(
    torch: dict[str, Any] | None, driver: bool, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "NVIDIA", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    if driver:
        (tmp_path / "version").write_text("NVRM version: 580")
    _are(list(surroundings.cards(torch)), said, ":")


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ((), []),
        (("turbo",), ["without libjpeg-turbo"]),
        (("jpeg", "turbo"), ["built without JPEG"]),
        (("avif",), ["built without AVIF, so such files are left out"]),
        (("webp", "avif", "turbo"), ["without libjpeg-turbo", "built without WEBP and AVIF"]),
    ],
)
def test_pillow(lacking: tuple[str, ...], said: list[str]) -> None:
    facts = {name: name not in lacking for name in ("jpeg", "turbo", "webp", "avif")}
    _are(list(surroundings.pillow(facts)), said, "Pillow")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, []),
        ({"HF_HUB_OFFLINE": "0"}, []),
        ({"HF_HUB_OFFLINE": "1"}, ["HF_HUB_OFFLINE is set"]),
        ({"TRANSFORMERS_OFFLINE": "TRUE", "HF_HUB_OFFLINE": ""}, ["TRANSFORMERS_OFFLINE is set"]),
    ],
)
def test_the_hub(environment: dict[str, str], said: list[str]) -> None:
    _are(list(surroundings.offline(environment)), said, "cache")


@pytest.mark.parametrize(
    ("here", "tried", "said"),
    [
        ((3, 11), ("3.11", "3.12"), []),
        ((3, 12), (), []),
        ((3, 19), ("3.11", "3.12"), ["Pilotfish is tested with Python 3.11, 3.12 and this is 3.19"]),
    ],
)
def test_python(
    here: tuple[int, int], tried: tuple[str, ...], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Metadata:
        def get_all(self, _: str) -> list[str]:
            return ["Programming Language :: Python :: " + version for version in tried] + ["Typing :: Typed"]

    monkeypatch.setattr("importlib.metadata.metadata", lambda _: Metadata())
    monkeypatch.setattr("sys.version_info", namedtuple("Version", ["major", "minor"])(*here))
    _are(list(surroundings.python()), said, "use Python")


GIB = 2**30


@pytest.mark.parametrize(
    ("made", "mode", "free", "memory", "said"),
    [
        (True, 0o700, 90, 16, []),
        (False, 0o700, 90, 16, []),
        (True, 0o722, 90, 16, ["can be written by others"]),
        (True, 0o700, 1, 16, ["1.0 GiB are free where exported models are kept"]),
        (True, 0o700, 90, 1, ["this process may use 1.0 GiB of memory"]),
        (False, 0o700, 1, 1, ["this process may use 1.0 GiB", "1.0 GiB are free"]),
    ],
)
def test_storage(
    made: bool, mode: int, free: int, memory: int, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    if made:
        (folder / "onnx").mkdir(parents=True, mode=0o700)
        folder.chmod(mode)
    monkeypatch.setenv("PILOTFISH_CACHE", str(folder))
    monkeypatch.setattr(surroundings, "total_memory", lambda: memory * GIB)
    monkeypatch.setattr("shutil.disk_usage", lambda _: namedtuple("Usage", ["free"])(free * GIB))
    _are(list(surroundings.storage()), said, ":")
    assert folder.exists() == made


def test_a_cache_in_the_place_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path / "cache"))
    said = list(surroundings.storage())
    assert any("cannot be written" in note and "PILOTFISH_CACHE" in note for note in said)


def _are(found: list[str], parts: list[str], advice: str) -> None:
    """Each note has its part, is one line, and says what to do."""
    assert len(found) == len(parts), found
    for note, part in zip(found, parts, strict=True):
        assert part in note
        assert advice in note
        assert "\n" not in note
