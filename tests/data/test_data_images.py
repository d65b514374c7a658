"""open_image: what a person would see, or one line that says why not."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import open_image
from pilotfish.errors import UnreadableSample

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(COLOURS).resize((90, 60), Image.Resampling.BICUBIC))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes | Path) -> np.ndarray:
    image = open_image(data)
    assert image.mode == "RGB"
    assert type(image) is Image.Image
    return np.asarray(image)


def refusal(source: str | Path | bytes, **options: str) -> str:
    with pytest.raises(UnreadableSample) as caught:
        open_image(source, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


LOSSLESS = [
    ("PNG", {}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("PPM", {}),
]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_formats_give_every_pixel_back(kind: str, options: dict[str, object]) -> None:
    assert np.array_equal(pixels(encode(Image.fromarray(COLOURS), kind, **options)), COLOURS)


def test_jpeg_is_what_pillow_decodes_in_full() -> None:
    data = encode(Image.fromarray(SMOOTH), "JPEG", quality=90)
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data))))


def test_a_path_a_string_bytes_and_an_open_file_are_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"  # the content decides, not the suffix
    path.write_bytes(encode(Image.fromarray(COLOURS), "PNG"))
    with open(path, "rb") as file:
        opened = open_image(file)
    for image in (open_image(path), open_image(str(path)), open_image(path.read_bytes()), opened):
        assert np.array_equal(np.asarray(image), COLOURS)


# ---- fault 3: truncated files


TRUNCATABLE = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_deflate"}),
    ("PPM", {}),
]


@pytest.mark.parametrize(("kind", "options"), TRUNCATABLE)
def test_fault_3_a_file_cut_anywhere_is_unreadable(kind: str, options: dict[str, object]) -> None:
    data = encode(Image.fromarray(COLOURS[:, :8]), kind, **options)  # 8 wide: a BMP's rows need no padding
    pixels(data)
    for length in range(0, len(data), 1 if len(data) < 500 else 7):
        refusal(data[:length])
    refusal(data[:-1])


def test_fault_3_the_message_names_the_file_and_says_that_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "cats" / "1.jpg"
    path.parent.mkdir()
    data = encode(Image.fromarray(SMOOTH), "JPEG")
    path.write_bytes(data[: len(data) // 2])
    message = refusal(path)
    assert message.startswith(f"{path} cannot be read: ")
    assert "cut short" in message


def test_fault_3_a_gif_cut_within_its_first_frame_is_unreadable() -> None:
    data = encode(Image.fromarray(SMOOTH), "GIF")
    for length in range(0, len(data) - 8, 50):
        refusal(data[:length])


# ---- fault 4: decompression bombs


def blank_png(width: int, height: int) -> bytes:
    """A 1-bit black PNG of any size in a few bytes per row, written without holding its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_fault_4_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = blank_png(20_000, 20_000)
    assert len(bomb) < 1_000_000
    assert "400,000,000 pixels" in refusal(bomb, name="bomb.png")


def test_fault_4_pillows_warning_range_is_read_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # the image has 54 pixels, less than twice as many
    for kind, options in LOSSLESS:
        data = encode(Image.fromarray(COLOURS), kind, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(pixels(data), COLOURS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 26)
    assert "limit of 52" in refusal(data)


def test_fault_4_a_png_text_bomb_is_refused() -> None:
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 2_000_000, zip=True)
    refusal(encode(Image.fromarray(COLOURS), "PNG", pnginfo=text))


# ---- fault 5: formats


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "PDF", "EPS", "JPEG2000", "SGI", "DDS"])
def test_fault_5_other_formats_are_refused_even_under_an_image_suffix(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(SMOOTH).save(path, kind)
    message = refusal(path)
    assert "allowed format (JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM" in message
    assert str(path) in message


def test_fault_5_text_is_refused() -> None:
    assert "the image" in refusal(b"<html>404 not found</html>")
    assert "reply.jpg" in refusal(b"<html>404 not found</html>", name="reply.jpg")


# ---- fault 6: sizes


@pytest.mark.parametrize("size", [(1, 1), (1, 65535), (65535, 1)])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_fault_6_extreme_sizes_are_read(kind: str, size: tuple[int, int]) -> None:
    image = open_image(encode(Image.new("RGB", size, (10, 20, 30)), kind))
    assert image.size == size
    assert image.getpixel((size[0] - 1, size[1] - 1)) == (10, 20, 30)


def test_fault_6_a_one_pixel_jpeg_webp_and_gif_are_read() -> None:
    for kind in ("JPEG", "WEBP", "GIF"):
        assert open_image(encode(Image.new("RGB", (1, 1)), kind)).size == (1, 1)


def test_fault_6_an_image_of_no_pixels_is_refused() -> None:
    refusal(blank_png(0, 5))


# ---- fault 7: colour modes, animation, orientation


def test_fault_7_cmyk_jpeg_and_tiff_look_like_their_rgb_source() -> None:
    cmyk = Image.fromarray(SMOOTH).convert("CMYK")
    jpeg = encode(cmyk, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in jpeg  # so its inks are stored inverted
    assert np.abs(pixels(jpeg).astype(int) - SMOOTH).max() <= 6
    assert np.array_equal(pixels(encode(cmyk, "TIFF")), SMOOTH)


def test_fault_7_ink_is_dark_and_its_absence_white() -> None:
    for cmyk, rgb in {(0, 0, 0, 0): (255, 255, 255), (255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 255): (0, 0, 0)}.items():
        assert open_image(encode(Image.new("CMYK", (8, 8), cmyk), "TIFF")).getpixel((3, 3)) == rgb


GREYS = np.array([[0, 1, 128, 129, 257], [300, 1000, 25700, 32768, 65535]], dtype=np.uint16)
GREYS_8 = np.rint(GREYS / 257).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_fault_7_16_bit_greys_are_scaled_by_value_and_not_clipped(kind: str) -> None:
    seen = pixels(encode(Image.fromarray(GREYS), kind))
    assert np.array_equal(seen, np.repeat(GREYS_8[..., None], 3, axis=2))


def test_fault_7_16_bit_greys_of_either_byte_order_and_32_bit_integers_agree() -> None:
    big_endian = Image.frombytes("I;16B", (5, 2), GREYS.astype(">u2").tobytes())
    for image in (big_endian, Image.fromarray(GREYS.astype(np.int32))):
        assert np.array_equal(pixels(encode(image, "TIFF"))[..., 0], GREYS_8)


def test_fault_7_integers_beyond_16_bit_are_stretched() -> None:
    wide = np.array([[-1000, 500, 2000]], dtype=np.int32)
    assert pixels(encode(Image.fromarray(wide), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "greys"),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),
        ([0.0, 51.0, 255.0], [0, 51, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 4.0], [0, 51, 255]),
        ([float("nan"), 0.2, 1.0], [0, 51, 255]),
        ([7e9, 7e9, 7e9], [0, 0, 0]),
    ],
)
def test_fault_7_floats_are_taken_by_their_range(values: list[float], greys: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert pixels(encode(image, "TIFF"))[0, :, 0].tolist() == greys


def test_fault_7_a_palette_gives_its_colours() -> None:
    palette = Image.fromarray(COLOURS).quantize(256)
    expected = np.asarray(palette.convert("RGB"))
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        assert np.array_equal(pixels(encode(palette, kind)), expected)


def test_fault_7_palette_transparency_is_white() -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0])
    image.putdata([0, 1, 2, 3])
    one_index = encode(image, "PNG", transparency=1)
    assert pixels(one_index)[0].tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 255], [0, 0, 0]]
    alphas = encode(image, "PNG", transparency=bytes([255, 0, 51, 255]))
    assert pixels(alphas)[0].tolist() == [[255, 0, 0], [255, 255, 255], [204, 204, 255], [0, 0, 0]]
    gif = encode(image, "GIF", transparency=2)
    assert pixels(gif)[0].tolist() == [[255, 0, 0], [0, 255, 0], [255, 255, 255], [0, 0, 0]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_fault_7_alpha_is_composited_on_white(kind: str) -> None:
    rgba = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba[..., 0] = 200
    rgba[0, :, 3], rgba[1, :, 3] = 255, 51
    seen = pixels(encode(Image.fromarray(rgba), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert seen[0, 0].tolist() == [200, 0, 0]
    assert seen[1, 0].tolist() == [244, 204, 204]
    assert seen[3, 3].tolist() == [255, 255, 255]


def test_fault_7_grey_with_alpha_and_greys_and_colours_named_transparent() -> None:
    la = np.array([[[0, 255], [0, 0], [100, 51]]], dtype=np.uint8)
    assert pixels(encode(Image.fromarray(la, "LA"), "PNG"))[0, :, 0].tolist() == [0, 255, 224]
    grey = Image.fromarray(np.array([[0, 7, 9]], dtype=np.uint8))
    assert pixels(encode(grey, "PNG", transparency=7))[0, :, 0].tolist() == [0, 255, 9]
    deep = Image.fromarray(np.array([[0, 257, 514]], dtype=np.uint16))
    assert pixels(encode(deep, "PNG", transparency=257))[0, :, 0].tolist() == [0, 255, 2]
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    assert pixels(encode(red, "PNG", transparency=(255, 0, 0))).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_fault_7_one_bit_images_are_black_and_white(kind: str) -> None:
    bits = Image.fromarray(np.array([[0, 255, 0], [255, 255, 0]], dtype=np.uint8)).convert("1")
    assert pixels(encode(bits, kind))[..., 1].tolist() == [[0, 255, 0], [255, 255, 0]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_fault_7_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert (pixels(data) == (255, 0, 0)).all()


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores, from the EXIF standard's words for row 0 and column 0."""
    return {
        1: upright,
        2: upright[:, ::-1],  # column 0 is the right-hand side
        3: upright[::-1, ::-1],  # row 0 is the bottom, column 0 the right-hand side
        4: upright[::-1],  # row 0 is the bottom
        5: upright.swapaxes(0, 1),  # row 0 is the left-hand side, column 0 the top
        6: upright[:, ::-1].swapaxes(0, 1),  # row 0 is the right-hand side, column 0 the top
        7: upright[::-1, ::-1].swapaxes(0, 1),  # row 0 is the right-hand side, column 0 the bottom
        8: upright[::-1].swapaxes(0, 1),  # row 0 is the left-hand side, column 0 the bottom
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_fault_7_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = SMOOTH if kind == "JPEG" else COLOURS
    image = Image.fromarray(np.ascontiguousarray(stored(upright, orientation)))
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    shown = open_image(encode(image, kind, exif=exif, **options))
    tolerance = 6 if kind == "JPEG" else 0
    assert shown.size == (upright.shape[1], upright.shape[0])
    assert np.abs(np.asarray(shown).astype(int) - upright).max() <= tolerance
    assert dict(shown.getexif()) == {}


@pytest.mark.parametrize("block", [b"", b"\xff\xff", b"MM\0*\0\0\0\x08\0\x05\x01\x12", b"II*\0\xff\xff\xff\x7f"])
def test_fault_7_broken_exif_costs_neither_the_image_nor_a_warning(block: bytes) -> None:
    data = encode(Image.fromarray(SMOOTH), "JPEG", exif=b"Exif\0\0" + block)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(data).shape == SMOOTH.shape


def test_fault_7_an_orientation_that_does_not_exist_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    assert np.array_equal(pixels(encode(Image.fromarray(COLOURS), "PNG", exif=exif)), COLOURS)


# ---- everything else that is not an image file


def test_empty_missing_folder_and_pipe_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    assert "empty (0 bytes)" in refusal(tmp_path / "empty.png")
    assert "no such file" in refusal(tmp_path / "missing.png")
    assert "folder" in refusal(tmp_path)
    assert "not a regular file" in refusal(tmp_path / "pipe.png")
    refusal(str(tmp_path / "nul\0.png"))
    refusal(str(tmp_path / ("long" * 2000)))


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    assert r"two\nlines.png" in refusal(tmp_path / "two\nlines.png")
    assert "\x1b" not in refusal(tmp_path / "\x1b[31mred.png")


def damaged(data: bytes) -> list[bytes]:
    generator = np.random.default_rng(1)
    variants = []
    for _ in range(150):
        wrong = bytearray(data)
        for at in generator.integers(0, len(data), 4):
            wrong[at] = generator.integers(0, 256)
        variants.append(bytes(wrong))
    return variants


def outcome(data: bytes) -> str:
    try:
        return open_image(data, name="x").mode
    except UnreadableSample as error:
        return str(error)


@pytest.mark.parametrize(("kind", "options"), [*TRUNCATABLE, ("GIF", {})])
def test_damaged_bytes_give_an_image_or_one_clear_line(kind: str, options: dict[str, object]) -> None:
    for data in damaged(encode(Image.fromarray(COLOURS), kind, **options)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            said = outcome(data)
        assert said == "RGB" or said.startswith("x cannot be read: ")
        assert len(said.splitlines()) == 1


def test_many_threads_read_many_kinds_at_once(tmp_path: Path) -> None:
    expected: dict[Path, np.ndarray] = {}
    makers: list[tuple[str, Callable[[int], Image.Image]]] = [
        ("PNG", lambda i: Image.fromarray(np.roll(SMOOTH, i, axis=1))),
        ("JPEG", lambda i: Image.fromarray(np.roll(SMOOTH, i, axis=0)).convert("CMYK")),
        ("GIF", lambda i: Image.fromarray(np.roll(SMOOTH, i, axis=0)).quantize(64)),
        ("TIFF", lambda i: Image.fromarray(np.roll(SMOOTH[..., 0], i).astype(np.uint16) * 257)),
    ]
    for i in range(10):
        for kind, make in makers:
            path = tmp_path / f"{i}.{kind}"
            make(i).save(path, kind)
            expected[path] = pixels(path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(next(iter(expected)).read_bytes()[:100])

    def read(path: Path) -> bool:
        try:
            return np.array_equal(pixels(path), expected[path])
        except UnreadableSample:
            return path == broken

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, [*expected, broken] * 10))
