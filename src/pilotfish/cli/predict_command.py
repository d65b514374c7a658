"""``pilotfish predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish.cli.options import AllowPython, AsJson, CascadeFolder, Device, MinMetric
from pilotfish.text import quantity

if TYPE_CHECKING:
    from pilotfish.runtime.answers import Summary

SUMMARY = [("answered by", "left"), ("inputs", "right"), ("share", "right"), ("mean confidence", "right")]


def predict(
    cascade: CascadeFolder,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Image files or folders, one .npz file, or a data SPEC such as idx:FILE."),
    ],
    max_drop: Annotated[
        str | None, typer.Option(metavar="DROP", help="Use another operating point, by drop, such as 1%.")
    ] = None,
    max_cost: Annotated[
        str | None, typer.Option(metavar="COST", help="Use another operating point, by cost or share of the base's.")
    ] = None,
    min_metric: MinMetric = None,
    low_memory: Annotated[
        bool,
        typer.Option(
            "--low-memory", help="Keep one model in memory at a time: each runs over all inputs that reach it."
        ),
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --low-memory: keep answers here; an interrupted run resumes."),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Also print answers and mean confidence per stage on stderr.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw each answer (boxes, masks, names, scores) on its image, as PNG."),
    ] = None,
    device: Device = "cpu",
    allow_python: AllowPython = None,
    as_json: AsJson = False,
) -> None:
    """Answer inputs with a cascade. A broken input gets an error of its own; the others are answered.

    Example: pilotfish predict cascade cat.jpg photos/

    Example: pilotfish predict cascade photos/ --summary

    Example: pilotfish predict cascade photos/ --save drawn/

    \b
    Example: pilotfish predict cascade photos/ --low-memory \\
        --state photos.state
    """
    from pilotfish.cascade import load_artefact
    from pilotfish.cli.output import console, notes, print_json
    from pilotfish.cli.parse import cost_limit, fraction, least
    from pilotfish.cli.progress import progress_bars
    from pilotfish.cli.tables import table
    from pilotfish.data import load_data
    from pilotfish.errors import DataError
    from pilotfish.report.format import shorten_all
    from pilotfish.runtime import Cascade, predict_sequentially, summarise

    if state is not None and not low_memory:
        raise typer.BadParameter("--state needs --low-memory")
    drop, limit, metric = fraction(max_drop, "--max-drop"), cost_limit(max_cost), least(min_metric)
    arrays = [path for path in inputs if path.suffix == ".npz" and not _is_data(path)]
    if arrays and len(inputs) > 1:
        raise DataError(f"{arrays[0]} holds many samples; give one .npz file alone, or image files")
    named = [str(path) for path in inputs if _is_data(path)]
    if named and len(inputs) > 1:
        raise DataError(f"{named[0]} names many samples; give it alone, or image files")
    given = load_data(f"arrays:{arrays[0]}") if arrays else load_data(named[0]) if named else inputs
    moved = any(value is not None for value in (drop, limit, metric))
    said: tuple[str, ...] = ()
    if low_memory:
        artefact = load_artefact(cascade)
        artefact = artefact.at(max_drop=drop, max_cost=limit, min_metric=metric) if moved else artefact
        with progress_bars() as progress:
            answers = predict_sequentially(
                cascade,
                given,
                artefact=artefact,
                device=device,
                state=state,
                progress=progress,
                allow_python=allow_python or (),
                save=save,
            )
    else:
        loaded = Cascade.load(cascade, device, allow_python=allow_python or ())
        if moved:
            loaded.set_operating_point(max_drop=max_drop, max_cost=limit, min_metric=metric)
        answers, said, artefact = loaded.predict(given, save=save), loaded.notes, loaded.artefact
    short = shorten_all([stage.name for stage in artefact.stages])
    stages = [short[stage.name] for stage in artefact.stages]
    rows = [
        [a.input, "", "", "", a.error.removeprefix(f"{a.input} ")]  # the first column says it
        if a.error is not None
        else [a.input, _shown(a.prediction, a.name), f"{a.confidence:.4f}", f"{a.stage} {stages[a.stage or 0]}", ""]
        for a in answers
    ]
    columns = [
        ("input", "left"),
        ("prediction", "left"),
        ("confidence", "right"),
        ("stage", "left"),
        ("error", "left"),
    ]
    failed = [a for a in answers if a.error is not None]
    if len(failed) == len(answers):
        raise DataError(
            f"none of the {quantity(len(answers), 'input')} could be answered; {failed[0].input}: {failed[0].error}"
        )
    table(
        console(as_json),
        columns if failed else columns[:-1],
        rows if failed else [row[:-1] for row in rows],
        whole=True,
    )
    counted = summarise(answers, artefact) if summary else None
    if counted is not None:
        table(console(to_stderr=True), SUMMARY, _summary_rows(counted), title=_summary_title(counted))
    notes(said)
    if as_json:
        added = {} if counted is None else {"summary": counted.to_json()}
        print_json({"answers": [a.to_json() for a in answers], **added, "notes": list(said)})


def _summary_title(found: Summary) -> str:
    failed = f", {found.errors:,} without an answer" if found.errors else ""
    return f"{quantity(found.n, 'input')}{failed}"


def _summary_rows(found: Summary) -> list[list[str]]:
    from pilotfish.report.format import NOTHING, percent

    return [
        [
            f"{one.stage} {one.name}",
            f"{one.n:,}",
            percent(one.share, 1),
            NOTHING if one.confidence is None else f"{one.confidence:.4f}",
        ]
        for one in found.stages
    ]


def _shown(prediction: Any, name: str | None) -> str:
    if isinstance(prediction, dict | list):  # a document: its name says it in words
        return (", ".join(map(str, prediction)) or "nothing") if name is None else name or "nothing"
    number = f"{prediction:.6g}" if isinstance(prediction, float) else str(prediction)
    return f"{number} {name or ''}".strip()


def _is_data(path: Path) -> bool:
    """Whether this is a data SPEC, such as idx:FILE or digits:val, and not a file."""
    from pilotfish.data import DATA_FORMS

    kinds = {form.partition(":")[0] for form, _ in DATA_FORMS}
    return str(path).partition(":")[0] in kinds and not path.exists()
