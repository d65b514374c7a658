"""Samples that belong together: how groups are named, what is refused, and copies that count once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish import import_predictions, open_run
from pilotfish.errors import AlignmentError, PilotfishError, RecordsError, UsageError
from pilotfish.records import Records, Run, align, groups_by, read_table
from pilotfish.records.clusters import repeated, suspected
from support.runs import records

FRAMES = pa.array([f"clip{c}_{f}" for c in range(3) for f in range(4)])
CLIPS = [f"clip{c}" for c in range(3) for _ in range(4)]


def texts(column: pa.Array | None) -> list[str]:
    assert column is not None
    return column.to_pylist()


# --- naming groups


@pytest.mark.parametrize(
    ("ids", "expression", "expected"),
    [
        (["clip1_f1", "clip1_f2", "clip2_f1"], r"^(clip\d+)", ["clip1", "clip1", "clip2"]),
        (["a/1.png", "a/2.png", "b/1.png"], "(.+)/", ["a", "a", "b"]),
        (["7-x", "8-x", "8-y"], r"(\d+)-(.)", ["7", "8", "8"]),  # the first group counts
        (["p1 (2).jpg", "p2.jpg", "p1.jpg"], r"^(\w+)", ["p1", "p2", "p1"]),
    ],
)
def test_an_expression_on_the_ids(ids: list[str], expression: str, expected: list[str]) -> None:
    assert texts(groups_by(expression, pa.array(ids))) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("groups.csv", "id,group\n{}"),
        ("groups.txt", "filename,group,colour\n{}"),
        ("other.csv", "﻿ID,clip\n{}"),
        ("tabs.tsv", "id\tgroup\n{}"),
    ],
)
def test_a_file(name: str, content: str, tmp_path: Path) -> None:
    separator = "\t" if name.endswith("tsv") else ","
    third = f"{separator}red" if "colour" in content else ""
    rows = [f"{one}{separator}{clip}{third}\n" for one, clip in zip(FRAMES.to_pylist(), CLIPS, strict=True)]
    (tmp_path / name).write_text(content.format("".join(reversed(rows))))
    assert texts(groups_by(tmp_path / name, FRAMES)) == CLIPS
    assert texts(groups_by(str(tmp_path / name), pa.array([f"x/{one}" for one in FRAMES.to_pylist()]))) == CLIPS


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("clip", "'clip' is no file, no column, and as a regular expression has no group"),
        ("(clip", "no regular expression"),
        ("(horse)", "finds a group in none of 12 ids, such as clip0_0"),
        ("^(clip[01])", "no group in 4 of 12 ids, such as clip2_0"),
        ("^(clip)", "puts all 12 samples into one group (clip)"),
        ("(x?)", "in none of 12 ids"),
        ("groups.csv", "groups.csv: no such file"),
    ],
)
def test_what_names_no_groups_is_refused(group_by: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        groups_by(group_by, FRAMES)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,group\nclip0_0,a\n", "no group for 11 of 12 samples, such as 'clip0_1'"),
        ("colour,x\nclip0_0,a\n", "columns colour, x; expected a header, id"),
        ("id,group\nclip0_0,a\nclip0_0,b\n", "'clip0_0' is in two groups, 'a' and 'b'"),
        ("id,group\nclip0_0\n", "cannot be read"),
        ("", "cannot be read"),
        ("id,group\n", "columns id, group; expected a header, id (or filename, file) and group, and rows"),
        ("id,group\n" + "".join(f"{i},\n" for i in FRAMES.to_pylist()), "no group for 12 of 12"),
    ],
)
def test_files_that_do_not_group_are_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text(content)
    with pytest.raises(RecordsError) as caught:
        groups_by(file, FRAMES)
    assert message in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_bytes(b"id,group\n\xff\xfe,1\n")
    with pytest.raises(RecordsError, match=r"cannot be read|no group for 12"):
        groups_by(tmp_path / "groups.csv", FRAMES)


# --- kept with the records


@pytest.mark.parametrize("kind", ["npz", "csv", "labels"])
def test_a_column_of_the_predictions_or_labels(kind: str, tmp_path: Path) -> None:
    ids, label = FRAMES.to_pylist(), [0] * 12
    labels = None
    if kind == "npz":
        file = tmp_path / "p.npz"
        np.savez(file, prediction=np.zeros(12, int), id=np.array(ids), label=np.array(label), clip=np.array(CLIPS))
    else:
        file = tmp_path / "p.csv"
        extra = ",clip" if kind == "csv" else ""
        rows = [f"{i},0{f',{c}' if extra else ''}" for i, c in zip(ids, CLIPS, strict=True)]
        file.write_text("\n".join([f"id,prediction{extra}", *rows]))
        labels = tmp_path / "l.csv"
        there = "" if extra else ",clip"
        shuffled = [f"{i},0{f',{c}' if there else ''}" for i, c in zip(ids, CLIPS, strict=True)][::-1]
        labels.write_text("\n".join([f"id,label{there}", *shuffled]))
    import_predictions(file, tmp_path / "run", "m", labels=labels, group_by="clip")
    run = open_run(tmp_path / "run")
    assert texts(run.read("m").group) == CLIPS
    assert not any("clip" in note for note in run.read("m").meta.notes)  # it was read
    with pytest.raises(UsageError, match="'clap' is no file, no column"):
        import_predictions(file, tmp_path / "run", "m", labels=labels, group_by="clap")
    with pytest.raises(UsageError, match="no column of that name is in the records of m; the groups that they"):
        read_table(run, [], "m", group_by="clip")


def test_a_column_of_the_records(tmp_path: Path) -> None:
    table = pa.table({"id": FRAMES, "prediction": [0] * 12, "label": [0] * 12, "clip": CLIPS})
    pq.write_table(table, tmp_path / "m.val.parquet")
    found = read_table(open_run(tmp_path), [], "m", group_by="clip")
    assert found.groups is not None
    assert found.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.largest_group == 4


def grouped(one: Records, group: list[str] | None = None, content: list[str] | None = None) -> Records:
    return dataclasses.replace(
        one,
        group=None if group is None else pa.array(group),
        content=None if content is None else pa.array(content),
    )


def test_groups_survive_the_folder_and_reach_every_model(tmp_path: Path) -> None:
    run, label = Run(tmp_path), [0] * 12
    run.write(grouped(records("s", label, ids=FRAMES, label=label), CLIPS))
    run.write(records("b", label, ids=FRAMES.take(pa.array(range(11, -1, -1))), label=label))
    found = read_table(run, ["s"], "b")
    assert found.groups is not None
    assert found.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4  # in the order of the base
    assert "12 samples in 3 groups (at most 4 each): intervals and certificates count groups" in found.notes
    assert read_table(run, ["s"], "b", group_by="none").groups is None
    other = read_table(run, ["s"], "b", group_by=r"_(\d)")
    assert other.largest_group == 3


def test_two_models_that_group_otherwise_are_refused() -> None:
    label = [0] * 4
    one = grouped(records("s", label, label=label), ["a", "a", "b", "b"])
    two = grouped(records("b", label, label=label), ["a", "a", "b", "c"])
    with pytest.raises(AlignmentError, match=r"1 of 4 samples into different groups \(3 into c and b\)"):
        align([one], two)
    assert align([one], two, "none").groups is None


def test_groups_of_one_are_no_groups_and_one_group_is_refused() -> None:
    one = records("b", [0] * 4, label=[0] * 4)
    alone = align([], grouped(one, list("abcd")))
    assert alone.groups is None
    assert "each of the 4 samples is a group of its own: grouping changes nothing" in alone.notes
    with pytest.raises(UsageError, match="all 4 samples are in one group"):
        align([], grouped(one, ["a"] * 4))


def test_a_missing_group_is_refused_and_an_unknown_content_is_nobodys_copy(tmp_path: Path) -> None:
    columns = {"id": ["0", "1", "2"], "prediction": [0, 0, 0], "label": [0, 0, 0]}
    pq.write_table(pa.table({**columns, "group": ["a", None, "b"]}), tmp_path / "m.val.parquet")
    with pytest.raises(RecordsError, match="column 'group' has 1 missing values"):
        open_run(tmp_path).read("m")
    pq.write_table(pa.table({**columns, "content": [None, None, "x"]}), tmp_path / "m.val.parquet")
    assert len(read_table(open_run(tmp_path), [], "m")) == 3


# --- copies


@pytest.mark.parametrize(
    ("content", "label", "kept", "groups"),
    [
        ("aabcc", [0, 0, 0, 1, 1], [0, 2, 3], None),  # copies once
        ("aabcc", [0, 1, 0, 1, 1], [0, 1, 2, 3], [0, 0, 1, 2]),  # a contradiction: both, in one group
        ("abcde", [0, 0, 0, 0, 0], [0, 1, 2, 3, 4], None),  # no copies
        ("aaaaa", [0, 1, 0, 1, 2], [0, 1, 4], "one"),
        ("aabcc", [-1] * 5, [0, 2, 3], None),  # without labels
    ],
)
def test_copies_count_once_per_content_and_label(
    content: str, label: list[int], kept: list[int], groups: list[int] | str | None
) -> None:
    one = grouped(records("b", [0, 1, 2, 3, 4], label=label), content=list(content))
    if groups == "one":
        with pytest.raises(UsageError, match="all 3 samples are in one group"):
            align([], one)
        return
    found = align([], one)
    assert found.ids.to_pylist() == [str(row) for row in kept]
    assert (None if found.groups is None else found.groups.tolist()) == groups
    assert found.outputs["b"].prediction.tolist() == kept
    copies = 5 - len(kept)
    assert any(f"{copies:,} of 5 samples are exact copies of others" in note for note in found.notes) == (copies > 0)
    assert any("under different labels" in note for note in found.notes) == (groups is not None)
    everything = align([], one, "none")
    assert (len(everything), everything.groups, everything.notes) == (5, None, ())


def test_groups_that_share_a_file_are_one_group() -> None:
    """c's copy of b's file is left out, and what is left of c must not be judged on while b tunes."""
    label = [0] * 7
    one = grouped(records("b", label, label=label), list("aabbccd"), list("12344x6"))
    found = align([], one)
    assert found.ids.to_pylist() == ["0", "1", "2", "3", "5", "6"]
    assert found.groups is not None
    assert found.groups.tolist() == [0, 0, 1, 1, 1, 2]
    assert "4 groups share files and so become 3" in found.notes


def test_content_of_any_model_counts_and_a_changed_file_is_said() -> None:
    label = [0] * 4
    base = records("b", label, label=label)
    saver = grouped(records("s", label, label=label), content=list("aabc"))
    assert len(align([saver], base)) == 3
    assert len(align([saver], grouped(base, content=list("aabc")))) == 3
    changed = align([saver], grouped(base, content=list("aabX")))
    assert any("1 sample of s is not what b saw, such as 3" in note for note in changed.notes)


# --- ids that look like groups


LOOK = {
    "frames": [f"clip_{c:03d}_frame_{f}" for c in range(20) for f in range(12)],
    "frames of names": [f"{name}_frame_{f:04d}.png" for name in ("sea", "sky", "sun", "hut", "cow") for f in range(9)],
    "folders of videos": [f"val/video{c}/{f:05d}.jpg" for c in range(10) for f in range(5)],
    "products": [f"product-{c}-{f}.jpg" for c in range(50) for f in range(3)],
    "copies": [f"photo{c}{end}" for c in range(30) for end in (".jpg", "_copy.jpg", "_copy2.jpg")],
    "numbered copies": [f"beach {c}{end}.jpg" for c in range(20) for end in ("", " (1)", " (2)")],
    "patients": [f"patient_{c}/slice_{f}.png" for c in range(8) for f in range(30)],
    "augmented": [f"img{c:04d}_{how}.png" for c in range(20) for how in ("orig", "flip", "rot90", "blur")],
    "sides of a product": [f"B00{c:05d}/{side}.jpg" for c in range(30) for side in ("front", "back", "side")],
    "exported copies": [f"IMG_{c}_jpg.rf.{c * 7 + f:032x}.jpg" for c in range(20) for f in range(3)],
    "tiles of a slide": [f"slide_{c:03d}_x{256 * (f % 3)}_y{256 * (f // 3)}.png" for c in range(12) for f in range(9)],
    "frames of UCF": [f"v_Archery_g{c:02d}_c01_f{f:04d}.png" for c in range(1, 25) for f in range(6)],
}
ORDINARY = {
    "numbers": [str(i) for i in range(10_000)],
    "digits": [f"digits/{i:04d}" for i in range(500)],
    "validation": [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(500)],
    "training": [f"n{c:08d}_{i}.JPEG" for c in range(50) for i in range(10)],
    "one of each class": [f"n0{1440764 + i}_tench.JPEG" for i in range(300)],
    "class folders": [f"{name}/{i:04d}.png" for name in ("cat", "dog", "owl") for i in range(50)],
    "items": [f"item_{i:05d}.jpg" for i in range(200)],
    "frames of nothing": [f"frame_{i:05d}.jpg" for i in range(200)],
    "renamed at once": [f"cat ({i}).jpg" for i in range(1, 200)],
    "phone": [f"IMG_{20240101 + i // 40}_{120000 + i}.jpg" for i in range(200)],
    "pages": [f"scan_{i}.png" for i in range(100)],
    "birds": [f"{c:03d}.Laysan_Albatross/Laysan_Albatross_{i:04d}_{796 + i}.jpg" for c in range(9) for i in range(30)],
    "hub shards": [f"test-{i:05d}-of-00200" for i in range(200)],
    "cats and dogs": [f"{name}.{i}.jpg" for i in range(100) for name in ("cat", "dog")],
    "traffic signs": [f"{c:05d}/{i:05d}.ppm" for c in range(43) for i in range(5)],
}


@pytest.mark.parametrize("kind", LOOK)
def test_ids_that_look_like_groups_are_said_with_what_to_write(kind: str) -> None:
    ids = pa.array(LOOK[kind])
    note = suspected(ids)
    assert note is not None
    assert "\n" not in note
    expression = note.partition("--group-by '")[2].partition("'")[0]
    found = groups_by(expression, ids)
    assert found is not None
    assert 5 <= len(found.unique()) <= len(ids) / 2
    one = records("b", [0] * len(ids), ids=ids, label=np.arange(len(ids)) % 3)
    assert note in align([], one).notes
    for said in ("none", expression):
        assert note not in align([], one, said).notes


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_ids_do_not(kind: str) -> None:
    assert suspected(pa.array(ORDINARY[kind])) is None


def test_groups_that_are_the_classes_are_none() -> None:
    ids = [f"item{c}_{i}" for c in range(10) for i in range(20)]
    classes = np.repeat(np.arange(10), 20)
    assert suspected(pa.array(ids), classes) is None
    assert suspected(pa.array(ids), classes % 3) is not None


def test_errors_are_of_the_house() -> None:
    for group_by in ("(", "x", "(x)"):
        with pytest.raises(PilotfishError):
            groups_by(group_by, FRAMES)
    with pytest.raises(UsageError, match="2 groups for 12 samples"):
        groups_by(["a", "b"], FRAMES)


def twins(values: np.ndarray, seed: int = 0, copies: int = 5) -> Records:
    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(values)), copies))
    label = (np.arange(len(values)) % 10)[order]
    return records("b", label, label=label, outputs={"log_odds": values[order]})


def test_outputs_that_repeat_to_the_last_bit_are_said() -> None:
    for seed in range(3):
        one = twins(np.random.default_rng(seed).normal(size=100), seed)
        found = align([], one)
        assert any("500 of 500 samples have the very outputs of another one" in note for note in found.notes)
        assert align([], one, "none").notes == ()
        known = grouped(one, content=[str(i) for i in range(500)])  # other files, whatever the model says
        assert align([], known).notes == ()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=500),  # all differ
        np.round(np.random.default_rng(0).normal(size=500), 1),  # coarse: one value is many samples'
        np.where(np.arange(500) % 4 > 0, 36.7, np.linspace(0, 5, 500)),  # saturated
        np.concatenate([np.linspace(0, 5, 400), np.linspace(0, 5, 400)[:100]]),  # a few twins
    ],
)
def test_outputs_that_are_only_coarse_are_not(values: np.ndarray) -> None:
    label = np.arange(500) % 10
    one = records("b", label, label=label, outputs={"log_odds": values})
    assert repeated(one.ids, [one.outputs], one.label) is None
