"""The shape of one sample, from what an ONNX file declares and what the model's name adds."""

from __future__ import annotations

from typing import Any

from pilotfish.errors import ModelError
from pilotfish.models.names.spec import ModelSpec


def input_shape(spec: ModelSpec, declared: list[Any]) -> tuple[int, ...]:
    """(C, H, W), (H, W, C), or whatever the file takes.

    declared  the input's dimensions, the batch first; those that are free are names or None. Free heights and widths
              come from @SIZE, and a free number of channels is then 3

    ModelError where the shape stays unknown, and for a size that the file does not take.
    """
    shape = [d if isinstance(d, int) and d > 0 else None for d in declared[1:]]
    pixels = spec.pixels
    if pixels is not None and len(shape) != 3:
        raise ModelError(
            f"{spec.text}: the file takes inputs of shape {declared}, no images; leave {_written(spec)} out"
        )
    if pixels is not None:
        at = _channels_at(shape, declared[1:], spec.stated.get("layout"))
        sides = [axis for axis in range(3) if axis != at]
        if any(shape[axis] not in (None, side) for axis, side in zip(sides, pixels, strict=True)):
            only = "x".join(str(shape[axis] or "any") for axis in sides)
            raise ModelError(f"{spec.text}: the file takes inputs of {only} pixels only; leave {_written(spec)} out")
        for axis, side in zip(sides, pixels, strict=True):
            shape[axis] = side
        if shape[at] is None:
            shape[at] = 1 if spec.stated.get("channels") == "grey" else 3
    if any(d is None for d in shape):
        raise ModelError(f"{spec.text}: the input's shape {declared} is not fixed; give the size, as in onnx:FILE@224")
    return tuple(d for d in shape if d is not None)


def _written(spec: ModelSpec) -> str:
    return "?size" if "size=" in spec.text else "@"


def _channels_at(shape: list[int | None], names: list[Any], layout: str | None) -> int:
    """Which of three dimensions holds the channels: where 1 or 3 stands, where they are stated, where the file names
    them; else the first."""
    for axis in (0, 2):
        if shape[axis] in (1, 3) and shape[2 - axis] not in (1, 3):
            return axis
    if layout in ("nchw", "nhwc"):
        return 2 if layout == "nhwc" else 0
    named = [axis for axis in (0, 2) if isinstance(names[axis], str) and _is_channels(names[axis])]
    return named[0] if len(named) == 1 else 0


def _is_channels(name: str) -> bool:
    return name.lower() in ("c", "ch") or "chan" in name.lower()
