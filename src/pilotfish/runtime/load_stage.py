"""The models of a cascade, checked against their records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, cast

from pilotfish.cascade import Stage, weights_path
from pilotfish.errors import ArtefactError, MissingExtraError, ModelError, UsageError
from pilotfish.models import Model, Preprocessing, load_model, parse_spec
from pilotfish.models.outputs.reading import with_classes
from pilotfish.runtime.choice import StageRuntime
from pilotfish.runtime.embedded_onnx import embedded_onnx
from pilotfish.runtime.places import model_files
from pilotfish.runtime.stage import EngineStage

SHAPING = ("size", "channels", "layout", "dtype", "backend")  # of preprocessing: what a model cannot work without


def check_code(stages: Iterable[Stage], allow_python: Collection[str] = ()) -> None:
    """ArtefactError if loading one of *stages* would run code that the user did not allow.

    A stage's spec comes from a file that anybody may have written. Called before the first stage is loaded.

    allow_python  names MODULE:OBJECT that may be imported and run
    """
    allowed = {_allowed(name) for name in ([allow_python] if isinstance(allow_python, str) else allow_python)}
    for stage in stages:
        code = None if stage.spec is None else parse_spec(stage.spec).code
        if code is not None and code not in allowed:
            raise ArtefactError(
                f"stage {stage.name} is {stage.spec}, which runs code named by a file and not by you; if you trust it, "
                f"allow it with --allow-python {code} (in Python: allow_python=({code!r},))"
            )


def _allowed(name: str) -> str:
    """MODULE:OBJECT, also if it is written as the model's name."""
    found = name.strip().removeprefix("python:")
    module, _, attribute = found.partition(":")
    if not module or not attribute:
        raise UsageError(f"--allow-python takes MODULE:OBJECT, such as legacy:predict, found {name!r}")
    return found


def load_stage(
    stage: Stage, folder: Path, device: str, backend: str | None = None, allow_python: Collection[str] = ()
) -> Model:
    """The model of one stage; ArtefactError when its weights or its preprocessing are not those of its records.

    If the library that runs it is not installed, or its embedded weights were removed from the folder, the ONNX file
    that was embedded beside them runs on the CPU.

    backend       what runs it; if that is not available, the device's default does
    allow_python  code that it may run; see :func:`check_code`
    """
    check_code([stage], allow_python)
    if stage.spec is None:
        raise ArtefactError(
            f"stage {stage.name} was planned from imported predictions and names no model that could be run; "
            "record the model with `pilotfish record` and tune again"
        )
    if device != "cpu":
        return _recorded_model(stage, folder, device, backend)
    if (
        stage.onnx_file and stage.weights_file is not None and not (folder / stage.weights_file).exists()
    ):  # left out on purpose
        return embedded_onnx(stage, folder)
    try:
        return _recorded_model(stage, folder, device, backend)
    except MissingExtraError as error:
        if stage.onnx_file is not None:
            return embedded_onnx(stage, folder)
        package, extra, purpose = error.missing
        if extra != "torch" or stage.weights_file is not None or purpose != f"loading {stage.spec}":
            raise
        again = f"where {package} is, write the folder with `tune --embed`, so that it needs no torch"
        raise MissingExtraError(package, extra, purpose, again) from error


def _recorded_model(stage: Stage, folder: Path, device: str, backend: str | None) -> Model:
    """The model by its name and weights, checked against its records."""
    embedded = weights_path(folder, stage.weights_file)
    model = _found(stage, model_files(stage, folder) if embedded is None else [embedded], device, backend)
    if model.class_names is None:  # as it was recorded, so that other data are matched by name
        named = with_classes(model, stage.class_names, stage.n_classes)
        model = dataclasses.replace(named, class_names=stage.class_names)
    if stage.weights_hash and model.weights_hash != stage.weights_hash:
        raise ArtefactError(
            f"stage {stage.name}: the thresholds were made for weights {stage.weights_hash[:12]}, {stage.spec} has "
            f"{model.weights_hash[:12]}; record the model again and tune again"
        )
    if stage.preprocessing_hash and model.preprocessing.hash != stage.preprocessing_hash:
        if model.assumed and (chain := _recorded(stage, model)) is not None:
            return dataclasses.replace(model, preprocessing=chain, assumed=())
        recorded, found = dict(stage.preprocessing or {}), model.preprocessing.to_json()
        differ = sorted(k for k in {*found, *recorded} if recorded.get(k) != found.get(k)) or ["details"]
        raise ArtefactError(
            f"stage {stage.name}: the thresholds were made for other preprocessing ({', '.join(differ)} differ); "
            "record the model again and tune again"
        )
    return model


def _found(stage: Stage, files: list[Path], device: str, backend: str | None) -> Model:
    """The model in the first of *files* that has the stage's weights; if none has, the first that can be loaded."""
    models: list[Model] = []
    errors: list[ModelError] = []
    for file in files or [None]:  # type: ignore[list-item]  # a model that is in no file
        try:
            model = _loaded(str(stage.spec), device, file, backend)
        except ModelError as error:
            errors.append(error)
            continue
        if not stage.weights_hash or model.weights_hash == stage.weights_hash:
            return model
        models.append(model)
    if not models:
        raise errors[0]
    return models[0]


def _loaded(spec: str, device: str, weights: Path | None, backend: str | None) -> Model:
    try:
        return load_model(spec, device, weights, backend, typed=False)
    except (ModelError, MissingExtraError):
        if backend is None:
            raise
        return load_model(spec, device, weights, typed=False)


def _recorded(stage: Stage, model: Model) -> Preprocessing | None:
    """The recorded preprocessing of a model that does not state its own: an earlier version may have assumed another.
    None if it would make other inputs than the model takes."""
    try:
        chain = Preprocessing.from_json(stage.preprocessing or {})
    except ArtefactError:
        return None
    own = model.preprocessing
    same = all(getattr(chain, part) == getattr(own, part) for part in SHAPING)
    return chain if chain.hash == stage.preprocessing_hash and (chain.kind == "tensor" or same) else None


def with_threads(model: Model, threads: int | None) -> Model:
    """*model* with that many threads per call, if its backend supports it."""
    if threads is None or not hasattr(model.backend, "with_threads"):
        return model
    return dataclasses.replace(model, backend=cast(Any, model.backend).with_threads(threads))


def engine_stage(name: str, model: Model, choice: StageRuntime, adjust: Callable[[Any], Any] | None) -> EngineStage:
    """A stage as the engine runs it."""
    return EngineStage(name, model.backend, choice.batch_size, choice.lanes, adjust=adjust)
