"""Train the two networks of the examples, small.onnx and big.onnx: python examples/scenes/train.py

Both map images float32 (N, 3, 64, 64), 0 to 1, to logits (N, 11, 64, 64): the background and ten digits. Takes about
ten minutes on two cores. What lies here was made by it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from pilotfish.data.scenes import BACKGROUND, SIDE, made
from pilotfish.data.scenes import CLASSES as DIGITS

CLASSES, SHUFFLE = 11, 4
HERE = Path(__file__).parent
# name: (channels, dilations of the 3×3 convolutions, epochs)
NETWORKS = {"small": (24, (1, 2), 60), "big": (48, (1, 2, 1), 16)}


def network(channels: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """A quarter of the resolution at once, 3×3 convolutions there, and the classes of 16 pixels at the end."""
    convolutions = [
        nn.Conv2d(3, channels // 2, 3, stride=2, padding=1),
        nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1),
        *(nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in dilations),
    ]
    layers = [layer for conv in convolutions for layer in (conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())]
    return nn.Sequential(*layers, nn.Conv2d(channels, CLASSES * SHUFFLE**2, 1), nn.PixelShuffle(SHUFFLE))


def train(net: nn.Module, images: torch.Tensor, masks: torch.Tensor, epochs: int, batch: int = 32) -> None:
    steps = epochs * (len(images) // batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    weight = torch.full((CLASSES,), 1.0)
    weight[0] = 0.4  # most of a scene is background
    net.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
            x, y = images[rows].float() / 255, masks[rows].long()
            x = x[:, torch.randperm(3)]  # any colour will do
            dy, dx = torch.randint(-8, 9, (2,)).tolist()
            x, y = x.roll((dy, dx), (2, 3)), y.roll((dy, dx), (1, 2))
            loss = functional.cross_entropy(net(x), y, weight=weight)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"  epoch {epoch + 1}: loss {total * batch / len(images):.4f}", flush=True)
    net.eval()


def miou(net: nn.Module, images: torch.Tensor, masks: torch.Tensor) -> float:
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    with torch.inference_mode():
        for x, y in zip(images.split(100), masks.split(100), strict=True):
            said = net(x.float() / 255).argmax(1)
            confusion += np.bincount((y.long() * CLASSES + said).flatten(), minlength=CLASSES**2).reshape(CLASSES, -1)
    hit = np.diag(confusion)
    return float((hit / (confusion.sum(0) + confusion.sum(1) - hit)).mean())


def write_onnx(net: nn.Sequential, path: Path) -> None:
    """The network as a graph, normalisation folded into the convolutions before it."""
    nodes, weights, last = [], [], "image"
    layers = list(net)
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            norm = layers[i + 1] if isinstance(layers[i + 1], nn.BatchNorm2d) else None
            fused = layer if norm is None else nn.utils.fuse_conv_bn_eval(layer, norm)
            for name, tensor in (("weight", fused.weight), ("bias", fused.bias)):
                weights.append(numpy_helper.from_array(tensor.detach().numpy(), f"{i}.{name}"))
            d, p = layer.dilation[0], int(layer.padding[0])
            sizes = {"strides": list(layer.stride), "dilations": [d, d], "pads": [p, p, p, p]}
            nodes.append(helper.make_node("Conv", [last, f"{i}.weight", f"{i}.bias"], [f"conv{i}"], **sizes))
            last = f"conv{i}"
        elif isinstance(layer, nn.ReLU):
            nodes.append(helper.make_node("Relu", [last], [f"relu{i}"]))
            last = f"relu{i}"
    nodes.append(helper.make_node("DepthToSpace", [last], ["logits"], blocksize=SHUFFLE, mode="CRD"))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES, SIDE, SIDE])
    graph = helper.make_graph(nodes, "scenes", [image], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    names = {0: BACKGROUND, **dict(enumerate(DIGITS, start=1))}
    helper.set_model_props(model, {"names": str(names)})  # as exporters write them; Pilotfish reads them
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--only", choices=list(NETWORKS))
    args = parser.parse_args()
    torch.manual_seed(0)
    data = {}
    for split, n in (("train", args.scenes), ("val", 1000)):
        images, masks, *_ = made(split, n)
        data[split] = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(masks)
    for name, (channels, dilations, epochs) in NETWORKS.items():
        if args.only in (None, name):
            net = network(channels, dilations).to(memory_format=torch.channels_last)
            print(f"{name}: {sum(p.numel() for p in net.parameters()):,} parameters")
            train(net, *data["train"], epochs)
            write_onnx(net, args.out / f"{name}.onnx")
            print(f"{name}: mIoU {miou(net, *data['val']):.4f} on scenes:val")


if __name__ == "__main__":
    main()
