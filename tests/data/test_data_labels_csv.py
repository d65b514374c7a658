"""folder:PATH with a labels.csv: exactly the files it lists, with the labels it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import FolderDataset, load_folder
from pilotfish.errors import DataError, UnreadableSample


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    return tmp_path


def load(root: Path, text: str | bytes) -> FolderDataset:
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_folder(root)


def labels(data: FolderDataset) -> list[int]:
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    return data.labels.tolist()


def test_integers_are_class_indices_and_the_order_is_the_files(root: Path) -> None:
    data = load(root, "file,label\nsub/c.png,7\na.png,0\n")
    assert data.ids == ("sub/c.png", "a.png")
    assert labels(data) == [7, 0]
    assert data.class_names is None
    assert data.read(0).size == (2, 2)


@pytest.mark.parametrize("header", ["file,label", "filename,label", "path,label", " File , LABEL "])
def test_the_file_column_has_three_names(root: Path, header: str) -> None:
    assert load(root, f"{header}\na.png,1\n").ids == ("a.png",)


def test_names_are_indexed_in_sorted_order(root: Path) -> None:
    data = load(root, "label,file\ndog,a.png\ncat,b.png\n dog ,sub/c.png\n")
    assert labels(data) == [1, 0, 1]
    assert data.class_names == ("cat", "dog")


def test_empty_labels_are_unlabelled_samples(root: Path) -> None:
    assert labels(load(root, "file,label\na.png,3\nb.png,\nsub/c.png\n")) == [3, -1, -1]
    assert labels(load(root, "file,label\na.png,-1\nb.png,2\n")) == [-1, 2]
    assert labels(load(root, "file,label\na.png,\nb.png,cat\n")) == [-1, 0]


def test_what_pandas_writes_beside_an_empty_cell_is_an_integer(root: Path) -> None:
    assert labels(load(root, "file,label\na.png,3.0\nb.png,\n")) == [3, -1]


@pytest.mark.parametrize("text", ["file\na.png\n", "file,label\na.png,\n", "file,label\na.png,-1\n"])
def test_no_label_at_all(root: Path, text: str) -> None:
    data = load(root, text)
    assert data.labels is None
    assert data.class_names is None


def test_a_byte_order_mark_blank_lines_quotes_and_dots_are_taken(root: Path) -> None:
    (root / "x, y.png").write_bytes((root / "a.png").read_bytes())
    data = load(root, b'\xef\xbb\xbffile,label\r\n\r\n"x, y.png",1\r\n./sub//c.png, 2\r\n')
    assert data.ids == ("x, y.png", "sub/c.png")
    assert labels(data) == [1, 2]


def test_a_name_column_names_the_class_of_an_index(root: Path) -> None:
    complete = "file,label,name\na.png,1,dog\nb.png,0,cat\nsub/c.png,1,dog\n"
    assert load(root, complete).class_names == ("cat", "dog")
    assert load(root, "file,label,wnid\na.png,0,n01\nb.png,1,n02\n").class_names == ("n01", "n02")
    gap = "file,label,name\na.png,2,dog\nb.png,0,cat\n"
    assert load(root, gap).class_names is None
    contradiction = "file,label,name\na.png,0,dog\nb.png,0,cat\n"
    assert load(root, contradiction).class_names is None


def test_a_missing_file_costs_its_own_row(root: Path) -> None:
    data = load(root, "file,label\ngone.png,1\na.png,0\n")
    with pytest.raises(UnreadableSample, match=r"gone\.png cannot be read: there is no such file"):
        data.read(0)
    assert data.read(1).size == (2, 2)


@pytest.mark.parametrize("file", ["../secret.png", "sub/../../secret.png", "/etc/passwd", "sub/.."])
def test_fault_37_a_path_that_leaves_the_folder_is_refused(root: Path, file: str) -> None:
    with pytest.raises(DataError, match="line 3 points outside the folder"):
        load(root, f"file,label\na.png,1\n{file},0\n")


@pytest.mark.parametrize("again", ["a.png", "./a.png"])
def test_fault_33_a_file_listed_twice_is_named(root: Path, again: str) -> None:
    with pytest.raises(DataError, match=r"lists a\.png more than once"):
        load(root, f"file,label\na.png,1\nb.png,1\n{again},1\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column for the file .found: none"),
        ("picture,label\na.png,1\n", "found: picture, label"),
        ("file,label\n", "no rows"),
        ("file,label\n,1\n", "line 2 names no file"),
        ("file,label\na.png,1\nb.png,cat\n", "line 3 has the label 'cat' where other rows have integers"),
        ("file,label\na.png,1\nb.png,-2\n", "line 3 has the label -2"),
        ("file,label\na.png,1\nb.png,1.5\n", "'1.5'"),
        ("file,label\nx, y.png,1\n", "line 2 has 3 cells for 2 columns"),
        (b"file,label\n\xff\xfe.png,1\n", "UTF-8"),
        ("file,label\n" + "x" * 200_000 + ",1\n", "not a readable CSV"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(root: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(root, text)
    assert "labels.csv" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_fingerprint_follows_the_labels(root: Path) -> None:
    texts = [
        "file,label\na.png,0\nb.png,1\n",
        "file,label\na.png,1\nb.png,0\n",
        "file,label\na.png,cat\nb.png,dog\n",
        "file\na.png\nb.png\n",
        "file,label\na.png,0\ngone.png,1\n",
    ]
    prints = [load(root, text).fingerprint for text in texts]
    assert len(set(prints)) == len(prints)
    assert load(root, texts[0]).fingerprint == prints[0]


# ---- other names, other spellings, and what is said


@pytest.mark.parametrize("file", ["file", "Filename", "image_path", "image", "img", "image_id", "id", "filepath"])
@pytest.mark.parametrize("label", ["label", "class", "target", "species", "y_true", "class_id", "category"])
def test_the_usual_names_of_columns(root: Path, file: str, label: str) -> None:
    data = load(root, f"{file},{label}\na.png,1\nb.png,0\nsub/c.png,1\n")
    assert data.ids == ("a.png", "b.png", "sub/c.png")
    assert labels(data) == [1, 0, 1]
    assert data.notes == ()


@pytest.mark.parametrize("header", ["file,answer", "file,width,height", "image,diagnosis"])
def test_a_table_without_labels_says_so_and_names_its_columns(root: Path, header: str) -> None:
    width = header.count(",")
    data = load(root, f"{header}\n" + "".join(f"{name}{',1' * width}\n" for name in ("a.png", "b.png", "sub/c.png")))
    assert data.labels is None
    found = header.replace(",", ", ")
    assert f"labels.csv has no column label (found: {found}): its samples are taken as unlabelled" in data.notes[0]


@pytest.mark.parametrize(
    ("header", "unread"),
    [("file,label,width,split", "width, split"), ("file,label,split,remark", "split, remark"), ("file,label,,x", "x")],
)
def test_columns_that_are_not_read_are_named(root: Path, header: str, unread: str) -> None:
    data = load(root, f"{header}\na.png,1,a,b\nb.png,1,a,b\nsub/c.png,1,a,b\n")
    assert len(data.notes) == 1
    assert "labels.csv: not read: " in data.notes[0]
    assert unread in data.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "file;label\na.png;1\nb.png;\nsub/c.png;0\n",
        "file\tlabel\na.png\t1\nb.png\tNaN\nsub/c.png\t0\n",
        "file, label\na.png, 1.0\nb.png, nan\nsub/c.png, 0.0\n",
        '"file", "label"\n"a.png", "1"\n"b.png", "NA"\n"sub/c.png", "0"\n',
    ],
)
def test_delimiters_spaces_and_missing_labels(root: Path, text: str) -> None:
    data = load(root, text)
    assert labels(data) == [1, -1, 0]
    assert data.notes == ("labels.csv has no label for 1 of 3 samples",)


@pytest.mark.parametrize("rows", ["0.5 1.5 2.5", "1e400 2 3", "inf 1 2", "-1.5 0 1"])
def test_labels_that_are_no_classes_are_refused(root: Path, rows: str) -> None:
    cells = zip(("a.png", "b.png", "sub/c.png"), rows.split(), strict=True)
    with pytest.raises(DataError, match=r"line 2 has the label"):
        load(root, "file,label\n" + "".join(f"{name},{cell}\n" for name, cell in cells))


@pytest.mark.parametrize(
    ("listed", "example"),
    [
        ("A.PNG,B.Png,Sub/C.png", "a.png for A.PNG"),
        ("a,b,sub/c", "a.png for a"),
        (r"a.png,b.png,sub\c.png", r"sub/c.png for sub\c.png"),
        ("a.png,b.png,c.png", "sub/c.png for c.png"),
        ("a.jpg,b.jpg,c.jpg", "a.png for a.jpg"),
        ("{root}/a.png,{root}/b,{root}/sub/c.png", "b.png for b"),
        ("{name}/a.png,{name}/b.png,{name}/sub/c.png", "a.png for {name}/a.png"),
    ],
)
def test_files_spelled_otherwise_are_found_and_that_is_said(root: Path, listed: str, example: str) -> None:
    words = {"root": str(root.resolve()), "name": root.resolve().name}
    data = load(root, "file,label\n" + "".join(f"{name},1\n" for name in listed.format(**words).split(",")))
    assert data.ids == ("a.png", "b.png", "sub/c.png")
    assert "found under another spelling" in data.notes[0]
    assert example.format(**words)[:60] in data.notes[0]
    assert len(data.notes) == 1


@pytest.mark.parametrize("listed", ["other/c.png", "c.tar.gz", "d", r"..c.png"])
def test_what_is_meant_by_nobody_is_not_found(root: Path, listed: str) -> None:
    data = load(root, f"file,label\n{listed},1\na.png,0\n")
    assert data.ids == (listed, "a.png")
    assert f"files that labels.csv lists and that do not exist: 1 ({listed})" in data.notes[0]
    assert "images that labels.csv does not list are left out: 2 (b.png, …)" in data.notes[1]


def test_two_files_of_one_spelling_are_not_guessed_between(root: Path) -> None:
    (root / "x").mkdir()
    for name in ("x/t.png", "sub/t.png"):
        Image.new("RGB", (2, 2)).save(root / name)
    data = load(root, "file,label\nt.png,1\na.png,0\n")
    assert data.ids == ("t.png", "a.png")
    assert "that do not exist: 1 (t.png)" in data.notes[0]


@pytest.mark.parametrize("file", [r"..\..\secret.png", r"sub\..\..\secret.png"])
def test_backslashes_do_not_lead_out_of_the_folder(root: Path, file: str) -> None:
    with pytest.raises(DataError, match="line 2 points outside the folder"):
        load(root, f"file,label\n{file},0\n")
