"""Import public predictions as records: what others published, planned with Pilotfish.

    python examples/import_public_predictions.py DATA OUT

DATA holds .npz files of published predictions: ``cifar10_test.npz`` and ``cifar100_test.npz`` (probabilities of two
models, classes of others), ``imagenet_val_top5.npz`` (ranked classes), ``frugalml.npz`` (paid interfaces: classes,
confidences, prices). OUT gets one run folder for each. Files that are not there are left out, and named.

Multiply-adds are published figures where they are well known, and otherwise plausible ones of the right order: good for
trying things out, not for quoting.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pilotfish

Entry = tuple[str, dict[str, Any], dict[str, float]]  # model, arrays for the .npz, costs

CIFAR_MACS = {
    "lenet5": 6.5e5,
    "wrn16_4": 3.9e8,
    "wrn_28_10": 5.2e9,
    "wrn_28_10_cutout16": 5.2e9,
    "resnet_basic_32": 6.9e7,
    "resnet_basic_56": 1.3e8,
    "resnet_preact_bottleneck_164": 2.5e8,
    "vgg_15_BN_64": 3.1e8,
    "resnext_29_4x64d": 5.0e9,
    "pyramidnet_basic_110_84": 5.7e8,
    "nas": 6.1e8,
    "darc": 4.0e9,
    "shake_drop": 5.5e9,
    "shake_shake_26_2x64d_SSI_cutout16": 1.8e9,
    "shake_shake_26_2x96d_SSI": 3.8e9,
    "alexnet_tf_ben": 2.0e7,
}
IMAGENET_GMACS = {
    "alexnet": 0.71,
    "squeezenet1_0": 0.82,
    "squeezenet1_1": 0.35,
    "vgg11": 7.6,
    "vgg16": 15.5,
    "vgg19": 19.6,
    "resnet18": 1.8,
    "resnet34": 3.7,
    "resnet50": 4.1,
    "resnet101": 7.8,
    "resnet152": 11.5,
    "densenet121": 2.8,
    "densenet161": 7.7,
    "inceptionv3": 5.7,
    "inceptionv4": 12.3,
    "inceptionresnetv2": 13.2,
    "nasnetalarge": 23.8,
    "nasnetamobile": 0.56,
    "pnasnet5large": 25.0,
    "senet154": 20.7,
    "xception": 8.4,
}


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    for name, entries in (
        ("cifar10_test", cifar),
        ("cifar100_test", cifar),
        ("imagenet_val_top5", imagenet),
        ("frugalml", frugalml),
    ):
        path = data / f"{name}.npz"
        if not path.is_file():
            print(f"left out: {path} is not there")
            continue
        with np.load(path, allow_pickle=False) as arrays:
            count = 0
            for run, entry in entries(arrays, name):
                store(out / run, *entry)
                count += 1
        print(f"{name}: {count} models")


def store(run: Path, model: str, arrays: dict[str, Any], costs: dict[str, float]) -> None:
    """One model's predictions as an .npz file, imported."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "predictions.npz"
        np.savez(file, **arrays)
        pilotfish.import_predictions(file, run, model, costs=costs)


def cifar(arrays: Any, name: str) -> Iterator[tuple[str, Entry]]:
    """Probabilities of the small models, classes of the others."""
    label = arrays["label"]
    for model, probs in zip(arrays["prob_models"], arrays["probs"], strict=True):
        yield name, (str(model), {"probs": probs, "label": label}, macs(str(model)))
    for model, classes in zip(arrays["class_models"], arrays["classes"], strict=True):
        yield name, (str(model), {"prediction": classes, "label": label}, macs(str(model)))


def macs(model: str) -> dict[str, float]:
    """Published or plausible multiply-adds; a middling figure for models that are little known."""
    known = {"lenet-5": 6.5e5, "wideresnet-16-4": 3.9e8, "densenet-bc-100": 2.9e8}
    return {"macs": CIFAR_MACS.get(model, known.get(model, 1e9))}


def imagenet(arrays: Any, name: str) -> Iterator[tuple[str, Entry]]:
    """Ranked classes of 67 models."""
    for model, ranked in zip(arrays["models"], arrays["top5"], strict=True):
        gmacs = IMAGENET_GMACS.get(str(model))
        costs = {} if gmacs is None else {"macs": 1e9 * gmacs}
        yield name, (str(model), {"ranked": ranked, "label": arrays["label"], "id": arrays["image"]}, costs)


def frugalml(arrays: Any, name: str) -> Iterator[tuple[str, Entry]]:
    """Paid interfaces: a run per task, the price per request as its cost."""
    for task in sorted({key.split("/")[0] for key in arrays.files}):
        models, prices = arrays[f"{task}/models"], arrays[f"{task}/cost_per_10k"]
        for i, model in enumerate(models):
            predictions = {
                "prediction": arrays[f"{task}/pred"][i],
                "confidence": arrays[f"{task}/conf"][i],
                "label": arrays[f"{task}/label"],
            }
            yield f"{name}-{task.lower()}", (str(model), predictions, {"usd": float(prices[i]) / 10_000})


if __name__ == "__main__":
    main()
