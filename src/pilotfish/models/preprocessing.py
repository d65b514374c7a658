"""From a sample to a model's input tensor. The whole chain is part of a model's identity: it is hashed with the
weights, and a cascade runs only what its records described."""

from __future__ import annotations

import functools
import importlib.util
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pilotfish.data import Dataset, Encoded, sample_reader
from pilotfish.data.images import Library
from pilotfish.documents import OFF_DEFAULT, as_document, read_as
from pilotfish.errors import ArtefactError, MissingExtraError, UnreadableSample
from pilotfish.files import sha256_json
from pilotfish.models.augmentation import View
from pilotfish.models.names.spec import MAX_SIZE

F32 = NDArray[np.float32]
Sample = Image.Image | NDArray[Any] | Encoded
DECODERS = ("pillow", "pillow-draft", "turbojpeg", "turbojpeg-draft")
MAX_RESIZE = 16384  # pixels of a side, as MAX_SIZE for the input; what a file asks for beyond is refused
ORDERS = ("rgb", "bgr")
LAYOUTS = ("nchw", "nhwc")
RESIZERS = ("pillow", "torchvision")
BACKENDS = ("", "openvino")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CENTRE = 0.875  # share of the shorter side that a centre crop keeps where nobody says otherwise
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """How a sample becomes a float32 tensor.

    kind           ``image``: resize, crop, scale to 0..1, normalise, (C, H, W). ``tensor``: the array as it is.
                   ``processor``: what an image processor of transformers makes of it, where the rest cannot say that.
                   One of ``WHOLE``: the sample itself, for code that does all of this on its own
    size           (height, width) of the input; None leaves the image's own size
    resize         length the shorter side is resized to before the centre crop, or (height, width) the image is
                   squeezed to before it; None squeezes the whole image to size
    interpolation  nearest, bilinear, bicubic, lanczos (Pillow's, antialiased)
    mean, std      per channel of the input, in its order, on the 0..1 scale; as many as channels (1 or 3)
    dtype          what the model computes in
    decoder        what decodes JPEGs, pillow or turbojpeg; another decoder is another preprocessing. With ``-draft`` it
                   decodes at the smallest scale (1, 1/2, 1/4, 1/8) that covers the resized image
    order          rgb or bgr: the order of three channels
    layout         nchw: inputs are (C, H, W); nhwc: (H, W, C)
    resizer        what resizes: pillow, or torchvision on bytes, as the image processors of transformers do; the same
                   but for a level in some pixels, and for the corner of the crop, which torchvision rounds down
    processor      the class of an image processor and its configuration, as JSON
    backend        whose arithmetic it is, where that matters: openvino. Empty: torch's in bfloat16 and float16, that of
                   any backend in float32
    """

    kind: Literal["image", "tensor", "processor", "images", "arrays", "paths"] = "image"
    size: tuple[int, int] | None = (224, 224)
    resize: int | tuple[int, int] | None = 256
    interpolation: str = "bicubic"
    mean: tuple[int | float, ...] = IMAGENET_MEAN  # as they were written: 0 and 0.0 have different hashes
    std: tuple[int | float, ...] = IMAGENET_STD
    dtype: str = "float32"
    decoder: str = "pillow"
    order: str = field(default="rgb", metadata=OFF_DEFAULT)
    layout: str = field(default="nchw", metadata=OFF_DEFAULT)
    resizer: str = field(default="pillow", metadata=OFF_DEFAULT)
    processor: str | None = field(default=None, metadata=OFF_DEFAULT)
    backend: str = field(default="", metadata=OFF_DEFAULT)

    @property
    def decodes_itself(self) -> bool:
        """Whether image files come to it as they are, not decoded by who reads the data."""
        return self.decoder != "pillow"

    def check_installed(self) -> None:
        """MissingExtraError where what decodes or resizes is not installed."""
        for package, extra, purpose in (
            ("simplejpeg", "jpeg", f"?decoder={self.decoder}" if self.decoding[1] == "turbojpeg" else ""),
            ("torchvision", "torch", "?resizer=torchvision" if self.resizer == "torchvision" else ""),
        ):
            if purpose and importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, extra, purpose)

    @property
    def own_size(self) -> bool:
        """Whether images are inputs at their own size."""
        return self.kind == "image" and self.size is None

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return len(self.mean)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object. ``order`` and ``layout`` stand there off their default alone: a chain that was hashed
        before there were any keeps its hash."""
        document: dict[str, Any] = as_document(self)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Preprocessing:
        """The inverse of :meth:`to_json`; ArtefactError for unknown keys and for what cannot be carried out."""
        return read_as(cls, document, "preprocessing that cannot be carried out", ArtefactError)

    def validate(self) -> None:
        """ValueError for what cannot be carried out."""
        if not _can_run(self):
            raise ValueError(str(self.to_json())[:300])

    @property
    def hash(self) -> str:
        """SHA-256 of the chain."""
        return sha256_json(self.to_json())

    @property
    def of_inputs(self) -> Preprocessing:
        """The same without what the model computes in: inputs are alike where this is."""
        return replace(self, dtype="float32", backend="")

    def __call__(self, sample: Sample, view: View | None = None) -> F32:
        """float32 (C, H, W) for images, (H, W, C) where the layout says so; the array's own shape for tensors. A sample
        that is handed on whole is held in an object array (), which is stacked and cut as tensors are.

        sample  a PIL image, an image file not yet decoded, or an array: uint8 (H, W) or (H, W, 3) is an image, anything
                else a tensor
        view    the augmented part of the image to look at; None is the whole
        """
        if self.kind == "paths":
            return _held(_path_of(sample))
        if isinstance(sample, Encoded):
            sample = sample.decode(*self.decoding)
        if self.processor is not None:
            from pilotfish.models.names.hf_processor import processed

            return processed(self.processor, _as_image(sample, channels=3))
        if self.kind in WHOLE:  # a copy: the code may write into it, and later stages see the sample as well
            return _held(_as_image(sample, 3).copy() if self.kind == "images" else np.array(sample))
        return _as_tensor(sample) if self.kind == "tensor" else self.normalise(self.pixels(sample, view))

    def pixels(self, sample: Sample, view: View | None = None) -> NDArray[np.uint8]:
        """A sample decoded, resized and cropped: uint8 (H, W), or (H, W, 3) in the order red, green, blue."""
        if isinstance(sample, Encoded):
            sample = sample.decode(*self.decoding)
        if view is None and isinstance(sample, np.ndarray) and self._fits(sample):
            return sample
        if self.resizer == "torchvision" and view is None and self.size is not None:
            from pilotfish.models.torchvision_resize import resize_as_torchvision

            ready = isinstance(sample, np.ndarray) and self.channels == 3 and _is_rgb(sample)
            image = sample if ready else _as_image(sample, self.channels)
            return resize_as_torchvision(image, self.resize, self.size, self.interpolation)
        return np.asarray(self._resized(_as_image(sample, self.channels), view))

    def normalise(self, pixels: NDArray[np.uint8]) -> F32:
        """What :meth:`pixels` gives as the model's input, float32."""
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if self.order == "bgr":
            planes = planes[::-1]
        factor, offset = _linear(self.mean, self.std)
        out = np.empty(planes.shape, np.float32)
        np.multiply(planes, factor, out=out, casting="unsafe")
        out -= offset
        return np.ascontiguousarray(out.transpose(1, 2, 0)) if self.layout == "nhwc" else out

    @property
    def decoding(self) -> tuple[tuple[int, int] | None, Library]:
        """How image files are decoded, as :meth:`pilotfish.data.Encoded.decode` takes it: (width, height) that a scaled
        image must have for the resize to make it no larger, or None for full size; and by what."""
        library: Library = "turbojpeg" if self.decoder.startswith("turbojpeg") else "pillow"
        if self.size is None or not self.decoder.endswith("-draft"):
            return None, library
        asked = self.resize if isinstance(self.resize, tuple) else (self.resize,) if self.resize is not None else ()
        side = max(*self.size, *asked)
        return (side, side), library

    def _fits(self, array: NDArray[Any]) -> bool:
        """Whether resizing would return *array* as it is: small images need not become one of Pillow's first."""
        shape = self.size if self.channels == 1 else (*(self.size or ()), self.channels)
        return self.resize is None and self.resizer == "pillow" and array.dtype == np.uint8 and array.shape == shape

    def _resized(self, image: Image.Image, view: View | None) -> Image.Image:
        if view is not None:
            size = self.size or (image.height, image.width)
            cut = image.resize((size[1], size[0]), RESAMPLING[self.interpolation], box=view.box(image.size))
            return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flip else cut
        if self.size is None:
            return image
        height, width = self.size
        box = None if self.resize is None else _crop_box(image.size, self.resize, (width, height))
        return image.resize((width, height), RESAMPLING[self.interpolation], box=box)


@functools.lru_cache(maxsize=64)
def _linear(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[F32, F32]:
    """(factor, offset), float32 (C, 1, 1): bytes times factor, minus offset, are normalised."""
    divisor, subtracted = (np.asarray(numbers, np.float32)[:, None, None] for numbers in (std, mean))
    return 1.0 / (255.0 * divisor), subtracted / divisor


def draw_rows(rows: int | NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """*most* of the *rows* (of 0 to rows - 1, where it is a number), or all, drawn at random and in random order.

    The first rows will not do: class folders come sorted.
    """
    return np.asarray(np.random.default_rng(0).permutation(rows)[:most])


def sample_inputs(data: Dataset, chain: Preprocessing, rows: Iterable[int]) -> Iterator[tuple[int, F32]]:
    """(row, input) of those *rows* of *data* that can be read, each read when it is asked for: what a model is tried on
    before it is recorded, quantised or timed."""
    read = sample_reader(data, chain.decodes_itself)
    for row in rows:
        try:
            yield row, chain(read(row))
        except UnreadableSample:
            continue


def stacked(inputs: Sequence[F32]) -> F32:
    """The *inputs* that have the shape of the first, as one array (n, …)."""
    return np.stack([one for one in inputs if one.shape == inputs[0].shape])


def _can_run(chain: Preprocessing) -> bool:
    resize = chain.resize if isinstance(chain.resize, tuple) else (chain.resize,) if chain.resize is not None else ()
    sizes = [*(chain.size or ()), *resize]
    numbers = (*chain.mean, *chain.std)
    sound = (
        all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
        and re.fullmatch(r"[a-z0-9_]{1,20}", chain.dtype) is not None
        and chain.backend in BACKENDS
        and all(type(n) is int and 0 < n <= MAX_RESIZE for n in sizes)
        and all(n <= MAX_SIZE for n in chain.size or ())
    )
    return sound and (
        (chain.kind == "tensor" and chain.processor is None)
        or (chain.kind == "processor" and chain.processor is not None and len(chain.size or (0, 0)) == 2)
        or chain == WHOLE.get(chain.kind)
        or (
            chain.kind == "image"
            and chain.processor is None
            and chain.resizer in RESIZERS
            and (chain.resizer == "pillow" or chain.interpolation != "lanczos")
            and _is_normal(chain)
            and chain.interpolation in RESAMPLING
            and chain.decoder in DECODERS
            and chain.order in (ORDERS if chain.channels == 3 else ORDERS[:1])
            and chain.layout in LAYOUTS
            and chain.channels in (1, 3)
            and len(chain.std) == chain.channels
            and (chain.size is None or len(chain.size) == 2)
            and (not isinstance(chain.resize, tuple) or len(chain.resize) == 2)
        )
    )


def _is_normal(chain: Preprocessing) -> bool:
    """Whether mean and std make numbers of pixels, also in float32."""
    with np.errstate(all="ignore"):
        std = np.asarray(chain.std, np.float32)
        offset = np.asarray(chain.mean, np.float32) / std if len(chain.mean) == len(chain.std) else np.float32(np.nan)
        return bool(all(np.isfinite(numbers).all() for numbers in (std, 1 / (255 * std), offset)))


AS_IT_IS = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
"""Arrays are the model's inputs."""
WHOLE: Mapping[str, Preprocessing] = {
    "images": replace(AS_IT_IS, kind="images"),
    "arrays": replace(AS_IT_IS, kind="arrays"),
    "paths": replace(AS_IT_IS, kind="paths", decoder="none"),
}
"""Samples that are handed on whole: PIL images in RGB, arrays (uint8 (H, W, 3) of an image), paths of their files."""


def _crop_box(
    size: tuple[int, int], resize: int | tuple[int, int], crop: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The part of the image that "shorter side to *resize*, then centre crop" keeps, in source pixels.

    Resampling this box straight to the crop equals resizing first, without ever making the large image: a
    1 x 65535 picture costs no memory.
    """
    width, height = size
    if isinstance(resize, tuple):
        full = (max(crop[0], resize[1]), max(crop[1], resize[0]))
    else:  # the longer side is rounded down, as torchvision and timm do
        full = (max(crop[0], resize * width // min(size)), max(crop[1], resize * height // min(size)))
    left, top = round((full[0] - crop[0]) / 2), round((full[1] - crop[1]) / 2)
    x, y = width / full[0], height / full[1]
    return (left * x, top * y, min(width, (left + crop[0]) * x), min(height, (top + crop[1]) * y))


def _is_rgb(array: NDArray[Any]) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0


def _as_image(sample: Image.Image | NDArray[Any], channels: int) -> Image.Image:
    if isinstance(sample, np.ndarray):
        image_like = sample.ndim == 2 or (sample.ndim == 3 and sample.shape[2] in (1, 3))
        if sample.dtype != np.uint8 or not image_like or not sample.size:
            raise UnreadableSample(
                f"an array of {sample.dtype} {sample.shape} is not an image; expected uint8 (H, W) or (H, W, 3), or a "
                "model that takes arrays as they are (?layout=tensor)"
            )
        sample = Image.fromarray(sample[..., 0] if sample.ndim == 3 and sample.shape[2] == 1 else sample)
    mode = "L" if channels == 1 else "RGB"
    return sample if sample.mode == mode else sample.convert(mode)


def _held(sample: Any) -> NDArray[Any]:
    """An object array () that holds *sample*."""
    held = np.empty(1, object)
    held[0] = sample
    return held.reshape(())


def _path_of(sample: Sample) -> str:
    if isinstance(sample, Encoded) and sample.path is not None:
        return sample.path
    found = "bytes" if isinstance(sample, Encoded) else type(sample).__name__
    raise UnreadableSample(
        f"the model takes paths of files, and this sample is in none ({found}); give image files, or let it take images"
    )


def _as_tensor(sample: Image.Image | NDArray[Any]) -> F32:
    array = np.asarray(sample)
    if array.dtype.kind not in "fiub":
        raise UnreadableSample(f"an array of {array.dtype} cannot be a model's input; expected numbers")
    with np.errstate(over="ignore"):
        tensor = array.astype(np.float32)
    if not np.isfinite(tensor).all():
        raise UnreadableSample("the array holds NaN or infinities, or numbers too large for float32")
    return tensor
