"""``python:MODULE:FUNCTION``: any callable."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import ModelError
from pilotfish.models.model import F32, Carry, Model, model_errors
from pilotfish.models.names.spec import ModelSpec, allow_options
from pilotfish.models.outputs.which_output import Output, as_array, named, output_of
from pilotfish.models.preprocessing import AS_IT_IS, Preprocessing

_ADDED: set[str] = set()  # working directories that were put on the path for names that were typed


class PythonBackend:
    """A callable from a batch float32 (N, …) to logits (N, C), arrays or anything numpy can read."""

    name = "python"

    def __init__(self, function: Callable[[F32], Any], spec: str = "the callable") -> None:
        self.function, self.spec = function, spec

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[F32, None]:
        """What the callable returns, as an array, and no features."""
        assert inputs is not None, "a whole model takes inputs"
        with model_errors(self.spec, inputs, expects="nchw"):
            return np.array(as_array(self.function(inputs))), None  # a copy: callables may fill the same buffer again

    def outputs(self, batch: F32) -> list[Output]:
        """All that the callable returns."""
        with model_errors(self.spec, batch, expects="nchw"):
            found = [output_of(name, value) for name, value in named(self.function(batch), len(batch))]
            return [dataclasses.replace(one, values=one.values.copy()) for one in found]


def load_python(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """The object MODULE:FUNCTION.

    A function without required arguments is called to get the model. A model is a ``torch.nn.Module``, a
    :class:`Model`, or a callable from a batch to logits; its attribute ``preprocessing`` (a
    :class:`Preprocessing`) says how samples become inputs, or options of the name (``?size=224&mean=0.5&std=0.5``);
    else they are taken as they are.
    """
    allow_options(spec)
    found = _resolve(spec)
    if not isinstance(found, Model) and not _is_module(found) and _takes_nothing(found):
        try:
            found = found()
        except Exception as error:
            raise ModelError(f"{spec.text}: calling it failed: {type(error).__name__}: {error}") from error
    if isinstance(found, Model):
        return found
    preprocessing = getattr(found, "preprocessing", AS_IT_IS)
    if not isinstance(preprocessing, Preprocessing):
        raise ModelError(
            f"{spec.text}: its attribute preprocessing is {type(preprocessing).__name__}, not Preprocessing"
        )
    if _is_module(found):
        from pilotfish.models.backends.torch_backend import TorchBackend, state_hash

        return Model(spec.text, TorchBackend(found, device), preprocessing, state_hash(found.state_dict()))
    if not callable(found):
        raise ModelError(f"{spec.text}: found {type(found).__name__}, expected a callable or a torch module")
    return Model(spec.text, PythonBackend(found, spec.text), preprocessing, _code_hash(spec, found))


def _resolve(spec: ModelSpec) -> Any:
    module_name, _, attribute = spec.name.partition(":")
    if not attribute:
        raise ModelError(f"{spec.text}: expected python:MODULE:FUNCTION, such as python:mymodels:build")
    try:
        with _import_path(spec.typed):
            found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise ModelError(f"{spec.text}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ModelError(f"{spec.text}: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    return found


@contextlib.contextmanager
def _import_path(typed: bool) -> Iterator[None]:
    """Inside, the working directory is on the import path for a name that was typed, as ``python -m`` has it, and is
    not for a name that a file holds: whoever made the file may have put a module beside it."""
    if typed:
        here = str(Path.cwd())
        if "" not in sys.path and here not in sys.path:
            sys.path.insert(0, here)
            _ADDED.add(here)
        yield
        return
    removed = [entry for entry in sys.path if not entry or entry in _ADDED]
    sys.path[:] = [entry for entry in sys.path if entry not in removed]
    try:
        yield
    finally:
        sys.path[:0] = removed


def _takes_nothing(found: Any) -> bool:
    if not callable(found):
        return False
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return False
    empty = inspect.Parameter.empty
    needed = [p for p in parameters if p.default is empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return not needed and not any(p.kind == p.VAR_POSITIONAL for p in parameters)


def _is_module(found: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(found, torch.nn.Module)


def _code_hash(spec: ModelSpec, found: Any) -> str:
    """A callable's weights cannot be seen; its attribute ``weights_hash``, or else its source, stands for them."""
    own = getattr(found, "weights_hash", None)
    if isinstance(own, str):
        return own
    try:
        source = inspect.getsource(found if inspect.isroutine(found) else type(found))
    except (OSError, TypeError):
        source = spec.name
    return hashlib.sha256(source.encode()).hexdigest()
