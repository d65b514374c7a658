"""One client floods a server with photos that all escalate: what becomes of another client, and of the escalations.

    python benchmarks/serve_flood.py --cascade CASCADE --photos FOLDER --rounds 7

Two clients of one server, each on connections of its own and told apart by X-Forwarded-For: a quiet one, which sends a
photo on each of --connections and waits --think seconds after its answer, and a flood of --flood connections that send
the next photo at once. Paired rounds: the quiet client alone, then beside the flood. Servers with the governor and
without it take turns. Printed are the quiet client's p50 and p99, medians over the rounds and of all its answers, and
escalations beside b + rho T, T from before the first request to after the last answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

IMAGES = (".jpg", ".jpeg", ".png")
QUIET, FLOOD = "192.0.2.1", "192.0.2.2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cascade")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--think", type=float, default=0.1)
    parser.add_argument("--flood", type=int, default=32)
    parser.add_argument("--rate", type=float, default=6.0)
    parser.add_argument("--burst", type=float, default=6.0)
    parser.add_argument("--client-rate", type=float, default=3.0)
    parser.add_argument("--client-burst", type=float, default=6.0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    files = sorted(str(path) for path in options.photos.rglob("*") if path.suffix.lower() in IMAGES)
    governed = ["--escalation-rate", options.rate, "--escalation-burst", options.burst]
    governed += ["--client-escalation-rate", options.client_rate, "--client-escalation-burst", options.client_burst]
    settings = {"no governor": [], "flag": governed, "reject": [*governed, "--when-empty", "reject"]}
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(serving(options.cascade, extra)) for name, extra in settings.items()}
        hard = [files[i] for i in escalating(ports["no governor"], files)]
        print(f"{len(files)} photos, of which {len(hard)} escalate; rounds of {options.seconds:g} s")
        quiet, flood = (stack.enter_context(worker(names)) for names in (files, hard))
        begun = {name: (time.monotonic(), escalations(port)) for name, port in ports.items()}
        rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in ports}
        times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ports}
        held: dict[str, float] = {}
        for number in range(options.rounds):
            for name, port in ports.items():
                rows[name].append(one_round(options, port, quiet, flood, number, times[name]))
                since, before = begun[name]
                held[name] = (escalations(port) - before, time.monotonic() - since)
                print(f"  round {number + 1} {name}: " + said(rows[name][-1]), flush=True)
        print("\nmedians over the rounds: the quiet client's p50 and p99 in ms, alone and beside the flood")
        for name, found in rows.items():
            middle = tuple(statistics.median(column) for column in zip(*found, strict=True))
            alone, beside = times[name]
            p = [percentile(part, share) for part in (alone, beside) for share in (50, 99)]
            count, seconds = held[name]
            bound = f", b + rho T = {options.burst + options.rate * seconds:.0f}" if name != "no governor" else ""
            print(f"  {name:12} {said(middle)}")
            print(f"  {'':12} all {len(alone)} and {len(beside)} answers: {said((*p, *middle[4:]))}")
            print(f"  {'':12} escalations {count:.0f} in {seconds:.0f} s{bound}")


def one_round(
    options: Any, port: int, quiet: Worker, flood: Worker, seed: int, times: tuple[list[float], list[float]]
) -> tuple[float, ...]:
    """p50 and p99 of the quiet client alone and beside the flood; requests a second of the flood; shares of the quiet
    client's and of the flood's answers that were governed."""
    own = {"port": port, "client": QUIET, "connections": options.connections, "think": options.think, "seed": seed}
    job = {**own, "seconds": options.seconds}
    alone = quiet.ask(job)
    flood.send({**own, "client": FLOOD, "connections": options.flood, "think": 0.0, "seconds": options.seconds + 1})
    time.sleep(0.5)
    beside, flooding = quiet.ask({**job, "seed": seed + 1000}), flood.receive()
    p = [percentile(found["seconds"], share) for found in (alone, beside) for share in (50, 99)]
    for kept, found in zip(times, (alone, beside), strict=True):
        kept += found["seconds"]
    rate = flooding["requests"] / (options.seconds + 1)
    return (*p, rate, beside["governed"], flooding["governed"])


def said(row: Sequence[float]) -> str:
    """A round, or the medians."""
    p50, p99, flooded_50, flooded_99, rate, own, theirs = row
    return (
        f"p50 {1e3 * p50:.0f} -> {1e3 * flooded_50:.0f}, p99 {1e3 * p99:.0f} -> {1e3 * flooded_99:.0f} "
        f"({flooded_99 / p99:.2f} times); flood {rate:.0f}/s; governed: {own:.0%} of the quiet client's answers, "
        f"{theirs:.0%} of the flood's"
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Of times; NaN where nothing was answered."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))] if ordered else float("nan")


@contextlib.contextmanager
def serving(cascade: str, extra: Sequence[Any]) -> Iterator[int]:
    """A server as a process; its port."""
    command = [sys.executable, "-m", "pilotfish.cli", "serve", f"m={cascade}", "--port", "0", "--trusted-proxy"]
    process = subprocess.Popen([*command, *map(str, extra)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("ready http://"):
                break
        else:
            raise SystemExit(f"the server ended with {process.wait()}")
        yield int(line.strip().rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait()


def escalating(port: int, files: Sequence[str]) -> list[int]:
    """Which photos go on to the base."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    for i, name in enumerate(files):
        connection.request("POST", "/predict", Path(name).read_bytes(), {"Content-Type": "image/jpeg"})
        answer = json.loads(connection.getresponse().read())["answers"][0]
        if answer["stage"] not in (0, None):
            found.append(i)
    return found


def escalations(port: int) -> float:
    """How many inputs the first stage has sent on, as /metrics counts them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("pilotfish_escalations_total{"))


# Load, in processes of its own


class Worker:
    """A process that loads a server with some photos."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def send(self, job: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, job: Any) -> Any:
        self.send(job)
        return self.receive()


@contextlib.contextmanager
def worker(files: Sequence[str]) -> Iterator[Worker]:
    """One that has read *files*."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    found = Worker(process)
    found.send(list(files))
    try:
        yield found
    finally:
        process.kill()
        process.wait()


def work() -> None:
    """Jobs from stdin, a line each; what came of them to stdout."""
    photos = [Path(name).read_bytes() for name in json.loads(sys.stdin.readline())]
    for line in sys.stdin:
        print(json.dumps(asyncio.run(load(photos, json.loads(line)))), flush=True)


async def load(photos: Sequence[bytes], job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of every answer, and the share of answers that were governed: flagged, or refused for it."""
    seconds: list[float] = []
    flagged = refused = 0
    chance, end = random.Random(job["seed"]), time.monotonic() + job["seconds"]

    async def one() -> None:
        nonlocal flagged, refused
        reader, writer = await asyncio.open_connection("127.0.0.1", job["port"])
        await asyncio.sleep(job["think"] * chance.random())
        while time.monotonic() < end:
            photo = chance.choice(photos)
            head = (
                f"POST /predict HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {job['client']}\r\nContent-Type: image/jpeg\r\n"
            )
            began = time.perf_counter()
            writer.write(f"{head}Content-Length: {len(photo)}\r\n\r\n".encode() + photo)
            told = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(told.split(b"content-length:")[1].split(b"\r\n")[0]))
            if told[9:12] == b"200":
                seconds.append(time.perf_counter() - began)
                flagged += b'"governed"' in body
            else:
                refused += 1
            await asyncio.sleep(job["think"])
        writer.close()

    await asyncio.gather(*(one() for _ in range(job["connections"])))
    total = len(seconds) + refused
    return {"seconds": seconds, "requests": total, "governed": (flagged + refused) / max(1, total)}


if __name__ == "__main__":
    main()
