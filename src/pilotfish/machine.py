"""The machine: cores to use, and what figures were measured on."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Processor, cores, and versions of what is loaded."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for name in ("torch", "onnxruntime", "numpy"):
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
        return f"cpu, {_processor()}, {cpu_count()} cores"
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda") and torch.cuda.is_available():
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return device


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def total_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what its container is held to."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        found = 8 * 2**30
    limit = Path("/sys/fs/cgroup/memory.max")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
        found = min(found, int(limit.read_text()))
    return max(found, 2**28)


def cpu_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
