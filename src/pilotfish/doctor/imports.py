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
        except BaseException as error:  # libraries end Python (SystemExit) and raise whatever they like
            fault = f"{type(error).__name__}: {reason(error)}"
            within = _last_frame(error).partition(".")[0] or module
        else:
            facts = _facts(module, imported)
        report(module, {"fault": fault, "within": within, "facts": facts})


def _last_frame(error: BaseException) -> str:
    """The name of the module in which *error* was raised."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", ""))


def _facts(module: str, imported: Any) -> dict[str, Any]:
    """What a module says of the machine; "error" where it cannot be asked."""
    try:
        return FACTS[module](imported) if module in FACTS else {}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {reason(error)}"}


def _torch(torch: Any) -> dict[str, Any]:
    """The devices that torch sees, those it has no kernels for, what it is built for, and why it sees none."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        why = "" if count or not warned else reason(Exception(str(warned[0].message)))
    built = [] if torch.version.hip or not count else torch.cuda.get_arch_list()
    devices, unfit = [], []
    for k in range(count):
        card = torch.cuda.get_device_properties(k)
        capability = f"capability {card.major}.{card.minor}"
        devices.append(f"cuda:{k}, {card.name}, {card.total_memory / 2**30:.0f} GiB, {capability}")
        if built and not any(_runs(arch, card.major, card.minor) for arch in built):
            unfit.append(f"{card.name} ({capability})")
    return {"devices": devices, "unfit": unfit, "cuda": torch.version.cuda, "hip": torch.version.hip, "why": why}


def _runs(arch: str, major: int, minor: int) -> bool:
    """Whether a card runs kernels for *arch*: sm_86 on later cards of its generation, compute_86 on all later ones."""
    kind, _, number = arch.partition("_")
    built = int("".join(filter(str.isdigit, number)))
    return built <= 10 * major + minor and (kind == "compute" or built // 10 == major)


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
