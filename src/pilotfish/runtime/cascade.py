"""A cascade that can be run: the artefact and the models it names."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pilotfish.cascade import Artefact, given_drop, given_share, load_artefact
from pilotfish.data import Dataset, Encoded, image_paths, open_image, path_reader, read_encoded, sample_reader
from pilotfish.errors import UnreadableSample, UsageError
from pilotfish.machine import cpu_count
from pilotfish.models import Model
from pilotfish.runtime.answers import Answer, Answers, answer_at
from pilotfish.runtime.choice import StageRuntime, default_runtime, held, read_choices
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.load_stage import check_code, load_stage, with_threads
from pilotfish.runtime.shared import linked, threaded
from pilotfish.runtime.single import answer_one
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import DecodingSupply

Input = str | Path | bytes | Image.Image | NDArray[Any]


class Cascade:
    """A loaded cascade.

        cascade = Cascade.load("cascade/")
        answers = cascade.predict(["cat.jpg", "dog.jpg"])
        cascade.set_operating_point(max_drop=0.01)

    ``artefact`` is replaced as a whole when the operating point changes, so a run that has begun keeps the point it
    began with. ``notes`` says what its user should know, a line each.
    """

    def __init__(
        self,
        artefact: Artefact,
        models: Sequence[Model],
        choices: Sequence[StageRuntime] | None = None,
        device: str = "cpu",
    ) -> None:
        self.artefact, self.device = artefact, device
        chosen = choices or [default_runtime(s, m.backend.name) for s, m in zip(artefact.stages, models, strict=True)]
        fitting = [held(c, m.input_shape, s.name) for c, m, s in zip(chosen, models, artefact.stages, strict=True)]
        self.choices = tuple(choice for choice, _ in fitting)
        self.notes: tuple[str, ...] = tuple(note for _, notes in fitting for note in notes)
        self.models = tuple(with_threads(m, c.threads) for m, c in zip(models, self.choices, strict=True))
        self.runners = [
            (threaded(runner, choice.threads), shares)
            for (runner, shares), choice in zip(
                linked(self.models, [c.backend for c in self.choices]), self.choices, strict=True
            )
        ]
        for runner, _ in self.runners:
            getattr(runner, "session", None)  # is opened now, and not when the first input waits
        self._at_once: list[EngineStage] | None = None

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", *, allow_python: Collection[str] = ()) -> Cascade:
        """Load a cascade folder and its models, run as ``pilotfish tune-runtime`` found best on this device.

        folder        as ``pilotfish tune --out`` writes it
        device        ``cpu``, ``cuda``, ``cuda:1``, …
        allow_python  the ``python:`` models that the folder may run, as MODULE:OBJECT, such as ``("legacy:predict",)``.
                      They are code of whoever wrote the folder; without this they are refused

        Raises ArtefactError when a model is not the one that was recorded (other weights or other preprocessing), and,
        before anything is loaded, when one would run code that was not allowed.
        """
        path = Path(folder)
        artefact = load_artefact(path)
        check_code(artefact.stages, allow_python)
        choices = read_choices(path, artefact, device)
        backends = [choice.backend for choice in choices] if choices else [None] * len(artefact.stages)
        models = [load_stage(s, path, device, b, allow_python) for s, b in zip(artefact.stages, backends, strict=True)]
        return cls(artefact, models, choices, device)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The exit thresholds in force, as people read them."""
        return self.artefact.shown_thresholds

    def set_operating_point(
        self,
        *,
        max_drop: float | str | None = None,
        max_cost: float | str | None = None,
        min_accuracy: float | str | None = None,
        min_metric: float | str | None = None,
    ) -> None:
        """Move to another point of the recorded frontier; nothing is tuned again. BudgetError when none fits.

        max_drop      a fraction (0.005) or text (``"0.5%"``); UsageError for a bare number of 0.1 or more
        max_cost      in the cost's unit, or text such as ``"40%"``, of the base's
        min_metric    a fraction (0.95) or text (``"95%"``), the least that the metric may be; or ``min_accuracy``
        """
        self.artefact = self.artefact.at(
            max_drop=given_drop(max_drop),
            max_cost=max_cost,
            min_metric=given_share(min_metric, "min_metric"),
            min_accuracy=given_share(min_accuracy, "min_accuracy"),
        )

    def predict(
        self, inputs: Sequence[str | Path] | NDArray[Any] | Dataset, workers: int | None = None
    ) -> list[Answer]:
        """Answer every input, in order; an input that cannot be read gets its own error.

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
            return self._answers(list(inputs.ids), self.reader(inputs), workers)
        others = [type(p).__name__ for p in inputs if not isinstance(p, str | os.PathLike)]
        if others:
            raise UsageError(
                f"predict takes paths or one array (N, …); found {others[0]} in a list: stack, or use stream"
            )
        paths = image_paths([Path(p) for p in inputs], keep_missing=True)
        return self._answers([str(p) for p in paths], path_reader(paths, self.decodes_itself), workers)

    def stream(self, inputs: Iterable[Input], workers: int | None = None) -> Iterator[Answer]:
        """Answers to inputs as they come, in their order and in constant memory: any iterable, of any length.

        inputs  image files by path or as bytes, PIL images, or arrays of one sample each
        """
        artefact, names = self.artefact, _Names(inputs)
        supply = DecodingSupply(self._opened, names, self._preprocessing(), workers or cpu_count())
        row = 0
        with Engine(self.engine_stages(), artefact.in_force) as engine:
            for found in engine.stream(supply):
                for i in range(len(found)):
                    yield answer_at(names.pop(row), i, row, found, artefact)
                    row += 1

    def engine(
        self, *, max_wait_ms: float | Sequence[float] = 0.0, queue: int = 1024, workers: int | None = None
    ) -> Engine:
        """A living engine: ``submit(input)`` gives a future, and ``close()`` ends it.

            with cascade.engine() as engine:
                future = engine.submit("cat.jpg", deadline=0.5)
                print(future.result().prediction)

        Inputs are those of :meth:`stream`; the other arguments are those of :class:`Engine`. It begins at the operating
        point that is in force now; give ``engine.in_force`` another one's ``artefact.in_force`` to move it.
        """
        if workers is not None and workers < 1:
            raise UsageError(f"workers is the number of threads that read inputs, 1 or more; found {workers}")
        supply = DecodingSupply(self._opened, (), self._preprocessing(), workers or cpu_count())
        stages = self.engine_stages()
        return Engine(stages, self.artefact.in_force, supply=supply, max_wait_ms=max_wait_ms, queue=queue)

    @property
    def decodes_itself(self) -> bool:
        """Whether some stage decodes image files in its own way, and so wants them as they are."""
        return any(model.preprocessing.decoder != "pillow" for model in self.models)

    def reader(self, data: Dataset) -> Callable[[int], Any]:
        """How the stages want the samples of *data* to be read."""
        return sample_reader(data, self.decodes_itself)

    def run(
        self, read: Callable[[int], Any], n: int, artefact: Artefact | None = None, workers: int | None = None
    ) -> Answers:
        """Answers to the *n* samples that ``read(i)`` gives, as arrays. A single one is answered at once, with every
        core at work on it."""
        point = artefact or self.artefact
        if n == 1:
            return self._one(read, point)
        supply = DecodingSupply(read, n, self._preprocessing(), workers or cpu_count())
        with Engine(self.engine_stages(), point.in_force) as engine:
            return engine.run(supply)

    def engine_stages(self) -> list[EngineStage]:
        """The stages as the engine runs them: for the most samples per second."""
        found = zip(self.artefact.stages, self.runners, self.choices, self.single_stages(), strict=True)
        return [
            EngineStage(stage.name, runner, choice.batch_size, choice.lanes, shares, single.backend)
            for stage, (runner, shares), choice, single in found
        ]

    def single_stages(self) -> list[EngineStage]:
        """The stages as a single sample is run: with all cores for one call. Made when they are first asked for."""
        if self._at_once is None:
            found = zip(self.artefact.stages, self.runners, self.choices, strict=True)
            self._at_once = [
                EngineStage(stage.name, threaded(runner, choice.threads and cpu_count()), 1, shares=shares)
                for stage, (runner, shares), choice in found
            ]
        return self._at_once

    def _one(self, read: Callable[[int], Any], point: Artefact) -> Answers:
        held: list[Any] = []

        def prepare(stage: int) -> NDArray[np.float32]:
            if not held:
                held.append(read(0))
            return self.models[stage].preprocessing(held[0])

        found = answer_one(self.single_stages(), point.in_force, prepare)
        errors = {} if found.error is None else {0: found.error}
        return Answers(np.array([found.prediction]), np.array([found.confidence]), np.array([found.stage]), errors)

    def _preprocessing(self) -> list[Any]:
        return [model.preprocessing for model in self.models]

    def _answers(self, names: list[str], read: Any, workers: int | None) -> list[Answer]:
        artefact = self.artefact
        found = self.run(read, len(names), artefact, workers)
        return [answer_at(name, i, i, found, artefact) for i, name in enumerate(names)]

    def _opened(self, item: Input) -> Any:
        if isinstance(item, Image.Image | np.ndarray):
            return item
        if isinstance(item, bytes):
            return Encoded(item, "the image") if self.decodes_itself else open_image(item)
        if isinstance(item, str | Path):
            return read_encoded(item) if self.decodes_itself else open_image(item)
        raise UnreadableSample(f"expected a path, bytes, an image or an array, found {type(item).__name__}")


class _Names:
    """Inputs as they pass, and what they are called until they are answered: a path, or their number."""

    def __init__(self, inputs: Iterable[Input]) -> None:
        self.inputs = inputs
        self.paths: dict[int, str] = {}

    def __iter__(self) -> Iterator[Input]:
        for row, item in enumerate(self.inputs):
            if isinstance(item, str | Path):
                self.paths[row] = str(item)
            yield item

    def pop(self, row: int) -> str:
        return self.paths.pop(row, str(row))
