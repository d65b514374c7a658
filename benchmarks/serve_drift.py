"""The drift alarm: how often it is false, how soon it comes, what it costs; and on real photos that are changed.

    python benchmarks/serve_drift.py
    python benchmarks/serve_drift.py --cascade CASCADE --photos FOLDER

1. quiet streams, in which the rate lies at an end of the band or inside, and quiet scores: share of streams that raise
   the alarm within T inputs, beside the bound T / A
2. a rate of .7 that falls: inputs until the alarm (medians), beside a z-test of every 500 inputs and PSI > .2, which
   practice uses, and how often those cry on quiet streams
3. microseconds per input
4. with --cascade and --photos, the decisions and scores of real samples as they are, darker, brighter, blurred and
   compressed; many streams of each, drawn with replacement
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pilotfish
from pilotfish.serve.watch.bands import SIDES, Band, place_band, place_of
from pilotfish.serve.watch.drift import Bets, Drift, bets, drift_of

F64 = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], F64]  # (streams, inputs) -> x
A = 1e5
CHUNK = 2000
IMAGES = (".jpg", ".jpeg", ".png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000, help="0: real samples alone")
    parser.add_argument("--quiet", type=int, default=10_000, help="T, inputs of a quiet stream")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cascade")
    parser.add_argument("--photos", help="a folder of image files")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    if options.streams:
        quiet(rng, options.streams, options.quiet)
        delays(rng, options.streams, options.quiet)
        speed(rng)
    if options.cascade and options.photos:
        changed_photos(rng, options.cascade, options.photos)


def first_alarms(rng: np.random.Generator, parts: list[tuple[Bets, Draw]], streams: int, most: int) -> F64:
    """(streams,) the input that raises the alarm at A, the average of the parts; infinity where none of *most* does."""
    sums = [np.zeros((streams, len(made.constant))) for made, _ in parts]
    found = np.full(streams, math.inf)
    for start in range(0, most, CHUNK):
        drawn = [draw(rng, streams, min(CHUNK, most - start)) for _, draw in parts]
        for t in range(drawn[0].shape[1]):
            total = np.zeros(streams)
            for (made, _), own, x in zip(parts, sums, drawn, strict=True):
                own += 1
                own *= made.constant + made.slope * x[:, t, None]
                total += own.mean(axis=1)
            raised = (total >= A * len(parts)) & np.isinf(found)
            found[raised] = start + t + 1
            for own in sums:
                own[raised] = 0  # or it would grow for ever
        if np.isfinite(found).all():
            break
    return found


def rate(p: float) -> Draw:
    """x = 1 with chance p."""
    return lambda rng, streams, n: (rng.random((streams, n)) < p).astype(np.float64)


def score(quantiles: F64, shift: float = 0.0) -> Draw:
    """x = F(score) of normal scores that are shifted, by 101 quantiles."""

    def draw(rng: np.random.Generator, streams: int, n: int) -> F64:
        values = rng.normal(shift, 1, (streams, n))
        left, right = (np.searchsorted(quantiles, values, side) for side in ("left", "right"))
        return np.asarray((left + right - 1).clip(0, SIDES) / SIDES)

    return draw


def quiet(rng: np.random.Generator, streams: int, most: int) -> None:
    """False alarms."""
    print(f"quiet streams: {streams} of {most:,} inputs, A = {A:,.0f}; alarms are to be in at most {most / A:.1%}")
    known = [np.sort(rng.normal(size=n))[(np.arange(101) * (n - 1)) // 100] for n in (200, 2000)]
    normal = np.array([math.sqrt(2) * _erfinv(2 * q - 1) for q in np.linspace(5e-4, 1 - 5e-4, 101)])
    wide = place_band(normal.tolist(), 1000)
    cells: list[tuple[str, list[tuple[Bets, Draw]]]] = [
        ("rate .70, known", [(bets(0.7, 0.7), rate(0.7))]),
        ("rate .68, band .68 to .72", [(bets(0.68, 0.72), rate(0.68))]),
        ("rate .70, band .68 to .72", [(bets(0.68, 0.72), rate(0.70))]),
        ("rate .72, band .68 to .72", [(bets(0.68, 0.72), rate(0.72))]),
        ("rate .02, band .00 to .02", [(bets(0.0, 0.02), rate(0.02))]),
        ("rate .98, band .98 to 1.0", [(bets(0.98, 1.0), rate(0.98))]),
        ("scores, F known", [(bets(0.5, 0.5), score(normal))]),
        ("scores, F of 200 samples", [(_bets(place_band(known[0].tolist(), 200)), score(known[0]))]),
        ("scores, F of 2,000 samples", [(_bets(place_band(known[1].tolist(), 2000)), score(known[1]))]),
        ("rate .70 known, and scores", [(bets(0.7, 0.7), rate(0.7)), (_bets(wide), score(normal))]),
    ]
    for name, parts in cells:
        cried = np.isfinite(first_alarms(rng, parts, streams, most)).mean()
        print(f"  {name:32} {cried:7.2%}", flush=True)


def delays(rng: np.random.Generator, streams: int, most: int) -> None:
    """How soon, after a change from .7."""
    print(f"\na rate of .7 changes; inputs until the alarm, medians of {streams // 2} streams")
    print(f"  {'':46} .7→.6  .7→.5  (serving.md: 335 / 133 tuned, 374 / 110 mixture; band 472 / 150)")
    normal = np.array([math.sqrt(2) * _erfinv(2 * q - 1) for q in np.linspace(5e-4, 1 - 5e-4, 101)])
    scores = (_bets(place_band(normal.tolist(), 1000)), score(normal))
    for name, band, others in (
        ("rate known, exits alone", (0.7, 0.7), []),
        ("band .68 to .72, exits alone", (0.68, 0.72), []),
        ("band .68 to .72, with scores that stay", (0.68, 0.72), [scores]),
        ("band .66 to .74, exits alone", (0.66, 0.74), []),
    ):
        found = [
            np.median(first_alarms(rng, [(bets(*band), rate(p)), *others], streams // 2, 20_000)) for p in (0.6, 0.5)
        ]
        print(f"  {name:44} {found[0]:7.0f}{found[1]:7.0f}", flush=True)
    window, half = 500, 1.96 * math.sqrt(0.7 * 0.3 / 500)
    for p in (0.7, 0.6, 0.5):
        shares = rng.binomial(window, p, (streams, most // window)) / window
        psi = (shares - 0.7) * np.log(shares / 0.7) + (0.7 - shares) * np.log((1 - shares) / 0.3)
        z = np.abs(shares - 0.7) > half
        when = np.median(np.where(z.any(axis=1), (z.argmax(axis=1) + 1) * window, np.inf))
        print(
            f"  every {window} inputs, rate {p}: z-test cries in {z.any(axis=1).mean():.0%} of {most:,} inputs (median "
            f"{when:.0f}), PSI > .2 in {(psi > 0.2).any(axis=1).mean():.0%}"
        )


def speed(rng: np.random.Generator) -> None:
    """Microseconds of Python per input."""
    quantiles = np.sort(rng.normal(size=1000))[(np.arange(101) * 999) // 100].tolist()
    drift, n = Drift(Band(0.66, 0.74, 1000, 0.7), quantiles, 1000), 50_000
    exits, values = (rng.random(n) < 0.7).tolist(), rng.normal(size=n).tolist()
    times = []
    for part in range(10):
        start = time.perf_counter()
        for i in range(part * n // 10, (part + 1) * n // 10):
            drift.seen(exits[i], values[i])
        times.append((time.perf_counter() - start) / (n / 10))
    print(f"\none input takes {1e6 * np.median(times):.1f} µs ({len(drift.to_state()['sums'])} bets)")


# Real samples


class Heard:
    """What the first stage decides of each sample."""

    def __init__(self, n: int) -> None:
        self.exits, self.score = np.zeros(n, bool), np.full(n, math.nan)

    def passage(self, i: int) -> Callable[..., bool]:
        def asked(stage: int, answer: Any, value: float, exits: bool) -> bool:
            if stage == 0:
                self.exits[i], self.score[i] = exits, value
            return True  # the base is not needed

        return asked


def changed_photos(rng: np.random.Generator, folder: str, photos: str) -> None:
    """Streams of real samples, as they are and changed."""
    cascade = pilotfish.Cascade.load(folder)
    files = [path.read_bytes() for path in sorted(Path(photos).rglob("*")) if path.suffix.lower() in IMAGES]
    watch = drift_of(cascade.artefact)
    print(f"\n{len(files)} photos; {watch.promise}")
    for note in filter(None, [watch.band.note]):
        print(f"  note: {note}")
    print(
        f"  {'':22} exit ratio  mean F    PSI   alarms in 200 streams of 20,000; inputs until then: median (5 to 95 %)"
    )
    for name, change in CHANGES.items():
        heard = heard_of(cascade, [change(file) for file in files])
        places = np.array([place_of(cascade.artefact.profile.quantiles[0], s) for s in heard.score.tolist()]) / SIDES
        parts = [
            (_bets(band), _drawn(x)) for band, x in ((watch.band, heard.exits), (watch.score_band, places)) if band
        ]
        found = first_alarms(rng, parts, 200, 20_000) if watch.average_run == A else _at(watch.average_run, rng, parts)
        raised = found[np.isfinite(found)]
        when = "" if not len(raised) else "{:.0f} ({:.0f} to {:.0f})".format(*np.percentile(raised, [50, 5, 95]))
        alarm = one_stream(rng, cascade, heard)
        figures = f"{heard.exits.mean():10.3f} {places.mean():7.3f} {alarm.recent.psi or 0:6.2f}"
        print(f"  {name:22} {figures}   {len(raised):3}  {when}")
        print(f"  {'':22} one by one: {alarm.alarm or 'no alarm'}", flush=True)


def heard_of(cascade: pilotfish.Cascade, samples: list[Any]) -> Heard:
    """The first stage's decisions, by the living engine as the server asks it."""
    heard = Heard(len(samples))
    with cascade.engine(queue=len(samples)) as engine:
        futures: list[Future[Any]] = [
            engine.submit(sample, passage=heard.passage(i)) for i, sample in enumerate(samples)
        ]
        for future in futures:
            future.result()
    return heard


def one_stream(rng: np.random.Generator, cascade: pilotfish.Cascade, heard: Heard) -> Drift:
    """The watch after 20,000 inputs one by one, or its alarm."""
    watch = drift_of(cascade.artefact)
    for i in rng.integers(0, len(heard.exits), 20_000).tolist():
        if watch.seen(bool(heard.exits[i]), float(heard.score[i])) is not None:
            break
    return watch


def _at(average_run: float, rng: np.random.Generator, parts: list[tuple[Bets, Draw]]) -> F64:
    global A
    before, A = A, average_run
    try:
        return first_alarms(rng, parts, 200, 20_000)
    finally:
        A = before


def _drawn(x: NDArray[Any]) -> Draw:
    """Drawn with replacement; all parts of an input together, by the same numbers."""
    values = x.astype(np.float64)

    def draw(rng: np.random.Generator, streams: int, n: int) -> F64:
        return np.asarray(values[np.random.default_rng(n).integers(0, len(values), (streams, n))])

    return draw


def _changed(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def made(content: bytes) -> bytes:
        from PIL import Image

        out = io.BytesIO()
        change(Image.open(io.BytesIO(content)).convert("RGB")).save(out, "JPEG", quality=95)
        return out.getvalue()

    return made


def _brighter(by: float) -> Callable[[bytes], bytes]:
    from PIL import ImageEnhance

    return _changed(lambda image: ImageEnhance.Brightness(image).enhance(by))


def _blurred(radius: float) -> Callable[[bytes], bytes]:
    from PIL import ImageFilter

    return _changed(lambda image: image.filter(ImageFilter.GaussianBlur(radius)))


def _compressed(content: bytes) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(out, "JPEG", quality=8)
    return out.getvalue()


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "as they are": lambda content: content,
    "saved again": _changed(lambda image: image),
    "brightness x 0.9": _brighter(0.9),
    "brightness x 0.5": _brighter(0.5),
    "brightness x 0.25": _brighter(0.25),
    "brightness x 2": _brighter(2.0),
    "blurred, radius 1": _blurred(1.0),
    "blurred, radius 3": _blurred(3.0),
    "JPEG quality 8": _compressed,
}


def _bets(band: Band) -> Bets:
    return bets(band.lo, band.hi)


def _erfinv(x: float) -> float:
    from scipy.special import erfinv

    return float(erfinv(x))


if __name__ == "__main__":
    main()
