"""Name → model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pilotfish.errors import MissingExtraError, ModelError, UsageError, nearest
from pilotfish.machine import check_device, processor
from pilotfish.models.backends.backends import is_installed, with_backend
from pilotfish.models.dtypes import dtype_named
from pilotfish.models.model import Model
from pilotfish.models.names.spec import KINDS, ModelSpec, imported, parse_spec, with_option
from pilotfish.models.names.stated import STATED, with_stated
from pilotfish.models.outputs.raw_answers import EXPECTED
from pilotfish.models.outputs.reading import Reading, answering, take_reading, take_task, with_reading
from pilotfish.models.preprocessing import DECODERS, RESIZERS

OPENVINO, TORCH = "openvino", "torch"
Settle = Callable[[Model, Reading], tuple[Model, Reading]]


def load_model(
    name: str,
    device: str = "cpu",
    weights: Path | None = None,
    backend: str | None = None,
    settle: Settle | None = None,
    *,
    typed: bool = True,
    task: str | None = None,
) -> Model:
    """The model called *name* (see ``spec.KINDS``), on *device*.

    weights  a file that replaces the weights the name would bring: how an embedded cascade loads its own
    backend  what runs it (see ``backends.NAMES``); by default ONNX Runtime on the CPU, torch on CUDA
    settle   finds out which output is meant and what it has been through (see ``settle``); the model's ``spec`` then
             says it. None: what the name says, else the first output, logits as they are
    typed    whether the user typed the name; False for a name that stands in a file, which imports nothing from the
             working directory
    task     what it answers, by the task's name, as ``?task=`` of the name; None: classes, but for detectors and
             segmentation of torchvision and transformers, which know it

    Raises ModelError for a wrong name (with the nearest right ones) or weights that do not fit, UsageError for a device
    that is none.
    """
    check_device(device)
    plain, reading = take_reading(dataclasses.replace(take_task(parse_spec(name), task), typed=typed))
    task = plain.task
    plain, variant = take_variant(plain)
    notes: tuple[str, ...] = ()
    if typed and backend is None and variant.gains_by_openvino(plain, device):
        lacks = "the package openvino is not installed: pip install 'pilotfish[openvino]'"
        try:
            if is_installed(OPENVINO):
                return load_model(with_option(name, f"backend={OPENVINO}"), device, weights, settle=settle, task=task)
        except (ModelError, MissingExtraError) as error:
            lacks = str(error)
        notes = (f"{name} is computed by torch; OpenVINO, which is faster on this processor, does not run it: {lacks}",)
    with _torch_is_needed(name):
        loader = imported(KINDS[plain.kind].loader)

    def load() -> Model:
        with _torch_is_needed(name):
            found = _counted(variant.applied(with_stated(loader(plain, device, weights), plain), name, device))
            found = answering(found, plain)
            if found.task in EXPECTED:  # OpenVINO is no choice for it
                return with_reading(found, reading, device)
            return dataclasses.replace(found, notes=(*found.notes, *notes))

    model = load()
    if settle is not None and plain.kind != "exits":
        model, reading = settle(model, reading)
    if not reading.is_plain or reading.takes is not None:
        written = reading.written(model.spec if model.task in EXPECTED else name)
        model = with_reading(dataclasses.replace(model, spec=written), reading, device)
    if getattr(model.backend, "module", None) is None:
        return _as_asked(with_backend(model, device, backend), typed)
    ephemeral = plain.options.get("weights") == "random"  # another model every time, so it is kept in memory
    reload = (lambda: model) if ephemeral else lambda: with_reading(load(), reading, device)
    model = dataclasses.replace(model, reload=reload, ephemeral=ephemeral)
    return _as_asked(with_backend(model, device, backend), typed)


def _as_asked(model: Model, typed: bool) -> Model:
    """*model*. ModelError for one that was typed, to be recorded, in a dtype that this processor does not know; one
    that was recorded elsewhere runs in float32, and a loaded cascade says so."""
    if typed and (lack := getattr(model.backend, "lack", None)) is not None:
        raise ModelError(f"{model.spec}: {lack}; leave dtype out, or record it on the machine that it is for")
    if typed and (doubt := getattr(model.backend, "doubt", None)) is not None:
        return dataclasses.replace(model, notes=(*model.notes, f"{model.spec}: {doubt}"))
    return model


def _counted(model: Model) -> Model:
    """A torch module of the user's own, whose costs can be counted where its inputs are images of a known size."""
    module, chain = getattr(model.backend, "module", None), model.preprocessing
    if module is None or model.input_shape is not None or chain.kind != "image" or chain.size is None:
        return model
    from pilotfish.models.backends.torch_backend import count_module

    shape = (chain.channels, *chain.size) if chain.layout == "nchw" else (*chain.size, chain.channels)
    return dataclasses.replace(model, count=functools.cache(functools.partial(count_module, module, shape)))


@dataclass(frozen=True)
class Variant:
    """Options that every form takes and that make another model of it, recorded for itself: ``?dtype=…``,
    ``?decoder=…``, ``?resizer=…`` and ``?backend=…``. None: as the model comes."""

    dtype: str | None = None
    decoder: str | None = None
    resizer: str | None = None
    backend: str | None = None

    def gains_by_openvino(self, spec: ModelSpec, device: str) -> bool:
        """Whether OpenVINO is what a user who says nothing of a backend wants: bfloat16 on a processor that has it."""
        bf16 = self.dtype == "bfloat16" and self.backend is None and device == "cpu"
        return bf16 and spec.kind != "python" and processor().bf16

    def applied(self, model: Model, name: str, device: str) -> Model:
        """*model* under its full *name*, computing in the variant's dtype and reading with its decoder and resizer.

        OpenVINO gets the model in float32 and computes in the dtype on its own. ModelError where the model has no torch
        module to cast, or takes no images; MissingExtraError where what reads them is not installed.
        """
        chain, backend = model.preprocessing, model.backend
        for option, value in (("decoder", self.decoder), ("resizer", self.resizer)):
            if value is not None and (chain.kind != "image" or chain.size is None):
                raise ModelError(f"{name}: {option} is for models that take images of a fixed size; leave it out")
        chain = dataclasses.replace(chain, decoder=self.decoder or chain.decoder, resizer=self.resizer or chain.resizer)
        if chain.resizer == "torchvision" and chain.interpolation == "lanczos":
            raise ModelError(f"{name}: resizer=torchvision has no lanczos; leave one of them out")
        chain.check_installed()
        dtype = self.dtype or chain.dtype
        if dtype != chain.dtype and "int8" in (dtype, chain.dtype):
            raise ModelError(
                f"{name}: comes in {chain.dtype}; int8 is made by `pilotfish quantise MODEL --data … --out FILE.onnx`, "
                "and onnx:FILE.onnx is then the model; or build with --precisions int8"
            )
        parts = None if dtype != chain.dtype else model.exit_of  # parts of a network compute in its own dtype
        if model.task == "boxes" and (dtype != "float32" or self.backend == OPENVINO):
            raise ModelError(
                f"{name}: a detector is run in float32 by torch, for its boxes are pixels; leave the rest out"
            )
        if self.backend == OPENVINO:
            chain = dataclasses.replace(chain, dtype=dtype, backend=OPENVINO)
        elif dtype != chain.dtype or (self.backend == TORCH and chain.dtype == "float32"):
            from pilotfish.models.backends.torch_backend import TorchBackend

            module = getattr(backend, "module", None)
            if module is None:
                other = " (or for OpenVINO: &backend=openvino)" if backend.name == "onnxruntime" else ""
                raise ModelError(f"{name}: dtype is for torch models{other}, this one is run by {backend.name}")
            if dtype == "float32":
                raise ModelError(f"{name}: in float32 every backend says the same; leave backend out")
            chain = dataclasses.replace(chain, dtype=dtype)
            backend = TorchBackend(module, device, dtype=dtype)
        return dataclasses.replace(model, preprocessing=chain, backend=backend, exit_of=parts)


def take_variant(spec: ModelSpec) -> tuple[ModelSpec, Variant]:
    """The name without its variant, its statements on preprocessing apart, and the variant."""
    options = dict(spec.options)
    stated = {option: options.pop(option) for option in STATED if option in options}
    asked = {what: options.pop(what, None) for what in ("dtype", "decoder", "resizer", "backend")}
    for what, known in (("decoder", DECODERS), ("resizer", RESIZERS), ("backend", (OPENVINO, TORCH))):
        value = asked[what]
        if value is not None and value not in known:
            raise ModelError(f"{spec.text}: unknown {what} {value!r}; {nearest(value, known)}")
    try:
        asked["dtype"] = None if asked["dtype"] is None else dtype_named(asked["dtype"])
    except UsageError as error:
        raise ModelError(f"{spec.text}: {error}") from error
    return dataclasses.replace(spec, options=options, stated=stated), Variant(**asked)


@contextlib.contextmanager
def _torch_is_needed(name: str) -> Iterator[None]:
    """Inside, torch that is not installed is a MissingExtraError, wherever it is imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", "torch", f"loading {name}") from error
