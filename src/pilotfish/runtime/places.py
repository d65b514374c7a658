"""Where the models of a cascade are: folders are moved, and names are relative to where they were typed."""

from __future__ import annotations

from pathlib import Path

from pilotfish.cascade import Stage
from pilotfish.errors import ArtefactError
from pilotfish.models.names.spec import file_of, is_hub_name, parse_spec


def model_files(stage: Stage, folder: Path) -> list[Path]:
    """The files or folders that may be the model of *stage*, most likely first; none for a model that is not kept in a
    file.

    The path as typed, from the working directory; the recorded path relative to the cascade folder; the recorded
    absolute path; in the cascade folder or beside it. Files of the same name are told apart by their weights' hash.

    ArtefactError, listing the places, if it is in none of them.
    """
    spec = None if stage.spec is None else parse_spec(stage.spec)
    name = None if spec is None else file_of(spec)
    if spec is None or name is None:
        return []
    typed = Path(name)
    near = [base / part for part in dict.fromkeys((typed, Path(typed.name))) for base in (folder, folder.parent)]
    places = [typed, *(folder / file for file in stage.files), *near]
    found = {place.resolve(): place for place in reversed(places) if _is_there(place, folder=spec.kind == "hf")}
    if found:
        return [place for place in dict.fromkeys(places) if place in found.values()]
    if spec.kind == "hf" and is_hub_name(name):  # otherwise the loader reports that it is in neither place
        return []
    looked = dict.fromkeys(str(place.resolve().parent) for place in places)
    kind = "folder" if spec.kind == "hf" else "file"
    raise ArtefactError(
        f"stage {stage.name}: no such {kind} {typed.name!r} in {', '.join(looked)}; put it beside the cascade folder, "
        "or write the cascade with --embed, so that it holds its models"
    )


def _is_there(path: Path, folder: bool) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):  # a name that is no path
        return False
