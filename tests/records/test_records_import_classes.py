"""Class names in imported files: one missing is fine, one too many is named, and the files of a run share one order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pilotfish
from pilotfish.errors import AlignmentError, RecordsError
from pilotfish.records import Records, RecordsMeta, Run, align, import_file
from pilotfish.scores.outputs import from_logits
from support.errors import assert_one_line
from support.process import command

NAMES = ("ant", "bee", "cat", "dog", "umbrella")
TRUTH = ["ant", "bee", "dog", "ant", "bee", "dog"]  # neither cat nor umbrella
WHOLE = ["ant", "bee", "dog", "ant", "cat", "dog"]  # five of six right
LESS = ["ant", "dog", "dog", "ant", "bee", "bee"]  # four right, and never a cat
MORE = ["ant", "umbrella", "dog", "ant", "bee", "dog"]  # five right


def table(path: Path, predictions: list[str], truth: list[str] | None = TRUTH) -> Path:
    columns = {"id": range(6), "prediction": predictions, "confidence": np.linspace(0.4, 0.9, 6)}
    columns |= {"label": truth} if truth else {}
    rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([",".join(columns), *rows]))
    return path


def imported(folder: Path, run: str, **files: list[str]) -> Run:
    for model, predictions in files.items():
        pilotfish.import_predictions(
            table(folder / f"{model}.csv", predictions), folder / run, model, costs={"macs": len(model)}
        )
    return Run(folder / run)


def right(run: Run, base: str) -> dict[str, int]:
    found = align([run.read(name) for name in run.models() if name != base], run.read(base))
    return {name: int(found.quality(name).sum()) for name in found.models}


@pytest.mark.parametrize("order", [("whole", "less", "more"), ("less", "more", "whole"), ("more", "whole", "less")])
@pytest.mark.parametrize("base", ["whole", "less", "more"])
def test_files_of_one_run_share_one_order_whatever_classes_each_of_them_holds(
    order: tuple[str, ...], base: str, tmp_path: Path
) -> None:
    files = {"whole": WHOLE, "less": LESS, "more": MORE}
    run = imported(tmp_path, "run", **{name: files[name] for name in order})
    assert right(run, base) == {"whole": 5, "less": 4, "more": 5}
    tuned = pilotfish.tune(tmp_path / "run", [next(n for n in order if n != base), base], max_drop="50%", holdout=0)
    assert tuned.calibration.n == 6


def test_a_file_of_names_follows_the_records_that_are_there(tmp_path: Path) -> None:
    classes = ("umbrella", "dog", "cat", "bee", "ant")  # the order of a network
    logits = np.eye(5, dtype=np.float32)[[classes.index(name) for name in WHOLE]]
    own = import_file(table(tmp_path / "truth.csv", TRUTH), "network", classes=classes)
    meta = RecordsMeta("network", "val", n_classes=5, class_names=classes)
    run = Run(tmp_path / "run")
    run.write(Records(own.ids, own.label, from_logits(logits), meta))
    imported(tmp_path, "run", less=LESS)
    records = run.read("less")
    assert records.meta.class_names == classes
    assert records.meta.notes == ("classes are numbered as those of the records in the run, 5 in all",)
    assert right(run, "network") == {"less": 4, "network": 5}
    done = command(tmp_path, "import", table(tmp_path / "y.csv", ["yak", *LESS[1:]]), "--run", "run", "--model", "y")
    assert "as those of the records in the run, 5 in all, and 1 more: 'yak'" in done.stderr
    with pytest.raises(AlignmentError) as caught:
        right(run, "network")
    assert_one_line(caught.value, "y has 6 classes, network has 5 ('yak' of y is none of network)", "one task")


@pytest.mark.parametrize("names", [("north", "south"), ("0", "1")])
def test_other_names_are_no_ground_for_an_order(names: tuple[str, str], tmp_path: Path) -> None:
    known = ("cat", "dog")
    found = import_file(table(tmp_path / "a.csv", [names[0], names[1]] * 3, None), "a", classes=known)
    assert found.meta.class_names in (names, None)
    assert found.outputs.prediction.tolist() == [0, 1] * 3


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"label": ["ant", "umbrela", "dog"]}, "'label' of row 1 is 'umbrela', which is none of the 5 class names"),
        (
            {"label": ["", "", "bea"]},
            "'label' of row 2 is 'bea', which is none of the 5 class names (nearest names: bee",
        ),
        ({"label": ["x", "y", "dog"]}, "'label' of row 0 is 'x', which is none of the 5 class names"),
        ({"label": [0, 5, 1]}, "'label' of row 1 is 5, and there are 5 class names (0 to 4)"),
        ({"label": [0, 4, 1]}, None),
        ({"label": ["ant", "ant", ""]}, None),
    ],
)
def test_a_label_too_many_is_named_and_a_missing_one_is_fine(arrays: Any, said: str | None, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", probs=np.full((3, 5), 0.2), class_names=np.array(NAMES), **arrays)
    if said is None:
        assert import_file(tmp_path / "a.npz", "a").meta.n_classes == 5
        return
    with pytest.raises(RecordsError) as caught:
        import_file(tmp_path / "a.npz", "a")
    assert_one_line(caught.value, "a.npz", said, "take the sample out")


def test_a_class_too_many_in_probabilities_is_named(tmp_path: Path) -> None:
    for name, n in (("four", 4), ("five", 5)):
        np.savez(tmp_path / f"{name}.npz", probs=np.full((3, n), 1 / n), label=np.arange(3), class_names=NAMES[:n])
    four, five = (import_file(tmp_path / f"{name}.npz", name) for name in ("four", "five"))
    for one, other in ((four, five), (five, four)):
        with pytest.raises(AlignmentError) as caught:
            align([one], other)
        assert_one_line(caught.value, "('umbrella' of five is none of four); a cascade needs models of one task")
