"""The machine: cores to use, and what figures were measured on."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pilotfish.errors import UsageError, nearest
from pilotfish.text import quantity

# By Linux' names, x86 first, then ARM. Products of 8 bits by AVX2 saturate at 16 bits, these do not.
INT8_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
BF16_PRODUCTS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
FP16_PRODUCTS = frozenset({"avx512_fp16", "amx_fp16", "asimdhp"})
MAC_FLAGS = {"FEAT_DotProd": "asimddp", "FEAT_I8MM": "i8mm", "FEAT_BF16": "bf16"}
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "npu", "mtia", "xla")  # as torch calls those that compute
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Processor:
    """A processor as its system describes it.

    name   as the system says it, "unknown" where it does not
    cores  that this process may use
    flags  instruction sets by Linux' names; empty where the system does not list them (Windows)
    """

    name: str
    cores: int
    flags: frozenset[str]

    @property
    def vnni(self) -> bool:
        """Whether it has instructions for products of 8 bits: VNNI, AMX, ARM's dot products."""
        return not self.flags.isdisjoint(INT8_PRODUCTS)

    @property
    def bf16(self) -> bool:
        """Whether it has instructions for products in bfloat16."""
        return not self.flags.isdisjoint(BF16_PRODUCTS)


def processor(cpuinfo: str | None = None) -> Processor:
    """The processor at hand, or the one of *cpuinfo*, a text as of ``/proc/cpuinfo``."""
    fields: dict[str, str] = {}
    for line in (_cpuinfo() if cpuinfo is None else cpuinfo).splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or "unknown"
    return Processor(name, cpu_count(), frozenset((fields.get("flags") or fields.get("Features", "")).split()))


def describe_machine() -> dict[str, Any]:
    """Processor, cores, and versions of what is loaded."""
    found: dict[str, Any] = {
        "processor": processor().name,
        "cores": cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for name in ("torch", "onnxruntime", "openvino", "numpy"):
        if name in sys.modules:
            found[name] = str(sys.modules[name].__version__)
    if torch := sys.modules.get("torch"):
        found["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_initialized():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def device_name(device: str) -> str:
    """What figures on *device* belong to: "cpu, AMD EPYC, 2 cores" or "cuda, NVIDIA H100 80GB HBM3"."""
    if device == "cpu":
        return f"cpu, {processor().name}, {quantity(cpu_count(), 'core')}"
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda") and torch.cuda.is_available():
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return device


def check_device(device: str) -> None:
    """UsageError where *device* is no name of one, whether there is one here or not."""
    kind, colon, number = device.partition(":")
    if kind not in DEVICES or (colon and not (number.isascii() and number.isdigit())):
        raise UsageError(
            f"there is no device {device[:60]!r}; expected {' or '.join(DEVICES[:2])}, cuda:1 where there are several "
            f"({nearest(kind, DEVICES, len(DEVICES))})"
        )


@functools.cache
def _cpuinfo() -> str:
    """What the system says of its processor, in the form of Linux; nothing where it says nothing (Windows)."""
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]  # the first core speaks for all
    if platform.system() != "Darwin":
        return ""
    wanted = ["machdep.cpu.brand_string", "machdep.cpu.leaf7_features", *(f"hw.optional.arm.{f}" for f in MAC_FLAGS)]
    try:
        said = subprocess.run(["/usr/sbin/sysctl", *wanted], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    values = {key: value for key, _, value in (line.partition(": ") for line in said.stdout.splitlines())}
    flags = [flag for feature, flag in MAC_FLAGS.items() if values.get(f"hw.optional.arm.{feature}") == "1"]
    flags += values.get(wanted[1], "").lower().replace("avx512vnni", "avx512_vnni").split()
    return f"model name: {values.get(wanted[0], '')}\nflags: {' '.join(flags)}\n"


def total_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what its container is held to."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        found = 8 * 2**30
    limit = CGROUPS / "memory.max"
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
        found = min(found, int(limit.read_text()))
    return max(found, 2**28)


def cpu_count() -> int:
    """Cores this process may use: those it may run on, or fewer where its container is held to less of their time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


@functools.cache  # it is asked for with every call of predict, and reading it takes longer than some models
def cpu_quota() -> float | None:
    """Seconds of processor time per second that control groups hold this process to (``docker run --cpus``); None
    where they set no limit."""
    found = []
    try:
        groups = [line.split(":", 2) for line in OWN_CGROUPS.read_text().splitlines()]
    except OSError:
        return None
    for _, kinds, own in (group for group in groups if len(group) == 3):
        if kinds and "cpu" not in kinds.split(","):
            continue
        top = CGROUPS / "cpu" if kinds else CGROUPS  # version 1 has a tree per kind, version 2 one for all
        for folder in (own, *map(str, PurePosixPath(own).parents)):
            with contextlib.suppress(OSError, ValueError):  # no such file, "max": no limit at this level
                where = top / folder.lstrip("/")
                if kinds:
                    quota, period = ((where / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
                else:
                    quota, period = (where / "cpu.max").read_text().split()
                if float(quota) > 0 < float(period):
                    found.append(float(quota) / float(period))
    return min(found, default=None)
