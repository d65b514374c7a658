"""Whether modules can be imported, and what some of them say of the machine. It runs in a process of its own."""

from __future__ import annotations

import importlib
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pilotfish.doctor.surroundings import storage
from pilotfish.errors import reason

if TYPE_CHECKING:
    from pilotfish.doctor.apart import Report

OWN = "pilotfish.models.onnx.onnx_cache"  # imports most of what the core needs


def try_imports(modules: Sequence[str], report: Report) -> None:
    """Import each; found is {"fault": None or why not, "within": the module whose code failed, "facts": what it says of
    the machine}."""
    for module in modules:
        report(module)
        fault, within, facts = None, module, {}
        try:
            imported = importlib.import_module(module)
            facts = FACTS[module](imported) if module in FACTS else {}
        except BaseException as error:  # libraries end Python (SystemExit) and raise whatever they like
            fault = f"{type(error).__name__}: {reason(error)}"
            within = _last_frame(error).partition(".")[0] or module
        report(module, {"fault": fault, "within": within, "facts": facts})


def _last_frame(error: BaseException) -> str:
    """The name of the module in which *error* was raised."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", ""))


def _torch(torch: Any) -> dict[str, Any]:
    """The devices that torch sees, what it was built for, and why it sees none."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        why = "" if count or not warned else reason(Exception(str(warned[0].message)))
    compiled = torch.cuda.get_arch_list() if count else []
    devices, unfit = [], []
    for k in range(count):
        found = torch.cuda.get_device_properties(k)
        devices.append(
            f"cuda:{k}, {found.name}, {found.total_memory / 2**30:.0f} GiB, capability {found.major}.{found.minor}"
        )
        if compiled and not any(int(arch.split("_")[-1].rstrip("af")) // 10 == found.major for arch in compiled):
            unfit.append(f"{found.name} (capability {found.major}.{found.minor})")
    return {"devices": devices, "unfit": unfit, "cuda": torch.version.cuda, "hip": torch.version.hip, "why": why}


def _pillow(_: Any) -> dict[str, Any]:
    from PIL import features

    return {
        "jpeg": bool(features.check("jpg")),
        "turbo": bool(features.check_feature("libjpeg_turbo")),
        "avif": bool(features.check("avif")),
        "webp": bool(features.check("webp")),
    }


FACTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "torch": _torch,
    "PIL": _pillow,
    OWN: lambda _: {"notes": list(storage())},
}
