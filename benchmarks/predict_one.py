"""One request at a time: ``predict_one`` from bytes beside the same calls written by hand in ONNX Runtime.

    python benchmarks/predict_one.py --cascade CASCADE --data folder:photos

1. the bytes of every image go to ``predict_one`` and to two handlers written by hand, in turns that change their order.
   By hand means Pillow, numpy and an ``InferenceSession`` per model with as many threads: once with sessions opened as
   Pilotfish does, once as ONNX Runtime does by default, whose threads spin while they wait
2. what Pilotfish adds of its own: ``predict_one`` with models that answer at once, of a picture that is decoded
3. throughput of --threads threads that call ``predict_one``, and of one engine that they submit to. Answers are checked

The machine should be idle: with other work on it, threads that spin take twice as long.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

import pilotfish
from pilotfish.data import open_data
from pilotfish.models.preprocessing import RESAMPLING
from pilotfish.runtime import EngineStage

Answer = tuple[int, int]  # the class, and the stage that said it
SAME_BAND = 1e-3  # of a probability: nearer to the threshold, rounding may decide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cascade", required=True, help="of ONNX Runtime's models, that compares max_prob")
    parser.add_argument("--data", required=True)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turn", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    cascade = pilotfish.Cascade.load(options.cascade)
    data = open_data(options.data)
    read = getattr(data, "encoded", None)
    if read is None:
        parser.error("--data is a folder of images")
    blobs = [read(i).content for i in range(min(options.samples, len(data)))]
    paired(cascade, blobs, options.rounds, options.turn)
    own_work(cascade)
    for n in options.threads:
        throughput(cascade, blobs, n, options.seconds)


def by_hand(cascade: pilotfish.Cascade, spinning: bool) -> Callable[[bytes], Answer]:
    """A handler as one would write it."""
    (threshold,) = cascade.thresholds
    sessions = [
        _session(model, stage, spinning) for model, stage in zip(cascade.models, _backends(cascade), strict=True)
    ]
    chains = [model.preprocessing for model in cascade.models]

    def answer(content: bytes) -> Answer:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        for k, (session, chain) in enumerate(zip(sessions, chains, strict=True)):
            logits = session.run(None, {session.get_inputs()[0].name: tensor(image, chain)})[0][0]
            e = np.exp(logits - logits.max())
            p = e / e.sum()
            best = int(p.argmax())
            if k == len(sessions) - 1 or p[best] >= threshold:
                return best, k
        raise AssertionError

    return answer


def _backends(cascade: pilotfish.Cascade) -> list[Any]:
    return [stage.backend for stage in cascade.single_stages]


def _session(model: pilotfish.Model, backend: Any, spinning: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = backend.threads, 1
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(backend.file.read()[0], options, providers=["CPUExecutionProvider"])


def tensor(image: Image.Image, chain: pilotfish.Preprocessing) -> np.ndarray:
    """Resize, centre crop, scale and normalise: (1, 3, H, W)."""
    assert isinstance(chain.resize, int)
    assert chain.size is not None
    height, width = chain.size
    short = min(image.size)
    full = (max(width, chain.resize * image.width // short), max(height, chain.resize * image.height // short))
    left, top = round((full[0] - width) / 2), round((full[1] - height) / 2)
    x, y = image.width / full[0], image.height / full[1]
    box = (left * x, top * y, min(image.width, (left + width) * x), min(image.height, (top + height) * y))
    pixels = np.asarray(image.resize((width, height), RESAMPLING[chain.interpolation], box=box), np.float32)
    normal = (pixels / 255 - np.asarray(chain.mean, np.float32)) / np.asarray(chain.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))[np.newaxis]


def paired(cascade: pilotfish.Cascade, blobs: Sequence[bytes], rounds: int, turn: int) -> None:
    """All ways on the same bytes, in turns; ratios are of one image's calls to each other."""

    def ours(content: bytes) -> Answer:
        found = cascade.predict_one(content)
        assert found.error is None, found.error
        return found.prediction, int(found.stage or 0)

    ways = {"predict_one": ours, "by hand": by_hand(cascade, False), "by hand, spinning": by_hand(cascade, True)}
    ms: dict[str, list[float]] = {name: [] for name in ways}
    said: dict[str, list[Answer]] = {name: [] for name in ways}
    for number in range(-1, rounds):  # the first is not counted
        for first in range(0, len(blobs), turn):
            order = list(ways) if (number + first // turn) % 2 else list(reversed(ways))
            for name in order:
                for content in blobs[first : first + turn]:
                    start = time.perf_counter()
                    answer = ways[name](content)
                    if number >= 0:
                        ms[name].append(1000 * (time.perf_counter() - start))
                        said[name].append(answer)
    stages = np.array([stage for _, stage in said["predict_one"]])
    mine = np.array(ms["predict_one"])
    print(f"{len(blobs)} images, {rounds} rounds; {(stages == 0).mean():.1%} exit at the first stage")
    for name in ways:
        theirs = np.array(ms[name])
        p50, p95, p99 = np.quantile(theirs, [0.5, 0.95, 0.99], method="inverted_cdf")
        ratio = "" if name == "predict_one" else f"; predict_one ÷ this: {_ratios(mine / theirs, stages)}"
        differ = sum(one != other for one, other in zip(said[name], said["predict_one"], strict=True))
        print(f"{name}: p50 {p50:.2f}, p95 {p95:.2f}, p99 {p99:.2f} ms; other answers {differ}{ratio}", flush=True)


def _ratios(ratio: np.ndarray, stages: np.ndarray) -> str:
    parts = [("all", ratio), ("exits", ratio[stages == 0]), ("base", ratio[stages > 0])]
    return ", ".join(f"{name} {np.median(part):.3f}" for name, part in parts if len(part))


class _AtOnce:
    """A model that is certain, and takes no time."""

    name = "at once"

    def __init__(self, classes: int) -> None:
        self.logits = np.eye(1, classes, dtype=np.float32) * 20

    def step(self, inputs: Any, carry: Any = None) -> tuple[Any, Any]:
        return self.logits, None


def own_work(cascade: pilotfish.Cascade) -> None:
    """Microseconds of a request that are neither decoding, preprocessing nor the model."""
    made = cascade.models[0].preprocessing(Image.new("RGB", (64, 64)))
    models = [dataclasses.replace(model, preprocessing=_Made(made)) for model in cascade.models]
    bare = pilotfish.Cascade(cascade.artefact, models, cascade.choices)
    bare.single_stages[:] = [
        EngineStage(stage.name, _AtOnce(model.n_classes or 1000), 1)
        for stage, model in zip(bare.single_stages, models, strict=True)
    ]
    image = np.zeros((8, 8, 3), np.uint8)
    found = []
    for _ in range(20_000):
        start = time.perf_counter()
        bare.predict_one(image)
        found.append(1e6 * (time.perf_counter() - start))
    print(f"own work of a request: {statistics.median(found):.1f} µs, least {min(found):.1f} µs", flush=True)


class _Made:
    """A preprocessing that is done."""

    kind, decoder = "image", "pillow"

    def __init__(self, tensor: np.ndarray) -> None:
        self.tensor = tensor

    def __call__(self, sample: Any) -> np.ndarray:
        return self.tensor


def throughput(cascade: pilotfish.Cascade, blobs: Sequence[bytes], threads: int, seconds: float) -> None:
    """Requests per second of threads that ask for one after the other."""
    known = [cascade.predict_one(content) for content in blobs]
    (threshold,) = cascade.thresholds
    sure = [abs(float(found.confidence or 0) - threshold) > SAME_BAND if found.stage == 0 else True for found in known]
    with cascade.engine() as engine:
        ways: dict[str, Callable[[bytes], Any]] = {
            "predict_one": cascade.predict_one,
            "one engine": lambda content: engine.submit(content).result(),
        }
        for name, ask in ways.items():
            counts, wrong = [0] * threads, [0] * threads
            end = time.perf_counter() + seconds

            def client(seed: int, ask: Any = ask, counts: Any = counts, wrong: Any = wrong, end: float = end) -> None:
                rng = np.random.default_rng(seed)
                while time.perf_counter() < end:
                    row = int(rng.integers(len(blobs)))
                    found = ask(blobs[row])
                    counts[seed] += 1
                    same = (found.prediction, found.stage) == (known[row].prediction, known[row].stage)
                    wrong[seed] += not same and sure[row]

            clients = [threading.Thread(target=client, args=(i,)) for i in range(threads)]
            start = time.perf_counter()
            for one in clients:
                one.start()
            for one in clients:
                one.join()
            rate = sum(counts) / (time.perf_counter() - start)
            print(f"{threads} threads, {name}: {rate:.1f} requests a second; wrong answers {sum(wrong)}", flush=True)


if __name__ == "__main__":
    main()
