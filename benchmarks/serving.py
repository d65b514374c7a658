"""A cascade behind HTTP beside LitServe, Ray Serve, the engine without HTTP, and a bare call: paired rounds.

    python benchmarks/serving.py --data PHOTOS --work FOLDER --peers PYTHON --out serving.json

All servers are up, and are loaded in turn, in a random order in each round; the figures are medians over the rounds
with least and largest, and ratios those of one round. Whose turn it is not stands still (SIGSTOP), for LitServe's
workers ask their queue without a pause and would take most of a core from the others; Ray's processes go on. All of
them run the same two ONNX models with one thread a call, and exits are those of one threshold, set so that --exit-ratio
of the photos exit. Photos are sent as JPEG.

--work keeps records, the cascade and the models as files; the first run fills it (three minutes). --peers is a Python
that has litserve and ray[serve] (and may see the packages of this one by a .pth file); what it lacks is left out.
Twelve minutes with everything; --rounds, --seconds and --clients make it shorter.

The same code begun again is up to 7 % faster or slower for as long as it lives, by where its memory lies, so two
processes that are compared for long tell of themselves. With --fresh every round begins all of them anew. The ratio to
the engine, in 15 minutes:

    … --fresh --rounds 20 --only "pilotfish serve" engine "bare call" --clients 1 16
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pilotfish
from pilotfish.cascade import OperatingPoint
from pilotfish.cascade.folder import save_artefact
from pilotfish.models.preprocessing import RESAMPLING

HERE = Path(__file__).parent
PAIR = ("lite:efficientnet_lite0@224", "lite:efficientnet_lite2@260")
LIT_OPTIONS = (  # as many threads in all as there are cores
    "--workers 2 --threads 1 --batch 8",
    "--workers 2 --threads 1 --batch 16",
    "--workers 1 --threads 2 --batch 16",
)
OURS, LIT, RAY, ENGINE, BARE = "pilotfish serve", "LitServe", "Ray Serve", "engine", "bare call"
SAME_BAND = 0.02  # of a probability: nearer to the threshold, decoders and batches may decide otherwise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of photos with labels.csv or class folders")
    parser.add_argument("--work", type=Path, help="where records and the cascade are, or are to be")
    parser.add_argument("--stages", nargs=2, default=list(PAIR))
    parser.add_argument("--exit-ratio", type=float, default=0.61)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.5, help="of one load")
    parser.add_argument("--fresh", action="store_true", help="begin all processes anew in each round")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--peers", help="a Python that has litserve and ray[serve]")
    parser.add_argument(
        "--lit", help="options of peers/litserve_masked.py; by default the fastest of some at 16 clients"
    )
    parser.add_argument("--only", nargs="*", help="some of the servers, by name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--role", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        in_process(*options.role)
        return
    if options.data is None or options.work is None:
        parser.error("--data and --work are needed")
    options.work.mkdir(parents=True, exist_ok=True)
    folder, stages = prepare(options)
    cascade = pilotfish.Cascade.load(folder)
    photos = [str(path) for path in sorted(options.data.rglob("*.JPEG"))[:: max(1, 500 // options.samples)]]
    known = {i: cascade.predict_one(Path(photo).read_bytes()) for i, photo in enumerate(photos)}
    share = statistics.fmean(answer.stage == 0 for answer in known.values())
    print(f"{len(photos)} photos, of which {share:.2f} exit; {' -> '.join(options.stages)}", flush=True)
    rounds: Found = defaultdict(list)
    for numbers in [[n] for n in range(options.rounds)] if options.fresh else [range(options.rounds)]:
        with contextlib.ExitStack() as stack:
            play(options, start(options, folder, stages, photos, stack), numbers, rounds)
    report(options, rounds, known, cascade.thresholds[0])


# The cascade and its files.


def prepare(options: argparse.Namespace) -> tuple[Path, Path]:
    """(the cascade's folder, what the peers read), made where they are not there."""
    work, data = options.work, f"folder:{options.data}"
    name = f"exits-{options.exit_ratio}"
    folder, stages = work / name, work / f"{name}.json"
    if not folder.exists():
        pilotfish.record(data, options.stages, work / "run")
        tuning = pilotfish.tune(work / "run", options.stages, max_drop=0.05)
        scores = np.sort(pilotfish.open_run(work / "run").read(options.stages[0]).outputs.log_odds)[::-1]
        n = round(options.exit_ratio * len(scores))
        point = OperatingPoint((float(scores[n - 1 : n + 1].mean()),))
        save_artefact(dataclasses.replace(tuning.artefact, operating_point=point, guarantee=None), folder)
        pilotfish.tune_runtime(folder, data)
    cascade = pilotfish.Cascade.load(folder)
    entries = []
    for k, model in enumerate(cascade.models):
        chain, file = model.preprocessing, work / f"stage{k}.onnx"
        file.write_bytes(cascade.single_stages[k].backend.file.read()[0])
        resample = int(RESAMPLING[chain.interpolation])
        parts = {"resize": chain.resize, "size": chain.size, "mean": chain.mean, "std": chain.std, "resample": resample}
        entries.append({"onnx": str(file), **parts})
    stages.write_text(json.dumps({"stages": entries, "threshold": cascade.thresholds[0]}))
    return folder, stages


# Who is loaded.

Job = Callable[[int, float, float, int], dict[str, Any]]
"""(clients, seconds, lead, seed) -> what came of it."""


def start(
    options: argparse.Namespace, folder: Path, stages: Path, photos: list[str], stack: contextlib.ExitStack
) -> dict[str, Job]:
    """Everything up, ready and once warm."""
    peers = HERE / "peers"

    def lit(port: int, given: str) -> list[str]:
        return [options.peers, str(peers / "litserve_masked.py"), str(stages), str(port), *given.split()]

    commands: dict[str, Callable[[int], list[str]]] = {
        OURS: lambda port: [sys.executable, "-m", "pilotfish.cli", "serve", f"photos={folder}", "--port", str(port)],
        LIT: lambda port: lit(port, options.lit),
        RAY: lambda port: [options.peers, str(peers / "ray_composed.py"), str(stages), str(port)],
    }
    targets: dict[str, Job] = {}
    for name, command in commands.items():
        if options.only and name not in options.only:
            continue
        if name != OURS and not _has(options.peers, {LIT: "litserve", RAY: "ray.serve"}[name]):
            print(f"{name} is left out: --peers has none", flush=True)
            continue
        if name == LIT and options.lit is None:
            speeds = {}
            for given in LIT_OPTIONS:
                with contextlib.ExitStack() as alone:
                    ask = served(options, name, lambda port, given=given: lit(port, given), photos, alone)
                    speeds[given] = max(ask(16, 3.0, 1.0, seed)["throughput"] for seed in (0, 1))
            options.lit = max(speeds, key=lambda given: speeds[given])
            print("LitServe, images/s by its options:", {given: round(speed, 1) for given, speed in speeds.items()})
        targets[name] = served(options, name, command, photos, stack)
    for name in (ENGINE, BARE):
        if not options.only or name in options.only:
            process = stack.enter_context(running([sys.executable, __file__, "--role", name, str(folder)], pipes=True))
            print(json.dumps(photos), file=process.stdin, flush=True)
            targets[name] = _asker(process, {})
    return targets


def served(
    options: argparse.Namespace,
    name: str,
    command: Callable[[int], list[str]],
    photos: list[str],
    stack: contextlib.ExitStack,
) -> Job:
    """A server that listens and stands still, and how to load it."""
    port = free_port()
    log = stack.enter_context((options.work / f"{name.replace(' ', '-')}.log").open("w"))
    process = stack.enter_context(running(command(port), stderr=log, stdout=log))
    wait_for(port, process, Path(photos[0]).read_bytes(), name)
    load = stack.enter_context(running([sys.executable, str(HERE / "serve_load.py")], pipes=True))
    print(json.dumps(photos), file=load.stdin, flush=True)
    stopped = None if name == RAY else process.pid  # Ray takes a process that stands still for dead
    _signal(stopped, signal.SIGSTOP)
    return _asker(load, {"port": port, "path": "/predict"}, stopped)


def _signal(group: int | None, number: int) -> None:
    if group is not None:
        os.killpg(group, number)


def _asker(process: subprocess.Popen[str], extra: dict[str, Any], group: int | None = None) -> Job:
    """Jobs for *process*; the processes of *group* stand still between them."""

    def ask(clients: int, seconds: float, lead: float, seed: int) -> dict[str, Any]:
        _signal(group, signal.SIGCONT)
        job = {"clients": clients, "seconds": seconds, "lead": lead, "seed": seed, **extra}
        print(json.dumps(job), file=process.stdin, flush=True)
        assert process.stdout is not None
        found: dict[str, Any] = json.loads(process.stdout.readline())
        _signal(group, signal.SIGSTOP)
        return found

    return ask


def _has(python: str | None, module: str) -> bool:
    return bool(python) and not subprocess.run([str(python), "-c", f"import {module}"], capture_output=True).returncode


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], pipes: bool = False, **files: Any) -> Iterator[subprocess.Popen[str]]:
    """A process and its children, which end with the block."""
    if pipes:
        files = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    source = str(Path(pilotfish.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, str(HERE / "peers")])}
    process = subprocess.Popen(command, text=True, start_new_session=True, env=environment, **files)
    try:
        yield process
    finally:
        if process.poll() is None:
            _signal(process.pid, signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(port: int, process: subprocess.Popen[str], photo: bytes, name: str) -> None:
    """Until a photo is answered."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", photo, {"Content-Type": "image/jpeg"})
            with urllib.request.urlopen(request, timeout=30) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"{name} does not answer; see its log in --work")


def in_process(name: str, folder: str) -> None:
    """The engine that threads submit to, or a bare call of its own, in this process: jobs as for the load generator."""
    from serve_load import Load

    cascade = pilotfish.Cascade.load(folder)
    photos = [Path(photo).read_bytes() for photo in json.loads(sys.stdin.readline())]
    if name == BARE:
        from predict_one import by_hand

        hand = by_hand(cascade, False)
        ask: Callable[[bytes], tuple[int, int]] = hand
    else:
        engine = cascade.engine()

        def ask(content: bytes) -> tuple[int, int]:
            found = engine.submit(content).result()
            return found.prediction, found.stage

    for photo in photos[:20]:
        ask(photo)
    for line in sys.stdin:
        print(json.dumps(submitted(ask, photos, Load(photos, json.loads(line)))), flush=True)


def submitted(ask: Callable[[bytes], tuple[int, int]], photos: list[bytes], load: Any) -> dict[str, Any]:
    """What came of one job with threads for clients."""
    job, lock = load.job, threading.Lock()
    begun = time.perf_counter() + job["lead"]
    end = begun + job["seconds"]
    answers: list[tuple[int, int, int, float]] = []

    def client() -> None:
        while time.perf_counter() < end:
            with lock:
                _, photo = next(load.next)
            sent = time.perf_counter()
            said, stage = ask(photos[photo])
            now = time.perf_counter()
            if begun <= now < end:
                answers.append((photo, stage, said, now - sent))

    threads = [threading.Thread(target=client) for _ in range(job["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"throughput": len(answers) / job["seconds"], "answers": answers}


# The rounds and what came of them.

Found = dict[tuple[str, int], list[dict[str, Any]]]


def play(options: argparse.Namespace, targets: dict[str, Job], numbers: Sequence[int], found: Found) -> None:
    """Every target at every number of clients in the rounds of those *numbers*; a short one before is not counted."""
    chance = random.Random(options.seed + numbers[0])
    wanted = {ENGINE: {16}, BARE: {1}, RAY: {1, 16}}
    for number in (-1, *numbers):
        seconds = options.seconds if number >= 0 else 1.0
        turns = [(name, n) for n in options.clients for name in targets if n in wanted.get(name, {n})]
        counts = {n: chance.random() for n in options.clients}
        turns.sort(key=lambda turn: (counts[turn[1]], chance.random()))  # those that are compared follow each other
        for name, n in turns:
            lead = (0.5 if n < 64 else 3.0) if number >= 0 else 0.0
            one = targets[name](n, seconds, lead, 100 * number + n)
            if number >= 0:
                found[name, n].append(one)
        if number >= 0:
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)


def report(options: argparse.Namespace, found: Found, known: dict[int, Any], threshold: float) -> None:
    """Tables, ratios, and what was lost."""
    rows: dict[str, dict[str, Any]] = {}
    print("\n| clients | | images/s | exits p50, p95 ms | escalated p50, p95 ms |\n|---|---|---|---|---|")
    for (name, n), ones in sorted(found.items(), key=lambda item: item[0][1]):
        exits, others = ([ms(one, stage) for one in ones] for stage in (0, 1))
        rows[f"{name} at {n}"] = {"throughput": [one["throughput"] for one in ones]}
        print(f"| {n} | {name} | {spread([one['throughput'] for one in ones], 1)} | {both(exits)} | {both(others)} |")
    ratios: dict[str, list[float]] = {}

    def ratio(what: str, over: tuple[str, int], under: tuple[str, int], figure: Callable[[Any], float]) -> None:
        if found.get(over) and found.get(under):
            ratios[what] = [figure(a) / figure(b) for a, b in zip(found[over], found[under], strict=True)]

    for n in options.clients:
        for peer in (LIT, RAY, ENGINE):
            ratio(f"throughput at {n} ÷ {peer}", (OURS, n), (peer, n), lambda one: one["throughput"])
        for peer in (LIT, RAY):
            ratio(f"p50 of exits at {n} ÷ {peer}'s", (OURS, n), (peer, n), lambda one: p50(ms(one, 0)))
    ratio("p50 of one client ÷ a bare call and decoding", (OURS, 1), (BARE, 1), lambda one: p50(ms(one)))
    for n in options.clients:
        ones = found.get((OURS, n), [])
        if ones:
            ratios[f"p50 of exits ÷ escalated at {n}"] = [p50(ms(one, 0)) / p50(ms(one, 1)) for one in ones]
    print("\n| ratio, ours ÷ | median [least, largest] | 95 % of the median |\n|---|---|---|")
    for what, values in ratios.items():
        print(f"| {what} | {spread(values, 3)} | {sure_of(values)} |")
    print()
    sure = {i: a for i, a in known.items() if a.stage or abs(float(a.confidence) - threshold) > SAME_BAND}
    for (name, n), ones in found.items():
        wrong = sum(
            (stage, said) != (sure[photo].stage, sure[photo].prediction)
            for one in ones
            for photo, stage, said, _ in one["answers"]
            if photo in sure
        )
        counts = {key: sum(one.get(key, 0) for one in ones) for key in ("lost", "doubled", "foreign", "refused")}
        if wrong or any(counts.values()):
            reasons = {reason for one in ones for reason in one.get("reasons", ())}
            print(f"{name} at {n}: {wrong} other answers, {counts} {reasons}")
    if options.out is not None:
        document = {"ratios": ratios, "rows": rows, "rounds": {f"{a} at {n}": ones for (a, n), ones in found.items()}}
        options.out.write_text(json.dumps(document))


def ms(one: dict[str, Any], stage: int | None = None) -> list[float]:
    """Latencies of a load."""
    return [1000 * seconds for _, k, _, seconds in one["answers"] if stage is None or k == stage]


def p50(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


def both(rounds: list[list[float]]) -> str:
    if not all(rounds):
        return "-"
    p95 = statistics.median(float(np.quantile(values, 0.95)) for values in rounds)
    return f"{spread([p50(values) for values in rounds], 1)}, {p95:.1f}"


def sure_of(values: list[float]) -> str:
    """Where the median of what was drawn lies, by the ranks that a binomial leaves 2.5 % beyond on either side."""
    n, rank, beyond = len(values), 0, 0.0
    while (beyond := beyond + math.comb(n, rank) / 2**n) <= 0.025:
        rank += 1
    ordered = sorted(values)
    return f"{ordered[rank - 1]:.3f} to {ordered[n - rank]:.3f}" if rank else "too few rounds"


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


if __name__ == "__main__":
    main()
