"""The metadata of a records file as JSON: written, and checked when it is read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pilotfish.errors import RecordsError
from pilotfish.files import parse_json
from pilotfish.records.records import MAX_COST, SCHEMA_VERSION, Failure, RecordsMeta

MAX_META_BYTES = 64 * 2**20
_META_TYPES: dict[Any, tuple[str, ...]] = {
    str: ("model", "split", "source"),
    str | None: ("spec", "weights_hash", "preprocessing_hash", "store", "created", "backbone", "file"),
    int | None: ("n_classes", "position"),
    tuple | None: ("class_names",),
    Mapping | None: ("preprocessing",),
    Mapping: ("data", "timing", "versions"),
}


def encode_meta(meta: RecordsMeta) -> bytes:
    """Metadata as UTF-8 JSON, with the schema's version."""
    document = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(meta)}
    return json.dumps(document, ensure_ascii=False).encode()


def decode_meta(text: bytes, fallback: dict[str, str], where: str) -> RecordsMeta:
    """Metadata from JSON. Unknown keys are left alone, so later minor versions stay readable."""
    if len(text) > MAX_META_BYTES:
        raise RecordsError(f"{where}: {len(text):,} bytes of metadata, more than the {MAX_META_BYTES:,} allowed")
    try:
        document = parse_json(text)
        version = document.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise RecordsError(
                f"{where}: records of schema version {version}, this Pilotfish reads version {SCHEMA_VERSION}"
            )
        known = {f.name for f in dataclasses.fields(RecordsMeta)}
        values = {**fallback, **{k: v for k, v in document.items() if k in known}}
        values["failures"] = tuple(Failure(**f) for f in values.get("failures", ()))
        values["notes"] = _texts(values.get("notes", ()))
        if isinstance(names := values.get("class_names"), list):
            values["class_names"] = tuple(str(name) for name in names)
        values["costs"] = {str(k): _number(k, v) for k, v in values.get("costs", {}).items()}
        return _checked(RecordsMeta(**values))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise RecordsError(f"{where}: damaged metadata ({first_line(error)})") from error


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"cost {key[:60]!r} is {str(value)[:60]!r}")
    return float(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise TypeError(f"notes is {str(value)[:60]!r}")
    return tuple(value)


def _checked(meta: RecordsMeta) -> RecordsMeta:
    """*meta*, when every value has the type it should; TypeError or ValueError otherwise."""
    for types, names in _META_TYPES.items():
        for name in names:
            value = getattr(meta, name)
            if isinstance(value, bool) or not isinstance(value, types):
                raise TypeError(f"{name} is {str(value)[:60]!r}")
    counts = {"n_classes": meta.n_classes, "position": meta.position, "n in data": meta.data.get("n")}
    for name, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 2**53):
            raise ValueError(f"{name} is {str(count)[:60]!r}")
    if meta.class_names is not None and meta.n_classes not in (None, len(meta.class_names)):
        raise ValueError(f"{len(meta.class_names)} class_names for {meta.n_classes} classes")
    if not all(isinstance(text, str) for failure in meta.failures for text in (failure.id, failure.reason)):
        raise TypeError("the id or the reason of a failure is no text")
    for key, cost in meta.costs.items():
        if not 0 <= cost <= MAX_COST:
            raise ValueError(f"cost {key[:60]!r} is {cost}; a cost is a finite number of at least 0")
    return meta


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
