"""A saver and a base as two torch networks that see the same inputs."""

from __future__ import annotations

import dataclasses
from typing import Any

from pilotfish.data import Dataset
from pilotfish.errors import ModelError
from pilotfish.models.exits.describe import Description
from pilotfish.train.backbone import Backbone, find_backbone


def find_pair(saver: str, base: str, data: Dataset) -> tuple[Backbone, Backbone]:
    """Both by name. ModelError where they differ in classes or preprocessing: they are to be one network, with one
    input."""
    found = find_backbone(saver, data), find_backbone(base, data)
    first, second = found
    for name, one in zip((saver, base), found, strict=True):
        if one.random:
            raise ModelError(f"{name} has random weights; saver and base stay as they are, so they must be trained")
    if first.classes != second.classes:
        raise ModelError(f"{saver} knows {first.classes} classes and {base} {second.classes}; they must be the same")
    if first.preprocessing != second.preprocessing or first.input_shape != second.input_shape:
        differ = [
            f"{field.name} {ours} and {theirs}"
            for field in dataclasses.fields(first.preprocessing)
            if (ours := getattr(first.preprocessing, field.name))
            != (theirs := getattr(second.preprocessing, field.name))
        ] or [f"shapes {first.input_shape} and {second.input_shape}"]
        raise ModelError(
            f"{saver} and {base} take other inputs ({'; '.join(differ)}); as one network they need the same: name both "
            "with the same @SIZE and the same ?crop=, ?mean= and ?std="
        )
    return found


def saver_part(saver: Backbone) -> dict[str, Any]:
    """A saver as a description keeps it."""
    return {"backbone": saver.name, "arguments": dict(saver.arguments)}


def described(kind: str, one: Backbone, **more: Any) -> Description:
    """A description with the classes and inputs of *one*."""
    return Description(
        kind=kind,
        classes=one.classes,
        input_shape=tuple(one.input_shape),
        preprocessing=one.preprocessing,
        class_names=one.class_names,
        **more,
    )
