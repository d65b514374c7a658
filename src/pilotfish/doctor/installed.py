"""The packages that each extra needs: which are there, in which version, and whether they work.

Extras are read from Pilotfish's own metadata as it is installed, so that a new one needs no line here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pilotfish.doctor.apart import apart
from pilotfish.doctor.imports import try_imports

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OWN = "pilotfish"
CORE = ""  # the extra of what is always needed
# distributions of one and the same package: each overwrites the files of the one that was there before
SAME = (
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    ("pillow", "pillow-simd"),
)
NEEDS = "it needs"
NO_PACKAGES = {"tests", "test", "examples", "docs", "bin", "scripts", "share", "include"}


@dataclass(frozen=True)
class Package:
    """A distribution that an extra needs.

    name     of the distribution that is there, or of the one that is asked for
    wanted   the requirement, as pip takes it
    extras   those that need it; "" is the core
    version  None where it is not installed
    modules  that are imported from it
    fault    why it cannot be used although it is installed; None where it can
    """

    name: str
    wanted: str
    extras: tuple[str, ...]
    version: str | None
    modules: tuple[str, ...] = ()
    fault: str | None = None

    @property
    def works(self) -> bool:
        """Whether it is there, in a version that is accepted, and is imported."""
        return self.version is not None and self.fault is None


def required() -> dict[str, list[Package]]:
    """What each extra needs, "" first: the metadata alone, nothing is imported.

    ``importlib.metadata.PackageNotFoundError`` where Pilotfish itself has none.
    """
    from packaging.requirements import Requirement

    own = importlib.metadata.metadata(OWN)
    lines = [Requirement(line) for line in own.get_all("Requires-Dist") or ()]
    extras = [CORE, *(own.get_all("Provides-Extra") or ())]
    needs = {extra: _needs(extra, lines, set()) for extra in extras}
    found: dict[str, Package] = {}
    for extra, requirements in needs.items():
        for requirement in requirements:
            known = found.get(requirement.name)
            found[requirement.name] = (
                _package(requirement, extra) if known is None else replace(known, extras=(*known.extras, extra))
            )
    return {extra: [found[r.name] for r in requirements] for extra, requirements in needs.items()}


def imported(
    packages: Sequence[Package], until: float, tell: Callable[[str, int, int], None]
) -> tuple[list[Package], dict[str, Any], list[str]]:
    """Import each package up to the time *until*: the packages with their faults, what modules say of the machine, by
    module, and the names of those for which there was no time."""
    wanted = [p for p in packages if p.works]
    modules = list(dict.fromkeys(module for p in wanted for module in p.modules))
    if modules:
        tell("importing packages", 0, len(modules))
    found, failed = apart(try_imports, modules, until, lambda done: tell("importing packages", done, len(modules)))
    faults = failed | {module: said["fault"] for module, said in found.items() if said["fault"]}
    for module, said in found.items():  # numpy is at fault where scipy cannot be imported for it
        if module in faults and said["within"] in faults.keys() - {module}:
            faults[module] = f"{NEEDS} {said['within']}"
    for p in wanted:  # a crash leaves no trace of who was at fault
        needs = {re.split(r"[^\w.-]", line)[0] for line in _requires(p.name) if "extra ==" not in line}
        at_fault = [q.name for q in wanted if q.name in needs and not faults.keys().isdisjoint(q.modules)]
        faults |= {m: f"{NEEDS} {at_fault[0]}" for m in p.modules if m in failed and at_fault}
    late = [p.name for p in wanted if not {*p.modules} <= {*found, *failed}]
    facts = {module: said["facts"] for module, said in found.items() if module not in faults}
    held = [replace(p, fault=next((faults[m] for m in p.modules if m in faults), p.fault)) for p in packages]
    return held, facts, late


def is_there(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(module) is not None
    return False


def twins() -> list[str]:
    """Notes on distributions that overwrite each other's files."""
    notes = []
    for names in SAME:
        there = [name for name in names if _version(name) is not None]
        if len(there) > 1:
            both = " and ".join(there)
            notes.append(
                f"{both} overwrite each other's files, and the one that was installed last is used: "
                f"pip uninstall {' '.join(there)}, then install the one that you want"
            )
    return notes


def _needs(extra: str, lines: Sequence[Requirement], seen: set[str]) -> list[Requirement]:
    """The requirements of an extra, those of the extras that it names included."""
    found: dict[str, Requirement] = {}
    for line in lines:
        always, asked = (line.marker is None or line.marker.evaluate({"extra": e}) for e in (CORE, extra))
        if not asked or always != (extra == CORE):
            continue
        if line.name == OWN:  # pilotfish[torch] among the requirements of hf
            for other in sorted(line.extras - seen):
                found |= {r.name: r for r in _needs(other, lines, seen | {extra, other})}
        else:
            found[line.name] = line
    return list(found.values())


def _package(requirement: Requirement, extra: str) -> Package:
    same = next((names for names in SAME if requirement.name in names), (requirement.name,))
    name = next((n for n in (requirement.name, *same) if _version(n) is not None), requirement.name)
    version = _version(name)
    wanted = f"{requirement.name}{requirement.specifier}"
    made = Package(name, wanted, (extra,), version)
    if version is None:
        return made
    fits = False
    with contextlib.suppress(ValueError):  # a version that is none
        fits = requirement.specifier.contains(version, prereleases=True)
    return replace(made, modules=_modules(name), fault=None if fits else f"its version is not {requirement.specifier}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name) or ""
    except importlib.metadata.PackageNotFoundError:
        return None
    except Exception:  # damaged metadata: a folder without METADATA raises what its reader does
        return ""


def _requires(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _modules(name: str) -> tuple[str, ...]:
    """What a distribution is imported by: its own name, or else what it installed."""
    own = re.sub(r"[-.]", "_", name).lower()
    if is_there(own):
        return (own,)
    there = importlib.metadata.distribution(name)
    tops = (there.read_text("top_level.txt") or "").split()
    tops = tops or [file.parts[0].removesuffix(".py") for file in there.files or () if file.suffix == ".py"]
    names = sorted({top for top in tops if top.isidentifier() and not top.startswith("_")} - NO_PACKAGES)
    return tuple(names) or (own,)
