"""Exceptions of Pilotfish.

    PilotfishError
    ├── UsageError            an argument or a combination of arguments that makes no sense
    ├── DataError             samples: a folder, an array file, one image
    │   └── UnreadableSample  one sample cannot be read; the others are recorded
    ├── ModelError            a model's name, weights or outputs
    │   └── ModelMemoryError  a batch does not fit in memory
    ├── RecordsError          a records file or a run folder
    │   └── AlignmentError    records that do not belong together
    ├── BudgetError           a budget that no operating point meets
    ├── ArtefactError         a cascade folder that cannot be trusted or does not fit its models
    ├── EngineError           an input that an engine did not answer
    │   ├── DeadlineError     its deadline passed
    │   ├── QueueFull         the queue is full
    │   └── EngineClosed      the engine is closed
    ├── StateError            a server's state file that cannot be used
    ├── UnwritableError       a file that cannot be written: a full disk, a read-only folder
    └── MissingExtraError     an optional dependency that is not installed

Messages say what was found, what was expected and what to do, in one line.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator

from pilotfish.text import examples
from pilotfish.text import one_line as one_line


class PilotfishError(Exception):
    """Base class of all errors of Pilotfish."""


class UsageError(PilotfishError):
    """An argument, or a combination of arguments, that makes no sense.

    arguments  names in the message that are options on the command line, which writes them as options
    """

    def __init__(self, text: str, arguments: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.arguments = tuple(arguments)


class DataError(PilotfishError):
    """A data specification or a data file that cannot be used."""


class UnreadableSample(DataError):  # noqa: N818 - a sample, not the run, is at fault
    """One sample that cannot be read; the others are recorded."""


class ModelError(PilotfishError):
    """A model's name, weights or outputs are not usable."""


class ModelMemoryError(ModelError):
    """A batch that does not fit in the memory of the device or the machine."""


class RecordsError(PilotfishError):
    """A records file or run folder that cannot be used."""


class AlignmentError(RecordsError):
    """Records that do not belong together."""


class BudgetError(PilotfishError):
    """A budget that no operating point meets. The message gives the best that can be reached."""


class ArtefactError(PilotfishError):
    """A cascade folder that cannot be trusted, or does not fit the models at hand."""


class EngineError(PilotfishError):
    """An input that an engine did not answer."""


class DeadlineError(EngineError):
    """An input whose deadline passed before it was answered."""


class QueueFull(EngineError):  # noqa: N818 - as in the standard library
    """The engine's queue is full."""


class EngineClosed(EngineError):  # noqa: N818
    """The engine was closed."""


class StateError(PilotfishError):
    """A server's state file that cannot be used."""


class UnwritableError(PilotfishError):
    """A file that cannot be written."""


class MissingExtraError(PilotfishError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str, or_else: str = "") -> None:
        self.missing = package, extra, purpose
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed: pip install 'pilotfish[{extra}]'"
            f"{or_else and ', or '}{or_else}"
        )


@contextlib.contextmanager
def needs(package: str, extra: str, purpose: str) -> Iterator[None]:
    """Turn an ImportError inside into a MissingExtraError that names the extra to install for *purpose*."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(package, extra, purpose) from error


def reason(error: BaseException, most: int = 200) -> str:
    """The message of a library's *error* as one line of at most *most* characters; its type if it has none."""
    return one_line(" ".join(str(error).split()))[:most] or type(error).__name__


def nearest(name: str, valid: Iterable[str], most: int = 5) -> str:
    """A clause for error messages: the valid names closest to *name*, or the first few."""
    names = list(valid)  # of a name of megabytes its beginning is compared: the time grows with its length
    close = difflib.get_close_matches(name[:100], names, n=most, cutoff=0.4)
    if close:
        return "nearest names: " + ", ".join(close)
    return f"valid names: {examples(names, most)}" if names else "there are none"
