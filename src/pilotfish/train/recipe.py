"""How a network is trained: a small file that one can read and change."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pilotfish.errors import UsageError, nearest

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "steps", "constant")
LOSSES = ("sum", "distill", "self_distill", "saver_weighted")
WEIGHTS = ("equal", "linear")


@dataclass(frozen=True)
class Recipe:
    """A training.

    epochs, batch_size, optimiser, learning_rate, weight_decay, momentum (of sgd)
    schedule        of the rate: ``cosine`` to a thousandth, ``steps`` (a tenth after each share of *steps*) or
                    ``constant``
    warm_up_epochs  over which the rate rises to its full
    loss            ``sum`` of the exits' cross-entropies; ``distill`` adds the divergence from the last exit, which is
                    detached; ``self_distill`` from the next exit (Zhang et al., "Be your own teacher", ICCV 2019);
                    ``saver_weighted`` is TinySaver's Eq. 11, of exit sequences: samples weigh 2 (1 - the saver's
                    confidence), and neither the saver nor the last exit is trained
    weights         of the exits in the sum: ``equal``, or ``linear``, growing with depth
    temperature, distillation  of the soft targets, and their share of the loss
    label_smoothing as in torch
    crop, flip      how pictures are varied: moved by up to so many pixels, mirrored
    auto_augment    AutoAugment's ImageNet policy, before that
    mixup, cutmix   alpha of either; 0 is without; with both, one of them by a coin for each batch
    freeze          whether the backbone stays as it is
    amp             mixed precision: bfloat16 where the device has it
    holdout         share of the samples that is never trained on
    """

    epochs: int = 10
    batch_size: int = 128
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    schedule: str = "cosine"
    warm_up_epochs: float = 0.0
    steps: tuple[float, ...] = (0.5, 0.75)
    loss: str = "sum"
    weights: str = "equal"
    temperature: float = 3.0
    distillation: float = 0.5
    label_smoothing: float = 0.0
    crop: int = 0
    flip: bool = False
    auto_augment: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    freeze: bool = True
    amp: bool = False
    holdout: float = 0.1

    def __post_init__(self) -> None:
        for what, value, known in (
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
            ("loss", self.loss, LOSSES),
            ("weights", self.weights, WEIGHTS),
        ):
            if value not in known:
                raise UsageError(f"unknown {what} {value!r} in a recipe; {nearest(value, known)}")
        for what, number, least in (
            ("crop", self.crop, 0),
            ("mixup", self.mixup, 0),
            ("cutmix", self.cutmix, 0),
            ("weight_decay", self.weight_decay, 0),
            ("warm_up_epochs", self.warm_up_epochs, 0),
            ("temperature", self.temperature, 1e-3),
        ):
            if not least <= number < math.inf:
                raise UsageError(f"a recipe's {what} is a number of at least {least:g}, found {number:g}")
        if not (0 <= self.distillation <= 1 and 0 <= self.label_smoothing < 1 and 0 <= self.momentum < 1):
            raise UsageError(
                "a recipe has distillation from 0 to 1 and label_smoothing and momentum from 0 to below 1; found "
                f"{self.distillation:g}, {self.label_smoothing:g} and {self.momentum:g}"
            )
        if not self.learning_rate < math.inf:
            raise UsageError(f"a recipe's learning_rate is a number above 0, found {self.learning_rate:g}")
        if self.epochs < 1 or self.batch_size < 2 or self.learning_rate <= 0 or not 0 <= self.holdout < 1:
            raise UsageError(
                "a recipe has epochs >= 1, batch_size >= 2, learning_rate > 0 and 0 <= holdout < 1; found "
                f"{self.epochs}, {self.batch_size}, {self.learning_rate:g} and {self.holdout:g}"
            )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**dataclasses.asdict(self), "steps": list(self.steps)}


def load_recipe(source: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by the name of one that is shipped (``exits``, ``msdnet``, ``esn``, ``router``) or from a .toml file;
    *changes* replace values of it. UsageError for unknown names and values of another type."""
    if isinstance(source, str) and not source.endswith(".toml"):
        shipped = resources.files("pilotfish.train") / "recipes" / f"{source}.toml"
        if not shipped.is_file():
            raise UsageError(f"no recipe {source!r}; expected exits, msdnet, esn, router, or a .toml file")
        text = shipped.read_text(encoding="utf-8")
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{source}: the recipe cannot be read ({error})") from error
    try:
        values = {**tomllib.loads(text), **(changes or {})}
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: not a TOML file ({error})") from error
    return Recipe(**{key: _value(key, value, str(source)) for key, value in values.items()})


def parse_changes(pairs: list[str] | None) -> dict[str, Any]:
    """``epochs=3``, ``freeze=false`` as values; UsageError for anything else."""
    found = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        try:
            found[key.strip()] = tomllib.loads(f"x = {text}" if equals else "")["x"]
        except (tomllib.TOMLDecodeError, KeyError):
            found[key.strip()] = text.strip()
            if not equals:
                raise UsageError(f"--set takes KEY=VALUE, such as epochs=3; found {pair!r}") from None
    return found


def parse_counts(option: str, text: str) -> list[int]:
    """``8,32`` as whole numbers; UsageError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and len(part) < 6 for part in parts):
        raise UsageError(f"{option} takes whole numbers separated by commas, such as 8,32; found {text!r}")
    return [int(part) for part in parts]


def _value(key: str, value: Any, where: str) -> Any:
    kinds = {field.name: field.type for field in dataclasses.fields(Recipe)}
    if key not in kinds:
        raise UsageError(f"{where}: a recipe has no {key!r}; {nearest(key, kinds)}")
    kind = str(kinds[key])
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "int" and number and float(value).is_integer():
        return int(value)
    if kind == "float" and number:
        return float(value)
    if (kind == "bool" and isinstance(value, bool)) or (kind == "str" and isinstance(value, str)):
        return value
    if kind.startswith("tuple") and isinstance(value, list) and all(isinstance(v, int | float) for v in value):
        return tuple(float(v) for v in value)
    raise UsageError(f"{where}: {key} takes {kind}, found {value!r}")
