"""Public predictions as tables of a saver and a base: CIFAR-10 and -100 test sets, and FrugalML's API answers.

The files are those that ``examples/import_public_predictions.py`` imports; see its docstring for where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pilotfish.records import NO_LABEL, Outputs, Records, RecordsMeta, Table, align, from_probabilities

TOP_K = 10


@dataclass(frozen=True)
class Task:
    """Models on the same samples; savers have a confidence."""

    name: str
    records: dict[str, Records]
    savers: tuple[str, ...]

    def table(self, saver: str, base: str) -> Table:
        """The pair, aligned."""
        return align([self.records[saver]], self.records[base])

    def chain(self, *models: str) -> Table:
        """Several savers and last the base, aligned."""
        return align([self.records[m] for m in models[:-1]], self.records[models[-1]])

    def accuracy(self, model: str) -> float:
        """Share of right answers."""
        one = self.records[model]
        return float((one.outputs.prediction == one.label).mean())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(saver, base): by rising price where prices are known, else all models that are no savers."""
        for saver in self.savers:
            for base in self.records:
                prices = [self.records[m].meta.costs.get("usd") for m in (saver, base)]
                if prices[0] < prices[1] if None not in prices else base not in self.savers:
                    yield saver, base


def cifar(folder: Path, classes: int) -> Task:
    """``cifar10_test.npz`` or ``cifar100_test.npz``."""
    with np.load(folder / f"cifar{classes}_test.npz", allow_pickle=False) as file:
        label = file["label"].astype(np.int64)
        known = {
            str(n): from_probabilities(p, top_k=TOP_K) for n, p in zip(file["prob_models"], file["probs"], strict=True)
        }
        others = zip(file["class_models"], file["classes"], strict=True)
        answers = {str(n): Outputs(c.astype(np.int64)) for n, c in others if str(n) not in known}
    records = {name: _records(name, label, out, {}, classes) for name, out in {**known, **answers}.items()}
    return Task(f"CIFAR-{classes}", records, tuple(known))


def frugalml(folder: Path) -> list[Task]:
    """``frugalml.npz``: five tasks, four models each, prices per 10,000 calls."""
    tasks = []
    with np.load(folder / "frugalml.npz", allow_pickle=False) as file:
        for name in sorted({key.split("/")[0] for key in file.files}):
            label = file[f"{name}/label"].astype(np.int64)
            prices = file[f"{name}/cost_per_10k"] / 10_000
            columns = zip(file[f"{name}/models"], file[f"{name}/pred"], file[f"{name}/conf"], prices, strict=True)
            records = {
                str(m): _records(
                    str(m), label, Outputs(p.astype(np.int64), confidence=c.astype(np.float64)), {"usd": float(u)}
                )
                for m, p, c, u in columns
            }
            tasks.append(Task(f"FrugalML {name}", records, tuple(records)))
    return tasks


def _records(
    name: str, label: np.ndarray, outputs: Outputs, costs: dict[str, float], classes: int | None = None
) -> Records:
    shift = min(int(label.min()), int(outputs.prediction.min()), 0)  # FrugalML numbers some classes from -1
    moved = Outputs(**{**vars(outputs), "prediction": outputs.prediction - shift}) if shift else outputs
    ids = pa.array([str(i) for i in range(len(label))])
    assert NO_LABEL not in label - shift
    return Records(ids, label - shift, moved, RecordsMeta(name, "test", n_classes=classes, costs=costs))


def halves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(fit, judge): a random split in two, each in random order."""
    order = np.random.default_rng(seed).permutation(n)
    return order[: n // 2], order[n // 2 :]
