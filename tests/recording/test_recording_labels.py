"""Labels in the model's class order: numbers, names, synonyms, places; what fits in part is refused by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import Dataset, load_data
from pilotfish.errors import DataError
from pilotfish.models import Model
from pilotfish.recording import RecordOptions, RecordResult, record_model
from pilotfish.recording.labels import ADVICE, I64, classes_of, match_labels
from pilotfish.records import Run
from support.errors import assert_one_line

ZEROS = np.zeros((4, 2), np.float32)
Arrays = Callable[..., Dataset]
TIMM = importlib.util.find_spec("timm") is not None


@pytest.fixture
def model(matrix_model: Callable[..., Model]) -> Callable[..., Model]:
    def make(**fields: object) -> Model:
        return matrix_model(np.eye(2, 5, dtype=np.float32), **fields)

    return make


def model_labels(data: Dataset, model: Model) -> I64:
    return match_labels(data, classes_of(model)).labels


def folders(root: Path, names: Sequence[str], empty: Sequence[str] = ()) -> Dataset:
    """One picture per class folder; the red channel says which in *names* it is."""
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (2, 2), (i, 0, 0)).save(root / name / "a.png")
    for name in empty:
        (root / name).mkdir(parents=True)
    return load_data(f"folder:{root}")


def by_folder(data: Dataset, model: Model) -> dict[str, int]:
    """The label of each folder's picture."""
    found = model_labels(data, model)
    return {name.split("/")[0]: label for name, label in zip(data.ids, found.tolist(), strict=True)}


def refused(data: Dataset, model: Model, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        model_labels(data, model)
    assert_one_line(caught.value, *parts)


def test_names_that_the_model_knows_decide(arrays: Arrays, model: Callable[..., Model]) -> None:
    data = arrays(x=ZEROS, label=np.array([0, 1, 2, -1]), class_names=["dog", "cat", "eel"])
    found = match_labels(data, classes_of(model(n_classes=5, class_names=("ant", "bee", "cat", "dog", "eel"))))
    assert found.labels.tolist() == [3, 2, 4, -1]
    assert found.notes == ()


def test_identifiers_such_as_wnids_will_do(arrays: Arrays, model: Callable[..., Model]) -> None:
    data = arrays(x=ZEROS, label=np.array([1, 0, 1, 0]), class_names=["n02", "n01"])
    found = model_labels(data, model(n_classes=3, class_names=("a", "b", "c"), class_ids=("n00", "n01", "n02")))
    assert found.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    "pattern", ["{}", "{:03d}", "class_{}", "LABEL_{}", "Class {:02d}", "c{}"], ids=lambda pattern: str(pattern)
)
def test_folders_that_are_numbers_are_class_numbers(pattern: str, tmp_path: Path, model: Callable[..., Model]) -> None:
    names = [pattern.format(i) for i in range(12)]
    data = folders(tmp_path, names)
    expected = dict(zip(names, range(12), strict=True))
    labels = tuple(f"LABEL_{i}" for i in range(12))
    for known in (None, labels, tuple("abcdefghijkl")):
        assert by_folder(data, model(n_classes=12, class_names=known)) == expected
        assert match_labels(data, classes_of(model(n_classes=12, class_names=known))).notes == ()
    named = match_labels(data, classes_of(model()))
    assert named.class_names == tuple(names)  # in the order of the numbers, not of the listing


def test_numbers_that_the_model_names_in_another_order_follow_its_names(
    tmp_path: Path, model: Callable[..., Model]
) -> None:
    names = [str(i) for i in range(12)]
    data = folders(tmp_path, names)
    as_text = tuple(sorted(names))  # as of a network trained on this very folder
    assert by_folder(data, model(n_classes=12, class_names=as_text)) == {name: as_text.index(name) for name in names}
    back = tuple(f"LABEL_{i}" for i in reversed(range(12)))
    assert by_folder(data, model(n_classes=12, class_names=back)) == {name: 11 - int(name) for name in names}
    few = folders(tmp_path / "few", ["3", "10"])
    assert by_folder(few, model(n_classes=12)) == {"3": 3, "10": 10}


@pytest.mark.parametrize(
    "names", [range(1, 13), [f"{i:02d}" for i in range(1, 13)], [f"class_{i}" for i in range(1, 13)]]
)
@pytest.mark.parametrize("known", [None, tuple("abcdefghijkl"), tuple(f"LABEL_{i}" for i in range(12))])
def test_folders_numbered_from_1_are_refused(
    names: Sequence[object], known: tuple[str, ...] | None, tmp_path: Path, model: Callable[..., Model]
) -> None:
    data = folders(tmp_path, [str(name) for name in names])
    refused(data, model(n_classes=12, class_names=known), "12", "if that is from 1, number them from 0")


def test_labels_numbered_from_1_are_refused(arrays: Arrays, tmp_path: Path, model: Callable[..., Model]) -> None:
    refused(arrays(x=ZEROS, label=np.array([1, 2, 3, 4])), model(n_classes=4), "has label 4", "if that is from 1")
    (tmp_path / "labels.csv").write_text("file,label\na.png,1\nb.png,2\nc.png,3\n")
    refused(load_data(f"folder:{tmp_path}"), model(n_classes=3), "c.png has label 3", "if that is from 1")
    refused(arrays(x=ZEROS, label=np.array([0, 2, 3, 4])), model(n_classes=4), "has label 4, but matrix has 4 classes")


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (["Cat", "DOG", "eel"], ("eel", "cat", "dog")),
        (["great_white_shark", "tree-frog", "ice bear"], ("Great White Shark", "ice_bear", "tree frog")),
        (["001.Black_footed_Albatross", "002.Laysan_Albatross"], ("Laysan Albatross", "Black footed Albatross", "x")),
        (["0_cat", "1_dog"], ("dog", "cat")),
        (["cat", "dog"], ("bird", "dog", "cat", "eel")),  # the model may know more
        (["café", "naïve"], ("naïve", "CAFÉ")),
    ],
)
def test_case_underscores_and_numbers_before_names_do_not_matter(
    names: list[str], known: tuple[str, ...], tmp_path: Path, model: Callable[..., Model]
) -> None:
    data = folders(tmp_path, names, empty=["notes"])  # an empty folder has no samples to be wrong about
    found = by_folder(data, model(n_classes=len(known), class_names=known))

    def letters(name: str) -> str:
        return "".join(c for c in name.casefold() if c.isalpha())

    assert {letters(known[label]) for label in found.values()} == set(map(letters, names))
    assert all(letters(known[label]) == letters(name) for name, label in found.items())


@pytest.mark.skipif(not TIMM, reason="timm has ImageNet's synonyms")
@pytest.mark.parametrize("named", ["names", "ids", "nothing"])
def test_imagenet_s_synonyms_and_wnids(named: str, tmp_path: Path, model: Callable[..., Model]) -> None:
    from pilotfish.models.names.timm_models import imagenet_classes

    names, wnids = imagenet_classes()
    fields = {"names": {"class_names": names}, "ids": {"class_ids": wnids}, "nothing": {}}[named]
    data = folders(tmp_path, ["Carassius auratus", "n01440764", "white_shark", "n01443537_goldfish", "Puma"])
    found = match_labels(data, classes_of(model(n_classes=1000, **fields)))
    places = {name.split("/")[0]: label for name, label in zip(data.ids, found.labels.tolist(), strict=True)}
    assert places == {
        "Carassius auratus": 1,
        "n01443537_goldfish": 1,
        "n01440764": 0,
        "white_shark": 2,
        "Puma": names.index("cougar"),
    }
    assert any("are one class" in note for note in found.notes)
    assert any("ImageNet's usual order" in note for note in found.notes) == (named == "nothing")


@pytest.mark.skipif(not TIMM, reason="timm has ImageNet's names")
def test_a_name_that_two_classes_have(arrays: Arrays, tmp_path: Path, model: Callable[..., Model]) -> None:
    from pilotfish.models.names.timm_models import imagenet_classes

    names, wnids = imagenet_classes()
    whole = arrays(x=ZEROS, label=np.array([134, 517, 3, 638]), class_names=list(names))
    bird = model(n_classes=1000, class_names=names, class_ids=wnids)
    assert model_labels(whole, bird).tolist() == [134, 517, 3, 638]
    refused(folders(tmp_path, ["crane", "tench"]), bird, "'crane' is the name of classes 134 and 517", "wnid")


@pytest.mark.parametrize(
    ("names", "known", "culprit"),
    [
        (["cat", "dog", "fish"], ("cat", "dog", "eel"), "1 of its 3 class names are none of matrix: 'fish'"),
        (["airplane", "bird", "cat"], ("plane", "bird", "cat"), "'airplane' (nearest names: plane"),
        (["cat", "dog", "eel", "unknown"], ("cat", "dog", "eel"), "'unknown'"),
        (["0", "1", "10"], ("0", "cat", "1"), "'1' is the name of class 2"),
        (["1", "01", "2"], None, "'01' and '1' are both class 1"),
    ],
)
def test_names_that_agree_in_part_are_refused_with_the_culprit(
    names: list[str], known: tuple[str, ...] | None, culprit: str, tmp_path: Path, model: Callable[..., Model]
) -> None:
    refused(folders(tmp_path, names), model(n_classes=3, class_names=known), culprit, "labels.csv")


def in_folders(root: Path, names: Sequence[str]) -> Dataset:
    return folders(root, names)


def in_labels_csv(root: Path, names: Sequence[str]) -> Dataset:
    rows = "".join(f"{i}.png,{name}\n" for i, name in enumerate(names))
    for i in range(len(names)):
        Image.new("RGB", (2, 2)).save(root / f"{i}.png")
    (root / "labels.csv").write_text(f"file,label\n{rows}")
    return load_data(f"folder:{root}")


def in_numbers_with_names(root: Path, names: Sequence[str]) -> Dataset:
    in_labels_csv(root, names)
    rows = "".join(f"{i}.png,{i},{name}\n" for i, name in enumerate(names))
    (root / "labels.csv").write_text(f"file,label,name\n{rows}")
    return load_data(f"folder:{root}")


def in_an_array_of_names(root: Path, names: Sequence[str]) -> Dataset:
    np.savez(root / "data.npz", x=np.zeros((len(names), 2), np.float32), label=np.array(names))
    return load_data(f"arrays:{root}/data.npz")


def in_numbered_names(root: Path, names: Sequence[str]) -> Dataset:
    labels = np.arange(len(names))
    np.savez(root / "data.npz", x=np.zeros((len(names), 2), np.float32), label=labels, class_names=np.array(names))
    return load_data(f"arrays:{root}/data.npz")


WAYS = {
    "folders": (in_folders, "umbrella/a.png"),
    "labels.csv": (in_labels_csv, "20.png"),
    "labels.csv with numbers": (in_numbers_with_names, "20.png"),
    "npz, names": (in_an_array_of_names, "20"),
    "npz, class_names": (in_numbered_names, "20"),
}
TWENTY = tuple(f"{letter}{letter}ing" for letter in "abcdefghijklmnopqrst")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("lacks", [TWENTY[0], TWENTY[7], TWENTY[-1]])
def test_a_class_of_the_model_that_the_data_lack_is_fine(
    way: str, lacks: str, tmp_path: Path, model: Callable[..., Model]
) -> None:
    names = [name for name in TWENTY if name != lacks]
    found = match_labels(WAYS[way][0](tmp_path, names), classes_of(model(n_classes=20, class_names=TWENTY)))
    assert found.labels.tolist() == [TWENTY.index(name) for name in names]


@pytest.mark.parametrize("way", WAYS)
def test_a_class_of_the_data_that_the_model_lacks_is_named(
    way: str, tmp_path: Path, model: Callable[..., Model]
) -> None:
    make, where = WAYS[way]
    data = make(tmp_path, [*TWENTY, "umbrella"])
    refused(
        data,
        model(n_classes=20, class_names=TWENTY),
        f"{data.spec}: 1 of its 21 class names are none of matrix: 'umbrella' (",
        f"1 sample, {where} the first; take what the model does not know out",
    )
    near = (*TWENTY[:-1], "umbrela")
    (tmp_path / "near").mkdir()
    data = make(tmp_path / "near", [*TWENTY[:-1], "umbrella"])
    refused(data, model(n_classes=20, class_names=near), "1 of its 20", "'umbrella' (nearest names: umbrela")


@pytest.mark.parametrize("way", [way for way in WAYS if way != "labels.csv with numbers"])
@pytest.mark.parametrize("known", [None, tuple(f"LABEL_{i}" for i in range(20))])
def test_another_number_of_classes_than_a_model_without_names_has(
    way: str, known: tuple[str, ...] | None, tmp_path: Path, model: Callable[..., Model]
) -> None:
    bare = model(n_classes=20, class_names=known)
    less = "make an empty folder for each class without samples (1 of them)"
    refused(
        WAYS[way][0](tmp_path, TWENTY[1:]),
        bare,
        "has 19 classes (bbing, ccing, dding, …) and matrix has 20",
        less if way == "folders" else "name all 20 in their order",
        ADVICE,
    )
    (tmp_path / "more").mkdir()
    data = WAYS[way][0](tmp_path / "more", [*TWENTY, "umbrella"])
    refused(data, bare, "has 21 classes", "take out what it does not know (1 of them)", ADVICE)


def test_an_empty_folder_keeps_the_place_of_a_class(tmp_path: Path, model: Callable[..., Model]) -> None:
    data = folders(tmp_path, TWENTY[1:], empty=TWENTY[:1])
    assert model_labels(data, model(n_classes=20)).tolist() == list(range(1, 20))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (
            ("tench", "goldfish", "shark"),
            "position alone (0: 'cat' = 'tench', 1: 'dog' = 'goldfish', 2: 'eel' = 'shark')",
        ),
        (("LABEL_0", "LABEL_1", "LABEL_2"), "0: 'cat' = 'LABEL_0'"),
        (None, "position alone (0: 'cat', 1: 'dog', 2: 'eel'), as matrix names no classes"),
    ],
)
@pytest.mark.parametrize("by", ["folders", "labels.csv"])
def test_what_is_matched_by_position_alone_is_said(
    known: tuple[str, ...] | None, said: str, by: str, tmp_path: Path, model: Callable[..., Model]
) -> None:
    data = folders(tmp_path, ["cat", "dog", "eel"])
    if by == "labels.csv":
        (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{i},{i.split('/')[0]}\n" for i in data.ids))
        data = load_data(f"folder:{tmp_path}")
    found = match_labels(data, classes_of(model(n_classes=3, class_names=known)))
    assert found.labels.tolist() == [0, 1, 2]
    (note,) = found.notes
    assert said in note
    refused(data, model(n_classes=1000, class_names=known), "has 3 classes (cat, dog, eel)", "has 1000")


def test_numbers_that_were_given_as_such_need_no_note(arrays: Arrays, model: Callable[..., Model]) -> None:
    data = arrays(x=ZEROS, label=np.array([0, 1, 2, 0]), class_names=["x", "y", "z"])
    found = match_labels(data, classes_of(model(n_classes=3)))
    assert (found.labels.tolist(), found.notes) == ([0, 1, 2, 0], ())
    other = match_labels(data, classes_of(model(n_classes=3, class_names=("a", "b", "c"))))
    assert other.labels.tolist() == [0, 1, 2, 0]
    assert "position alone (0: 'x' = 'a'" in other.notes[0]


@pytest.mark.parametrize(
    ("rows", "expected", "noted"),
    [
        ("a.png,1,cat\nb.png,2,dog\nc.png,3,eel", [0, 1, 2], True),  # numbered from 1: the names decide
        ("a.png,2,eel\nb.png,0,cat\nc.png,2,eel", [2, 0, 2], False),  # some classes have no samples
        ("a.png,0,x\nb.png,2,y\nc.png,2,y", [0, 2, 2], False),  # names of others
    ],
)
def test_a_labels_csv_with_numbers_and_names(
    rows: str, expected: list[int], noted: bool, tmp_path: Path, model: Callable[..., Model]
) -> None:
    (tmp_path / "labels.csv").write_text(f"file,label,name\n{rows}\n")
    data = load_data(f"folder:{tmp_path}")
    found = match_labels(data, classes_of(model(n_classes=3, class_names=("cat", "dog", "eel"))))
    assert found.labels.tolist() == expected
    assert bool(found.notes) is noted


def test_labels_beyond_the_model_s_classes_name_a_sample(arrays: Arrays, model: Callable[..., Model]) -> None:
    data = arrays(x=ZEROS, label=np.array([0, 1, 7, 0]), id=np.array(["p", "q", "r", "s"]))
    with pytest.raises(DataError, match=r"r has label 7, but matrix has 5 classes \(0 to 4\)"):
        model_labels(data, model(n_classes=5))
    assert model_labels(data, model()).tolist() == [0, 1, 7, 0]


def test_no_labels_at_all(arrays: Arrays, model: Callable[..., Model]) -> None:
    assert model_labels(arrays(x=ZEROS), model(n_classes=5)).tolist() == [-1] * 4


def recorded(data: Dataset, model: Model, run: Path, **options: Any) -> RecordResult:
    return record_model(data, model, Run(run), "m", RecordOptions(timing=False, **options))


def test_recording_says_what_is_no_better_than_chance(
    arrays: Arrays, matrix_model: Callable[..., Model], tmp_path: Path
) -> None:
    label = np.arange(120) % 12
    model = matrix_model(np.eye(12, dtype=np.float32), class_names=tuple(map(str, range(12))))
    x = np.eye(12, dtype=np.float32)[label]
    healthy = recorded(arrays("healthy.npz", x=x, label=label), model, tmp_path / "healthy")
    assert healthy.notes == ()
    keep = label < 11
    shifted = arrays("shifted.npz", x=x[keep], label=label[keep] + 1)
    for _ in range(2):  # also when the records are there already
        (note,) = recorded(shifted, model, tmp_path / "run").notes
        assert note.startswith("accuracy 0.0% is no better than chance (")
        assert "labels shifted by -1 would give 100.0%" in note


def test_labels_that_are_matched_otherwise_now_are_said(
    arrays: Arrays, matrix_model: Callable[..., Model], tmp_path: Path
) -> None:
    data = arrays(x=np.eye(3, dtype=np.float32), label=np.arange(3), class_names=["cat", "dog", "eel"])
    weights = np.eye(3, dtype=np.float32)
    recorded(data, matrix_model(weights, class_names=("cat", "dog", "eel"), n_classes=3), tmp_path)
    again = recorded(data, matrix_model(weights, class_names=("eel", "dog", "cat"), n_classes=3), tmp_path)
    assert any("2 labels of these records are not those" in note for note in again.notes)
    assert any("--overwrite" in note for note in again.notes)
