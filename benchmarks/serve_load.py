"""A load generator: clients that each keep one connection and send the next photo when the last is answered.

    python benchmarks/serve_load.py PHOTOS… < jobs

In a process of its own, so that its work is not the server's. A job is a line of JSON, and so is what came of it:

    {"port", "path", "clients", "seconds", "lead", "seed"}

Answers within *lead* seconds are not counted. A request that has no answer a minute after the end is lost; an answer
without a request, or with the id of another, is counted as well.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvloop

PATIENCE = 60.0
HEAD_END = b"\r\n\r\n"


class Response:
    """One response in what a connection has received. end: where it ends; None while it is not all there."""

    __slots__ = ("body", "end", "head", "status")

    def __init__(self, held: bytes) -> None:
        self.end: int | None = None
        at = held.find(HEAD_END)
        if at < 0:
            return
        self.head = held[:at].lower()
        self.status = int(held[9:12])
        start = at + len(HEAD_END)
        length = self.header(b"content-length")
        if length is not None:
            if len(held) >= start + int(length):
                self.end = start + int(length)
                self.body = held[start : self.end]
        elif self.header(b"transfer-encoding") == b"chunked":
            parts, place = [], start
            while (line := held.find(b"\r\n", place)) >= 0:
                size = int(held[place:line].split(b";")[0], 16)
                if len(held) < line + 4 + size:
                    return
                parts.append(held[line + 2 : line + 2 + size])
                place = line + 4 + size
                if not size:
                    self.end, self.body = place, b"".join(parts)
                    return
        else:
            self.end, self.body = start, b""

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, in lower case."""
        at = self.head.find(b"\r\n" + name + b":")
        if at < 0:
            return None
        start = at + len(name) + 3
        end = self.head.find(b"\r\n", start)
        return self.head[start : end if end >= 0 else None].strip()


class Client(asyncio.Protocol):
    """A client: one request at a time on a connection that is kept."""

    def __init__(self, load: Load) -> None:
        self.load, self.held, self.asked = load, b"", False
        self.photo, self.id, self.sent = 0, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.ask()

    def ask(self) -> None:
        """Send the next photo, if there is time."""
        now = time.perf_counter()
        if now >= self.load.end:
            self.load.leave(self)
            return
        number, self.photo = next(self.load.next)
        self.id = b"%x-%x" % (self.load.seed, number)
        self.asked, self.sent = True, now
        self.load.under_way += 1
        self.transport.writelines([self.load.head(self.photo, self.id), self.load.photos[self.photo]])

    def data_received(self, data: bytes) -> None:
        self.held += data
        while self.held and (found := Response(self.held)).end is not None:
            self.held = self.held[found.end :]
            self.answered(found)

    def answered(self, found: Response) -> None:
        load = self.load
        if not self.asked:
            load.doubled += 1
            return
        now = time.perf_counter()
        self.asked = False
        load.under_way -= 1
        if (named := found.header(b"x-request-id")) is not None and named != self.id:
            load.foreign += 1
        if found.status != 200:
            load.refused += 1
            load.reasons.add(found.body[:200].decode(errors="replace"))
        else:
            load.answers.append((self.photo, found.body, self.sent, now))
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if self.asked:
            self.load.lost += 1
            self.load.under_way -= 1
            self.asked = False
        self.load.leave(self)


class Load:
    """One job."""

    def __init__(self, photos: Sequence[bytes], job: dict[str, Any]) -> None:
        self.photos, self.job, self.seed = photos, job, job.get("seed", 0)
        self.next = self._order()
        self.under_way = self.lost = self.doubled = self.foreign = self.refused = 0
        self.reasons: set[str] = set()
        self.answers: list[tuple[int, bytes, float, float]] = []
        self.clients: set[Client] = set()

    def _order(self) -> Iterator[tuple[int, int]]:
        chance = random.Random(self.seed)
        order = list(range(len(self.photos)))
        for turn in itertools.count():
            chance.shuffle(order)
            for place, photo in enumerate(order):
                yield turn * len(order) + place, photo

    def head(self, photo: int, name: bytes) -> bytes:
        """What comes before the photo."""
        return (
            b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nX-Request-Id: %s\r\n"
            b"Content-Length: %d\r\n\r\n" % (self.job["path"].encode(), name, len(self.photos[photo]))
        )

    def leave(self, client: Client) -> None:
        self.clients.discard(client)
        if not self.clients and not self.ended.done():
            self.ended.set_result(None)

    async def run(self) -> dict[str, Any]:
        """Load the server, and say what came of it."""
        loop, job = asyncio.get_running_loop(), self.job
        self.ended = loop.create_future()
        begun, transports = time.perf_counter(), []
        lead = job.get("lead", 0.0)
        self.end = begun + lead + job["seconds"]
        for _ in range(job["clients"]):
            transport, client = await loop.create_connection(lambda: Client(self), "127.0.0.1", job["port"])
            self.clients.add(client)
            transports.append(transport)
        try:
            await asyncio.wait_for(self.ended, lead + job["seconds"] + PATIENCE)
        except TimeoutError:
            self.lost += self.under_way
        await asyncio.sleep(0.1)  # an answer that comes twice comes soon after the first
        for transport in transports:
            transport.close()
        counted = [answer for answer in self.answers if begun + lead <= answer[3] < self.end]
        return {
            "throughput": len(counted) / job["seconds"],
            "answers": [(photo, *said(body), done - sent) for photo, body, sent, done in counted],
            **{key: getattr(self, key) for key in ("lost", "doubled", "foreign", "refused")},
            "reasons": sorted(self.reasons)[:3],
        }


def said(body: bytes) -> tuple[int, int]:
    """(stage, class) of an answer. It is read when the load is over: until then the processors are the server's."""
    document = json.loads(body)
    [found] = document.get("answers", [document])
    return found["stage"], found["prediction"]


def main() -> None:
    photos = [Path(name).read_bytes() for name in json.loads(sys.stdin.readline())]
    for line in sys.stdin:
        print(json.dumps(uvloop.run(Load(photos, json.loads(line)).run())), flush=True)


if __name__ == "__main__":
    main()
