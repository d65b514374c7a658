"""A cascade that can be run: the artefact and the models it names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.cascade import Artefact, given_drop, given_metric, load_artefact
from pilotfish.data import Dataset, sample_reader
from pilotfish.errors import ModelError, UsageError
from pilotfish.machine import cpu_count
from pilotfish.models import Model
from pilotfish.runtime.answers import Answer, Answers, answer_at, answer_of
from pilotfish.runtime.choice import StageRuntime, default_runtime, held, read_choices
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.inputs import FILES, Input, name_of, opened, sorted_out, takes_images
from pilotfish.runtime.lanes import Observer
from pilotfish.runtime.load_stage import check_code, load_stage, with_threads
from pilotfish.runtime.save_answers import save_answers
from pilotfish.runtime.shared import linked, threaded
from pilotfish.runtime.single import OneAnswer, answer_one, prepared
from pilotfish.runtime.stage import EngineStage
from pilotfish.runtime.supply import DecodingSupply


class Cascade:
    """A loaded cascade.

        cascade = Cascade.load("cascade/")
        answers = cascade.predict(["cat.jpg", "dog.jpg"])
        cascade.set_operating_point(max_drop=0.01)

    ``artefact`` is replaced as a whole when the operating point changes, so a run keeps the point it started with.
    ``notes`` holds what its user should know, one line each. Threads may share a cascade: any of them may call
    ``predict``, ``predict_one``, ``stream``, ``engine`` and ``set_operating_point`` at any time.
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
        self.notes += tuple(_backend_notes(artefact, self.choices, self.models))
        self.single_stages = [  # as a single sample runs: with all cores for one call
            EngineStage(stage.name, threaded(runner, choice.threads and cpu_count()), 1, shares=shares, adjust=adjust)
            for stage, (runner, shares), choice, adjust in zip(
                artefact.stages, self.runners, self.choices, artefact.adjusters(), strict=True
            )
        ]
        images = takes_images(model.preprocessing for model in models)
        self._opened = functools.partial(opened, encoded=self.decodes_itself, images=images)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", *, allow_python: Collection[str] = ()) -> Cascade:
        """Load a cascade folder and its models, with the settings that ``pilotfish tune-runtime`` found best on this
        device.

        folder        as ``pilotfish tune --out`` writes it
        device        ``cpu``, ``cuda``, ``cuda:1``, …
        allow_python  the ``python:`` models that the folder may run, as MODULE:OBJECT, such as ``("legacy:predict",)``.
                      They are code chosen by whoever wrote the folder; without this they are refused

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
        """The exit thresholds in force, in display units."""
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
        min_metric    a fraction (0.95) or text (``"95%"``), the minimum value of the metric; or ``min_accuracy``
        """
        self.artefact = self.artefact.at(
            max_drop=given_drop(max_drop),
            max_cost=max_cost,
            min_metric=given_metric(min_metric, "min_metric"),
            min_accuracy=given_metric(min_accuracy, "min_accuracy"),
        )

    def predict(
        self,
        inputs: Input | Sequence[Input] | Dataset,
        workers: int | None = None,
        *,
        save: str | Path | None = None,
    ) -> list[Answer]:
        """Answer every input, in order; an input that cannot be read gets its own error.

            >>> cascade.predict(["cat.jpg", request.body, Image.open(file), pixels])  # doctest: +SKIP

        inputs   image files or folders of them by path, the bytes of image files, PIL images, arrays of one sample each
                 (uint8 (H, W, 3) or (H, W) for images), or any mixture of them in a list. One alone is answered alone.
                 One array (N, …) is N samples: uint8 (N, H, W, 3) or (N, H, W) for images. Or a data set
        workers  threads that read inputs; one per core by default
        save     a folder: each answer is drawn on its image, a PNG of the input's name

        An answer's ``input`` is the path, otherwise the position in the list. UsageError for an array that may be one
        image or several. ModelError when a stage cannot be run at all.
        """
        given = sorted_out(inputs, self._preprocessing(), self.models[0].input_shape)
        answers = self._answers(given.names, given.reader(self.decodes_itself), workers)
        if save is not None:
            save_answers(answers, given.reader(False), self.artefact, save)
        return answers

    def predict_one(self, item: Input) -> Answer:
        """Answer one input at once, in the caller's thread and with every core, as request handlers need it.

            >>> answer = cascade.predict_one(request.body)  # doctest: +SKIP

        item  as one of those of :meth:`predict`; an array is one sample

        It raises for nothing that an input can cause: an input that cannot be read, or that a stage cannot compute, has
        an ``error``. Many threads may call it; for more requests than cores, :meth:`engine` makes batches. The first
        call takes longer: it opens sessions with every core.
        """
        artefact = self.artefact
        name = name_of(item, 0)
        for stage in self.single_stages:
            getattr(stage.backend, "session", None)  # is opened now, and not when the first input gets there
        try:
            found = self._one(lambda: self._opened(item), artefact)
        except ModelError as error:
            return answer_of(name, None, 0.0, -1, str(error), artefact)
        return answer_of(name, *found[:4], artefact)

    def stream(self, inputs: Iterable[Input], workers: int | None = None) -> Iterator[Answer]:
        """Answers to inputs as they come, in order and in constant memory: any iterable, of any length.

        inputs  image files by path or as bytes, PIL images, or arrays of one sample each, as those of :meth:`predict`
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
        self,
        *,
        max_wait_ms: float | Sequence[float] = 0.0,
        queue: int = 1024,
        workers: int | None = None,
        observer: Observer | None = None,
    ) -> Engine:
        """A running engine: ``submit(input)`` returns a future, and ``close()`` ends it.

            with cascade.engine() as engine:
                future = engine.submit("cat.jpg", deadline=0.5)
                print(future.result().prediction)

        Inputs are those of :meth:`stream`; the other arguments are those of :class:`Engine`. It starts at the operating
        point now in force; set ``engine.in_force`` to another ``artefact.in_force`` to move it.
        """
        if workers is not None and workers < 1:
            raise UsageError(f"workers is the number of threads that read inputs, 1 or more; found {workers}")
        supply = DecodingSupply(self._opened, (), self._preprocessing(), workers or cpu_count())
        stages = self.engine_stages()
        return Engine(
            stages, self.artefact.in_force, supply=supply, max_wait_ms=max_wait_ms, queue=queue, observer=observer
        )

    @property
    def decodes_itself(self) -> bool:
        """Whether some stage decodes image files itself, and so needs them undecoded."""
        return any(model.preprocessing.decodes_itself for model in self.models)

    def reader(self, data: Dataset) -> Callable[[int], Any]:
        """How the samples of *data* are read for these stages."""
        return sample_reader(data, self.decodes_itself)

    def run(
        self, read: Callable[[int], Any], n: int, artefact: Artefact | None = None, workers: int | None = None
    ) -> Answers:
        """Answers to the *n* samples that ``read(i)`` returns, as arrays. A single one is answered at once, with every
        core."""
        point = artefact or self.artefact
        if n == 1:
            found = self._one(lambda: read(0), point)
            errors = {} if found.error is None else {0: found.error}
            return Answers(np.array([found.prediction]), np.array([found.confidence]), np.array([found.stage]), errors)
        supply = DecodingSupply(read, n, self._preprocessing(), workers or cpu_count())
        with Engine(self.engine_stages(), point.in_force) as engine:
            return engine.run(supply)

    def engine_stages(self) -> list[EngineStage]:
        """The stages as the engine runs them, for maximum throughput."""
        found = zip(self.artefact.stages, self.runners, self.choices, self.single_stages, strict=True)
        return [
            EngineStage(stage.name, runner, choice.batch_size, choice.lanes, shares, single.backend, single.adjust)
            for stage, (runner, shares), choice, single in found
        ]

    def _one(self, read: Callable[[], Any], point: Artefact) -> OneAnswer:
        return answer_one(self.single_stages, point.in_force, prepared(read, self._preprocessing()))

    def _preprocessing(self) -> list[Any]:
        return [model.preprocessing for model in self.models]

    def _answers(self, names: list[str], read: Any, workers: int | None) -> list[Answer]:
        artefact = self.artefact
        found = self.run(read, len(names), artefact, workers)
        return [answer_at(name, i, i, found, artefact) for i, name in enumerate(names)]


def _backend_notes(artefact: Artefact, choices: Sequence[StageRuntime], models: Sequence[Model]) -> Iterator[str]:
    """Notes on stages that run differently from how they were recorded, or from what was found best here."""
    for stage, choice, model in zip(artefact.stages, choices, models, strict=True):
        if (lack := getattr(model.backend, "lack", None)) is not None:
            yield f"{stage.name}: {lack}; answers near a threshold may differ from the recorded ones"
        if (doubt := getattr(model.backend, "doubt", None)) is not None:
            yield f"{stage.name}: {doubt}"
        if choice.backend not in (None, model.backend.name) and model.exit_of is None:
            yield (
                f"{stage.name} is run by {model.backend.name}: {choice.backend}, which tune-runtime found fastest, "
                "cannot be had now; run pilotfish tune-runtime again"
            )


class _Names:
    """Passes inputs on, and keeps their names until they are answered: a path, or their number."""

    def __init__(self, inputs: Iterable[Input]) -> None:
        self.inputs = inputs
        self.paths: dict[int, str] = {}

    def __iter__(self) -> Iterator[Input]:
        for row, item in enumerate(self.inputs):
            if isinstance(item, FILES):
                self.paths[row] = name_of(item, row)
            yield item

    def pop(self, row: int) -> str:
        return self.paths.pop(row, str(row))
