"""Weights inside the cascade folder, so that one folder is all one deploys."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from pilotfish.cascade import Artefact, check_target, save_artefact
from pilotfish.errors import ArtefactError
from pilotfish.files import atomic_path
from pilotfish.models import parse_spec
from pilotfish.runtime.load_stage import check_code, load_stage


def save_with_weights(artefact: Artefact, folder: str | Path, allow_python: Collection[str] = ()) -> Path:
    """Write the cascade with its models' weights under ``weights/``.

    allow_python  as for :meth:`pilotfish.Cascade.load`: the models' names come from the run's metadata

    ArtefactError for a model whose weights cannot be copied (a bare callable), or that would run code that was not
    allowed.
    """
    target = Path(folder)
    check_code(artefact.stages, allow_python)
    check_target(target)
    stages = []
    networks: dict[str, str] = {}  # exits of one network share a file
    for index, stage in enumerate(artefact.stages):
        model = load_stage(stage, target, "cpu", "torch", allow_python)
        if model.weights is None and (code := parse_spec(str(stage.spec)).code) is not None:
            raise ArtefactError(
                f"stage {stage.name}: the weights of {stage.spec} cannot be embedded; leave --embed out: it is code, "
                f"so install its module where the cascade runs, and load it with --allow-python {code}"
            )
        if model.weights is None:
            raise ArtefactError(
                f"stage {stage.name}: the weights of {stage.spec} cannot be embedded; leave --embed out"
            )
        name = networks.get(model.weights_hash, f"weights/{index}{model.weights_suffix}")
        if name not in networks.values():
            with atomic_path(target / name) as temporary:
                model.weights(temporary)
        if model.exit_of is not None:
            networks[model.weights_hash] = name
        stages.append(dataclasses.replace(stage, weights_file=name))
    return save_artefact(dataclasses.replace(artefact, stages=tuple(stages)), target)
