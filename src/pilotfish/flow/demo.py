"""The whole job on scikit-learn's digits, offline, with networks trained on the spot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pilotfish.data import load_data
from pilotfish.flow.build import BuildResult, Tell, build
from pilotfish.flow.demo_models import RECIPES, train_demo_models
from pilotfish.recording import RecordOptions

MAX_DROP = 0.005


def demo(out: str | Path, progress: Tell | None = None) -> BuildResult:
    """Train two networks on half of the digits, then build a cascade on the other half for half a point of drop.

    Everything goes into the folder *out*: ``models/``, ``run/``, ``cascade/`` and ``report.html``.
    """
    folder = Path(out)
    tell = progress or (lambda *_: None)
    files = train_demo_models(load_data("digits:train"), folder / "models", RECIPES, tell)
    result = build(
        "digits:val",
        {path.stem: f"checkpoint:{path}" for path in files},
        folder / "cascade",
        max_drop=MAX_DROP,
        run=folder / "run",
        embed=True,
        options=RecordOptions(overwrite=True),
        progress=tell,
    )
    page = folder / "report.html"
    result.report.replace(page)
    return dataclasses.replace(result, report=page)
