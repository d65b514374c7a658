"""Malformed requests thrown at a real server: bodies and headers, every route, and clients that mean harm.

    python benchmarks/serve_fuzz.py --cases 100000

A small cascade is served by a process of its own, whose clients have three seconds for a request. Cases are drawn from
--seed: requests of every route with bytes flipped, cut, doubled and spliced, headers and JSON values exchanged for odd
ones, images and compressed bodies damaged, and noise. None may be answered with 500, and none may be left without an
answer or an end. After each thousand a good request must be answered as at the beginning, and the memory of the server
is printed. Then come slow senders, endless headers, bombs, pipelines and requests of two lengths, with what others wait
meanwhile. The exit code is 1 where anything failed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import io
import json
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SENT = 3.0  # seconds that a client has for a request
PATIENCE = 30.0  # seconds after which a server hangs
TOKEN = "a-token-of-the-fuzzer"
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
from pilotfish.serve import Limits, ServeOptions, Server
options = ServeOptions(port=0, tokens={sys.argv[3]: "fuzzer"}, allow_python=tuple(sys.argv[5:]), reload=False,
                       limits=Limits(request_seconds=float(sys.argv[4])))
server = Server({"pair": sys.argv[1]}, options)
server.run(lambda: print(server.address[1], flush=True))
"""


# Cases.


def picture(side: int = 8, form: str = "PNG") -> bytes:
    """A small image file."""
    from PIL import Image

    held = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(side).randbytes(side * side * 3)).save(held, form)
    return held.getvalue()


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """One request as it is sent."""
    lines = [f"{method} {path} HTTP/1.1", "host: here", *headers]
    if body or method != "GET":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def inferred(header: dict[str, Any], *tensors: bytes) -> bytes:
    """A request for inference with binary tensors."""
    said = json.dumps(header).encode()
    path = "/v2/models/pair/infer"
    return request("POST", path, said + b"".join(tensors), f"inference-header-content-length: {len(said)}")


def tensor(datatype: str, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": "input", "datatype": datatype, "shape": shape, **more}


def good_requests() -> list[bytes]:
    """Requests of every route that are answered, the seeds of all cases."""
    png, jpeg, b64 = picture(), picture(16, "JPEG"), base64.b64encode(picture()).decode()
    gets = [
        "/", "/console.json", "/metrics", "/openapi.json", "/predict", "/v1/models", "/v1/models/pair", "/v2",
        "/v2/health/live", "/v2/health/ready", "/v2/models/pair", "/v2/models/pair/audit", "/v2/models/pair/config",
        "/v2/models/pair/drift",
        "/v2/models/pair/operating_point", "/v2/models/pair/ready", "/v2/models/pair/stats",
        "/v2/models/pair/versions/1/ready", "/v2/models/stats", "/v2/trace/setting",
    ]  # fmt: skip
    as_json = ("content-type: application/json", f"authorization: Bearer {TOKEN}")
    form = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + png + b"\r\n--x--\r\n"
    length = struct.pack("<I", len(png))
    pixels = [tensor("UINT8", [1, 8, 8, 3], data=list(range(192)))]
    posts: list[tuple[str, str, Any]] = [
        ("POST", "/predict", {"instances": [{"b64": b64, "id": "a"}, {"array": [[[0, 1, 2]] * 8] * 8}]}),
        ("POST", "/v1/models/pair:predict", {"instances": [{"b64": b64}]}),
        ("POST", "/v2/models/pair/infer", {"id": "x", "inputs": pixels, "outputs": [{"name": "prediction"}]}),
        ("POST", "/v2/models/pair/labels", {"labels": [{"id": "a", "label": 1}]}),
        ("PUT", "/v2/models/pair/operating_point", {"max_drop": 0.05}),
        ("PUT", "/v2/models/pair/operating_point", {"min_metric": "50%"}),
        ("POST", "/v2/repository/index", {}),
    ]
    return [
        *(request("GET", path, b"", f"authorization: Bearer {TOKEN}") for path in gets),
        *(request(method, path, json.dumps(body).encode(), *as_json) for method, path, body in posts),
        request("DELETE", "/v2/models/pair/drift", b"", f"authorization: Bearer {TOKEN}"),
        request("POST", "/predict", png, "content-type: image/png"),
        request("POST", "/predict?model=pair", jpeg, "content-type: image/jpeg"),
        request("POST", "/predict", form, "content-type: multipart/form-data; boundary=x"),
        request("POST", "/predict", gzip.compress(png, mtime=0), "content-type: image/png", "content-encoding: gzip"),
        request("POST", "/predict", zlib.compress(png), "content-type: image/png", "content-encoding: deflate"),
        request("POST", "/predict", b"", "content-type: image/png"),
        chunked(request("POST", "/predict", png, "content-type: image/png"), 40),
        inferred(
            {"inputs": [tensor("BYTES", [1], parameters={"binary_data_size": len(png) + 4})]}, length + png
        ),
        inferred(
            {"inputs": [tensor("UINT8", [2, 8, 8, 3], parameters={"binary_data_size": 384})],
             "parameters": {"binary_data_output": True}}, bytes(384)
        ),
    ]  # fmt: skip


def parts(raw: bytes) -> tuple[list[bytes], bytes]:
    """(lines of the head, body)."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


def joined(lines: list[bytes], body: bytes, fixed: bool = True) -> bytes:
    """A request of these lines; fixed: with the length that its body has."""
    if fixed:
        lines = [line for line in lines if not line.lower().startswith(b"content-length")]
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(raw: bytes, size: int) -> bytes:
    """The same request with its body in chunks of *size* bytes."""
    lines, body = parts(raw)
    lines = [line for line in lines if not line.lower().startswith(b"content-length")]
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    said = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return joined([*lines, b"transfer-encoding: chunked"], said, fixed=False)


ODD_HEADERS = [
    b"content-length: 0", b"content-length: 5", b"content-length: -1", b"content-length: 1e3", b"content-length:",
    b"content-length: 99999999999999999999", b"content-length: 33554433", b"transfer-encoding: chunked",
    b"transfer-encoding: gzip", b"transfer-encoding: chunked, chunked", b"content-encoding: gzip",
    b"content-encoding: deflate", b"content-encoding: br", b"content-encoding: gzip, gzip", b"content-type:",
    b"content-type: image/", b"content-type: image/png", b"content-type: application/json; charset=utf-7",
    b"content-type: text/plain", b"content-type: multipart/form-data", b"content-type: \xff\xfe",
    b"content-type: multipart/form-data; boundary=" + b"x" * 300, b"content-type: application/octet-stream",
    b"inference-header-content-length: 0", b"inference-header-content-length: -5",
    b"inference-header-content-length: 999999", b"inference-header-content-length: \xb2", b"expect: 100-continue",
    b"inference-header-content-length: 1\r\ninference-header-content-length: 2", b"expect: 200-never", b"host: [",
    b"host: a b", b"host:", b"host: x\r\nhost: y", b"connection: upgrade\r\nupgrade: websocket", b"connection: close",
    b"connection: upgrade\r\nupgrade: h2c", b"connection: keep-alive, close", b"authorization: Bearer \xff",
    b"authorization: Bearer", b"authorization: Basic Og==", b"x-request-id: " + b"a" * 5000, b"x-request-id: \x01",
    b"x-request-id: a\r\n b", b"x-forwarded-for: ::1", b"traceparent: 00-0-0-0", b"accept: \xff;q=nan",
    b"accept: application/openmetrics-text; version=9", b"accept-encoding: gzip;q=x", b"accept-encoding: deflate",
    b"cookie: " + b"a=b; " * 500, b"range: bytes=0-", b"x" * 2000 + b": y", b": novalue", b"noname", b"a b: c",
    b"x: \0", b"x: \x7f", b"if-none-match: *", b"content-length: 5\r\ntransfer-encoding: chunked",
]  # fmt: skip
ODD_VALUES = [
    "NaN", "-Infinity", "1e999", "-0.0", "1" * 400, "9223372036854775808", "-1", "0", "true", "null", '""', "[]", "{}",
    '"\\ud800"', '"\\u0000"', '"' + "a" * 3000 + '"', "[" * 2000, "[" * 200 + "]" * 200, '{"a":' * 500, "[[1],[2,3]]",
    '{"a": 1, "a": 2}', "[1e5]", '"UINT8"', '"BYTES"', '"FP16"', "[-1]", "[1, 8, 8, 3]", "[4294967296, 4294967296]",
    "0.5", '"50%"', '"nan%"', "1e-320", '"data:image/png;base64,AAAA"', '"=AAA"', "[null]", "'single'", "01", "+1",
    ".5", "\xff",
]  # fmt: skip
VALUE = re.compile(rb'(?<=[:\[,])\s*("(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|\[[^\[\]]*\]|\{[^{}]*\})')


def case(draw: random.Random, seeds: list[bytes]) -> bytes:
    """One malformed request, or several on one connection."""
    raw = draw.choice(seeds)
    kind = draw.choice(MUTATIONS)
    return kind(draw, raw, seeds)


def flipped(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    data = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 8))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def flipped_body(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    lines, body = parts(raw)
    return joined(lines, flipped(draw, body, seeds) if body else draw.randbytes(draw.randrange(50)))


def cut(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    return raw[: draw.randrange(1, len(raw))]


def cut_body(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    lines, body = parts(raw)
    return joined(lines, body[: draw.randrange(len(body) + 1)])


def doubled(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    start, size = draw.randrange(len(raw)), draw.choice((1, 8, 100, 2000))
    return raw[:start] + raw[start : start + size] * draw.choice((2, 3, 50)) + raw[start + size :]


def spliced(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    other = draw.choice(seeds)
    return raw[: draw.randrange(len(raw))] + other[draw.randrange(len(other)) :]


def other_body(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    return joined(parts(raw)[0], parts(draw.choice(seeds))[1])


def odd_header(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    lines, body = parts(raw)
    at = draw.randrange(1, len(lines) + 1)
    drop = draw.random() < 0.3
    return joined([*lines[:at], draw.choice(ODD_HEADERS), *lines[at + drop :]], body, fixed=False)


def odd_path(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    lines, body = parts(raw)
    method, _, rest = lines[0].partition(b" ")
    path = bytearray(rest.rpartition(b" ")[0])
    odd = (b"%00", b"%", b"%ff", b"//", b"/../", b"?", b"?model=", b"?model=%ed%a0%80", b"#", b"\xc3\xa9", b"*",
           b"a" * 3000, b"http://[/", b":", b"/versions/2", b"%2f", b"?" + b"a&" * 1000)  # fmt: skip
    at = draw.randrange(len(path) + 1)
    path[at:at] = draw.choice(odd)
    method = draw.choice((method, method, b"HEAD", b"OPTIONS", b"DELETE", b"CONNECT", b"TRACE", b"PRI", b"get", b""))
    version = draw.choice((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""))
    return joined([b" ".join((method, bytes(path), version)), *lines[1:]], body, fixed=False)


def odd_value(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    lines, body = parts(draw.choice([seed for seed in seeds if b'{"' in seed]))
    places = list(VALUE.finditer(body))
    for place in draw.sample(places, min(len(places), draw.choice((1, 1, 2)))):
        if body[place.start() : place.end()] == place.group():  # else moved by the one before
            body = body[: place.start(1)] + draw.choice(ODD_VALUES).encode() + body[place.end(1) :]
    size = re.match(rb"(?s).*\}", body)
    lines = [
        b"inference-header-content-length: %d" % (size.end() if size else 0)
        if line.startswith(b"inference-h")
        else line
        for line in lines
    ]
    return joined(lines, body)


def odd_image(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    data = bytearray(draw.choice(IMAGES)())
    for _ in range(draw.choice((0, 1, 4))):
        data[draw.randrange(len(data))] = draw.randrange(256)
    body = bytes(data[: draw.randrange(len(data))] if draw.random() < 0.2 else data)
    return request("POST", "/predict", body, f"content-type: {draw.choice(('image/png', 'image/jpeg', 'image/x'))}")


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


IMAGES: list[Callable[[], bytes]] = [
    picture, lambda: picture(16, "JPEG"), lambda: picture(16, "GIF"), lambda: picture(16, "WEBP"),
    lambda: picture(16, "TIFF"), lambda: picture(16, "BMP"), lambda: picture(1), lambda: png_of(1, 65535),
    lambda: png_of(60000, 60000), lambda: png_of(0, 0), lambda: png_of(2**31 - 1, 2**31 - 1),
    lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
]  # fmt: skip


def bombed(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    """Compressed again and again, or to be far larger than it comes."""
    lines, body = parts(raw)
    packed = draw.choice(BOMBS)() if draw.random() < 0.05 else gzip.compress(body, 1, mtime=0)
    if draw.random() < 0.5:
        packed = flipped(draw, packed, seeds)
    return joined([*lines, b"content-encoding: " + draw.choice((b"gzip", b"deflate", b"gzip, gzip"))], packed)


BOMBS: list[Callable[[], bytes]] = [
    lambda: BOMB,
    lambda: b"\x1f\x8b" + b"\0" * 100,
    lambda: gzip.compress(BOMB, mtime=0),
]
BOMB = gzip.compress(bytes(80 << 20), 1, mtime=0)  # of 80 MiB


def in_chunks(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    whole = chunked(raw, draw.choice((1, 7, 1000)))
    return flipped(draw, whole, seeds) if draw.random() < 0.7 else whole


def pipelined(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    return b"".join(draw.choices(seeds, k=draw.choice((2, 5, 40)))) + case(draw, seeds)


def noise(draw: random.Random, raw: bytes, seeds: list[bytes]) -> bytes:
    return draw.randbytes(draw.choice((1, 20, 1000)))


MUTATIONS = [
    flipped, flipped_body, flipped_body, cut, cut_body, cut_body, doubled, spliced, other_body, other_body, odd_header,
    odd_header, odd_header, odd_path, odd_value, odd_value, odd_value, odd_image, bombed, in_chunks, pipelined, noise,
]  # fmt: skip


# The client.


async def ask(port: int, raw: bytes, most: float = PATIENCE) -> int | str:
    """The status of the first answer to *raw*; ``closed`` where there is none, ``hangs`` where there is no end."""
    try:
        async with asyncio.timeout(most):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
            try:
                writer.write(raw)
                return await first_status(reader, raw.startswith(b"HEAD "))
            except (OSError, EOFError):
                return "closed"
            finally:
                writer.transport.abort()
    except TimeoutError:
        return "hangs"
    except OSError:
        return "refused"


async def first_status(reader: asyncio.StreamReader, head_alone: bool = False) -> int:
    """Of the first whole answer; head_alone: it has no body."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 100:
            break
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length is not None and not head_alone:
        await reader.readexactly(int(length.group(1)))
    return status


async def throw(
    port: int, cases: Iterator[bytes], at_once: int, told: Callable[[int], Any] = lambda n: None
) -> tuple[Counter[int | str], list[tuple[int | str, bytes]]]:
    """(how often each status came, the cases that failed). told: called after each thousand."""
    statuses: Counter[int | str] = Counter()
    failed: list[tuple[int | str, bytes]] = []
    pause = asyncio.Event()
    pause.set()

    async def worker() -> None:
        for raw in cases:
            await pause.wait()
            found = await ask(port, raw)
            statuses[found] += 1
            if found in (500, "hangs", "refused"):
                failed.append((found, raw))
            if statuses.total() % 1000 == 0:
                await told(statuses.total())

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return statuses, failed


def memory(process: int) -> float:
    """MiB that a process holds now."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found.group(1)) / 1024


# Attacks.


async def answer(port: int, raw: bytes) -> tuple[int, bytes]:
    """(status, body) of a good request of another peer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head)
            assert length is not None
            return int(head.split(b" ", 2)[1]), await reader.readexactly(int(length.group(1)))
    finally:
        writer.transport.abort()


async def sent_on(port: int, start: bytes, part: bytes, times: int, gap: float = 0.0) -> int | str:
    """The status of what begins so and goes on so."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        try:
            writer.write(start)
            for _ in range(times):
                await writer.drain()
                writer.write(part)
                if gap:
                    await asyncio.sleep(gap)
        except OSError:
            pass

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(PATIENCE):
            return await first_status(reader)
    except (OSError, EOFError):
        return "closed"
    except TimeoutError:
        return "hangs"
    finally:
        sending.cancel()
        writer.transport.abort()


def attacks(port: int) -> dict[str, tuple[list[Any], set[int | str]]]:
    """Clients that mean harm: what they send, and what they may get."""
    png = picture()
    post = b"POST /predict HTTP/1.1\r\nhost: here\r\ncontent-type: image/png\r\n"
    slow = [sent_on(port, b"GET /v2 HTTP/1.1\r\nx: ", b"a", 10_000, 0.1) for _ in range(500)]
    slow += [sent_on(port, post + b"content-length: 1000\r\n\r\n", b"a", 10_000, 0.1) for _ in range(500)]
    bomb = request("POST", "/predict", BOMB, "content-type: image/png", "content-encoding: gzip")
    tiny = chunked(request("POST", "/predict", bytes(1 << 20), "content-type: image/png"), 1)
    both = post + b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n" % len(png) + png
    long = post + b"content-length: 30000000\r\n\r\n"
    large = 64 << 10
    return {
        "1,000 slow senders": (slow, {408, 503, "closed"}),
        "20 MB of headers": ([sent_on(port, b"GET /v2 HTTP/1.1\r\nx: ", b"a" * large, 320) for _ in range(20)], {431}),
        "a path of 20 MB": ([sent_on(port, b"GET /", b"a" * large, 320) for _ in range(20)], {431}),
        "100,000 headers": ([sent_on(port, b"GET /v2 HTTP/1.1\r\n", b"x: y\r\n" * 1000, 100)], {431}),
        "gzip bombs of 80 MiB": ([ask(port, bomb) for _ in range(50)], {413, 503}),
        "bodies of 100 MB": (
            [sent_on(port, post + b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b"a" * large + b"\r\n", 1600)
             for _ in range(20)], {408, 413, 503}),
        "bodies that never come": ([ask(port, long) for _ in range(400)], {408, "closed"}),
        "a million tiny chunks": ([ask(port, tiny) for _ in range(5)], {400}),
        "trailers of 20 MB": (
            [sent_on(port, post + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 1000, 3300)], {400}),
        "both length headers": ([ask(port, both) for _ in range(100)], {400}),
        "pipelines of 5,000": ([ask(port, request("GET", "/v2") * 5000) for _ in range(50)], {200}),
        "connections that say nothing": ([ask(port, b"") for _ in range(1000)], {503, "closed"}),
    }  # fmt: skip


async def attacked(port: int, process: int, good: bytes) -> list[str]:
    """Run every attack, and ask something good all the while. What failed."""
    failed = []
    print(f"\n{'attack':<30} {'answers':<36} {'others, worst':>14} {'memory':>10}")
    for name, (clients, expected) in attacks(port).items():
        tasks = asyncio.gather(*clients)
        waited = []
        while not tasks.done():
            start = time.perf_counter()
            try:
                status, _ = await answer(port, good)
            except (OSError, EOFError, TimeoutError) as error:
                status = type(error).__name__
            waited.append(time.perf_counter() - start)
            if status != 200:
                failed.append(f"{name}: others got {status}")
            await asyncio.sleep(0.02)
        found = Counter(await tasks)
        said = ", ".join(f"{status}: {n}" for status, n in sorted(found.items(), key=str))
        print(f"{name:<30} {said:<36} {max(waited) * 1000:>11.0f} ms {memory(process):>6.0f} MiB", flush=True)
        if not set(found) <= expected:
            failed.append(f"{name}: {said}; expected {sorted(map(str, expected))}")
    return failed


def said(answered: tuple[int, bytes]) -> tuple[Any, ...]:
    """What an answer to one picture says."""
    [one] = json.loads(answered[1]).get("answers", [{}])
    return one.get("stage"), one.get("prediction"), round(one.get("confidence") or 0, 4), one.get("error")


async def fuzzed(port: int, process: int, cases: int, seed: int, at_once: int) -> list[str]:
    """Throw *cases* at a server. What failed."""
    draw, seeds = random.Random(seed), good_requests()
    good = request("POST", "/predict", picture(), "content-type: image/png")
    assert (await answer(port, good))[0] == 200
    fine = set()
    for drop in ("0", "100%"):  # cases move the operating point, so that either stage may answer
        move = json.dumps({"max_drop": drop}).encode()
        await answer(port, request("PUT", "/v2/models/pair/operating_point", move, f"authorization: Bearer {TOKEN}"))
        fine.add(said(await answer(port, good)))
    failed, start = [], time.perf_counter()

    async def check(n: int) -> None:
        found = await answer(port, good)
        if found[0] != 200 or said(found) not in fine:
            failed.append(f"after {n} cases a good request was answered {found}")
        if n % (cases // 10 or 1000) == 0:
            print(f"{n:>9,} cases {time.perf_counter() - start:>6.0f} s {memory(process):>8.0f} MiB", flush=True)

    print(f"{0:>9,} cases {0:>6.0f} s {memory(process):>8.0f} MiB", flush=True)
    statuses, bad = await throw(port, (case(draw, seeds) for _ in range(cases)), at_once, check)
    print("answers: " + ", ".join(f"{status}: {n:,}" for status, n in sorted(statuses.items(), key=str)))
    failed += [f"{found}: {raw[:600]!r}" for found, raw in bad]
    return failed + await attacked(port, process, good)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=200, help="connections of the fuzzer")
    options = parser.parse_args()
    from support.server import ALLOWED, small_cascade

    with tempfile.TemporaryDirectory() as folder:
        cascade = small_cascade(Path(folder) / "small")
        program = [sys.executable, "-c", PROGRAM, str(cascade), str(cascade.parent), TOKEN, str(SENT), *ALLOWED]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            failed = asyncio.run(fuzzed(port, process.pid, options.cases, options.seed, options.at_once))
            if process.poll() is not None:
                failed.append(f"the server ended with {process.returncode}")
        finally:
            process.kill()
            process.wait()
    for line in failed[:50]:
        print("FAILED", line)
    print(f"{len(failed)} failures")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
