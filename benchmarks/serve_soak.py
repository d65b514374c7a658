"""A server under a million requests: nothing lost, nothing twice, nothing to another, and memory flat.

    python benchmarks/serve_soak.py --photos FOLDER --requests 1000000

A small cascade over synthetic pictures is served by a process of its own. A second process sends tensors by the Open
Inference Protocol over many connections (a tenth of the requests hold eight), 2 % photos by /predict, 1 % bodies that
are wrong, and leaves 5 % of its connections before the answer. Every answer is checked: id, class and confidence are
those of the input that was sent, and all stages of one request are those of the one operating point that it names.
Meanwhile the operating point moves --moves times and the folder is written again --reloads times. At the end SIGTERM
comes under load.

Prints requests a second, the resident memory of the server as it goes, and every count; exit code 1 where one is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pilotfish

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from serve_load import Response  # noqa: E402

PICTURES, SEVERAL = 4096, 8
TOKEN = "soak-soak-soak-soak"
CLOSE = 2e-5  # of a confidence: batches of other sizes round differently
EARLY, BAD, PHOTO, MANY = 0.05, 0.01, 0.02, 0.1  # shares of the requests
FLAT_AFTER = 0.1  # of the requests


def last(requests: int) -> int:
    """How many are left when SIGTERM comes."""
    return max(200, requests // 200)


class Soak:
    """What is sent, what came back, and what was wrong with it."""

    def __init__(self, work: Path, port: int, requests: int, connections: int, seed: int) -> None:
        self.port, self.requests, self.connections = port, requests, connections
        self.chance = random.Random(seed)
        held = np.load(work / "known.npz")
        self.pictures = [bytes(one) for one in held["pictures"].reshape(PICTURES, -1)]
        self.classes, self.confidences = held["classes"].tolist(), held["confidences"].tolist()  # by stage
        self.photos = [Path(name).read_bytes() for name in json.loads((work / "photos.json").read_text())]
        self.sent = self.done = 0
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.points, self.stages, self.items = array("l"), array("b"), array("l")  # of every answer, in turn
        self.ends = array("l")  # where a request's answers end
        self.seconds = array("f")
        self.stopping = False
        self.live = 0
        self.frames = {n: self._frame(n) for n in (1, SEVERAL)}

    def _frame(self, n: int) -> tuple[bytes, bytes]:
        """What is before and after the id in a request for *n* pictures."""
        tensor = {"name": "input", "datatype": "UINT8", "shape": [n, 8, 8, 3]}
        tensor["parameters"] = {"binary_data_size": n * 192}
        text = json.dumps({"id": "#" * 12, "inputs": [tensor]}, separators=(",", ":")).encode()
        head = (
            b"POST /v2/models/pair/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nInference-Header-Content-Length: %d\r\n"
            b"Content-Length: %d\r\n\r\n" % (len(text), len(text) + n * 192)
        )
        before, after = (head + text).split(b"#" * 12)
        return before, after

    def next(self) -> tuple[str, list[int], bytes, bytes]:
        """(kind, the inputs, id, bytes) of the next request."""
        draw, name = self.chance.random(), b"%012x" % self.sent
        self.sent += 1
        if self.sent == self.requests - last(self.requests):
            self.stopping = True
            print(json.dumps({"done": self.done, "stop": True}), flush=True)
        if draw < BAD:
            return "bad", [], name, self._bad()
        if draw < BAD + PHOTO:
            at = self.chance.randrange(len(self.photos))
            body = self.photos[at]
            head = (
                b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nX-Request-Id: %s\r\n"
                b"Content-Length: %d\r\n\r\n" % (name, len(body))
            )
            return "photo", [PICTURES + at], name, head + body
        n = SEVERAL if draw < BAD + PHOTO + MANY else 1
        chosen = [self.chance.randrange(PICTURES) for _ in range(n)]
        before, after = self.frames[n]
        return "tensor", chosen, name, b"".join([before, name, after, *(self.pictures[i] for i in chosen)])

    def _bad(self) -> bytes:
        """A request that is refused, of one of many kinds."""
        body = self.chance.choice(
            [
                b"",
                b"{",
                b"[]",
                b"nothing",
                b'{"inputs": []}',
                b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [1]}]}',
                b'{"inputs": [{"name": "other", "datatype": "UINT8", "shape": [1], "data": [1]}]}',
                b'{"inputs": [{"name": "input", "datatype": "UINT8", "shape": [-1, 8, 8, 3], "data": []}]}',
                b'{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 8, 8, 3], "data": []}]}',
                b'{"inputs": [{"name": "input", "datatype": "BYTES", "shape": [1], "data": ["bm90aGluZw=="]}]}',
                self.chance.randbytes(200),
            ]
        )
        if self.chance.random() < 0.3:
            path, extra = b"/predict", b"Content-Type: image/jpeg\r\n"
        else:
            extra = self.chance.choice([b"", b"Inference-Header-Content-Length: 7\r\n"])
            path = self.chance.choice([b"/v2/models/pair/infer", b"/v2/models/pair/infer", b"/v2/models/other/infer"])
        return b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%sContent-Length: %d\r\n\r\n%s" % (
            path,
            extra,
            len(body),
            body,
        )

    # Connections.

    async def run(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        for _ in range(self.connections):
            self.connect()
        await self.ended

    def connect(self) -> None:
        self.live += 1
        asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: Visitor(self), "127.0.0.1", self.port)
        except OSError:
            self.counts["not connected"] += 1
            self.gone()

    def gone(self) -> None:
        self.live -= 1
        if not self.live and not self.ended.done():
            self.ended.set_result(None)

    # Answers.

    def check(self, kind: str, chosen: list[int], name: bytes, found: Response) -> None:
        """One response, to the request *name*."""
        self.done += 1
        if kind == "bad":
            self.counts["bad bodies refused" if 400 <= found.status < 500 else f"bad body answered {found.status}"] += 1
            return
        if found.status != 200:
            self.counts[f"{kind} answered {found.status}"] += 1
            if found.status != 503:
                self.fault(f"{kind}: {found.status} {found.body[:200]!r}")
            return
        document = json.loads(found.body)
        if kind == "photo":
            answers = document["answers"]
            said = [(one["prediction"], one["confidence"], one["stage"]) for one in answers]
            point, called = document["operating_point"], (found.header(b"x-request-id") or b"").decode()
        else:
            by_name = {one["name"]: one["data"] for one in document["outputs"]}
            said = list(zip(by_name["prediction"], by_name["confidence"], by_name["stage"], strict=True))
            point, called = document["parameters"]["operating_point"], document["id"]
        if called != name.decode() or len(said) != len(chosen):
            self.fault(f"{kind} {name.decode()} was answered as {called}, {len(said)} inputs of {len(chosen)}")
            return
        number = int(point)
        for i, (label, confidence, stage) in zip(chosen, said, strict=True):
            if label != self.classes[stage][i] or abs(confidence - self.confidences[stage][i]) > CLOSE:
                self.fault(f"{kind} {name.decode()}: {label} {confidence} at {stage} is not the answer of input {i}")
            self.points.append(number)
            self.stages.append(stage)
            self.items.append(i)
        self.ends.append(len(self.items))
        self.counts[f"{kind}s answered"] += 1

    def fault(self, text: str) -> None:
        self.counts["wrong"] += 1
        if len(self.wrong) < 10:
            self.wrong.append(text)

    def mixed(self, thresholds: dict[int, float], saved: float) -> int:
        """Answers whose stage is not that of the operating point that they name. saved: the threshold of the folder,
        which a point has that comes of loading it again."""
        points, stages, items = (np.frombuffer(a, a.typecode) for a in (self.points, self.stages, self.items))
        known = np.array([thresholds.get(p, saved) for p in range(int(points.max(initial=0)) + 1)])
        t, score = known[points], np.array(self.confidences[0])[items]
        sure = abs(score - t) > CLOSE
        return int(((stages == 0) != (score >= t))[sure].sum())


class Visitor(asyncio.Protocol):
    """A connection; some leave before they are answered."""

    __slots__ = ("asked", "begun", "held", "leaves", "soak", "transport")

    def __init__(self, soak: Soak) -> None:
        self.soak, self.held, self.leaves = soak, b"", False
        self.asked: tuple[str, list[int], bytes] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        soak = self.soak
        if soak.sent >= soak.requests:
            self.asked = None
            self.transport.close()
            return
        kind, chosen, name, content = soak.next()
        self.asked, self.begun = (kind, chosen, name), time.perf_counter()
        if soak.chance.random() < EARLY:
            self.leaves = True
            cut = soak.chance.random() < 0.3
            self.transport.write(content[: soak.chance.randrange(len(content))] if cut else content)
            after = soak.chance.choice([0.0, 0.001, 0.01, 0.05])
            asyncio.get_running_loop().call_later(after, self.transport.abort if cut else self.transport.close)
        else:
            self.transport.write(content)

    def data_received(self, data: bytes) -> None:
        self.held += data
        while self.held and (found := Response(self.held)).end is not None:
            self.held = self.held[found.end :]
            if self.leaves:
                continue
            if self.asked is None:
                self.soak.fault("an answer without a request")
                continue
            asked, self.asked = self.asked, None
            self.soak.seconds.append(time.perf_counter() - self.begun)
            self.soak.check(*asked, found)
            if found.header(b"connection") == b"close":
                self.transport.close()
            else:
                self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        soak = self.soak
        if self.leaves:
            soak.done += 1
            soak.counts["left early"] += 1
        elif self.asked is not None:
            soak.done += 1
            soak.counts["lost after SIGTERM" if soak.stopping else "lost"] += 1
        if soak.sent < soak.requests and not soak.stopping:
            soak.connect()
        soak.gone()


def load(options: argparse.Namespace) -> None:
    """The second process. It says how far it is and when SIGTERM is due; a line on stdin says where the points were."""
    import uvloop

    work = Path(options.work)
    soak = Soak(work, options.port, options.requests, options.connections, options.seed)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        running = loop.create_task(soak.run())
        while not running.done():
            print(json.dumps({"done": soak.done}), flush=True)
            await asyncio.wait([running], timeout=0.5)
        running.result()
        print(json.dumps({"done": soak.done, "sent": soak.sent, "ended": True}), flush=True)
        table = json.loads(sys.stdin.readline())
        mixed = soak.mixed({int(k): v for k, v in table["thresholds"].items()}, table["saved"])
        points = len(set(soak.points))
        q = np.quantile(np.frombuffer(soak.seconds, "f"), [0.5, 0.99]).tolist() if soak.seconds else []
        counts = dict(sorted(soak.counts.items()))
        document = {
            "counts": counts,
            "wrong": soak.wrong,
            "mixed": mixed,
            "points": points,
            "ms": [1000 * x for x in q],
        }
        print(json.dumps(document), flush=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# The first process: the server, the moves, and the curve.


def prepare(work: Path, photos: Path | None) -> Path:
    """The cascade, and what each stage says of every input."""
    import dataclasses

    from pilotfish.cascade import OperatingPoint
    from pilotfish.runtime import Cascade
    from support.server import ALLOWED, pictures, small_cascade

    folder = small_cascade(work / "served")
    found = pictures(PICTURES, seed=7)
    files = sorted(photos.rglob("*.JPEG")) if photos else []
    if not files:
        from PIL import Image

        for i, picture in enumerate(pictures(200, seed=8)):
            files.append(work / f"{i}.jpg")
            Image.fromarray(picture).resize((160, 120)).save(files[-1])
    items: list[Any] = [*found, *(file.read_bytes() for file in files)]
    cascade, classes, confidences = Cascade.load(folder, allow_python=ALLOWED), [], []
    for threshold in (-np.inf, np.inf):
        cascade.artefact = dataclasses.replace(cascade.artefact, operating_point=OperatingPoint((threshold,)))
        answers = cascade.predict(items)
        classes.append([answer.prediction for answer in answers])
        confidences.append([answer.confidence for answer in answers])
    np.savez(work / "known.npz", pictures=found, classes=classes, confidences=confidences)
    (work / "photos.json").write_text(json.dumps([str(file) for file in files]))
    return folder


def resident(pid: int) -> float:
    """Megabytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def served(folder: Path, extra: list[str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The server as a process of its own, whose lines go to a file: nobody reads a pipe meanwhile."""
    from support.server import ALLOWED

    allowed = [part for name in ALLOWED for part in ("--allow-python", name)]
    tokens = folder.parent / "tokens"
    tokens.write_text(f"operator {TOKEN}\n")
    tokens.chmod(0o600)
    allowed += ["--token-file", str(tokens)]
    paths = [str(Path(pilotfish.__file__).parents[1]), str(folder.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pilotfish.cli", "serve", f"pair={folder}", "--port", "0", *allowed, *extra]
    with log.open("w") as lines:
        process = subprocess.Popen(command, stderr=lines, env=environment)
    try:
        while process.poll() is None and "ready http://" not in log.read_text():
            time.sleep(0.1)
        yield process, int(log.read_text().split("ready http://")[1].split()[0].rsplit(":", 1)[1])
    finally:
        process.kill()
        process.wait()
        said = log.read_text().splitlines()
        print(f"the server's log has {len(said)} lines:", *said[:8], sep="\n  ")


def cpu(pid: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(port: int, method: str, path: str, document: Any = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, allowed, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of JPEG files; drawn ones by default")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--moves", type=int, default=1000)
    parser.add_argument("--reloads", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", nargs="*", default=[], help="further options of pilotfish serve, without --")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port is not None:
        load(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(soak(options, Path(temporary)))


def soak(options: argparse.Namespace, work: Path) -> int:
    folder = prepare(work, options.photos)
    extra = [part if i % 2 else f"--{part}" for i, part in enumerate(options.serve)]
    path = "/v2/models/pair/operating_point"
    with served(folder, extra, work / "log.txt") as (server, port):
        first = ask(port, "GET", path)
        saved = float(first["thresholds"][0])
        thresholds = {1: saved}
        command = [sys.executable, __file__, "--port", str(port), "--work", str(work), "--seed", str(options.seed)]
        command += ["--requests", str(options.requests), "--connections", str(options.connections)]
        loader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert loader.stdin is not None
        assert loader.stdout is not None
        idle = cpu(server.pid)
        begun, curve, moved, reloaded, done = time.monotonic(), [], 0, 0, 0
        chance, stopped = random.Random(options.seed), False
        for line in loader.stdout:
            said = json.loads(line)
            done = said["done"]
            if "ended" in said:
                break
            if server.poll() is not None:
                continue
            if not curve or done - curve[-1][0] >= options.requests / 20:
                curve.append((done, time.monotonic() - begun, resident(server.pid)))
                rate = done / max(curve[-1][1], 1e-9)
                ms = 1000 * (cpu(server.pid) - idle) / max(done, 1)
                print(
                    f"{done:>9,} requests, {rate:,.0f} a second, {ms:.3f} ms of a core each, {curve[-1][2]:.0f} MB",
                    flush=True,
                )
            if "stop" in said:
                server.send_signal(signal.SIGTERM)
                stopped = True
            if stopped:
                continue
            share = min(1.0, done / (options.requests - 2 * last(options.requests)))
            while moved < options.moves * share:
                budget = chance.choice([0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.5])
                now = ask(port, "PUT", path, {"max_drop": f"{100 * budget}%"})
                thresholds[int(now["id"])] = float(now["thresholds"][0])
                moved += now["moved"]  # the point in force may be drawn again
            if reloaded < options.reloads * share - 0.5:
                content = (folder / "cascade.json").read_bytes()
                (folder / "again.json").write_bytes(content)
                (folder / "again.json").replace(folder / "cascade.json")
                reloaded += 1
        seconds = time.monotonic() - begun
        ended = server.wait(60)
        print(json.dumps({"thresholds": thresholds, "saved": saved}), file=loader.stdin, flush=True)
        found = json.loads(loader.stdout.readline())
        loader.wait()
    counts = found["counts"]
    print(f"{done:,} requests in {seconds:.0f} s, {done / seconds:,.0f} a second; p50, p99 ms: {found['ms']}")
    print(f"{moved} moves and {reloaded} reloads, {found['points']} points seen; the server ended with {ended}")
    for what, n in counts.items():
        print(f"  {what}: {n:,}")
    print(f"  stages of another point than the one named: {found['mixed']}")
    for text in found["wrong"]:
        print(f"  {text}")
    early = [mb for n, _, mb in curve if n >= FLAT_AFTER * options.requests]
    if early:
        print(f"resident after the first tenth: {early[0]:.0f} MB, most {max(early):.0f}, at the end {early[-1]:.0f}")
    bad = found["mixed"] or counts.get("wrong") or counts.get("lost") or ended
    return int(bool(bad))


if __name__ == "__main__":
    main()
