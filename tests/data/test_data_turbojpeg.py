"""JPEGs decoded by libjpeg-turbo itself: the pixels of Pillow, and no file that Pillow refuses."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("simplejpeg")

from pilotfish.data import Encoded, images
from pilotfish.data import turbojpeg as turbo
from pilotfish.data.pixel_budget import PixelBudget
from pilotfish.errors import MissingExtraError, UnreadableSample

RNG = np.random.default_rng(0)
TURNED = {orientation: Image.Exif() for orientation in range(1, 9)}
for _orientation, _exif in TURNED.items():
    _exif[0x0112] = _orientation


def photo(width: int = 200, height: int = 150) -> Image.Image:
    coarse = Image.fromarray(RNG.integers(0, 256, (12, 16, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(smooth + RNG.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


PHOTO = photo()
KINDS = {
    "plain": jpeg(PHOTO, quality=90),
    "whole colours": jpeg(PHOTO, subsampling=0),
    "progressive": jpeg(PHOTO, progressive=True),
    "restart markers": jpeg(PHOTO, restart_marker_rows=1),
    "grey": jpeg(PHOTO.convert("L")),
    "cmyk": jpeg(PHOTO.convert("CMYK")),
    "odd sides": jpeg(photo(131, 67)),
    "one pixel": jpeg(photo(1, 1)),
    "a line": jpeg(photo(1, 3000)),
    **{f"turned {orientation}": jpeg(PHOTO, exif=exif) for orientation, exif in TURNED.items()},
}


def both(content: bytes, at_least: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.asarray(Encoded(content, "x").decode(at_least, library)) for library in ("pillow", "turbojpeg"))


def refused(content: bytes, library: str) -> str | None:
    try:
        Encoded(content, "x.jpg").decode(library=library)  # type: ignore[arg-type]
    except UnreadableSample as error:
        return str(error)
    return None


@pytest.mark.parametrize("at_least", [None, (70, 70), (30, 30), (9, 9)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_pillows(kind: str, at_least: tuple[int, int] | None) -> None:
    plain, fast = both(KINDS[kind], at_least)
    assert plain.shape == fast.shape
    assert np.abs(plain.astype(int) - fast).max() <= 2


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "GIF"])
def test_other_formats_are_pillows(form: str) -> None:
    file = io.BytesIO()
    PHOTO.save(file, form)
    plain, fast = both(file.getvalue(), (20, 20))
    assert np.array_equal(plain, fast)


@pytest.mark.parametrize("kind", ["plain", "progressive", "grey", "restart markers"])
def test_what_is_cut_short_is_refused(kind: str) -> None:
    content = KINDS[kind]
    for length in np.linspace(4, len(content) - 3, 40).astype(int):
        said = refused(content[:length], "turbojpeg")
        assert said is not None
        assert said.startswith("x.jpg cannot be read: ")
        assert "\n" not in said


def test_what_libjpeg_turbo_warns_of_is_refused() -> None:
    content = KINDS["plain"]
    middle = content.index(b"\xff\xda") + (len(content) - content.index(b"\xff\xda")) // 2
    damaged = {
        "a part is missing": content[:middle] + content[middle + 600 :],
        "more rows than there are": _of_size(content, 200, 300),
        "a part stands there twice": content[: middle + 600] + content[middle:],
    }
    for what, file in damaged.items():
        assert refused(file, "pillow") is None, what  # which shows grey, or what it guessed
        assert "Corrupt JPEG data" in str(refused(file, "turbojpeg")), what


def test_no_mutated_file_is_read_that_pillow_refuses() -> None:
    rng, read = np.random.default_rng(1), 0
    seeds = [KINDS[kind] for kind in ("plain", "progressive", "grey", "cmyk", "turned 6")]
    for i in range(300):
        content = bytearray(seeds[i % len(seeds)])
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(3, len(content) if i % 2 else 600)] = rng.integers(256)
        if max(map(int, _claimed(content))) > 4000:
            continue
        fast, plain = refused(bytes(content), "turbojpeg"), refused(bytes(content), "pillow")
        assert plain is None or fast is not None
        read += fast is None
    assert 20 < read < 280


def _claimed(content: bytearray) -> tuple[int, int]:
    at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    return int.from_bytes(content[at + 5 : at + 7], "big"), int.from_bytes(content[at + 7 : at + 9], "big")


def _of_size(content: bytes, width: int, height: int) -> bytes:
    at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    return content[: at + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[at + 9 :]


@pytest.mark.parametrize("kind", ["plain", "progressive", "grey"])
def test_bombs_are_refused_by_their_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turbo, "decode_jpeg", None)  # nothing is decoded
    monkeypatch.setattr(images, "decode_jpeg", None)
    said = refused(_of_size(KINDS[kind], 60_000, 60_000), "turbojpeg")
    assert said is not None
    assert "a decompression bomb?" in said


def test_headers_that_disagree_are_refused_before_pixels_are_made_room_for() -> None:
    header = Image.open(io.BytesIO(KINDS["plain"]))
    with pytest.raises(ValueError, match=r"its headers disagree: 60000x50000 pixels are not 200x150"):
        turbo.decode_jpeg(_of_size(KINDS["plain"], 60_000, 50_000), header)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "taken"), [("plain", 50 * 38), ("progressive", 200 * 150), ("grey", 50 * 38)])
@pytest.mark.parametrize("library", ["pillow", "turbojpeg"])
def test_the_pixel_budget_is_held(kind: str, taken: int, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Watched(PixelBudget):
        def decoding(self, pixels: int):  # type: ignore[no-untyped-def]
            asked.append(pixels)
            return super().decoding(pixels)

    monkeypatch.setattr(images, "PIXELS", Watched())
    Encoded(KINDS[kind], "x").decode((30, 30), library)  # type: ignore[arg-type]
    assert asked == [taken]  # all coefficients of a progressive file are held, at whatever scale


def test_stages_that_decode_alike_decode_once() -> None:
    file = Encoded(KINDS["plain"], "x")
    full, half = file.decode(library="turbojpeg"), file.decode((60, 60), "turbojpeg")
    assert (np.shape(full), np.shape(half)) == ((150, 200, 3), (75, 100, 3))
    assert file.decode((75, 75), "turbojpeg") is half  # another size, the same scale
    assert file.decode((40, 40), "pillow") is not half
    assert np.shape(file.decode((9, 9))) == (19, 25, 3)
    assert file.decode((9, 9)) is file.decode((9, 8))
    png = io.BytesIO()
    PHOTO.save(png, "PNG")
    other = Encoded(png.getvalue(), "x")
    assert other.decode() is other.decode((9, 9), "turbojpeg")  # has neither scale nor decoder


def test_threads_decode_at_once() -> None:
    found: list[bool] = []
    expected = np.asarray(Encoded(KINDS["plain"], "x").decode(library="turbojpeg"))

    def work() -> None:
        for _ in range(20):
            pixels = np.asarray(Encoded(KINDS["plain"], "x").decode(library="turbojpeg"))
            found.append(np.array_equal(pixels, expected))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "simplejpeg", None)
    with pytest.raises(MissingExtraError, match=r"simplejpeg, which is not installed: pip install 'pilotfish\[jpeg\]'"):
        Encoded(KINDS["plain"], "x").decode(library="turbojpeg")
