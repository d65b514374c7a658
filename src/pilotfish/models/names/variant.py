"""Options that every form of a model's name takes: ``?dtype=…``, ``?decoder=…``, and what states how a sample becomes
an input (:mod:`pilotfish.models.names.stated`).

They are part of the preprocessing, and so of the model's identity: each variant is recorded for itself.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pilotfish.errors import ModelError, nearest
from pilotfish.models.model import Model
from pilotfish.models.names.spec import ModelSpec
from pilotfish.models.names.stated import STATED
from pilotfish.models.preprocessing import DECODERS

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Variant:
    """None: as the model comes."""

    dtype: str | None = None
    decoder: str | None = None

    def applied(self, model: Model, name: str, device: str) -> Model:
        """*model* under its full *name*, computing in the variant's dtype and reading with its decoder.

        ModelError where the model has no torch module to cast, or takes no images.
        """
        found = model
        if self.decoder is not None:
            if model.preprocessing.kind != "image" or model.preprocessing.size is None:
                raise ModelError(f"{name}: decoder is for models that take images of a fixed size; leave it out")
            found = _prepared(found, decoder=self.decoder)
        if self.dtype not in (None, model.preprocessing.dtype):
            from pilotfish.models.backends.torch_backend import TorchBackend

            module = getattr(model.backend, "module", None)
            if module is None:
                raise ModelError(f"{name}: dtype is for torch models, this one is run by {model.backend.name}")
            found = _prepared(found, dtype=self.dtype)
            found = dataclasses.replace(found, backend=TorchBackend(module, device, dtype=str(self.dtype)))
        return found


def take_variant(spec: ModelSpec) -> tuple[ModelSpec, Variant]:
    """The name without its variant, its statements on preprocessing apart, and the variant."""
    options = dict(spec.options)
    stated = {option: options.pop(option) for option in STATED if option in options}
    dtype, decoder = options.pop("dtype", None), options.pop("decoder", None)
    for what, value, known in (("dtype", dtype, DTYPES), ("decoder", decoder, DECODERS)):
        if value is not None and value not in known:
            raise ModelError(f"{spec.text}: unknown {what} {value!r}; {nearest(value, known)}")
    return dataclasses.replace(spec, options=options, stated=stated), Variant(dtype, decoder)


def _prepared(model: Model, **changes: object) -> Model:
    return dataclasses.replace(model, preprocessing=dataclasses.replace(model.preprocessing, **changes))  # type: ignore[arg-type]
