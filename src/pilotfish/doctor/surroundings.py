"""What is odd about the machine and the environment of a process: a note each, only where it matters."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pilotfish.machine import Processor, cpu_quota, total_memory
from pilotfish.text import one_line, quantity

GIB = 2**30
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
BUSY = 0.75  # load per core from which timings are noise
STOLEN = 0.05  # share of time that a hypervisor gave to others
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq")
NVIDIA = Path("/proc/driver/nvidia/version")


def load() -> float | None:
    """Programs that want to run, the mean of a minute; None where the system does not say."""
    with contextlib.suppress(AttributeError, OSError):
        return os.getloadavg()[0]
    return None


def times_of_cpu() -> tuple[int, int] | None:
    """Time stolen and time in all, since the machine was started; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return fields[7], sum(fields)
    return None


def noise(processor: Processor, load: float | None, before: tuple[int, int] | None) -> Iterator[str]:
    """Whether timings can be relied on. load: of the machine before it was asked; before: ``times_of_cpu`` then."""
    if load is not None and load > BUSY * processor.cores:
        yield (
            f"other programs keep the machine busy (load {load:.1f} on {quantity(processor.cores, 'core')}): "
            "times that Pilotfish "
            "measures meanwhile are noise"
        )
    now = times_of_cpu()
    if before is not None and now is not None and now[1] > before[1]:
        share = (now[0] - before[0]) / (now[1] - before[1])
        if share > STOLEN:
            yield f"the hypervisor gives {share:.0%} of this machine's time to others: measured times are noise"
    with contextlib.suppress(OSError):
        if (GOVERNOR / "scaling_governor").read_text().strip() == "powersave" and "pstate" not in (
            GOVERNOR / "scaling_driver"
        ).read_text():
            yield "the processor is held to its lowest frequency: cpupower frequency-set -g performance"


def cores(processor: Processor, environment: Mapping[str, str]) -> Iterator[str]:
    """Limits on threads that strangle or oversubscribe, and what is not known of the processor."""
    quota = cpu_quota()
    if quota is not None and quota < 1:
        yield f"this container may use {quota:.2g} of a core: give it at least one (docker run --cpus 1)"
    for name in THREADS:
        if (given := environment.get(name)) is None:
            continue
        if not all(part.strip().isdecimal() and int(part) > 0 for part in given.split(",")):
            yield f"{name} is {one_line(given)!r}, expected a number of threads: unset {name}"
        elif (threads := int(given.split(",")[0])) > processor.cores:
            yield f"{name}={threads} is more threads than this process has cores ({processor.cores}): unset {name}"
        elif threads < processor.cores:
            yield (
                f"{name}={threads} holds torch to {threads} of {quantity(processor.cores, 'core')} "
                "(ONNX Runtime does not ask for "
                f"it): unset {name}, unless as many programs run side by side"
            )
    if not processor.flags:
        yield (
            f"{platform.system()} does not list the instructions of this processor, so vnni and bf16 are not known and "
            "shown as missing: rely on what was measured"
        )


def python() -> Iterator[str]:
    """A Python for which wheels are missing."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        classifiers = importlib.metadata.metadata("pilotfish").get_all("Classifier") or []
        tried = [word for word in (c.rpartition(" :: ")[2] for c in classifiers) if word.startswith("3.")]
        if tried and here not in tried:
            yield (
                f"Pilotfish is tested with Python {', '.join(tried)} and this is {here}: where pip finds no torch for "
                f"it, use Python {tried[-1]}"
            )
    if sys.maxsize < 2**32:
        yield "this Python is a 32-bit program, for which there is no torch: install a 64-bit one"


def storage() -> Iterator[str]:
    """Memory, and the folder in which exported models are kept. It imports most of Pilotfish."""
    from pilotfish.models.onnx.onnx_cache import cache_folder, distrust

    memory = total_memory()
    if memory < 2 * GIB:
        yield f"this process may use {memory / GIB:.1f} GiB of memory: large models need more, or --low-memory"
    folder = cache_folder()
    if (folder / "onnx").is_dir() and (fault := distrust()) is not None:
        yield fault
        return
    there = next((f for f in (folder / "onnx", folder, *folder.absolute().parents) if f.exists()), Path("/"))
    if not (there.is_dir() and os.access(there, os.W_OK)):
        yield (
            f"{there} cannot be written, so each model is exported anew in each process: make it writable, or name "
            "another folder with PILOTFISH_CACHE"
        )
    free, size = shutil.disk_usage(there).free, sum(f.stat().st_size for f in (folder / "onnx").glob("*.onnx"))
    if free < 2 * GIB:
        yield (
            f"{free / GIB:.1f} GiB are free where exported models are kept ({folder}, {size / GIB:.1f} GiB): clear the "
            "disk, or name another folder with PILOTFISH_CACHE"
        )


def offline(environment: Mapping[str, str]) -> Iterator[str]:
    """Settings that keep weights from being downloaded."""
    for name in OFFLINE:
        if environment.get(name, "").lower() in ("1", "true", "yes", "on"):
            yield f"{name} is set: weights of timm: names come from the cache of the Hub alone"
            return


def cards(torch: Mapping[str, Any] | None) -> Iterator[str]:
    """An NVIDIA card that torch does not use. torch: what it says of devices; None where it is not there."""
    card = NVIDIA.exists() or shutil.which("nvidia-smi") is not None
    if torch is None:
        if card:
            yield "this machine has an NVIDIA driver, and torch is not there to use it: pip install 'pilotfish[torch]'"
        return
    yield from (
        f"torch is built without kernels for {one_line(name)}: install one that has them" for name in torch["unfit"]
    )
    if not card or torch["devices"] or torch["hip"]:
        return
    if torch["cuda"] is None:
        yield (
            "this machine has an NVIDIA driver, and torch is built for the CPU alone: pip install --force-reinstall "
            "torch torchvision, from an index of wheels with CUDA"
        )
    else:
        why = torch["why"] or "CUDA_VISIBLE_DEVICES may hide it, or a container lacks --gpus all"
        yield f"this machine has an NVIDIA driver, and torch (CUDA {torch['cuda']}) sees no card: {why}"


def pillow(facts: Mapping[str, bool]) -> Iterator[str]:
    """What Pillow reads, and how fast."""
    if not facts["jpeg"]:
        yield "Pillow is built without JPEG: pip install --force-reinstall --only-binary :all: pillow"
    elif not facts["turbo"]:
        yield (
            "Pillow decodes JPEG without libjpeg-turbo, at a fraction of its speed: pip install --force-reinstall "
            "--only-binary :all: pillow"
        )
    lacking = [name.upper() for name in ("webp", "avif") if not facts[name]]
    if lacking:
        yield f"Pillow is built without {' and '.join(lacking)}, so such files are left out of image folders"
