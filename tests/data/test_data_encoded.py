"""Image files that stages decode in their own way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import Encoded, load_data, open_image, read_encoded, sample_reader
from pilotfish.errors import UnreadableSample
from pilotfish.models import Preprocessing


def photo(path: Path, size: tuple[int, int] = (400, 320)) -> Path:
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8)).save(path, quality=95)
    return path


def test_decoded_in_full_it_is_what_open_image_gives(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    encoded = read_encoded(path)
    assert np.array_equal(np.asarray(encoded.decode()), np.asarray(open_image(path)))
    assert encoded.decode() is encoded.decode()  # once


@pytest.mark.parametrize(
    ("at_least", "size"),
    [
        ((400, 320), (400, 320)),
        ((201, 1), (400, 320)),
        ((200, 160), (200, 160)),
        ((60, 60), (100, 80)),
        ((9, 9), (50, 40)),
    ],
)
def test_a_jpeg_is_scaled_while_it_is_decoded(at_least: tuple[int, int], size: tuple[int, int], tmp_path: Path) -> None:
    image = read_encoded(photo(tmp_path / "a.jpg")).decode(at_least)
    assert (image.size, image.mode) == (size, "RGB")


def test_other_formats_have_no_scale(tmp_path: Path) -> None:
    assert read_encoded(photo(tmp_path / "a.png")).decode((10, 10)).size == (400, 320)


def test_a_turned_jpeg_stays_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200), "red").save(tmp_path / "t.jpg", exif=exif)
    assert read_encoded(tmp_path / "t.jpg").decode((50, 50)).size == (50, 100)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSample, match=r"none\.jpg cannot be read: there is no such file"):
        read_encoded(tmp_path / "none.jpg")
    with pytest.raises(UnreadableSample, match="it is a folder"):
        read_encoded(tmp_path)
    (tmp_path / "cut.jpg").write_bytes(photo(tmp_path / "a.jpg").read_bytes()[:900])
    for at_least in (None, (20, 20)):
        with pytest.raises(UnreadableSample, match=r"cut\.jpg cannot be read: it is broken or cut short"):
            read_encoded(tmp_path / "cut.jpg").decode(at_least)


def test_data_sets_give_files_where_they_have_them(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    photo(tmp_path / "photos" / "a.jpg")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4, 4, 3), np.uint8))
    folder, arrays = load_data(f"folder:{tmp_path}/photos"), load_data(f"arrays:{tmp_path}/x.npz")
    assert isinstance(sample_reader(folder, True)(0), Encoded)
    assert isinstance(sample_reader(folder, False)(0), Image.Image)
    assert isinstance(sample_reader(arrays, True)(0), np.ndarray)


def test_the_decoder_is_part_of_the_preprocessing(tmp_path: Path) -> None:
    encoded = read_encoded(photo(tmp_path / "a.jpg", (800, 640)))
    full = Preprocessing(size=(64, 64), resize=72)
    fast = Preprocessing(size=(64, 64), resize=72, decoder="pillow-draft")
    assert full.hash != fast.hash
    assert Preprocessing.from_json(fast.to_json()) == fast
    a, b = full(encoded), fast(encoded)
    assert a.shape == b.shape == (3, 64, 64)
    assert 0 < np.abs(a - b).max() < 0.2  # nearly the same picture, of other pixels
    assert np.array_equal(full(encoded), full(encoded.decode()))
    # no scale is taken that would have to be blown up again
    large = Preprocessing(size=(600, 600), resize=640, decoder="pillow-draft")
    assert np.array_equal(large(encoded), Preprocessing(size=(600, 600), resize=640)(encoded))
