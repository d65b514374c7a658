"""How a model's answer is read: which output, and what it has been through. ``?output=NAME&activation=KIND``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from urllib.parse import quote, unquote

from pilotfish.errors import ModelError, nearest
from pilotfish.models.model import F32, Counted, Model
from pilotfish.models.names.spec import ModelSpec, parse_spec
from pilotfish.models.outputs.activation import ACTIVATIONS, logits_of
from pilotfish.models.outputs.which_output import as_array, pick


@dataclass(frozen=True)
class Reading:
    """How the logits of a model are had from what it returns.

    output      name (key, field, place) of the output; None: the first, or the only one
    activation  what it comes from, of ``activation.ACTIVATIONS``; None: not stated, logits as they are
    """

    output: str | None = None
    activation: str | None = None

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
            for key, value in (("output", self.output), ("activation", self.activation))
            if value is not None and key not in options
        }
        if not missing:
            return text
        mark = "&" if "?" in text else "?"
        return text + mark + "&".join(f"{key}={value}" for key, value in missing.items())


def take_reading(spec: ModelSpec) -> tuple[ModelSpec, Reading]:
    """The name without its reading, and the reading. ModelError for an unknown activation."""
    options = dict(spec.options)
    if spec.kind == "exits":  # Pilotfish's own networks return logits
        return spec, Reading()
    output, activation = options.pop("output", None), options.pop("activation", None)
    if activation is not None and activation not in ACTIVATIONS:
        raise ModelError(f"{spec.text}: unknown activation {activation!r}; {nearest(activation, ACTIVATIONS)}")
    if output == "":
        raise ModelError(f"{spec.text}: output names one of the model's outputs, found nothing")
    return dataclasses.replace(spec, options=options), Reading(None if output is None else unquote(output), activation)


def reading_of(text: str | None) -> Reading:
    """The reading that a model's name states; a plain one where the name cannot be read."""
    try:
        return Reading() if text is None else take_reading(parse_spec(text))[1]
    except ModelError:
        return Reading()


def with_reading(model: Model, reading: Reading, device: str) -> Model:
    """*model* so that its backend gives the logits of *reading*, wherever it is run or exported."""
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
    from pilotfish.models.names.python_model import PythonBackend

    inner = getattr(backend, "function", model.run)

    def function(batch: F32) -> F32:
        values = as_array(pick(inner(batch), reading.output, len(batch), model.spec))
        return logits_of(values.reshape(len(values), -1), reading.activation)

    return dataclasses.replace(model, backend=PythonBackend(function, model.spec))
