"""What stands for the weights of a callable: its source, and the files and arrays that it declares."""

from __future__ import annotations

import dis
import hashlib
import inspect
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import ModelError
from pilotfish.files import sha256_file, sha256_json
from pilotfish.models.outputs.which_output import as_array
from pilotfish.text import examples

PURE = frozenset(["numpy", "math", "scipy", "PIL", "collections", "itertools", "functools", "typing", "__future__"])
READS = frozenset(["open", "eval", "exec", "__import__", "input"])
DECLARE = "declare what it depends on, as in predict.files = ['weights.npz']"


def source_hash(found: Any, name: str) -> str:
    """SHA-256 of the source of a callable, or of its *name* where that cannot be read."""
    return hashlib.sha256((_source(found) or name).encode()).hexdigest()


def declared_hash(text: str, name: str, found: Any, declared: Mapping[str, Any]) -> str | None:
    """SHA-256 of the source of a callable, for a class or a closure of all its module, and of the bytes that it
    declares; None where it declares none.

    text, name  the model's name, in full and without its kind
    declared    its attributes ``files``, ``arrays`` and ``weights``

    ModelError for a file that does not exist.
    """
    files, arrays = _files(text, found, declared["files"]), dict(_arrays(text, declared))
    if not files and not arrays:
        return None
    source = _module_source(found) if _is_bound(found) else _source(found)
    return sha256_json({"source": source or name, "files": [sha256_file(path) for path in files], "arrays": arrays})


def _source(found: Any) -> str | None:
    try:
        return inspect.getsource(found if inspect.isroutine(found) else type(found))
    except (OSError, TypeError):
        return None


def _module_source(found: Any) -> str | None:
    module = sys.modules.get(getattr(found, "__module__", "") or "")
    try:
        return None if module is None else inspect.getsource(module)
    except (OSError, TypeError):
        return None


def _is_bound(found: Any) -> bool:
    """Whether its own source is not all of its code: a closure, or an object of a class."""
    return not isinstance(found, types.FunctionType) or found.__closure__ is not None


def _files(text: str, found: Any, declared: Any) -> list[Path]:
    """The files that are declared, those of a folder sorted; relative ones lie beside the module, or where we are."""
    if declared is None:
        return []
    if isinstance(declared, str | Path):
        declared = [declared]
    if not isinstance(declared, Sequence) or not all(isinstance(one, str | Path) for one in declared):
        raise ModelError(f"{text}: its attribute files is {type(declared).__name__}; expected a list of paths")
    module = sys.modules.get(getattr(found, "__module__", "") or "")
    beside = Path(getattr(module, "__file__", None) or ".").parent
    files: list[Path] = []
    for one in declared:
        path = Path(one).expanduser()
        there = next((p for p in (beside / path, path) if p.exists()), None)
        if there is None:
            raise ModelError(
                f"{text} declares the file {str(one)!r}, which exists neither beside its module ({beside}) nor here; "
                "write where it lies, or take it off its attribute files"
            )
        if not there.is_dir() and not there.is_file():
            raise ModelError(f"{text} declares {str(one)!r}, which is a pipe or a device; expected a file or a folder")
        files += sorted(p for p in there.rglob("*") if p.is_file()) if there.is_dir() else [there]
    return files


def _arrays(text: str, declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, hash) of the arrays that are declared; an attribute ``weights`` that holds something else is not ours."""
    for attribute in ("arrays", "weights"):
        value = declared.get(attribute)
        pairs = [] if value is None else [("", value)]
        if isinstance(value, Mapping | list | tuple):
            held = value.items() if isinstance(value, Mapping) else enumerate(value)
            pairs = [(str(key), one) for key, one in held]
        if not all(hasattr(one, "shape") and hasattr(one, "dtype") for _, one in pairs):
            if attribute == "arrays":
                raise ModelError(f"{text}: its attribute arrays holds something else; expected arrays by name")
            continue
        for key, one in pairs:
            array = np.ascontiguousarray(as_array(one))
            if array.dtype.hasobject:
                raise ModelError(f"{text}: its attribute {attribute} holds Python objects; expected arrays of numbers")
            said = f"{array.dtype.str}|{array.shape}|".encode()
            yield f"{attribute}.{key}", hashlib.sha256(said + array.tobytes()).hexdigest()


def doubts(found: Any) -> tuple[str, ...]:
    """A note that names what a callable uses and its source does not hold; none where there is nothing of the kind."""
    why: list[str] = []
    if _source(found) is None:
        why = ["its source cannot be read, so that its name stands for it"]
    elif not isinstance(found, types.FunctionType):
        why = [f"it is an object of class {type(found).__name__}, whose state is not in its source"]
    elif names := sorted(set(_outside(found))):
        why = [f"it uses {examples(names)}"]
    if not why:
        return ()
    return (f"its identity is its source alone: {why[0]}, and a change of that is not seen; {DECLARE}",)


def _outside(function: types.FunctionType) -> Iterator[str]:
    """Names of what a function closes over, takes from its module or imports, but for what only computes."""
    yield from function.__code__.co_freevars
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        for step in dis.get_instructions(code):
            name = str(step.argval)
            if step.opname == "LOAD_GLOBAL" and name in function.__globals__:
                if not _is_pure(function.__globals__[name]):
                    yield name
            elif (step.opname == "LOAD_GLOBAL" and name in READS) or (
                step.opname == "IMPORT_NAME" and name.partition(".")[0] not in PURE
            ):
                yield name


def _is_pure(value: Any) -> bool:
    """Whether *value* comes from a library that computes and reads no files."""
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return isinstance(value, int | float | str | type(None)) or (module or "").partition(".")[0] in PURE
