"""folder:PATH by its layout, and the expansion of inputs to image files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import image_paths, load_folder
from pilotfish.errors import DataError, UnreadableSample


def picture(path: Path, colour: tuple[int, int, int] = (1, 2, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path, "PNG")
    return path


def test_class_folders_in_sorted_order_with_images_at_any_depth(tmp_path: Path) -> None:
    for file in ("dog/b.png", "cat/deep/er/x.JPEG", "cat/a.PNG", "dog/a.png", "emu/z.webp"):
        picture(tmp_path / file)
    data = load_folder(tmp_path)
    assert data.ids == ("cat/a.PNG", "cat/deep/er/x.JPEG", "dog/a.png", "dog/b.png", "emu/z.webp")
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [0, 0, 1, 1, 2]
    assert data.class_names == ("cat", "dog", "emu")
    assert data.spec == f"folder:{tmp_path}"
    assert len(data) == 5
    assert data.read(3).getpixel((0, 0)) == (1, 2, 3)


def test_an_empty_class_keeps_its_index(tmp_path: Path) -> None:
    picture(tmp_path / "a/1.png")
    picture(tmp_path / "c/1.png")
    (tmp_path / "b").mkdir()
    data = load_folder(tmp_path)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 2]
    assert data.class_names == ("a", "b", "c")


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.png")
    (tmp_path / "logs").mkdir()
    data = load_folder(tmp_path)
    assert data.ids == ("a.png", "b.png")
    assert data.labels is None
    assert data.class_names is None


def test_hidden_files_and_other_files_are_ignored(tmp_path: Path) -> None:
    for file in ("cat/a.png", "cat/.b.png", ".git/c.png", "cat/.cache/d.png", "__MACOSX/cat/a.png"):
        picture(tmp_path / file)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "README.md").write_text("no image")
    data = load_folder(tmp_path)
    assert data.ids == ("cat/a.png",)
    assert data.class_names == ("cat",)


def test_images_beside_folders_of_images_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png")
    picture(tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"both images \(stray\.png\) and folders of images \(cat/a\.png\)"):
        load_folder(tmp_path)


def test_empty_missing_and_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no images"):
        load_folder(tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        load_folder(tmp_path / "missing")
    with pytest.raises(DataError, match="does not exist"):
        load_folder("x" * 5000)
    with pytest.raises(DataError, match="is a file"):
        load_folder(picture(tmp_path / "a.png"))


def test_one_unreadable_sample_costs_its_own_row(tmp_path: Path) -> None:
    picture(tmp_path / "c/a.png")
    (tmp_path / "c/b.png").write_bytes(b"")
    os.symlink(tmp_path / "gone.png", tmp_path / "c/d.png")
    data = load_folder(tmp_path)
    assert data.ids == ("c/a.png", "c/b.png", "c/d.png")
    assert data.read(0).size == (4, 4)
    with pytest.raises(UnreadableSample, match=r"c/b\.png cannot be read: it is empty"):
        data.read(1)
    with pytest.raises(UnreadableSample, match=r"c/d\.png cannot be read: there is no such file"):
        data.read(2)


def test_linked_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere/a.png")
    root = tmp_path / "root"
    (root / "cat").mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere", root / "cat" / "linked")
    os.symlink(root / "cat", root / "cat" / "circle")
    os.symlink("self", root / "cat" / "self")
    assert load_folder(root).ids == ("cat/linked/a.png",)


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    try:
        picture(tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"not valid UTF-8: bad\\udcff\.png"):
        load_folder(tmp_path)


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    for root in ("one", "two"):
        picture(tmp_path / root / "cat/a.png")
        picture(tmp_path / root / "dog/b.png")
    first, second = load_folder(tmp_path / "one"), load_folder(tmp_path / "two")
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64
    seen = {first.fingerprint}
    with open(tmp_path / "two/cat/a.png", "ab") as file:
        file.write(b"x")
    seen.add(load_folder(tmp_path / "two").fingerprint)
    (tmp_path / "two/dog/b.png").rename(tmp_path / "two/dog/c.png")
    seen.add(load_folder(tmp_path / "two").fingerprint)
    (tmp_path / "two/dog").rename(tmp_path / "two/ant")
    seen.add(load_folder(tmp_path / "two").fingerprint)
    (tmp_path / "two/bee").mkdir()  # moves the index of cat
    seen.add(load_folder(tmp_path / "two").fingerprint)
    assert len(seen) == 5


def test_read_gives_each_thread_its_own_sample(tmp_path: Path) -> None:
    for i in range(50):
        picture(tmp_path / f"c/{i:02d}.png", (i, 2 * i, 255 - i))
    data = load_folder(tmp_path)
    wanted = list(range(50)) * 20
    with ThreadPoolExecutor(8) as pool:
        colours = list(pool.map(lambda i: data.read(i).getpixel((3, 3)), wanted))
    assert colours == [(i, 2 * i, 255 - i) for i in wanted]


def test_inputs_are_expanded_in_order(tmp_path: Path) -> None:
    one = picture(tmp_path / "one.png")
    picture(tmp_path / "many/b.png")
    picture(tmp_path / "many/a/c.PNG")
    odd = tmp_path / "odd.bin"  # named by the user, so kept: its content decides
    odd.write_bytes(b"?")
    found = image_paths([str(odd), tmp_path / "many", one])
    assert found == [odd, tmp_path / "many/a/c.PNG", tmp_path / "many/b.png", one]


def test_inputs_that_are_missing_or_empty_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    missing = tmp_path / "missing.png"
    with pytest.raises(DataError, match=r"missing\.png does not exist"):
        image_paths([missing])
    assert image_paths([missing], keep_missing=True) == [missing]
    with pytest.raises(DataError, match="empty holds no images"):
        image_paths([tmp_path / "empty"])


# ---- what is left out is said


def test_files_left_out_are_counted_by_suffix(tmp_path: Path) -> None:
    for name in ("cat/a.png", "dog/B.PNG"):
        picture(tmp_path / name)
    for name in ("cat/1.HEIC", "cat/2.heic", "dog/3.txt", "dog/raw", "notes.md", "cat/.hidden"):
        (tmp_path / name).write_bytes(b"x")
    (note,) = load_folder(tmp_path).notes
    assert note.startswith("files left out, no images by their suffix: 2 .heic, 1 ")
    assert {"1 .txt", "1 .md", "1 (no suffix)"} < set(note.partition(": ")[2].partition(";")[0].split(", "))
    assert "pillow-heif" in note
    (tmp_path / "only").mkdir()
    (tmp_path / "only/a.txt").touch()
    with pytest.raises(DataError, match=r"holds no images \(files left out.*1 \.txt"):
        load_folder(tmp_path / "only")


def test_a_folder_of_images_alone_says_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png")
    assert load_folder(tmp_path).notes == ()


@pytest.mark.parametrize("target", ["/", "..", ".", "../..", "cat/..", "/proc/self/root"])
@pytest.mark.parametrize("place", ["a", "cat/a"])
def test_links_that_lead_back_are_named_and_not_followed(tmp_path: Path, target: str, place: str) -> None:
    root = tmp_path / "one/two"
    picture(root / "cat/a.png")
    where = root / place if place == "a" else root / "cat/link"
    os.symlink(target if target.startswith("/") else root / target, where)
    data = load_folder(root)
    assert data.ids == ("cat/a.png",)
    assert data.class_names == ("cat",)
    assert data.notes == (f"links that lead back are not followed: {where.relative_to(root)}",)


@pytest.mark.parametrize("splits", [("train", "val"), ("Training", "Testing"), ("train",), ("dev", "test", "train")])
def test_splits_are_not_taken_for_classes(splits: tuple[str, ...], tmp_path: Path) -> None:
    for split in splits:
        for name in ("cat", "dog"):
            picture(tmp_path / split / name / "1.png")
    with pytest.raises(DataError, match=r"holds splits .*name one of them, such as folder:"):
        load_folder(tmp_path)
    assert load_folder(tmp_path / splits[0]).class_names == ("cat", "dog")
    picture(tmp_path / "tram" / "1.png")  # then "train" may be one
    assert "tram" in (load_folder(tmp_path).class_names or ())


@pytest.mark.parametrize("name", ["train.csv", "metadata.jsonl", "Labels.tsv"])
def test_tables_that_hold_no_labels_for_us_are_named(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / name).write_text("file_name,label\n1.png,1\n")
    found = load_folder(tmp_path)
    assert found.labels is None
    assert any(f"labels.csv (file,label), and {name} is not read" in note for note in found.notes)


@pytest.mark.parametrize("name", ["labels.csv", "LABELS.CSV", "Labels.csv"])
def test_the_case_of_labels_csv_does_not_matter(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / name).write_text("file,label\n1.png,1\n")
    found = load_folder(tmp_path)
    assert found.labels is not None
    assert (list(found.labels), found.notes) == ([1], ())


def test_class_folders_without_images_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.png")
    (tmp_path / "ant").mkdir()
    found = load_folder(tmp_path)
    assert found.class_names == ("ant", "cat")
    assert found.notes == ("class folders without images keep their place among the classes: 1 (ant)",)
