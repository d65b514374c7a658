"""Files that would unpack to more than they should: refused before, or decoded in little memory."""

from __future__ import annotations

import gzip
import io
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from pilotfish.data import flatten, images, load_arrays, load_folder, open_image
from pilotfish.data.idx import load_idx
from pilotfish.data.pixel_budget import PixelBudget
from pilotfish.errors import DataError, UnreadableSample
from pilotfish.reading import limits

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (13, 9, 4), dtype=np.uint8)
FLOATS = RNG.normal(size=(13, 9)).astype(np.float32)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def palette() -> Image.Image:
    return Image.fromarray(BYTES[..., :3]).quantize(8)


EVERY_MODE = {
    "float, stretched": lambda: encoded(Image.fromarray(FLOATS), "TIFF"),
    "float, fractions": lambda: encoded(Image.fromarray(np.abs(FLOATS) / 9), "TIFF"),
    "float, 8 bits": lambda: encoded(Image.fromarray(np.abs(FLOATS) * 60), "TIFF", compression="tiff_lzw"),
    "float with NaN": lambda: encoded(Image.fromarray(np.where(FLOATS > 1, np.float32(np.nan), FLOATS)), "TIFF"),
    "whole 32 bits": lambda: encoded(Image.fromarray((FLOATS * 1e6).astype(np.int32)), "TIFF"),
    "16 bits": lambda: encoded(Image.fromarray((np.abs(FLOATS) * 9999).astype(np.uint16)), "PNG"),
    "16 bits with a clear grey": lambda: encoded(
        Image.fromarray(np.arange(117, dtype=np.uint16).reshape(13, 9) * 99), "PNG", transparency=990
    ),
    "RGBA": lambda: encoded(Image.fromarray(BYTES), "PNG"),
    "LA": lambda: encoded(Image.fromarray(BYTES[..., :2].copy(), "LA"), "PNG"),
    "palette": lambda: encoded(palette(), "PNG", transparency=3),
    "palette with alphas": lambda: encoded(palette(), "PNG", transparency=bytes(range(0, 240, 30))),
    "RGB with a clear colour": lambda: encoded(
        Image.fromarray(BYTES[..., :3].copy()), "PNG", transparency=tuple(BYTES[5, 5, :3].tolist())
    ),
    "GIF": lambda: encoded(palette(), "GIF", transparency=2),
    "CMYK": lambda: encoded(Image.fromarray(BYTES, "CMYK"), "TIFF"),
    "RGB": lambda: encoded(Image.fromarray(BYTES[..., :3].copy()), "BMP"),
}


@pytest.mark.parametrize("mode", EVERY_MODE)
@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_strips_give_what_the_whole_gives(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = EVERY_MODE[mode]()
    whole = np.asarray(open_image(data))
    for strip in (1, 20, 9 * 12):
        monkeypatch.setattr(flatten, "STRIP", strip)
        assert np.array_equal(np.asarray(open_image(data)), whole)


def test_a_budget_bounds_what_is_decoded_at_once_and_serves_everybody() -> None:
    budget, lock = PixelBudget(100), threading.Lock()
    now, most = 0, 0

    def decode(pixels: int) -> int:
        nonlocal now, most
        with budget.in_hand(), budget.decoding(pixels):
            with lock:
                now += min(pixels, 100)
                most = max(most, now)
            time.sleep(0.001)
            with lock:
                now -= min(pixels, 100)
        return pixels

    sizes = RNG.integers(1, 130, 200).tolist()
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(decode, sizes)) == sizes
    assert 50 < most <= 100
    assert budget.free == 100


def test_what_is_in_hand_stays_taken_and_never_waits_for_itself() -> None:
    budget = PixelBudget(100)
    with budget.in_hand():
        with budget.decoding(80):
            pass
        assert budget.free == 20
        with budget.in_hand(), budget.decoding(80):  # would wait for ever
            pass
        assert budget.free == -60
    assert budget.free == 100
    with pytest.raises(ValueError), budget.in_hand(), budget.decoding(5):
        raise ValueError
    assert budget.free == 100


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_every_image_comes_out_of_the_budget(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = PixelBudget(300)
    monkeypatch.setattr(images, "PIXELS", budget)
    data = encoded(Image.fromarray(BYTES[..., :3].copy()), kind)
    with budget.in_hand():
        open_image(data)
        assert budget.free == 300 - 13 * 9
    with ThreadPoolExecutor(8) as pool:
        assert len({image.tobytes() for image in pool.map(open_image, [data] * 40)}) == 1
    assert budget.free == 300


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_decoders_that_hold_an_image_several_times_have_half_the_limit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not features.check(kind.lower()):
        pytest.skip(f"this Pillow has no {kind}")
    data = encoded(Image.fromarray(BYTES[..., :3].copy()), kind)
    monkeypatch.setattr(images, "PIXELS", PixelBudget(2 * 13 * 9))
    open_image(data)
    monkeypatch.setattr(images, "PIXELS", PixelBudget(2 * 13 * 9 - 1))
    with pytest.raises(UnreadableSample, match="117 pixels, over the limit of 116"):
        open_image(data)


def tiled_tiff(side: int) -> bytes:
    """8 by 8 pixels in one tile of *side* by *side*, of which the file holds nothing."""
    tags = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (277, 1), (322, side), (323, side), (324, 8), (325, 64)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4 + 64)


@pytest.mark.parametrize("side", [2**13, 2**15, 2**31])
def test_a_tile_larger_than_its_image_is_refused(side: int) -> None:
    with pytest.raises(UnreadableSample) as caught:
        open_image(tiled_tiff(side), name="tile.tif")
    assert "in tiles of" in str(caught.value) or "broken" in str(caught.value)


def test_a_file_beyond_the_limit_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGEST_FILE", 1000)
    path = tmp_path / "a.png"
    path.write_bytes(bytes(1001))
    with pytest.raises(UnreadableSample, match="it has 1,001 bytes, over the limit of 1,000"):
        open_image(path)
    with path.open("rb") as file, pytest.raises(UnreadableSample, match="more than 1,000 bytes"):
        open_image(file)
    with pytest.raises(UnreadableSample, match="1,001 bytes"):
        images.read_image_file(path)


# ---- formats that depend on the machine


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("name", ["a.avif", "b.AVIF", "c.jpg"])
def test_avif_is_read_where_pillow_can(tmp_path: Path, name: str) -> None:
    smooth = Image.fromarray(BYTES[..., :3].copy()).resize((64, 64))
    (tmp_path / name).write_bytes(encoded(smooth, "AVIF"))
    data = load_folder(tmp_path)
    assert data.notes == ()
    assert np.array_equal(np.asarray(data.read(0)), np.asarray(Image.open(tmp_path / name).convert("RGB")))


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevc"])
def test_heif_names_the_package_that_reads_it(brand: bytes) -> None:
    with pytest.raises(UnreadableSample, match=r"pillow-heif|broken"):
        open_image(b"\0\0\0\x18ftyp" + brand + bytes(100))


# ---- arrays


@pytest.mark.parametrize("key", ["x", "label", "id"])
def test_arrays_that_unpack_like_bombs_are_refused(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"x": RNG.normal(size=(4000, 2)), "label": RNG.integers(0, 9, 4000), "id": np.arange(4000)}
    np.savez_compressed(tmp_path / "fine.npz", **arrays)
    np.savez_compressed(tmp_path / "bomb.npz", **{**arrays, key: np.zeros((4000, *arrays[key].shape[1:]), np.int64)})
    monkeypatch.setattr(limits, "LARGE", 10_000)
    assert len(load_arrays(tmp_path / "fine.npz")) == 4000
    with pytest.raises(DataError, match=rf"{key} would unpack from .* over 200 times as many \(a decompression bomb"):
        load_arrays(tmp_path / "bomb.npz")


def idx(shape: tuple[int, ...], body: bytes) -> bytes:
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + body


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gz", gzip.compress(idx((1500, 4000), bytes(6_000_000))), "decompression bomb"),
        ("a.gz", gzip.compress(idx((60000, 30000), b"")), "decompression bomb"),
        ("a", idx((60000, 30000), b"1234"), "damaged"),
        ("a", idx((2**32 - 1, 2**32 - 1), b""), "arrays of up to"),
        ("a.gz", gzip.compress(idx((50, 40), b"")), "does not hold that many bytes"),
    ],
    ids=["zeros", "nothing", "short", "four thousand million", "small"],
)
def test_idx_files_are_held_to_what_they_are(
    tmp_path: Path, name: str, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGE", 1_000_000)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_idx(tmp_path / name)


def test_what_is_beyond_the_memory_there_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "data.npz", x=RNG.normal(size=(100, 4)))
    monkeypatch.setattr(limits, "available_memory", lambda: 1000)
    with pytest.raises(DataError, match="claims 3,200 bytes, and more than the memory there is"):
        load_arrays(tmp_path / "data.npz")


def test_the_memory_there_is_is_some() -> None:
    assert 2**20 < limits.available_memory() < 2**50
