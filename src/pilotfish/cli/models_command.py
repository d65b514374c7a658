"""``pilotfish models``."""

from __future__ import annotations

from typing import Annotated

import typer

from pilotfish.cli.options import AsJson
from pilotfish.text import quantity


def models(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Part of a name, or a pattern with * and ?.")] = "",
    as_json: AsJson = False,
) -> None:
    """List names for --model.

    Example: pilotfish models 'timm:*mobilenet*'
    """
    from pilotfish.cli.output import console, notes, print_json, say
    from pilotfish.cli.tables import table
    from pilotfish.errors import MissingExtraError, UsageError, nearest
    from pilotfish.models import FORMS, VARIANTS, list_models

    names, missing = [], []
    try:
        names = list_models(pattern)
    except MissingExtraError as error:
        if pattern:
            raise
        missing = [str(error)]  # the forms are known all the same
    if pattern and not names:
        raise UsageError(f"no model matches {pattern!r}; {nearest(pattern, list_models())}")
    target = console(as_json)
    if not pattern:
        table(target, [("form", "left"), ("what it is", "left")], [*FORMS, *VARIANTS])
        counted = (
            f"{quantity(len(names), 'model')} by name; `pilotfish models resnet` lists those with resnet in the name."
        )
        say(target, *([] if missing else [counted]))
    else:
        say(target, *names)
    notes(missing)
    if as_json:
        forms = [{"form": form, "meaning": meaning} for form, meaning in (*FORMS, *VARIANTS)]
        print_json({"forms": forms, "models": names, "notes": missing})
