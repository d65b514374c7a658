"""The living engine: inputs at a pace, many threads that submit at random, and throughput beside an older commit.

    python benchmarks/living_engine.py --cascade CASCADE --data SPEC --seconds 60
    python benchmarks/living_engine.py --cascade CASCADE --data SPEC --against PATH/src --their-cascade OLDER

1. inputs that come --gap ms apart: from when an input comes to when its answer is out, beside one ``predict`` at the
   same pace, in turn
2. --threads threads that submit at random for --seconds, cancel some, and give some little time; every future must be
   answered once, cancelled ones never; resident memory as it goes
3. with --against, a source folder of another commit: ``predict`` on all samples in processes of both, in paired rounds
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pilotfish
from pilotfish.data import open_data
from pilotfish.errors import DeadlineError, QueueFull

ROUND = """
import sys, time, pilotfish
from pilotfish.data import open_data
cascade, data = pilotfish.Cascade.load(sys.argv[1], allow_python=sys.argv[3:]), open_data(sys.argv[2])
cascade.predict(data)
for line in sys.stdin:
    start = time.perf_counter()
    cascade.predict(data)
    print(time.perf_counter() - start, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cascade", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--allow-python", nargs="*", default=[])
    parser.add_argument("--gap", type=float, default=50.0, help="ms between two inputs")
    parser.add_argument("--inputs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--against", type=Path, help="the src folder of another commit")
    parser.add_argument("--their-cascade", help="the same cascade as that commit wrote it")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    cascade = pilotfish.Cascade.load(options.cascade, allow_python=options.allow_python)
    data = open_data(options.data)
    read = cascade.reader(data)
    samples = [opened(read(i)) for i in range(min(len(data), 200))]
    paced(cascade, samples, options.gap / 1000, options.inputs)
    submitted(cascade, samples, options.threads, options.seconds)
    if options.against is not None:
        throughput(options)


def opened(sample: Any) -> Any:
    """A sample as ``stream`` takes it: the bytes of a file that is decoded by the models."""
    return sample.content if hasattr(sample, "content") else sample


def paced(cascade: pilotfish.Cascade, samples: list[Any], gap: float, n: int) -> None:
    """Latency of a stream beside that of single calls, by turns of ten inputs."""
    single: list[float] = []
    streamed: list[float] = []
    for turn in range(-1, n // 10):  # the first is not counted
        chosen = [samples[i % len(samples)] for i in range(10 * turn, 10 * turn + 10)]
        calls: list[float] = []
        begun: list[float] = []
        for sample in chosen:
            time.sleep(gap)
            start = time.perf_counter()
            cascade.run(lambda _, sample=sample: cascade._opened(sample), 1)  # type: ignore[misc]
            calls.append(time.perf_counter() - start)

        def inputs(chosen: list[Any] = chosen, begun: list[float] = begun) -> Iterator[Any]:
            for sample in chosen:
                time.sleep(gap)
                begun.append(time.perf_counter())
                yield sample

        found = [time.perf_counter() - begun[i] for i, _ in enumerate(cascade.stream(inputs()))]
        if turn >= 0:
            single, streamed = single + calls, streamed + found[1:]  # a stream begins with making its threads
    ms = [
        f"{1000 * statistics.median(one):.2f} (p90 {1000 * sorted(one)[len(one) * 9 // 10]:.2f})"
        for one in (single, streamed)
    ]
    ratio = statistics.median(streamed) / statistics.median(single)
    print(f"{1000 * gap:.0f} ms apart: predict {ms[0]} ms, stream {ms[1]} ms, ratio {ratio:.2f}", flush=True)


def submitted(cascade: pilotfish.Cascade, samples: list[Any], threads: int, seconds: float) -> None:
    """Threads that submit, cancel and give little time at random."""
    counts: collections.Counter[str] = collections.Counter()
    lock, memory, end = threading.Lock(), list[int](), time.monotonic() + seconds

    with cascade.engine(queue=4 * threads) as engine:

        def client(seed: int) -> None:
            chance = random.Random(seed)
            while time.monotonic() < end:
                try:
                    future = engine.submit(chance.choice(samples), chance.choice([None, None, 0.001, 0.05, 5.0]))
                except QueueFull:
                    with lock:
                        counts["refused"] += 1
                    continue
                told = threading.Semaphore(0)
                future.add_done_callback(lambda _, told=told: told.release())  # type: ignore[misc]
                what = "answered"
                if chance.random() < 0.2:
                    time.sleep(chance.random() * 0.01)
                    what = "cancelled" if future.cancel() else "too late to cancel"
                if not future.cancelled():
                    try:
                        what = "answered" if future.result(60).error is None else "failed"
                    except DeadlineError:
                        what = "out of time"
                never = not told.acquire(timeout=60)  # callbacks come after those who wait for the result
                with lock:
                    counts[what] += 1
                    counts["never told"] += never
                    counts["told twice"] += told.acquire(blocking=False)

        running = [threading.Thread(target=client, args=(i,)) for i in range(threads)]
        for thread in running:
            thread.start()
        while any(thread.is_alive() for thread in running):
            time.sleep(seconds / 6)
            memory.append(resident())
        for thread in running:
            thread.join()
    print(f"{threads} threads for {seconds:.0f} s: {dict(counts)}; resident MB {memory}", flush=True)


def resident() -> int:
    """Megabytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


def throughput(options: argparse.Namespace) -> None:
    """Paired rounds of ``predict`` in a process of each source, by turns that change sides."""
    ours = Path(pilotfish.__file__).parents[1]
    sources = [(ours, options.cascade), (options.against, options.their_cascade or options.cascade)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ROUND, cascade, options.data, *options.allow_python],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for source, cascade in sources
    ]
    ratios, spent = [], []
    for turn in range(options.rounds + 1):
        seconds = [0.0, 0.0]
        for which in (0, 1) if turn % 2 else (1, 0):
            process = processes[which]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            seconds[which] = float(process.stdout.readline())
        if turn:
            spent.append(seconds)
            ratios.append(seconds[1] / seconds[0])
    for process in processes:
        process.communicate()
    new, old = (statistics.median(column) for column in zip(*spent, strict=True))
    print(
        f"predict on all samples, {options.rounds} paired rounds: {new:.3f} s, theirs {old:.3f} s; throughput ÷ theirs "
        f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"
    )


if __name__ == "__main__":
    main()
