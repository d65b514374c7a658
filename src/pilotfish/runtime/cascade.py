"""A cascade that can be run: the artefact and the models it names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Artefact, Stage, load_artefact, weights_path
from pilotfish.data import Dataset, image_paths, open_image
from pilotfish.errors import ArtefactError, UsageError
from pilotfish.models import Model, load_model
from pilotfish.models.machine import cpu_count
from pilotfish.runtime.engine import Answers, Engine, EngineStage
from pilotfish.runtime.supply import DecodingSupply

DEFAULT_BATCH = 8


@dataclass(frozen=True)
class Answer:
    """The answer to one input.

    prediction  class index; None with an error
    name        the class's name, where the stage knows it
    confidence  the exit score of the stage that answered (a probability for max_prob)
    stage       index of the stage that answered, 0 the saver
    """

    input: str
    prediction: int | None
    name: str | None
    confidence: float | None
    stage: int | None
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """One entry of ``pilotfish predict --json``."""
        return dataclasses.asdict(self)


class Cascade:
    """A loaded cascade.

        cascade = Cascade.load("cascade/")
        answers = cascade.predict(["cat.jpg", "dog.jpg"])
        cascade.set_operating_point(max_drop=0.01)

    ``artefact`` is replaced as a whole when the operating point changes, so a run that has begun keeps the point it
    began with.
    """

    def __init__(self, artefact: Artefact, models: Sequence[Model], batch_sizes: Sequence[int] | None = None) -> None:
        self.artefact = artefact
        self.models = tuple(models)
        self.batch_sizes = tuple(batch_sizes or (best_batch(stage) for stage in artefact.stages))

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Cascade:
        """Load a cascade folder and its models.

        Raises ArtefactError when a model is not the one that was recorded: other weights or other preprocessing.
        """
        path = Path(folder)
        artefact = load_artefact(path)
        models = [load_stage(stage, path, device) for stage in artefact.stages]
        return cls(artefact, models)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The exit thresholds in force, as people read them."""
        return self.artefact.shown_thresholds

    def set_operating_point(
        self,
        *,
        max_drop: float | None = None,
        max_cost: float | str | None = None,
        min_accuracy: float | None = None,
    ) -> None:
        """Move to another point of the recorded frontier; nothing is tuned again. BudgetError when none fits."""
        self.artefact = self.artefact.at(max_drop=max_drop, max_cost=max_cost, min_accuracy=min_accuracy)

    def predict(
        self, inputs: Sequence[str | Path] | NDArray[Any] | Dataset, workers: int | None = None
    ) -> list[Answer]:
        """Answer every input, in order; an input that cannot be read has an error and harms no other.

        inputs  image files or folders of them; an array (N, …), uint8 (N, H, W[, 3]) for images; or a data set
        """
        if isinstance(inputs, np.ndarray):
            if inputs.ndim < 2:
                raise UsageError(f"an array of inputs has its samples along the first axis; found shape {inputs.shape}")
            array: NDArray[Any] = inputs
            return self._answers([str(i) for i in range(len(array))], array.__getitem__, workers)
        if isinstance(inputs, str | Path):
            raise UsageError(f"predict takes a list of inputs; write predict([{str(inputs)!r}])")
        if not isinstance(inputs, Sequence):
            return self._answers(list(inputs.ids), inputs.read, workers)
        paths = image_paths([Path(p) for p in inputs], keep_missing=True)
        return self._answers([str(p) for p in paths], lambda i: open_image(paths[i]), workers)

    def _answers(self, names: list[str], read: Any, workers: int | None) -> list[Answer]:
        artefact = self.artefact
        found = self.run(read, len(names), artefact, workers)
        return [_answer(name, i, found, artefact) for i, name in enumerate(names)]

    def run(self, read: Any, n: int, artefact: Artefact | None = None, workers: int | None = None) -> Answers:
        """Answers to the *n* samples that ``read(i)`` gives, as arrays."""
        point = artefact or self.artefact
        preprocessing = [model.preprocessing for model in self.models]
        with DecodingSupply(read, n, preprocessing, workers or cpu_count()) as supply:
            return Engine(self.engine_stages(), point.in_force).run(supply)

    def engine_stages(self) -> list[EngineStage]:
        """The stages as the engine runs them."""
        return [
            EngineStage(stage.name, model.backend, size)
            for stage, model, size in zip(self.artefact.stages, self.models, self.batch_sizes, strict=True)
        ]


def load_stage(stage: Stage, folder: Path, device: str) -> Model:
    """The model of one stage, held against its records: same weights, same preprocessing."""
    if stage.spec is None:
        raise ArtefactError(
            f"stage {stage.name} was planned from imported predictions and names no model that could be run; "
            "record the model with `pilotfish record` and tune again"
        )
    model = load_model(stage.spec, device, weights_path(folder, stage))
    if stage.weights_hash and model.weights_hash != stage.weights_hash:
        raise ArtefactError(
            f"stage {stage.name}: the thresholds were made for weights {stage.weights_hash[:12]}, {stage.spec} has "
            f"{model.weights_hash[:12]}; record the model again and tune again"
        )
    if stage.preprocessing_hash and model.preprocessing.hash != stage.preprocessing_hash:
        recorded, found = dict(stage.preprocessing or {}), model.preprocessing.to_json()
        differ = [k for k in found if recorded.get(k) != found[k]] or ["details"]
        raise ArtefactError(
            f"stage {stage.name}: the thresholds were made for other preprocessing ({', '.join(differ)} differ); "
            "record the model again and tune again"
        )
    return model


def best_batch(stage: Stage) -> int:
    """The batch size with the least recorded time per sample; 8 where no time is known."""
    found = ((re.fullmatch(r"ms@\w+-b(\d+)", key), ms) for key, ms in stage.costs.items())
    timed = [(ms, int(match[1])) for match, ms in found if match]
    return min(timed)[1] if timed else DEFAULT_BATCH


def _answer(name: str, i: int, found: Answers, artefact: Artefact) -> Answer:
    if i in found.errors:
        return Answer(name, None, None, None, None, found.errors[i])
    stage, prediction = int(found.stage[i]), int(found.prediction[i])
    names = artefact.stages[stage].class_names
    return Answer(
        input=name,
        prediction=prediction,
        name=names[prediction] if names else None,
        confidence=float(found.confidence[i]),
        stage=stage,
        error=None,
    )
