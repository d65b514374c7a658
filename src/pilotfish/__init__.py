"""Pilotfish makes big models cheap to run.

    import pilotfish

    pilotfish.record("folder:photos", ["timm:mobilenetv3_small_100", "timm:convnext_base"], "run")
    pilotfish.savers("run", base="timm:convnext_base")
    pilotfish.tune("run", ["timm:mobilenetv3_small_100", "timm:convnext_base"], max_drop=0.005).save("cascade")
    pilotfish.Cascade.load("cascade").predict(["cat.jpg"])

Names are loaded when they are first used: ``import pilotfish`` is quick and imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pilotfish._version import __version__

if TYPE_CHECKING:
    from pilotfish.api import analyse, chains, import_predictions, record, savers, shortlist, tune, write_report
    from pilotfish.cascade import Artefact
    from pilotfish.data import load_data
    from pilotfish.errors import PilotfishError
    from pilotfish.flow import build
    from pilotfish.flow.evaluate_cascade import evaluate
    from pilotfish.flow.quantise import quantise
    from pilotfish.flow.update import Update, update
    from pilotfish.models import Model, Preprocessing, load_model
    from pilotfish.plan import Analysis, ChainRanking, Evaluation, SaverRanking, Shortlist, Tuning
    from pilotfish.records import Records, Run, open_run
    from pilotfish.runtime import Answer, BenchResult, Cascade, RuntimeTuning, bench, tune_runtime
    from pilotfish.runtime.export import export, export_stages
    from pilotfish.train import Recipe, Trained, load_recipe, train_esn, train_exits, train_msdnet, train_router

_HOMES = {
    "pilotfish.api": (
        "analyse",
        "chains",
        "import_predictions",
        "record",
        "savers",
        "shortlist",
        "tune",
        "write_report",
    ),
    "pilotfish.cascade": ("Artefact",),
    "pilotfish.data": ("load_data",),
    "pilotfish.errors": ("PilotfishError",),
    "pilotfish.flow": ("build",),
    "pilotfish.flow.evaluate_cascade": ("evaluate",),
    "pilotfish.flow.quantise": ("quantise",),
    "pilotfish.flow.update": ("Update", "update"),
    "pilotfish.models": ("Model", "Preprocessing", "load_model"),
    "pilotfish.plan": ("Analysis", "ChainRanking", "Evaluation", "SaverRanking", "Shortlist", "Tuning"),
    "pilotfish.records": ("Records", "Run", "open_run"),
    "pilotfish.runtime": ("Answer", "BenchResult", "Cascade", "RuntimeTuning", "bench", "tune_runtime"),
    "pilotfish.runtime.export": ("export", "export_stages"),
    "pilotfish.train": (
        "Recipe",
        "Trained",
        "load_recipe",
        "train_esn",
        "train_exits",
        "train_msdnet",
        "train_router",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Analysis",
    "Answer",
    "Artefact",
    "BenchResult",
    "Cascade",
    "ChainRanking",
    "Evaluation",
    "Model",
    "PilotfishError",
    "Preprocessing",
    "Recipe",
    "Records",
    "Run",
    "RuntimeTuning",
    "SaverRanking",
    "Shortlist",
    "Trained",
    "Tuning",
    "Update",
    "__version__",
    "analyse",
    "bench",
    "build",
    "chains",
    "evaluate",
    "export",
    "export_stages",
    "import_predictions",
    "load_data",
    "load_model",
    "load_recipe",
    "open_run",
    "quantise",
    "record",
    "savers",
    "shortlist",
    "train_esn",
    "train_exits",
    "train_msdnet",
    "train_router",
    "tune",
    "tune_runtime",
    "update",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pilotfish' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
