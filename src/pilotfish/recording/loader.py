"""Samples to batches: decoded and preprocessed in threads, a few batches ahead of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pilotfish.data import Dataset, Encoded, content_hash, sample_reader
from pilotfish.data.pixel_budget import PIXELS
from pilotfish.errors import UnreadableSample, UsageError
from pilotfish.models.augmentation import draw_view
from pilotfish.models.preprocessing import Preprocessing
from pilotfish.records import Failure

F32 = NDArray[np.float32]
AHEAD = 3


@dataclass(frozen=True)
class Batch:
    """inputs: float32 (…) of each of the samples *rows* of the data set, of one shape or of several; content: their
    hashes as they were read (see ``data.content``); failures: those that could not be read."""

    rows: NDArray[np.intp]
    inputs: Sequence[F32]
    content: tuple[str, ...]
    failures: tuple[Failure, ...]

    def alike(self) -> list[NDArray[np.intp]]:
        """The places of the inputs of each shape: what one call can take, in the order of the first of each."""
        found: dict[tuple[int, ...], list[int]] = {}
        for place, one in enumerate(self.inputs):
            found.setdefault(one.shape, []).append(place)
        return [np.array(places, np.intp) for places in found.values()]

    def stacked(self, places: NDArray[np.intp]) -> F32:
        """The inputs at *places*, which have one shape, as one array (n, …)."""
        return np.stack([self.inputs[place] for place in places.tolist()])


def batches(
    data: Dataset,
    preprocessing: Preprocessing,
    start: int,
    batch_size: int,
    workers: int,
    augment: int | None = None,
) -> Iterator[Batch]:
    """Batches from sample *start* on. Batch k always holds the samples k B to (k + 1) B - 1 that can be read, so a
    resumed recording computes in the same batches as an unbroken one."""
    chunk = max(1, -(-batch_size // max(workers, 1)))
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="pilotfish-read") as pool:
        pending: deque[tuple[range, list[Future[_Chunk]]]] = deque()
        starts = iter(range(start, len(data), batch_size))

        def submit() -> None:
            first = next(starts, None)
            if first is None:
                return
            rows = range(first, min(first + batch_size, len(data)))
            parts = [rows[i : i + chunk] for i in range(0, len(rows), chunk)]
            pending.append((rows, [pool.submit(_read, data, preprocessing, part, augment) for part in parts]))

        try:
            for _ in range(AHEAD):
                submit()
            while pending:
                _, futures = pending.popleft()
                chunks = [future.result() for future in futures]
                submit()
                yield _join(chunks)
        finally:
            for _, futures in pending:
                for future in futures:
                    future.cancel()


@dataclass(frozen=True)
class _Chunk:
    rows: list[int]
    inputs: list[F32]
    content: list[str]
    failures: list[Failure]


def _read(data: Dataset, preprocessing: Preprocessing, rows: range, augment: int | None) -> _Chunk:
    kept: list[int] = []
    inputs: list[F32] = []
    content: list[str] = []
    failures: list[Failure] = []
    for row in rows:
        try:
            with PIXELS.in_hand():  # a decoded image counts until it is resized
                sample, digest = _sample(data, preprocessing, row)
                inputs.append(_input(data.ids[row], preprocessing, sample, augment))
                del sample
            content.append(digest)
            kept.append(row)
        except UnreadableSample as error:
            failures.append(Failure(data.ids[row], str(error)))
    return _Chunk(kept, inputs, content, failures)


def _sample(data: Dataset, preprocessing: Preprocessing, row: int) -> tuple[Any, str]:
    """(sample, hash of what was read): a file is read once, hashed, and decoded from the same bytes."""
    read = sample_reader(data, True)(row)
    digest = content_hash(read)
    at_least, library = preprocessing.decoding
    is_decoded = isinstance(read, Encoded) and at_least is None and preprocessing.kind != "paths"
    return (read.decode(None, library) if is_decoded else read), digest


def _input(name: str, preprocessing: Preprocessing, sample: Any, augment: int | None) -> F32:
    if augment is None:
        return preprocessing(sample)
    if preprocessing.kind != "image":
        raise UsageError("--augment cuts views out of images; this model takes its inputs as they are")
    at_least, library = preprocessing.decoding
    if at_least is not None:
        raise UsageError(
            f"--augment cuts views out of images at full size; write ?decoder={library} instead of "
            f"{preprocessing.decoder}"
        )
    size = sample.size if isinstance(sample, Image.Image) else (sample.shape[1], sample.shape[0])
    return preprocessing(sample, draw_view(augment, name, size))


def _join(chunks: list[_Chunk]) -> Batch:
    return Batch(
        rows=np.array([row for chunk in chunks for row in chunk.rows], np.intp),
        inputs=[x for chunk in chunks for x in chunk.inputs],
        content=tuple(digest for chunk in chunks for digest in chunk.content),
        failures=tuple(failure for chunk in chunks for failure in chunk.failures),
    )
