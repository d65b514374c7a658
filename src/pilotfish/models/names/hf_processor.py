"""The image processors of transformers: as :class:`Preprocessing` where that says the same, else run as they are."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pilotfish.errors import ModelError, PilotfishError, UnreadableSample, reason
from pilotfish.models.model import F32
from pilotfish.models.names.hf_folder import CONFIG, PROCESSOR, offline
from pilotfish.models.names.spec import MAX_SIZE
from pilotfish.models.preprocessing import RESIZERS, Preprocessing

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as Pillow numbers them
LEFT_OUT = ("auto_map", "device", "return_tensors", "processor_class", "name_or_path")
LEVIT = 256 / 224  # what its processor resizes to, of what it says
PROBES = ((1.3, 1.71), (1.6, 1.1), (0.4, 0.55), (2.05, 1.0), (1.0, 1.33))  # height and width, of the input's size
LONGEST = 64  # times as long as wide
SAME = 0.02  # of a level of a pixel


def processor_of(said: Mapping[str, Any], config: Mapping[str, Any], where: Path, task: str = "classes") -> Any:
    """The image processor that *said*, its configuration, describes, as AutoImageProcessor chooses it.

    config  of the network, which says which processor is usual; where: the folder, for messages
    task    of the network: classes, boxes or mask

    ModelError for a processor of no such network: others run programs and download files.
    """
    from transformers import AutoImageProcessor

    said = {key: value for key, value in said.items() if key not in LEFT_OUT}
    kind = said.get("image_processor_type", said.get("feature_extractor_type"))
    if kind is not None and _base(kind) not in _known(task):
        whose = {"boxes": "detectors", "mask": "networks for segmentation"}.get(task, "classifiers")
        raise ModelError(f"{where}: its image processor is {str(kind)[:60]!r}, which is none of transformers' {whose}")
    _check_sizes(said, where)
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as folder:
        (Path(folder) / PROCESSOR).write_text(json.dumps(said), encoding="utf-8")
        (Path(folder) / CONFIG).write_text(json.dumps({"model_type": config.get("model_type")}), encoding="utf-8")
        try:
            with offline():
                found = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # of many kinds, for values that are none
            raise ModelError(
                f"{where}: {PROCESSOR} describes no image processor ({reason(error, 120).replace(folder, str(where))})"
            ) from error
    if _base(type(found).__name__) not in _known(task):
        what = {"boxes": "detector", "mask": "network for segmentation"}.get(task, "classifier")
        raise ModelError(f"{where}: its image processor is {type(found).__name__}, which is none of a {what}")
    return found


def preprocessing_of(processor: Any, channels: int, where: Path) -> tuple[Preprocessing, tuple[str, ...]]:
    """(what says the same as *processor*, notes).

    channels  of the network's inputs; with 1 the processor is given grey images

    What the configuration says is tried on images of several shapes: where the inputs are not the processor's, the
    processor itself is the preprocessing, and a note says so. ModelError where it fails or gives more than pixels.
    """
    try:
        for chain in _candidates(processor, channels):
            if _agree(processor, chain):
                return chain, ()
        made, size = _output_shape(processor)
    except PilotfishError as error:
        raise ModelError(f"{where}: its {error}") from error
    except Exception as error:  # a processor may raise anything
        name = type(processor).__name__
        raise ModelError(f"{where}: its {name} fails on an image ({reason(error, 120)})") from error
    if made != channels:
        name = type(processor).__name__
        raise ModelError(
            f"{where}: its {name} makes {made} channels and its network takes {channels}; mend one of them"
        )
    text = json.dumps({"class": type(processor).__name__, **plain_document(processor.to_dict())}, sort_keys=True)
    chain = Preprocessing(kind="processor", size=size, resize=None, mean=(), std=(), processor=text)
    note = f"{where}: its {type(processor).__name__} does what no preprocessing here says, and is run as it is"
    return chain, (note,)


def processed(text: str, image: Image.Image) -> F32:
    """float32 (C, H, W): *image* by the image processor that *text*, its class and configuration as JSON, describes.

    UnreadableSample for an image so long that resizing it as a whole could take gigabytes.
    """
    if max(image.size) > LONGEST * min(image.size):
        raise UnreadableSample(
            f"an image of {image.width}x{image.height} pixels is too long to be resized; crop it first"
        )
    return _pixel_values(_built(text), image)


@functools.lru_cache(maxsize=8)
def _built(text: str) -> Any:
    from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

    document = json.loads(text)
    name = str(document.pop("class", ""))
    if _base(name) not in _known("classes"):
        raise ModelError(f"no image processor of a classifier is called {name[:60]!r}")
    with offline():
        return get_image_processor_class_from_name(name).from_dict(document)


@functools.cache
def _known(task: str) -> frozenset[str]:
    """The image processors of transformers' networks of *task*; timm's models say it in another way."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    from pilotfish.models.names.hf_network import KNOWN

    kinds = [IMAGE_PROCESSOR_MAPPING_NAMES.get(kind) or {} for kind in KNOWN[task]]
    return frozenset(_base(name) for names in kinds for name in names.values() if name) - {"TimmWrapperImageProcessor"}


def _check_sizes(said: Mapping[str, Any], where: Path) -> None:
    """ModelError for sizes of which one image takes gigabytes."""
    sizes = [value for key, value in said.items() if key.endswith(("size", "size_divisor"))]
    numbers = [n for size in sizes for n in (size.values() if isinstance(size, Mapping) else np.ravel(size).tolist())]
    share = said.get("crop_pct")
    if any(isinstance(n, int | float) and not 0 < n <= MAX_SIZE for n in numbers):
        raise ModelError(f"{where}: {PROCESSOR} has sizes of {numbers[:4]} pixels; expected 1 to {MAX_SIZE}")
    if share is not None and not (isinstance(share, int | float) and 0.05 <= share <= 2):
        raise ModelError(f"{where}: {PROCESSOR} has a crop_pct of {str(share)[:40]}; expected a share of the image")


def _base(name: Any) -> str:
    """The name of a processor without the mark of what runs it."""
    return str(name).removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")


def _pixel_values(processor: Any, image: Image.Image) -> F32:
    found = processor(images=image, return_tensors="pt")
    if set(found) != {"pixel_values"} or found["pixel_values"].ndim != 4:
        more = ", ".join(sorted(found)) or "nothing"
        raise ModelError(f"{type(processor).__name__} gives {more}; expected pixel_values of one image alone")
    array: F32 = found["pixel_values"][0].float().numpy()
    return array


def _candidates(processor: Any, channels: int) -> Iterator[Preprocessing]:
    """What may say the same as *processor*, likeliest first."""
    normal = _normalisation(processor, channels)
    name = RESAMPLE.get(int(getattr(processor, "resample", None) or 0))
    for resize, size in _geometries(processor) if name is not None and normal is not None else ():
        for resizer in reversed(RESIZERS):
            chain = Preprocessing(size=size, resize=resize, interpolation=str(name), resizer=resizer, **(normal or {}))
            try:
                chain.validate()
            except ValueError:
                continue
            yield chain


def _geometries(processor: Any) -> Iterator[tuple[int | tuple[int, int] | None, tuple[int, int]]]:
    """(resize, size) as Preprocessing has them."""
    size, crop = (dict(getattr(processor, what, None) or {}) for what in ("size", "crop_size"))
    cropped = (crop["height"], crop["width"]) if crop.get("height") and crop.get("width") else None
    crops, resizes = bool(getattr(processor, "do_center_crop", None)), bool(getattr(processor, "do_resize", None))
    shortest, share = size.get("shortest_edge"), getattr(processor, "crop_pct", None)
    if not resizes:
        return
    if size.get("height") and size.get("width"):
        whole = (size["height"], size["width"])
        yield (whole, cropped) if crops and cropped and cropped != whole else (None, whole)
    if shortest and share:  # ConvNeXT's, which crops by itself, and PoolFormer's
        square = (shortest, shortest)
        yield int(shortest / share), cropped if crops and cropped else square
        yield None, square
    if shortest and crops and cropped:
        yield shortest, cropped
        yield int(LEVIT * shortest), cropped


def _normalisation(processor: Any, channels: int) -> dict[str, Any] | None:
    """mean, std and order as Preprocessing has them: the processor's scale, offset and one or two divisions in one."""
    said = {key: getattr(processor, key, None) for key in ("image_mean", "image_std", "rescale_factor")}
    scale = 255 * float(said["rescale_factor"] or 1 / 255) if getattr(processor, "do_rescale", None) else 255.0
    scale = 1.0 if abs(scale - 1) < 1e-6 else scale
    offset = 1.0 if getattr(processor, "rescale_offset", None) else 0.0
    mean, std = (0.0,) * channels, (1.0,) * channels
    if getattr(processor, "do_normalize", None):
        mean, std = (_numbers(said[key], channels) for key in ("image_mean", "image_std"))
    if len(mean) != channels or len(std) != channels:
        return None
    twice = std if getattr(processor, "include_top", None) else (1.0,) * channels  # EfficientNet's
    return {
        "mean": tuple((m + offset) / scale for m in mean),
        "std": tuple(s * t / scale for s, t in zip(std, twice, strict=True)),
        "order": "bgr" if channels == 3 and getattr(processor, "do_flip_channel_order", None) else "rgb",
    }


def _numbers(said: Any, channels: int) -> tuple[float, ...]:
    return (float(said),) * channels if isinstance(said, int | float) else tuple(float(one) for one in said or ())


def _agree(processor: Any, chain: Preprocessing) -> bool:
    """Whether both make the same inputs of images of several shapes, to a small part of a pixel's level."""
    rng = np.random.default_rng(0)
    height, width = chain.size or (0, 0)
    level = SAME / (255 * np.abs(np.asarray(chain.std, np.float32)))[:, None, None]
    for high, wide in PROBES:
        shape = (max(2, round(high * height)), max(2, round(wide * width)))
        image = Image.fromarray(rng.integers(0, 256, shape if chain.channels == 1 else (*shape, 3), dtype=np.uint8))
        own, theirs = chain(image), _pixel_values(processor, image)
        if own.shape != theirs.shape or not (np.abs(own - theirs) <= level).all():
            return False
    return True


def _output_shape(processor: Any) -> tuple[int, tuple[int, int] | None]:
    """(channels, (height, width)) of what *processor* makes; None for the latter where that depends on the image."""
    first, other = (_pixel_values(processor, Image.new("RGB", size)).shape for size in ((300, 200), (90, 120)))
    return first[0], (first[1], first[2]) if first == other else None


def plain_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can say of *document*."""
    kept = {key: value for key, value in document.items() if key not in LEFT_OUT}
    plain: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return plain
