"""What is known of the processor, from the text in which its system describes it, and the cores that may be used."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pilotfish import machine
from pilotfish.machine import cpu_count, cpu_quota, processor

ZEN_1 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7551 32-Core Processor
flags\t\t: fpu sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2 bmi1 bmi2 sha_ni clzero
bugs\t\t: sysret_ss_attrs null_seg

processor\t: 1
model name\t: AMD EPYC 7551 32-Core Processor
flags\t\t: fpu sse sse2 avx2 avx512_vnni
"""
ZEN_4 = "model name\t: AMD EPYC 9354\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16 avx512_vbmi2 avx512_vnni\n"
SAPPHIRE_RAPIDS = (
    "model name\t: Intel(R) Xeon(R) Platinum 8480+\n"
    "flags\t\t: fpu sse2 avx2 avx512f avx_vnni avx512_bf16 avx512_vnni amx_bf16 avx512_fp16 amx_tile amx_int8\n"
)
ALDER_LAKE = "model name\t: 12th Gen Intel(R) Core(TM) i7-12700\nflags\t\t: fpu sse2 avx2 avx_vnni\n"
GRAVITON_3 = (
    "processor\t: 0\nBogoMIPS\t: 2100.00\n"
    "Features\t: fp asimd aes crc32 atomics asimdhp asimddp sve svei8mm svebf16 i8mm bf16\nCPU part\t: 0xd40\n"
)
RASPBERRY_PI_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n"


@pytest.mark.parametrize(
    ("text", "vnni", "bf16"),
    [
        (ZEN_1, False, False),
        (ZEN_4, True, True),
        (SAPPHIRE_RAPIDS, True, True),
        (ALDER_LAKE, True, False),
        (GRAVITON_3, True, True),
        (RASPBERRY_PI_4, False, False),
        ("", False, False),
        ("flags\t: amx_int8 amx_tile", True, False),
        ("\x00 no such: text: at all\nflags", False, False),
    ],
)
def test_products_that_a_processor_has_instructions_for(text: str, vnni: bool, bf16: bool) -> None:
    found = processor(text)
    assert (found.vnni, found.bf16) == (vnni, bf16)
    assert found.cores == cpu_count()
    assert found.name


def test_the_name_is_that_of_the_system() -> None:
    assert processor(ZEN_1).name == "AMD EPYC 7551 32-Core Processor"
    assert processor(GRAVITON_3).name == processor("").name


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="no Linux")
def test_this_processor_is_read_from_the_system() -> None:
    whole = Path("/proc/cpuinfo").read_text(errors="replace")
    assert processor() == processor(whole)


APPLE = """machdep.cpu.brand_string: Apple M2
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_BF16: {}
"""
INTEL_MAC = "machdep.cpu.brand_string: Intel(R) Core(TM) i7\nmachdep.cpu.leaf7_features: AVX2 AVX512F AVX512VNNI\n"


@pytest.mark.parametrize(
    ("said", "name", "vnni", "bf16"),
    [
        (APPLE.format(1), "Apple M2", True, True),
        (APPLE.format(0), "Apple M2", True, False),
        (INTEL_MAC, "Intel(R) Core(TM) i7", True, False),
        (OSError("no sysctl"), None, False, False),
        (subprocess.TimeoutExpired("sysctl", 5), None, False, False),
    ],
)
def test_a_mac_is_asked_by_sysctl(
    said: str | Exception, name: str | None, vnni: bool, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        if isinstance(said, Exception):
            raise said
        return subprocess.CompletedProcess([], 1, said, "unknown oid")

    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr(subprocess, "run", run)
    found = processor(machine._cpuinfo.__wrapped__())
    assert (found.vnni, found.bf16) == (vnni, bf16)
    assert name in (None, found.name)


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 0.5),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "300000 100000"}, 3.0),
        ("3:cpu,cpuacct:/docker/7", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("4:memory:/", {"cpu.max": "50000 100000"}, None),
        ("0::/", {"cpu.max": ""}, None),
        ("0::/", {"cpu.max": "100000 0"}, None),
        ("no such line", {}, None),
    ],
)
def test_control_groups_limit_the_cores(
    own: str,
    files: dict[str, str],
    quota: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "tree")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    cpu_quota.cache_clear()
    request.addfinalizer(cpu_quota.cache_clear)
    assert cpu_quota() == quota
    assert cpu_count() == (8 if quota is None else {0.5: 1, 1.5: 2, 2.5: 3, 3.0: 3}[quota])
