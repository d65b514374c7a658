"""Any traceable module as consecutive parts: its graph, cut after named layers.

A cut keeps every operation as it is, so the parts one after the other give the module's own answers to the bit. What
passes a cut is whatever later operations still need: the features, and whatever else crosses by a skip connection.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from pilotfish.errors import ModelError, nearest, reason
from pilotfish.models.exits.network import Features

LEAVES = ("DropPath",)  # they ask whether they are trained: traced through, the answer would be fixed


@dataclass(frozen=True)
class Cut:
    """parts: modules that take and return tuples of tensors; taps: which tensor of a part's result is the output of the
    layer it was cut after (none for the last part, whose only result is the module's)."""

    parts: tuple[nn.Module, ...]
    taps: tuple[int, ...]


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        modules, functions = _not_traced()
        super().__init__(autowrap_functions=functions)
        self.leaves = modules

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = type(m) in self.leaves or type(m).__name__ in LEAVES
        return known or super().is_leaf_module(m, module_qualified_name)


def trace(module: nn.Module) -> fx.GraphModule:
    """The graph of *module* in evaluation mode. ModelError for code whose flow depends on the data."""
    was = module.training
    given = list(inspect.signature(module.forward).parameters.values())
    fixed = {p.name: p.default for p in given[1:] if p.default is not p.empty}
    try:
        tracer = _Tracer()
        graph = tracer.trace(module.eval(), concrete_args=fixed or None)
        _forget_fixed(graph)
        return fx.GraphModule(tracer.root, graph).train(was)
    except Exception as error:  # tracing runs the module's own code
        raise ModelError(
            f"{type(module).__name__} cannot be cut into parts ({type(error).__name__}: {reason(error)}); its forward "
            "must not depend on the data"
        ) from error
    finally:
        module.train(was)


def _forget_fixed(graph: fx.Graph) -> None:
    """Remove the further arguments, which keep their defaults, and what tracing adds to watch over them."""
    fixed = set([node for node in graph.nodes if node.op == "placeholder"][1:])
    for node in graph.nodes:
        if node.all_input_nodes and fixed.issuperset(node.all_input_nodes):
            fixed.add(node)
    for node in reversed(list(graph.nodes)):
        if node in fixed and not node.users:
            graph.erase_node(node)


def cut(traced: fx.GraphModule, layers: Sequence[str]) -> Cut:
    """*traced* in len(layers) + 1 parts, cut after each of *layers* (module names, in the order they run)."""
    nodes = list(traced.graph.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    ends = [_last_node(traced, layer) for layer in layers]
    if [place[e] for e in ends] != sorted({place[e] for e in ends}):
        raise ModelError(f"layers must be named in the order in which they run, each once; found {', '.join(layers)}")
    bounds = [place[end] + 1 for end in ends]
    parts, taps = [], []
    first, carried = 0, [node for node in nodes if node.op == "placeholder" and node.users][:1]
    for end, layer in zip([*bounds, len(nodes)], [*layers, ""], strict=True):
        after = _needed_after(nodes, place, end) if layer else []
        if layer:
            tap = nodes[end - 1]
            after = [tap, *(node for node in after if node is not tap)]
            taps.append(0)
        parts.append(_part(traced, nodes[first:end], carried, after))
        first, carried = end, after
    return Cut(tuple(parts), tuple(taps))


def single_cuts(traced: fx.GraphModule) -> list[str]:
    """Names of the layers after which a single tensor is all that later operations need, in the order they run; of
    several names for one place the outermost."""
    nodes = list(traced.graph.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    by_place: dict[int, str] = {}
    for name, _ in traced.named_modules():
        try:
            end = place[_last_node(traced, name)] if name else None
        except ModelError:
            continue
        if end is not None and (end not in by_place or name.count(".") < by_place[end].count(".")):
            by_place[end] = name
    return [name for end, name in sorted(by_place.items()) if _needed_after(nodes, place, end + 1) == [nodes[end]]]


def features_through(
    module: nn.Module, parts: Sequence[nn.Module], shape: tuple[int, ...], batch: int = 2
) -> list[Features]:
    """What each of *parts* of *module* returns in evaluation mode, for *batch* inputs of *shape* that are zero."""
    was = module.training
    module.eval()
    found: list[Features] = [(torch.zeros(batch, *shape),)]
    with torch.no_grad():
        for part in parts:
            found.append(part(*found[-1]))
    module.train(was)
    return found[1:]


def cut_at_features(module: nn.Module, shape: tuple[int, ...]) -> Cut:
    """*module* in two parts, at its last feature map or tokens (its last vector where it has none)."""
    traced = trace(module)
    names = single_cuts(traced)[:-1] or single_cuts(traced)
    if not names:
        raise ModelError(f"{type(module).__name__} has no features before its answer that could be read")
    found = features_through(module, cut(traced, names).parts[:-1], shape)
    axes = [min(features[0].ndim, 3) for features in found]
    last = max(range(len(names)), key=lambda i: (axes[i], i))  # the last of those with most axes
    return cut(traced, [names[last]])


def _last_node(traced: fx.GraphModule, layer: str) -> fx.Node:
    inside = [n for n in traced.graph.nodes if _belongs(n, layer)]
    if not inside:
        known = sorted({path for n in traced.graph.nodes for path in _stack(n)})
        raise ModelError(f"no layer {layer!r} is run; {nearest(layer, known)}")
    found: fx.Node = inside[-1]
    return found


def _belongs(node: fx.Node, layer: str) -> bool:
    if node.op == "call_module" and node.target == layer:
        return True
    return layer in _stack(node)


def _stack(node: fx.Node) -> list[str]:
    """Names of the modules whose code the node is part of, outermost first."""
    found = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return [*found, str(node.target)] if node.op == "call_module" else found


def _needed_after(nodes: Sequence[fx.Node], place: dict[fx.Node, int], end: int) -> list[fx.Node]:
    """Values made before place *end* that are used from there on; parameters are read again where they are needed."""
    return [
        node
        for node in nodes[:end]
        if node.op not in ("get_attr", "output") and any(place[user] >= end for user in node.users)
    ]


def _part(
    traced: fx.GraphModule, nodes: Sequence[fx.Node], given: Sequence[fx.Node], wanted: Sequence[fx.Node]
) -> fx.GraphModule:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {node: graph.placeholder(f"carried_{i}") for i, node in enumerate(given)}

    def copy_of(node: fx.Node) -> fx.Node:
        if node not in copies:
            if node.op != "get_attr":
                raise ModelError(f"{node.name} is needed in a later part of the network and cannot be carried there")
            copies[node] = graph.node_copy(node)
        return copies[node]

    result: Any = None
    for node in nodes:
        if node.op == "output":
            result = (fx.node.map_arg(node.args[0], copy_of),)
        elif node.op != "placeholder" and node not in copies:
            copies[node] = graph.node_copy(node, copy_of)
    graph.output(result if result is not None else tuple(copies[node] for node in wanted))
    graph.lint()
    return fx.GraphModule(traced, graph)


def _not_traced() -> tuple[set[Any], tuple[Any, ...]]:
    """timm's modules and functions that tracing must not look into."""
    try:
        from timm.models._features_fx import get_notrace_functions, get_notrace_modules
    except ImportError:
        return set(), ()
    return set(get_notrace_modules()), tuple(get_notrace_functions())
