"""How a model's answer is read: which output, and what it has been through. ``?output=NAME&activation=KIND``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from pilotfish.errors import ModelError, nearest
from pilotfish.models.model import Backend, Counted, Model
from pilotfish.models.names.spec import ModelSpec, parse_spec, with_option
from pilotfish.models.outputs.activation import ACTIVATIONS, BEST
from pilotfish.models.outputs.raw_answers import EXPECTED, RawAnswers
from pilotfish.models.outputs.said import Places


@dataclass(frozen=True)
class Reading:
    """How the logits of a model are had from what it returns.

    output      name (key, field, place) of the output; None: the first, or the only one
    activation  what it comes from, of ``activation.ACTIVATIONS``; None: not stated, logits as they are. ``confidence``
                for callables: a predicted class and how sure it is
    takes       what a callable takes, of ``python_backend.TAKES``; None: not stated
    """

    output: str | None = None
    activation: str | None = None
    takes: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the first output is taken as it is."""
        return self.output is None and self.activation is None

    @property
    def identity(self) -> str:
        """Equal for readings that give the same logits; empty for a plain one."""
        changes = "" if self.activation in (None, "none", "log_softmax") else f"activation={self.activation}"
        return "&".join(part for part in ("" if self.output is None else f"output={self.output}", changes) if part)

    def written(self, text: str) -> str:
        """The model's name *text* with what it does not say of this reading."""
        options = parse_spec(text).options
        missing = {
            key: quote(value, safe="/:._-+*$()[] ")
            for key, value in (("takes", self.takes), ("output", self.output), ("activation", self.activation))
            if value is not None and key not in options
        }
        return functools.reduce(with_option, (f"{key}={value}" for key, value in missing.items()), text)


def take_reading(spec: ModelSpec) -> tuple[ModelSpec, Reading]:
    """The name without its reading, and the reading. ModelError for an unknown activation."""
    options = dict(spec.options)
    if spec.kind == "exits":  # Pilotfish's own networks return logits
        return spec, Reading()
    output, activation = options.pop("output", None), options.pop("activation", None)
    known = (*ACTIVATIONS, BEST) if spec.kind == "python" else ACTIVATIONS
    if activation is not None and activation not in known:
        raise ModelError(f"{spec.text}: unknown activation {activation!r}; {nearest(activation, known)}")
    if output == "":
        raise ModelError(f"{spec.text}: output names one of the model's outputs, found nothing")
    takes = options.get("takes") if spec.kind == "python" else None  # stays: the model is loaded by it
    reading = Reading(None if output is None else unquote(output), activation, takes)
    return dataclasses.replace(spec, options=options), reading


def reading_of(text: str | None) -> Reading:
    """The reading that a model's name states; a plain one where the name cannot be read."""
    try:
        return Reading() if text is None else take_reading(parse_spec(text))[1]
    except ModelError:
        return Reading()


def take_task(spec: ModelSpec, asked: str | None) -> ModelSpec:
    """The name without its option ``task``, and with what it answers: as that states it, or as the caller *asked*.
    ModelError where the two differ."""
    options = dict(spec.options)
    stated = options.pop("task", None)
    if stated is not None and stated not in (known := ("classes", *EXPECTED)):
        raise ModelError(f"{spec.text}: unknown task {stated!r}; {nearest(stated, known)}")
    if None not in (stated, asked) and stated != asked:
        raise ModelError(f"{spec.text}: states the task {stated}, and {asked} is asked for; keep one")
    return dataclasses.replace(spec, options=options, task=asked or stated)


def answering(model: Model, spec: ModelSpec) -> Model:
    """*model* as one of the task that *spec* has, where it has one: its name then says so. ModelError where it is known
    to answer another."""
    task = spec.task
    if task is None or task == model.task:
        return model
    if model.task != "classes" or (task in EXPECTED and model.exit_of is not None):
        raise ModelError(
            f"{model.spec}: answers {model.task}, and {task} is asked for; name one of {task}, or leave the task out"
        )
    told = task in EXPECTED and "task" not in parse_spec(spec.text).options
    return dataclasses.replace(model, task=task, spec=with_option(model.spec, f"task={task}") if told else model.spec)


def with_reading(model: Model, reading: Reading, device: str) -> Model:
    """*model* so that its backend gives the logits of *reading*, or the raw answers of its task, wherever it is run or
    exported."""
    if model.task in EXPECTED:
        return _reading_task(model, reading, device)
    if reading.is_plain:
        return model
    from pilotfish.models.backends.onnx_backend import OnnxBackend

    backend, module = model.backend, getattr(model.backend, "module", None)
    if module is not None:
        from pilotfish.models.backends.torch_backend import TorchBackend
        from pilotfish.models.outputs.torch_logits import LogitsOf

        read = LogitsOf(module, reading.output, reading.activation, model.spec)
        return dataclasses.replace(model, backend=TorchBackend(read, device, dtype=model.preprocessing.dtype))
    if isinstance(backend, OnnxBackend):
        given = (reading.output, reading.activation, model.input_shape)
        found = OnnxBackend(backend.file, backend.threads, *given)
        shape = model.input_shape or ()

        def count() -> Counted:
            from pilotfish.models.onnx.onnx_model import count_graph

            return count_graph(found.light(), found.input.name, shape)

        return dataclasses.replace(model, backend=found, count=count, n_classes=found.classes or model.n_classes)
    from pilotfish.models.backends.python_backend import PythonBackend

    whole = backend if isinstance(backend, PythonBackend) else PythonBackend(model.run, model.spec)
    read_by = whole.changed(output=reading.output, activation=reading.activation)
    return with_classes(dataclasses.replace(model, backend=read_by), model.class_names, model.n_classes)


def _reading_task(model: Model, reading: Reading, device: str) -> Model:
    """*model*, whose backend gives the raw answers of its task."""
    from pilotfish.models.backends.onnx_backend import OnnxBackend

    backend, module = model.backend, getattr(model.backend, "module", None)
    output, activation = reading.output, reading.activation
    able = {"labels": ("none", "sigmoid")}.get(model.task, ())
    if activation is not None and activation not in able:
        takes = f"takes one of {', '.join(able)}" if able else "leave it out"
        raise ModelError(f"{model.spec}: activation={activation} is for classes; a model of {model.task} {takes}")
    if output is not None and model.task == "boxes":
        raise ModelError(f"{model.spec}: a detector is read by its boxes, scores and labels together; leave output out")
    reads = RawAnswers(model.task, output, activation)
    if module is not None:
        from pilotfish.models.backends.torch_backend import TorchBackend

        read: Backend = TorchBackend(module, device, dtype=model.preprocessing.dtype, reads=reads)
    elif isinstance(backend, OnnxBackend):
        read = backend.reading(reads)
    elif backend.name == "python":
        from pilotfish.models.backends.python_backend import PythonBackend

        whole = backend if isinstance(backend, PythonBackend) else PythonBackend(model.run, model.spec)
        read = whole.changed(reads=reads)
    else:
        raise ModelError(
            f"{model.spec}: {backend.name} runs classifiers here, and {model.task} is asked for; let ONNX Runtime or "
            "torch run it"
        )
    return dataclasses.replace(model, backend=read)


def with_classes(model: Model, names: Sequence[str] | None, n_classes: int | None) -> Model:
    """*model*, where it is a callable, with the classes that its answers name, in their order."""
    from pilotfish.models.backends.python_backend import PythonBackend

    if not isinstance(model.backend, PythonBackend) or (names is None and n_classes is None):
        return model
    backend = model.backend.changed(places=Places(names, n_classes, model.spec))
    return dataclasses.replace(model, backend=backend, class_names=None if names is None else tuple(names))
