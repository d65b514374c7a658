"""``pilotfish doctor``: what is installed and works, which devices there are, and what precision gains here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish._version import __version__
from pilotfish.doctor import surroundings
from pilotfish.doctor.apart import apart
from pilotfish.doctor.imports import OWN
from pilotfish.doctor.installed import CORE, NEEDS, Package, imported, is_there, required, twins
from pilotfish.doctor.precision import LIBRARIES, PAYS, Precision, measure, precisions, runners
from pilotfish.errors import reason
from pilotfish.machine import Processor, device_name, processor

IMPORTED, MEASURED = 10.0, 16.0  # seconds after which an examination no longer waits
INSTALL = "pip install 'pilotfish[onnx,openvino]'"
AGAIN = "run pilotfish doctor again when the machine is idle"
WORDS = {"int8": "int8", "bfloat16": "bf16"}  # as --precisions takes them
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Examination:
    """What was found.

    packages   what each extra needs, "" for the core
    devices    in words, "cpu, AMD EPYC, 2 cores" first
    precision  float32 first; empty where nothing that could run it is installed
    verdict    what precision is worth here, and what to do
    notes      what is broken or odd, a line each
    """

    version: str
    python: str
    packages: dict[str, list[Package]]
    devices: list[str]
    processor: Processor
    precision: list[Precision]
    verdict: list[str]
    notes: list[str]

    @property
    def extras(self) -> dict[str, bool]:
        """Whether everything that an extra needs is there and works."""
        return {extra: all(p.works for p in needed) for extra, needed in self.packages.items() if extra != CORE}

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish doctor --json``."""
        here = self.processor
        return {
            "version": self.version,
            "python": self.python,
            "extras": self.extras,
            "devices": self.devices,
            "cpu": {"name": here.name, "cores": here.cores, "vnni": here.vnni, "bf16": here.bf16},
            "precision": [{"dtype": p.dtype, "ms": round(p.ms, 3), "gain": round(p.gain, 3)} for p in self.precision],
            "notes": [*self.verdict, *self.notes],
        }


def examine(progress: Tell | None = None) -> Examination:
    """Look at this environment and this machine, in less than 20 s.

    progress  is told what is being done, how many of it are done, and how many there are

    Whatever is broken is a note; nothing is raised.
    """
    tell = progress or (lambda *_: None)
    here, begun = processor(), time.monotonic()
    load, before = surroundings.load(), surroundings.times_of_cpu()
    packages, unread = _required()
    each = list({p.name: p for needed in packages.values() for p in needed}.values())
    own = Package("pilotfish", "pilotfish", (CORE,), __version__, (OWN,))
    held, facts, late = imported(_quick_first([*each, own]), begun + IMPORTED, tell)
    unsaid = {module: facts.pop(module)["error"] for module in list(facts) if "error" in facts[module]}
    by_name = {p.name: p for p in held}
    packages = {extra: [by_name[p.name] for p in needed] for extra, needed in packages.items()}
    broken = {module for p in held if p.fault is not None for module in p.modules}
    names = runners([m for m in LIBRARIES if m not in broken and is_there(m)], here.bf16 or not here.flags)
    if names:
        tell("measuring precisions", 0, len(names))
    ms, failed = apart(measure, names, begun + MEASURED, lambda done: tell("measuring precisions", done, len(names)))
    found, unmeasured = precisions(ms), [n.replace(" ", " by ") for n in names if n not in {**ms, **failed}]
    return Examination(
        version=__version__,
        python=platform.python_version(),
        packages=packages,
        devices=[device_name("cpu"), *facts.get("torch", {}).get("devices", [])],
        processor=here,
        precision=found,
        verdict=verdict(found, names, here),
        notes=[
            *unread,
            *(f"{p.name} {p.version} cannot be used: {p.fault}{_mend(p)}" for p in held if p.fault is not None),
            *([f"not imported in time, and taken to work: {', '.join(late)}; {AGAIN}"] if late else []),
            *(f"{module} does not say what it finds here: {error}" for module, error in unsaid.items()),
            *_said("Python", surroundings.python),
            *_said("packages that are installed twice", twins),
            *_said("the devices", lambda: () if "torch" in unsaid else surroundings.cards(facts.get("torch"))),
            *_said("Pillow", lambda: surroundings.pillow(facts["PIL"]) if "PIL" in facts else ()),
            *facts.get(OWN, {}).get("notes", []),
            *_said("the Hub", lambda: surroundings.offline(os.environ)),
            *_said("the threads", lambda: surroundings.cores(here, os.environ)),
            *(f"{name.replace(' ', ' by ')} could not be measured: {why}" for name, why in failed.items()),
            *([f"not measured in time: {', '.join(unmeasured)}; {AGAIN}"] if unmeasured else []),
            *_said("the load", lambda: surroundings.noise(here, load, before)),
        ],
    )


def verdict(found: Sequence[Precision], tried: Sequence[str], here: Processor) -> list[str]:
    """What precision is worth on this processor, in words, and what to do.

    tried  the runners, those that failed included: notes say why they did
    """
    if not tried:
        return [f"precision is measured with onnx and onnxruntime, which are not there: {INSTALL}"]
    paying = [p for p in found if p.gain >= PAYS]
    lines = []
    if paying:
        faster = " and ".join(f"{p.dtype} runs {p.gain:.1f}x as fast as float32" for p in paying)
        words = ",".join([*(WORDS[p.dtype] for p in paying), "fp32"])
        lines.append(f"{faster} here: try pilotfish build --precisions {words}")
    for dtype, name, there in (("int8", "VNNI", here.vnni), ("bfloat16", "bf16", here.bf16)):
        gains = [p.gain for p in found if p.dtype == dtype]
        has = f"it has {name}" if there else f"no {name}" if here.flags else f"whether it has {name} is not known"
        if gains and gains[0] < PAYS:
            lines.append(f"{dtype} gains nothing on this processor ({has}; {gains[0]:.2f}x)")
        elif not any(name.startswith(dtype) for name in tried):
            lines.append(f"{dtype} {f'was not measured: {INSTALL}' if there else f'was not measured ({has})'}")
    return lines if paying or not found else [*lines, "stay with float32"]


def _required() -> tuple[dict[str, list[Package]], list[str]]:
    """What extras need, or why that cannot be read."""
    try:
        return required(), []
    except importlib.metadata.PackageNotFoundError:
        return {}, ["Pilotfish is run from its sources, so extras are not known: pip install -e . where they lie"]
    except Exception as error:
        why = f"{type(error).__name__}: {reason(error)}"
        return {}, [
            f"the metadata of installed packages cannot be read ({why}): pip install --force-reinstall packaging"
        ]


def _quick_first(packages: Iterable[Package]) -> list[Package]:
    """The core first, then what needs no torch, what does, and the tools of developers."""
    return sorted(
        packages,
        key=lambda p: (CORE not in p.extras, set(p.extras) <= {"dev"}, "torch" in p.extras or "hf" in p.extras),
    )


def _mend(package: Package) -> str:
    own = not (package.fault or "").startswith(NEEDS)
    return f"; pip install --force-reinstall '{package.wanted}'" if own else ""


def _said(what: str, notes: Callable[[], Iterable[str]]) -> list[str]:
    """The notes; that there is a fault, where a machine is odder than was thought of."""
    try:
        return list(notes())
    except Exception as error:
        return [f"{what} could not be examined ({type(error).__name__}: {reason(error)})"]
