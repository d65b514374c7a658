"""What a model's name states of its preprocessing, ``?mean=…&std=…&crop=…``, and what was assumed where neither the
file nor the name states it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from pilotfish.errors import ModelError
from pilotfish.models.model import Model
from pilotfish.models.names.spec import ModelSpec, parse_numbers
from pilotfish.models.preprocessing import AS_IT_IS, CENTRE, IMAGENET_MEAN, IMAGENET_STD, RESAMPLING, Preprocessing
from pilotfish.text import quantity

STATED = ("mean", "std", "crop", "scale", "channels", "layout", "interpolation")
ASSUMED = ("mean", "std", "crop", "channels")
SCALES = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}
COLOURS = ("rgb", "bgr", "grey")
WAYS = ("nchw", "nhwc", "tensor")
BYTE = 1 / 255  # a std that leaves pixels as they are, from 0 to 255


def with_stated(model: Model, spec: ModelSpec) -> Model:
    """*model* as its name says that samples become inputs; a note says what is left assumed.

    A callable that takes arrays as they are takes images once its name states anything of them. ModelError for options
    that make no sense, alone, together or for this model.
    """
    stated, chain, assumed = spec.stated, model.preprocessing, model.assumed
    for option, known in (("scale", SCALES), ("channels", COLOURS), ("layout", WAYS), ("interpolation", RESAMPLING)):
        if (value := stated.get(option)) is not None and value not in known:
            raise ModelError(f"{spec.text}: expected as {option} one of {', '.join(known)}; found {value[:40]!r}")
    if stated.get("layout") == "tensor":
        if others := [option for option in stated if option != "layout"]:
            raise ModelError(f"{spec.text}: layout=tensor takes arrays as they are; leave {others[0]} out")
        if spec.size is not None and model.input_shape is None:
            raise ModelError(f"{spec.text}: layout=tensor takes arrays as they are; leave the size out")
        chain = dataclasses.replace(AS_IT_IS, dtype=chain.dtype)
        return dataclasses.replace(model, spec=spec.text, preprocessing=chain, assumed=())
    asked = stated or (spec.size is not None and model.input_shape is None)
    if asked and chain.kind == "processor":
        raise ModelError(
            f"{spec.text}: its image processor does what no option can state, and runs as it is; leave "
            f"{next(iter(stated), 'the size')} out"
        )
    if asked:
        if chain.kind == "tensor":
            chain, assumed = _images(model, spec), ASSUMED
        chain = _changed(chain, model, spec)
        model = dataclasses.replace(model, spec=spec.text)
    known_now = {*stated, *(("mean", "std") if "scale" in stated else ())}
    assumed = tuple(what for what in assumed if what not in known_now and (what != "crop" or chain.size is not None))
    if assumed in ((), ("channels",)):
        return dataclasses.replace(model, preprocessing=chain, assumed=())
    notes = (*model.notes, describe_assumed(chain, assumed))
    return dataclasses.replace(model, preprocessing=chain, assumed=assumed, notes=notes)


def describe_assumed(chain: Preprocessing, assumed: tuple[str, ...]) -> str:
    """One line: what of *chain* was assumed, and the options that state it."""
    options = "&".join(f"{what}=…" for what in ("mean", "std", "crop") if what in assumed)
    return f"preprocessing assumed: {shown(chain, assumed)}; state it with ?{options}"


def shown(chain: Preprocessing, which: Sequence[str]) -> str:
    """Some of mean, std and crop of *chain* in words."""
    parts = []
    if "crop" in which:
        parts += [_crop(chain), chain.interpolation]
    norm = [what for what in which if what in ("mean", "std")]
    if norm:
        parts.append(_normalisation(chain, norm))
    if chain.layout == "nhwc":
        parts.append("channels last")
    return ", ".join(parts)


def spec_with(text: str, options: Mapping[str, str]) -> str:
    """A model's name with further options; those that it has already are replaced."""
    name, _, query = text.partition("?")
    kept = [part for part in query.split("&") if part and part.partition("=")[0] not in options]
    return f"{name}?{'&'.join([*kept, *(f'{key}={value}' for key, value in options.items())])}"


def options_in(text: str) -> list[str]:
    """The options that a model's name has."""
    return [part.partition("=")[0] for part in text.partition("?")[2].split("&") if part]


def at_size(chain: Preprocessing, size: tuple[int, int]) -> Preprocessing:
    """*chain* for an input of (height, width) pixels; the crop keeps its share."""
    if chain.kind == "tensor" or chain.size == size:
        return chain
    resize = chain.resize
    if chain.size is None:
        resize = int(min(size) / CENTRE)
    elif isinstance(resize, int):
        resize = max(1, round(resize * min(size) / min(chain.size)))
    elif resize is not None:
        resize = (round(resize[0] * size[0] / chain.size[0]), round(resize[1] * size[1] / chain.size[1]))
    return dataclasses.replace(chain, size=size, resize=resize)


def layout_of(shape: tuple[int, ...], stated: str | None = None) -> str | None:
    """Whether inputs of *shape* are images of 1 or 3 channels: ``nchw``, ``nhwc``, or None. Channels first where both
    could be, unless it is *stated*."""
    if len(shape) != 3:
        return None
    first, last = shape[0] in (1, 3), shape[2] in (1, 3)
    if first and last and stated is not None:
        return stated
    return "nchw" if first else "nhwc" if last else None


def _images(model: Model, spec: ModelSpec) -> Preprocessing:
    """What a model that took arrays as they are takes, now that its name says something of images."""
    shape = model.input_shape
    if shape is None:
        size, grey, layout = spec.pixels, spec.stated.get("channels") == "grey", spec.stated.get("layout", "nchw")
    else:
        found = layout_of(shape, spec.stated.get("layout"))
        if found is None:
            raise ModelError(
                f"{spec.text}: its inputs of shape {tuple(shape)} are no images of 1 or 3 channels; leave "
                f"{next(iter(spec.stated), 'the size')} out"
            )
        layout, size = found, (shape[1:] if found == "nchw" else shape[:2])  # type: ignore[assignment]
        grey = (shape[0] if found == "nchw" else shape[2]) == 1
    return dataclasses.replace(as_images(size, layout, grey), dtype=model.preprocessing.dtype)


def as_images(size: tuple[int, int] | None, layout: str, grey: bool) -> Preprocessing:
    """What is assumed of images of *size* (height, width): a centre crop, ImageNet's mean and deviation, or grey from
    0 to 1."""
    mean, std = ((0.0,), (1.0,)) if grey else (IMAGENET_MEAN, IMAGENET_STD)
    resize = None if size is None else int(min(size) / CENTRE)
    return Preprocessing(size=size, resize=resize, mean=mean, std=std, layout=layout)


def _changed(chain: Preprocessing, model: Model, spec: ModelSpec) -> Preprocessing:
    stated = spec.stated
    if spec.pixels is not None and model.input_shape is None:
        chain = at_size(chain, spec.pixels)
    if (layout := stated.get("layout", chain.layout)) != chain.layout:
        if model.input_shape is not None:
            last = "last" if chain.layout == "nhwc" else "first"
            raise ModelError(
                f"{spec.text}: takes inputs of shape {tuple(model.input_shape)}, channels {last}; leave layout out"
            )
        chain = dataclasses.replace(chain, layout=layout)
    chain = dataclasses.replace(chain, interpolation=stated.get("interpolation", chain.interpolation))
    if chain.interpolation == "lanczos":
        chain = dataclasses.replace(chain, resizer="pillow")
    if "crop" in stated:
        chain = dataclasses.replace(chain, resize=_resize(chain, spec))
    return _normalised(_ordered(chain, model, spec), model, spec)


def _resize(chain: Preprocessing, spec: ModelSpec) -> int | None:
    crop = spec.stated["crop"]
    if chain.size is None:
        raise ModelError(f"{spec.text}: a crop needs the input's size; write size=224 as well")
    if crop == "squeeze":
        return None
    if crop in ("center", "centre"):
        return chain.resize if isinstance(chain.resize, int) else int(min(chain.size) / CENTRE)
    try:
        share = float(crop)
    except ValueError:
        share = 0.0
    if not 0.01 <= share <= 1:
        raise ModelError(
            f"{spec.text}: crop is a share from 0 to 1 of the shorter side, squeeze or center; found {crop[:40]!r}"
        )
    return int(min(chain.size) / share)


def _ordered(chain: Preprocessing, model: Model, spec: ModelSpec) -> Preprocessing:
    """With the channels in the order that is stated; what is taken from each colour stays with it."""
    order = spec.stated.get("channels")
    if order is None or order == ("grey" if chain.channels == 1 else chain.order):
        return chain
    if chain.channels == 1 or order == "grey":
        if model.input_shape is None and order == "grey":
            return dataclasses.replace(chain, mean=(0.0,), std=(1.0,), order="rgb")
        raise ModelError(f"{spec.text}: takes {quantity(chain.channels, 'channel')}; leave channels={order} out")
    return dataclasses.replace(chain, order=order, mean=chain.mean[::-1], std=chain.std[::-1])


def _normalised(chain: Preprocessing, model: Model, spec: ModelSpec) -> Preprocessing:
    """With the mean and std that are stated, on the scale that is: (low + span p - mean) / std, p being 0 to 1."""
    scale = spec.stated.get("scale")
    low, high = SCALES[scale or "0..1"]
    span = high - low
    mean, std = (parse_numbers(spec, option, chain.channels) for option in ("mean", "std"))
    if std is not None and not all(std):
        raise ModelError(f"{spec.text}: std is what pixels are divided by; expected numbers other than 0")
    bytes_too = scale == "0..255" and std is not None and max(map(abs, std)) < 1
    if (
        bytes_too
        or any(not low - span <= m <= high + span for m in mean or ())
        or any(abs(s) > 2 * span for s in std or ())
    ):
        advice = "leave scale out" if scale == "0..255" else "write scale=0..255 as well, or numbers of that scale"
        raise ModelError(f"{spec.text}: mean and std are no numbers of pixels from {low:g} to {high:g}; {advice}")
    if scale is not None:
        mean, std = mean or (0.0,) * chain.channels, std or (1.0,) * chain.channels
    chain = dataclasses.replace(
        chain,
        mean=chain.mean if mean is None else tuple((m - low) / span for m in mean),
        std=chain.std if std is None else tuple(s / span for s in std),
    )
    if getattr(model.backend, "input_dtype", None) == np.uint8 and (any(chain.mean) or set(chain.std) != {BYTE}):
        raise ModelError(f"{spec.text}: takes bytes from 0 to 255; leave mean, std and scale out")
    return chain


def _crop(chain: Preprocessing) -> str:
    height, width = chain.size or (0, 0)
    size = str(height) if height == width else f"{height}x{width}"
    if chain.resize is None:
        return f"squeezed to {size}"
    if isinstance(chain.resize, tuple):
        return f"resize {chain.resize[0]}x{chain.resize[1]}, centre crop {size}"
    return f"resize {chain.resize}, centre crop {size}"


def _normalisation(chain: Preprocessing, norm: list[str]) -> str:
    mean, std = (numbers[::-1] if chain.order == "bgr" else numbers for numbers in (chain.mean, chain.std))
    if (mean if "mean" in norm else IMAGENET_MEAN, std if "std" in norm else IMAGENET_STD) == (
        IMAGENET_MEAN,
        IMAGENET_STD,
    ):
        return f"ImageNet {' and '.join(norm)}"
    if len(norm) == 2 and not any(mean) and set(std) == {1.0}:
        return "pixels from 0 to 1"
    return " and ".join(f"{what} {_numbers(mean if what == 'mean' else std)}" for what in norm)


def _numbers(values: tuple[float, ...]) -> str:
    return ":".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))
