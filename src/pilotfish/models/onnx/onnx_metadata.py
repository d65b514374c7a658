"""What Pilotfish writes into an ONNX file beside the graph, and reads back: preprocessing, class names, source."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotfish.errors import ModelError
from pilotfish.files import parse_json
from pilotfish.models.model import Model
from pilotfish.models.names.weights_file import metadata_document

PREPROCESSING = "pilotfish.preprocessing"
CLASSES = "pilotfish.classes"
ASSUMED = "pilotfish.assumed"
CASCADE = "pilotfish.cascade"
CONTINUES = "pilotfish.continues"
SOURCE = "pilotfish.source"
NAMES_OF_OTHERS = ("names", "class_names", "classes", "labels", "id2label")  # as other exporters call them
LONGEST = 1_000_000  # characters of such a list


def write_metadata(graph: Any, **documents: Mapping[str, Any] | None) -> None:
    """Put JSON documents into the metadata of an ``onnx.ModelProto``, in place of those that are there; keys are
    ``pilotfish.NAME``."""
    kept = [entry for entry in graph.metadata_props if entry.key.partition(".")[2] not in documents]
    others = [(entry.key, entry.value) for entry in kept]
    del graph.metadata_props[:]
    for key, value in others:
        graph.metadata_props.add(key=key, value=value)
    for name, document in documents.items():
        if document is not None:
            entry = graph.metadata_props.add()
            entry.key, entry.value = f"pilotfish.{name}", json.dumps(document)


def described(model: Model) -> dict[str, dict[str, Any] | None]:
    """What a file of *model* says, for :func:`write_metadata`, so that ``onnx:FILE`` reads it as *model* is read: the
    preprocessing, what of it was assumed, the classes."""
    names, ids = model.class_names, model.class_ids
    return {
        "preprocessing": model.preprocessing.to_json(),
        "assumed": {"fields": list(model.assumed)} if model.assumed else None,
        "classes": {"names": list(names), "ids": None if ids is None else list(ids)} if names else None,
    }


def write_described(
    runner: Any, target: Path, model: Model, name: str, shares: bool, after: Mapping[str, str] | None = None
) -> None:
    """Write what *runner* runs of *model*, the stage *name* of a cascade, as one file with its tensors inside, and with
    what ``onnx:FILE`` needs to read it as the stage was recorded.

    shares  whether it continues from the features of the stage before: the file says so, and is not read
    after   which file that is, for who finds both

    ModelError where one file cannot hold it.
    """
    import onnx

    try:
        graph = runner.graph()
        own = {"continues": {"stage": name, **(after or {})}} if shares else described(model)
        write_metadata(graph, **own, source={"spec": model.spec, "weights_hash": model.weights_hash})
        onnx.save(graph, str(target))
    except ValueError as error:  # a protocol buffer holds 2 GB at most
        raise ModelError(f"{name} cannot be written as one ONNX file: {str(error).splitlines()[0][:160]}") from error


def class_lists(
    metadata: Mapping[str, str], n_classes: int | None, where: str
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """(names, further ids) of the classes; ModelError when they are no lists of as many strings as classes."""
    if CLASSES not in metadata:
        return _names_of_others(metadata, n_classes), None
    document = metadata_document(metadata, CLASSES, where) or {}
    found = []
    for key in ("names", "ids"):
        value = document.get(key)
        fits = isinstance(value, list) and all(isinstance(v, str) for v in value) and n_classes in (None, len(value))
        if value is not None and not fits:
            raise ModelError(f"{where}: its metadata {CLASSES} do not name {n_classes or 'its'} classes")
        found.append(None if value is None else tuple(value))
    return found[0], found[1]


def _names_of_others(metadata: Mapping[str, str], n_classes: int | None) -> tuple[str, ...] | None:
    """Class names as other exporters write them: a list, or a dictionary from 0 to C - 1, in JSON or in Python's form.

    What is neither, or of another length, is none of ours to complain about.
    """
    for key in NAMES_OF_OTHERS:
        value = _literal(metadata.get(key, ""))
        if isinstance(value, dict):
            numbered = {str(k): v for k, v in value.items()}
            value = [numbered.get(str(i)) for i in range(len(numbered))]
        fits = isinstance(value, list | tuple) and len(value) >= 2 and n_classes in (None, len(value))
        if fits and all(isinstance(name, str) and name.isprintable() and name for name in value):
            return tuple(value)
    return None


def _literal(text: str) -> Any:
    """A value in JSON or in Python's own form; None for anything else. Nothing is evaluated but literals."""
    if not 2 <= len(text) <= LONGEST or text.strip()[:1] not in ("[", "{", "("):
        return None
    try:
        return parse_json(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
