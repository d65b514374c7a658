"""``exits:FILE#k``: exit k of a network, as a model of its own that knows whose exit it is."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pilotfish.errors import ModelError
from pilotfish.files import sha256_json
from pilotfish.models.backends.torch_backend import TorchBackend, state_hash
from pilotfish.models.exits.describe import Description, read_description, read_network
from pilotfish.models.exits.spans import OnnxSpan, TorchSpan
from pilotfish.models.model import Backend, Counted, ExitOf, Model, counted
from pilotfish.models.names.spec import ModelSpec, allow_options, exit_of
from pilotfish.models.names.stated import ASSUMED, shown
from pilotfish.models.onnx.onnx_cache import cached_onnx
from pilotfish.models.onnx.onnx_file import own_file

if TYPE_CHECKING:
    from pilotfish.models.exits.network import ExitNetwork


def load_exit(spec: ModelSpec, device: str, weights: Path | None) -> Model:
    """Exit *k* of the network in a file that ``pilotfish train`` wrote."""
    from pilotfish.models.exits.network import Whole

    allow_options(spec)
    if spec.stated or spec.size is not None:
        raise ModelError(
            f"{spec.text}: its file says how the network was trained to see its inputs; leave "
            f"{next(iter(spec.stated), 'the size')} out"
        )
    name, number = exit_of(spec.name)
    path = weights or Path(name)
    network, description = read_network(path)
    if number is None and network.exits > 1:
        raise ModelError(f"{spec.text}: which exit? Write {spec.text}#1, or record {spec.text} to have them all")
    k = 1 if number is None else number
    if not 1 <= k <= network.exits:
        raise ModelError(f"{spec.text}: the network has exits 1 to {network.exits}")
    digest = sha256_json([state_hash(network.state_dict()), description.structure()])
    return Model(
        spec=spec.text,
        backend=TorchBackend(Whole(network, k - 1), device),
        preprocessing=description.preprocessing,
        weights_hash=digest,
        input_shape=description.input_shape,
        n_classes=description.classes,
        class_names=description.class_names,
        count=functools.cache(lambda: count_exit(network, k - 1, description.input_shape)),
        weights=functools.partial(shutil.copyfile, path),
        notes=_assumed(description),
        exit_of=None
        if network.exits == 1
        else ExitOf(digest, k, network.exits, _segments(path, digest, description.input_shape, device)),
    )


def _assumed(description: Description) -> tuple[str, ...]:
    """A note where the network was trained in preprocessing that nobody had stated for its backbone."""
    told = description.trained.get("assumed")
    which = [what for what in ASSUMED if isinstance(told, list) and what in told]
    if description.preprocessing.kind != "image" or not which:
        return ()
    said = shown(description.preprocessing, which)
    return (
        f"trained in preprocessing that was assumed of its backbone: {said}; if it is another, state it and retrain",
    )


def exit_names(text: str) -> list[str]:
    """``exits:FILE`` as the names of all its exits, with its options; a network of one exit keeps its name, and so does
    ``exits:FILE#K``."""
    name, mark, options = text.partition("?")
    file, position = exit_of(name.partition(":")[2])
    count = 1 if position is not None else read_description(Path(file)).count
    return [f"{name}#{k}{mark}{options}" for k in range(1, count + 1)] if count > 1 else [text]


def count_exit(network: ExitNetwork, k: int, shape: tuple[int, ...]) -> Counted:
    """``macs`` of everything through exit *k* (from 0) with its own head alone, ``head_macs``, ``params``; and
    ``alone_macs`` where the same answer can be had for less (a base's, without the saver before it)."""
    import torch

    from pilotfish.models.costs.macs import count_macs, count_parameters
    from pilotfish.models.exits.network import Whole

    inputs = (torch.zeros(1, *shape),)
    whole = Whole(network, k)
    found = counted(count_macs(whole, inputs), 0)
    head, head_macs = network.head(k), 0.0
    if head is not None:
        seen: list[tuple[torch.Tensor, ...]] = []
        handle = head.register_forward_pre_hook(lambda _, given: seen.append(given))
        with torch.inference_mode():
            whole(*inputs)
        handle.remove()
        head_macs = float(count_macs(head, tuple(x.clone() for x in seen[0])).total)
    parameters = sum(count_parameters(m) for m in network.trunk(k)) + (count_parameters(head) if head else 0)
    costs = {**found.costs, "params": float(parameters), "head_macs": head_macs}
    if (alone := network.alone(k)) is not None:
        costs["alone_macs"] = float(count_macs(alone.eval(), inputs).total)
    return Counted(costs, found.notes)


def _segments(
    path: Path, digest: str, shape: tuple[int, ...], device: str
) -> Callable[[int, int, str | None], Backend]:
    """What runs the network from one exit to another, loaded when it is asked for."""

    @functools.cache
    def network() -> ExitNetwork:
        return read_network(path)[0]

    def make(first: int, last: int, backend: str | None) -> Backend:
        """From exit *first* (0: the inputs) to exit *last*, counting from 1."""
        if device == "cpu" and backend in (None, "onnxruntime"):
            return _exported(network(), digest, shape, first, last - 1)
        return TorchSpan(network(), first, last - 1, device)

    return make


def _exported(network: ExitNetwork, digest: str, shape: tuple[int, ...], first: int, last: int) -> OnnxSpan:
    """The span from part *first* to exit *last*, both from 0, as an ONNX file: exported once, checked against torch,
    and kept by the hash of the weights."""
    import torch

    from pilotfish.models.exits.network import Span, carried_shapes

    shapes = [[tuple(s[1:]) for s in part] for part in carried_shapes(network, torch.zeros(2, *shape))]
    given = [shape] if first == 0 else shapes[first - 1]
    span = Span(network, first, last).eval()  # an exporter gives a module back in the mode that it found it in
    path, exported = cached_onnx(span, given, f"{digest}:{first}-{last}:{shapes[last]}")
    return OnnxSpan(own_file(path, exported.sha256))
