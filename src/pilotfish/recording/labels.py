"""The data's labels in the model's class order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset
from pilotfish.errors import DataError
from pilotfish.models import Model
from pilotfish.records import NO_LABEL

I64 = NDArray[np.int64]


def model_labels(data: Dataset, model: Model) -> I64:
    """int64 (N,): the label of each sample as a class of *model*, -1 where unknown.

    Class names of the data (folder names, say) that the model knows are matched by name; else labels are taken as the
    model's own numbers, which needs as many classes. DataError when they cannot be.
    """
    if data.labels is None:
        return np.full(len(data), NO_LABEL, np.int64)
    labels = np.asarray(data.labels, np.int64)
    names = data.class_names
    if names is None:
        return _checked(labels, model, data)
    for known in (model.class_names, model.class_ids):
        if known is not None and set(names) <= set(known):
            index = {name: known.index(name) for name in names}
            order = np.array([index[name] for name in names] + [NO_LABEL], np.int64)
            return np.asarray(order[labels])
    if model.n_classes is not None and model.n_classes != len(names):
        raise DataError(
            f"{data.spec} has {len(names)} classes ({', '.join(names[:3])}, …) and {model.spec} has {model.n_classes}, "
            "whose names are others; write a labels.csv (file,label) with the model's class numbers"
        )
    return _checked(labels, model, data)


def _checked(labels: I64, model: Model, data: Dataset) -> I64:
    if model.n_classes is not None and (labels >= model.n_classes).any():
        row = int(np.flatnonzero(labels >= model.n_classes)[0])
        raise DataError(
            f"{data.spec}: {data.ids[row]} has label {labels[row]}, but {model.spec} has {model.n_classes} classes "
            f"(0 to {model.n_classes - 1})"
        )
    return labels
