"""Spans of a network as ONNX files: exported once, checked against torch, kept by the hash of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilotfish.models.onnx.onnx_cache import cached_span
from pilotfish.models.onnx.onnx_file import OnnxFile, own_file

if TYPE_CHECKING:
    from pilotfish.models.exits.spans import Network


def span_files(network: Network, digest: str, shape: tuple[int, ...], first: int, last: int) -> tuple[OnnxFile, int]:
    """(file, number of outputs) of the span from part *first* to exit *last*, both from 0.

    shape  of one input of the network
    """
    import torch

    from pilotfish.models.exits.network import Span, carried_shapes

    loaded = network()
    x = torch.zeros(2, *shape)
    shapes = carried_shapes(loaded, x)
    given = [tuple(x.shape[1:])] if first == 0 else [tuple(s[1:]) for s in shapes[first - 1]]
    made = [tuple(s[1:]) for s in shapes[last]]
    span = Span(loaded, first, last).eval()  # an exporter gives a module back in the mode that it found it in
    path, exported = cached_span(span, given, f"{digest}:{first}-{last}:{made}")
    return own_file(path, exported.sha256), 1 + len(made)
