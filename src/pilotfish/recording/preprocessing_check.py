"""Whether the preprocessing that nobody stated is the model's: other common choices are tried on some samples.

A choice is named only where it is better by far and by an exact paired test, so that nobody is talked out of what is
right.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pilotfish.data import Dataset, sample_reader
from pilotfish.errors import ModelError, PilotfishError, UnreadableSample
from pilotfish.machine import cpu_count
from pilotfish.models import Model, Preprocessing
from pilotfish.models.names.stated import BYTE, options_in, spec_with
from pilotfish.models.preprocessing import CENTRE, IMAGENET_MEAN, IMAGENET_STD, draw_rows
from pilotfish.scores.outputs import I64, bad_rows
from pilotfish.tasks.classes import check_logits

SAMPLES = 256
LEAST = 50  # labelled samples
BETTER = 0.05  # a choice is named that is right on so much larger a share
LEVEL = 1e-3  # of the test, over all choices together
BATCH = 32
FIRST = 64  # samples, after which choices that fall behind are given up
BEHIND = 3  # samples
CAFFE_MEAN = (103.939, 116.779, 123.68)
ROUNDS = 3  # choices may come together: another range and another order of channels


def preprocessing_notes(data: Dataset, model: Model, labels: I64) -> tuple[str, ...]:
    """What is odd about how the samples of *data* become inputs of *model*, a line each.

    labels  int64 (N,), in the model's class order, -1 where unknown
    """
    if model.preprocessing.kind == "tensor":
        return _as_they_are(data, model)
    labelled = np.flatnonzero(labels >= 0)
    if not model.assumed or len(labelled) < LEAST or model.backend.name == "python":  # a callable may cost money
        return ()
    found = _Trial(data, model, labels, draw_rows(labelled, SAMPLES)).best()
    return () if found is None else (found,)


def choices(chain: Preprocessing, assumed: Sequence[str], typed: Collection[str] = ()) -> list[Preprocessing]:
    """The common choices beside *chain* in what was *assumed*: pixels of 0 to 1, of -1 to 1, of 0 to 255, ImageNet's
    mean and std, Caffe's (blue, green, red of 0 to 255, less the mean), the ranges and the other order of the
    channels, the other crop.

    typed  the options that the model's name has: a mean that stands there is meant in the order of the channels
    """
    found: list[Preprocessing] = []
    n, colours = chain.channels, chain.channels == 3
    ordered = chain.order == "bgr"
    if "mean" in assumed and "std" in assumed:
        ways: list[tuple[tuple[float, ...], tuple[float, ...]]]
        ways = [((0.0,) * n, (1.0,) * n), ((0.5,) * n, (0.5,) * n), ((0.0,) * n, (BYTE,) * n)]
        if colours:
            ways.append((_turned(IMAGENET_MEAN, ordered), _turned(IMAGENET_STD, ordered)))
        found += [dataclasses.replace(chain, mean=mean, std=std) for mean, std in ways]
        if "channels" in assumed and colours:
            caffe = tuple(m / 255 for m in CAFFE_MEAN), (BYTE,) * 3
            ways = [caffe, *(way for way in ways if len(set(way[0])) == 1)]  # OpenCV reads blue, green, red
            found += [dataclasses.replace(chain, order="bgr", mean=mean, std=std) for mean, std in ways]
    if "channels" in assumed and colours:
        mean, std = (_turned(getattr(chain, what), not {what, "scale"} & set(typed)) for what in ("mean", "std"))
        found.append(dataclasses.replace(chain, order="rgb" if ordered else "bgr", mean=mean, std=std))
    if "crop" in assumed and chain.size is not None:
        other = int(min(chain.size) / CENTRE) if chain.resize is None else None
        found.append(dataclasses.replace(chain, resize=other))
    return [one for one in dict.fromkeys(found) if one != chain]


def stating(chain: Preprocessing, instead_of: Preprocessing) -> dict[str, str]:
    """The options that make *chain* of *instead_of*."""
    options = {}
    turned = chain.order != instead_of.order
    kept = all(
        getattr(chain, what) in (own := getattr(instead_of, what), own[::-1] if turned else own)
        for what in ("mean", "std")
    )
    if not kept and set(chain.std) == {BYTE}:
        options["scale"] = "0..255"
        if any(chain.mean):
            options["mean"] = _listed([255 * m for m in chain.mean])
    elif not kept:
        options |= {"mean": _listed(chain.mean), "std": _listed(chain.std)}
    if turned:
        options["channels"] = chain.order
    if chain.resize != instead_of.resize:
        options["crop"] = "squeeze" if chain.resize is None else f"{CENTRE:g}"
    return options


def better_by_test(wins: int, losses: int) -> float:
    """The chance of so many wins or more among the samples where two choices differ, if neither were better: McNemar's
    exact test, one-sided."""
    n = wins + losses
    return math.fsum(math.comb(n, k) for k in range(wins, n + 1)) / 2.0**n if n else 1.0


class _Trial:
    """The model on *rows* under several choices; every sample is read and resized once per choice of the crop."""

    def __init__(self, data: Dataset, model: Model, labels: I64, rows: NDArray[np.intp]) -> None:
        self.data, self.model, self.labels, self.rows = data, model, labels, rows
        self.read = sample_reader(data, model.preprocessing.decodes_itself)
        self.hits: dict[Preprocessing, I64] = {}

    def best(self) -> str | None:
        """The note that names the best choice; None where none is better by far."""
        first = best = self.model.preprocessing
        for _ in range(ROUNDS):
            others = choices(best, self.model.assumed, options_in(self.model.spec))
            if not self._try([best, *others]):
                return None
            better = [(self.hits[one].sum(), k) for k, one in enumerate(others) if self._better(one, best)]
            if not better:
                break
            best = others[max(better)[1]]
        if not self._better(best, first):
            return None
        n = int((self.hits[first] >= 0).sum())
        shares = [f"{100 * self.hits[chain].sum() / n:.1f} %" for chain in (first, best)]
        options = stating(best, first)
        query = "&".join(f"{key}={value}" for key, value in options.items())
        return (
            f"{n} samples: {shares[0]} right with the preprocessing as assumed, {shares[1]} with ?{query}: record with "
            f"{shlex.quote(spec_with(self.model.spec, options))}"
        )

    def _better(self, one: Preprocessing, than: Preprocessing) -> bool:
        a, b = self.hits[one], self.hits[than]
        both = (a >= 0) & (b >= 0)
        wins, losses = int((a > b)[both].sum()), int((a < b)[both].sum())
        far = wins - losses >= BETTER * both.sum() > 0
        return far and better_by_test(wins, losses) * (len(self.hits) - 1) < LEVEL

    def _try(self, chains: Sequence[Preprocessing]) -> bool:
        """Answer under those of *chains* that were not tried yet: ``hits`` int64 (rows,), 1 where it is right, 0 where
        it is not, -1 where there is no answer. False where the model fails: recording it says why."""
        new = [chain for chain in chains if chain not in self.hits]
        found = {chain: np.full(len(self.rows), -1, np.int64) for chain in new}
        given_up: set[Preprocessing] = set()
        for start, samples in self._pixels(new):
            read = [i for i, one in enumerate(samples) if one is not None]
            at = start + np.array(read, np.intp)
            for chain in new:
                if chain in given_up or not read:
                    continue
                inputs = np.stack([chain.normalise(one[chain.resize]) for one in samples if one is not None])
                try:
                    logits = check_logits(self.model.run(inputs), len(inputs), self.model.spec)
                except PilotfishError:
                    return False
                found[chain][at] = logits.argmax(axis=1) == self.labels[self.rows[at]]
                found[chain][at[bad_rows(logits)]] = 0
            if start + BATCH == FIRST < len(self.rows):
                given_up = self._behind(found, chains[0])
        self.hits |= found
        return True

    def _behind(self, found: dict[Preprocessing, I64], leader: Preprocessing) -> set[Preprocessing]:
        """Those that are right so much less often on the first samples that they will not be better by far."""
        ahead = found[leader] if leader in found else self.hits[leader]
        so_far = ahead[:FIRST].clip(0).sum()
        return {chain for chain, hits in found.items() if so_far - hits[:FIRST].clip(0).sum() >= BEHIND}

    def _pixels(self, chains: Sequence[Preprocessing]) -> Iterator[tuple[int, list[dict[Any, Any] | None]]]:
        """(number of the first row, the resized images of a batch by how they are cropped); None for an unreadable
        sample."""
        ways = {chain.resize: chain for chain in chains}

        def made(row: int) -> dict[Any, Any] | None:
            try:
                sample = self.read(row)
                return {resize: chain.pixels(sample) for resize, chain in ways.items()}
            except UnreadableSample:
                return None

        with ThreadPoolExecutor(cpu_count(), thread_name_prefix="pilotfish-read") as pool:
            for start in range(0, len(self.rows), BATCH):
                yield start, list(pool.map(made, self.rows[start : start + BATCH].tolist()))


def _as_they_are(data: Dataset, model: Model) -> tuple[str, ...]:
    """A note where pictures go into a model as arrays. ModelError where it takes bytes and is given other numbers."""
    for row in range(min(len(data), 20)):
        try:
            sample = data.read(row)
        except UnreadableSample:
            continue
        found = np.asarray(sample)
        if getattr(model.backend, "input_dtype", None) is np.uint8 and not _is_bytes(found):
            raise ModelError(
                f"{model.spec} takes bytes (uint8), and {data.ids[row]} of {data.spec} holds other numbers, from "
                f"{found.min():g} to {found.max():g}; expected whole numbers from 0 to 255"
            )
        if not isinstance(sample, Image.Image):
            scaled = getattr(model.backend, "input_dtype", None) is not np.uint8 and model.backend.name != "python"
            if not scaled or found.dtype != np.uint8 or found.ndim < 2:
                return ()
            return (f"arrays of bytes, {found.shape}, are given as they are: from 0 to 255, not scaled",)
        otherwise = shlex.quote(spec_with(model.spec, {"size": "224", "mean": "…", "std": "…"}))
        shown = f"pixels from 0 to 255 of shape {found.shape}, not resized and not scaled"
        whole = ", or ?takes=images for PIL images" if getattr(model.backend, "takes", "") is None else ""
        return (f"pictures are given as they are: {shown}; state it otherwise, as in {otherwise}{whole}",)
    return ()


def _is_bytes(found: NDArray[Any]) -> bool:
    return bool(found.size) and bool(((found >= 0) & (found <= 255) & (found == np.rint(found))).all())


def _turned(numbers: tuple[float, ...], turn: bool) -> tuple[float, ...]:
    return numbers[::-1] if turn else numbers


def _listed(values: Sequence[float]) -> str:
    return ":".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))
