"""A model that can be run: one small interface whatever stands behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError, ModelMemoryError, PilotfishError, reason
from pilotfish.models.costs.macs import MacCount
from pilotfish.models.preprocessing import Preprocessing

F32 = NDArray[np.float32]
BAND = 1e-3
"""The largest difference of a probability between backends that run the same model in float32."""
Carry = tuple[Any, ...]
"""Features of n samples, arrays or tensors (n, …), that a later stage of the same network continues from."""


class Backend(Protocol):
    """What runs a model, or a part of a network with exits. Calls from several threads may run side by side.

    Two more methods may be there: ``with_threads(n)``, the same model on n cores, and ``reduce(inputs, top_k)``, the
    outputs reduced where they were computed (:mod:`pilotfish.models.backends.torch_outputs`), which is used where the
    attribute ``reduces`` is true.
    """

    @property
    def name(self) -> str:
        """One of ``pilotfish.models.backends.backends.NAMES``."""
        ...

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[F32, Carry | None]:
        """(logits float32 (N, C), features for the next part of the same network).

        A whole model takes inputs float32 (N, …) and gives no features, and so does the first part of a network, which
        gives some. The other parts take the carry of the part before, of the samples that are left, and no inputs. A
        model of another task than classes gives that task's raw answers instead (see ``outputs.raw_answers``).
        """
        ...


@dataclass(frozen=True)
class Counted:
    """Costs that need the architecture (``macs``, ``params``), and what the reader of them should know."""

    costs: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExitOf:
    """Whose exit a model is.

    network   identity of the network, its weights' hash: exits of one network may share its work
    position  of the exit, from 1; exits: how many the network has
    segment   what runs the network from one exit to another (0: from the inputs), on a backend by name
    """

    network: str
    position: int
    exits: int
    segment: Callable[[int, int, str | None], Backend]


@dataclass(frozen=True)
class Model:
    """A loaded model.

    spec           the name it was loaded by
    weights_hash   SHA-256 of the weights (of the code's name for a bare callable)
    input_shape    of one sample, where it is known: needed to count MACs and to time
    class_ids      further names of the classes, such as ImageNet's wnids
    count          multiply-adds and parameters of one sample
    weights        how to write the weights to a file, for ``--embed``; None when they cannot be
    weights_suffix of that file
    reload         the model anew as a torch module in memory, for another backend; None where there is no such module
    ephemeral      whether its weights are drawn anew at every loading, so that nothing of it is worth keeping
    details        what else there is to know, such as how well an export agrees with its source
    exit_of        the network that it is an exit of, where it is one
    notes          what was assumed or chosen when it was loaded and shapes its answers, a line each
    assumed        what of the preprocessing neither the file nor the user stated: of mean, std, crop, channels
    task           what it answers, by the task's name
    """

    spec: str
    backend: Backend
    preprocessing: Preprocessing
    weights_hash: str
    input_shape: tuple[int, ...] | None = None
    n_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    class_ids: tuple[str, ...] | None = None
    count: Callable[[], Counted] = Counted
    weights: Callable[[Any], None] | None = None
    weights_suffix: str = ".safetensors"
    reload: Callable[[], Model] | None = None
    ephemeral: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    exit_of: ExitOf | None = None
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    task: str = "classes"

    def run(self, batch: F32) -> F32:
        """Logits float32 (N, C) of a batch float32 (N, …), or what else is the raw answer of its task."""
        return self.backend.step(batch)[0]


@contextlib.contextmanager
def model_errors(name: str, batch: F32, expects: str = "", given: str | None = None) -> Iterator[None]:
    """Inside, whatever the model *name* raises on *batch* becomes a ModelError of one line.

    expects  the form of images that most such models take: where *batch* has another, the line says what to write
    given    what *batch* is to the model, where it is no batch
    """
    try:
        yield
    except PilotfishError:
        raise
    except (Exception, SystemExit) as error:  # a model's code may raise anything, or end the program
        kind = ModelMemoryError if _is_memory(error) else ModelError
        advice = ""
        if expects == "nchw" and kind is ModelError and _channels_last(batch):
            advice = (
                "; these images have their channels last: if it takes them first, add ?layout=nchw with its mean and "
                "std, or ?scale=0..1, to its name"
            )
        what, said = given or f"a batch of shape {batch.shape}", f"{type(error).__name__}: {reason(error, 300)}"
        raise kind(f"{name} failed on {what}: {said}{advice}") from error


def _channels_last(batch: F32) -> bool:
    return batch.ndim == 4 and batch.shape[-1] in (1, 3, 4) and batch.shape[1] not in (1, 3, 4)


def _is_memory(error: BaseException) -> bool:
    """Whether a device or an allocator ran out of memory, however its library says it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()
    return any(text in said for text in ("out of memory", "failed to allocate", "bad_alloc", "not enough memory"))


def counted(macs: MacCount, parameters: int) -> Counted:
    """MACs and parameters as costs; a note when some operators have no formula and the count is a lower bound."""
    notes = (f"MACs are a lower bound, not counted: {', '.join(macs.uncounted)}",) if macs.uncounted else ()
    return Counted({"macs": float(macs.total), "params": float(parameters)}, notes)
