"""``python:MODULE:FUNCTION``: any callable, and what it declares."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import ModelError, nearest, reason
from pilotfish.models.backends.python_backend import BATCH, MANY, TAKES, PythonBackend
from pilotfish.models.model import Model
from pilotfish.models.names.python_identity import declared_hash, doubts, source_hash
from pilotfish.models.names.spec import ModelSpec, allow_options
from pilotfish.models.outputs.said import Places
from pilotfish.models.preprocessing import AS_IT_IS, WHOLE, Preprocessing

_ADDED: set[str] = set()  # working directories that were put on the path for names that were typed


DECLARED = ("takes", "classes", "files", "arrays", "weights", "weights_hash")


def load_python(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """The object MODULE:FUNCTION.

    A function without required arguments is called to get the model. A model is a ``torch.nn.Module``, a
    :class:`Model`, or a callable that answers samples. What a callable takes is its attribute ``takes``, or
    ``?takes=`` of the name: one of ``python_backend.TAKES``. Its attribute ``preprocessing`` (a :class:`Preprocessing`)
    says how samples become arrays, or options of the name (``?size=224&mean=0.5&std=0.5``); else they are taken as
    they are. ``classes`` are the names of its classes, in their order; ``files`` and ``arrays`` are what its answers
    depend on beside its source.
    """
    allow_options(spec, "takes")
    made = found = _resolve(spec)
    if not isinstance(found, Model) and not _is_module(found) and _takes_nothing(found):
        try:
            found = found()
        except Exception as error:
            raise ModelError(f"{spec.text}: calling it failed: {type(error).__name__}: {reason(error)}") from error
    if isinstance(found, Model):
        return found
    preprocessing = getattr(found, "preprocessing", AS_IT_IS)
    if not isinstance(preprocessing, Preprocessing):
        raise ModelError(
            f"{spec.text}: its attribute preprocessing is {type(preprocessing).__name__}, not Preprocessing"
        )
    if _is_module(found):
        from pilotfish.models.backends.torch_backend import TorchBackend, state_hash

        if (stated := spec.options.get("takes", BATCH)) != BATCH:
            raise ModelError(f"{spec.text}: a torch module takes a batch; name a function that calls it with {stated}")
        return Model(spec.text, TorchBackend(found, device), preprocessing, state_hash(found.state_dict()))
    if not callable(found):
        raise ModelError(f"{spec.text}: found {type(found).__name__}, expected a callable or a torch module")
    declared = {name: getattr(found, name, getattr(made, name, None)) for name in DECLARED}
    takes, classes = _takes(spec, declared["takes"]), _classes(spec, declared["classes"])
    known = isinstance(declared["weights_hash"], str) and bool(declared["weights_hash"])
    identity = None if known else declared_hash(spec.text, spec.name, found, declared)
    return Model(
        spec.text,
        PythonBackend(found, spec.text, takes, places=Places(classes, None, spec.text)),
        _handed(spec, takes, preprocessing),
        identity or _code_hash(spec, found),
        n_classes=None if classes is None else len(classes),
        class_names=classes,
        notes=() if known or identity else doubts(found),
    )


def _takes(spec: ModelSpec, declared: Any) -> str | None:
    """What it takes, as its name or its attribute says; None where neither does."""
    stated = spec.options.get("takes")
    if not isinstance(declared, str):  # another thing of this name
        declared = None
    for takes in (stated, declared):
        if takes is not None and takes not in TAKES:
            raise ModelError(f"{spec.text}: takes is one of {', '.join(TAKES)}; found {takes[:40]!r}")
    if stated is not None and declared not in (None, stated):
        raise ModelError(f"{spec.text}: its attribute takes is {declared!r}; leave ?takes={stated} out")
    return stated or declared


def _classes(spec: ModelSpec, declared: Any) -> tuple[str, ...] | None:
    """The names of its classes; what else is called ``classes`` is not ours."""
    if isinstance(declared, Mapping) and set(declared) == set(range(len(declared))):
        declared = [declared[i] for i in range(len(declared))]
    if isinstance(declared, np.ndarray):
        declared = declared.tolist()
    if not isinstance(declared, list | tuple) or not declared or not all(isinstance(one, str) for one in declared):
        return None
    if len(set(declared)) < len(declared):
        twice = next(one for one in declared if declared.count(one) > 1)
        raise ModelError(f"{spec.text}: its attribute classes names {twice!r} twice; give each class a name of its own")
    return tuple(declared)


def _handed(spec: ModelSpec, takes: str | None, preprocessing: Preprocessing) -> Preprocessing:
    """How samples become what it takes. ModelError for options that say how whole ones are changed."""
    if takes in (None, BATCH):
        return preprocessing
    kind = takes if takes in MANY else f"{takes}s"
    stated = next(iter(spec.stated), "size" if spec.size is not None else None)
    if kind == "arrays" and (stated is not None or preprocessing != AS_IT_IS):
        return preprocessing
    if stated is not None or preprocessing != AS_IT_IS:
        what = f"leave {stated} out" if stated is not None else "take its attribute preprocessing off"
        raise ModelError(f"{spec.text} takes {TAKES[takes]}, as they are in the data; {what}, or let it take arrays")
    return WHOLE[kind]


def _resolve(spec: ModelSpec) -> Any:
    module_name, _, attribute = spec.name.partition(":")
    if _is_path(module_name):
        rest = "".join([attribute or "FUNCTION", *spec.text.partition("?")[1:]])
        raise ModelError(f"{spec.text}: python: takes a module, not a path; {_as_module(module_name, rest)}")
    if not attribute:
        raise ModelError(f"{spec.text}: expected python:MODULE:FUNCTION, such as python:mymodels:build")
    try:
        with _import_path(spec.typed):
            found: Any = importlib.import_module(module_name)
    except Exception as error:
        failed = f"{spec.text}: importing {module_name} failed: {type(error).__name__}: {error}"
        absent = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        raise ModelError(f"{failed}; {_looked_in(spec.typed)}" if absent else failed) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ModelError(f"{spec.text}: {module_name} has no {attribute!r}; {nearest(part, _public(found))}")
        found = getattr(found, part)
    return found


def _is_path(module: str) -> bool:
    """Whether a path stands where a module is expected: modules may be called ``py``, files are there."""
    return "/" in module or "\\" in module or (module.endswith(".py") and Path(module).is_file())


def _as_module(path: str, rest: str) -> str:
    """What to write instead of *path*, *rest* behind it, and where it is looked for then."""
    file = Path(path).expanduser()
    if not file.is_file():
        return f"write python:MODULE:{rest}, as it is imported; {_looked_in(typed=True)}"
    file, here = file.resolve(), Path.cwd().resolve()
    below = file.relative_to(here).with_suffix("").parts if file.is_relative_to(here) else ()
    plain = bool(below) and not any("." in part for part in below)
    module = ".".join(below) if plain else file.stem
    if "." in module and not plain:
        return f"no module has a dot in its name: give {file.name} another one, and write python:MODULE:{rest}"
    written = f"write python:{module.removesuffix('.__init__')}:{rest}"
    return f"{written}; {_looked_in(typed=True)}" if plain else f"{written}, with PYTHONPATH={file.parent}"


def _looked_in(typed: bool) -> str:
    """Where modules are looked for."""
    return f"modules are looked for in {f'the working folder ({Path.cwd()}) and on ' if typed else ''}PYTHONPATH"


def _public(found: object) -> list[str]:
    return [name for name in dir(found) if not name.startswith("_")]


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
    return own if isinstance(own, str) and own else source_hash(found, spec.name)
