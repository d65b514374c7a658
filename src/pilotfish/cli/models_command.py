"""``pilotfish models``."""

from __future__ import annotations

from typing import Annotated

import typer

from pilotfish.cli.options import AsJson


def models(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Part of a name, or a pattern with * and ?.")] = "",
    as_json: AsJson = False,
) -> None:
    """Names that --model takes.

    Example: pilotfish models 'timm:*mobilenet*'
    """
    from pilotfish.cli.output import console, print_json, say, table
    from pilotfish.errors import UsageError, nearest
    from pilotfish.models import FORMS, VARIANTS, list_models

    names = list_models(pattern)
    if pattern and not names:
        raise UsageError(f"no model matches {pattern!r}; {nearest(pattern, list_models())}")
    target = console(as_json)
    if not pattern:
        table(target, [("form", "left"), ("what it is", "left")], [*FORMS, *VARIANTS])
        say(target, f"{len(names):,} models by name; `pilotfish models resnet` lists those with resnet in the name.")
    else:
        say(target, *names)
    if as_json:
        forms = [{"form": form, "meaning": meaning} for form, meaning in (*FORMS, *VARIANTS)]
        print_json({"forms": forms, "models": names, "notes": []})
