"""The command line: the commands, and how errors end it."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Annotated

import typer

from pilotfish.cli import (
    analyse_command,
    bench_command,
    build_command,
    chains_command,
    demo_command,
    doctor_command,
    evaluate_command,
    export_command,
    import_command,
    inspect_command,
    models_command,
    predict_command,
    quantise_command,
    record_command,
    report_command,
    savers_command,
    serve_command,
    shortlist_command,
    train_command,
    tune_command,
    tune_runtime_command,
    update_command,
)
from pilotfish.errors import PilotfishError, UsageError
from pilotfish.text import one_line

LONGEST = 4000  # characters of a message: what a damaged file holds is not poured over a terminal
INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="pilotfish",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help=(
        "Make big models cheap to run.\n\n"
        "Record the outputs of a big model (the base) and small ones (savers), find the saver that can answer most "
        "inputs, set its exit threshold, and run the cascade.\n\n"
        "Begin with: pilotfish demo"
    ),
)

for command in (
    demo_command.demo,
    build_command.build,
    record_command.record,
    import_command.import_predictions,
    shortlist_command.shortlist,
    savers_command.savers,
    chains_command.chains,
    tune_command.tune,
    tune_runtime_command.tune_runtime,
    update_command.update,
    analyse_command.analyse,
    report_command.report,
    bench_command.bench,
    predict_command.predict,
    serve_command.serve,
    evaluate_command.evaluate,
    quantise_command.quantise,
    export_command.export,
    doctor_command.doctor,
    inspect_command.inspect,
    models_command.models,
):
    name = "import" if command is import_command.import_predictions else command.__name__.replace("_", "-")
    app.command(name)(command)
app.add_typer(train_command.app)


def _version(wanted: bool) -> None:
    if wanted:
        from pilotfish._version import __version__

        typer.echo(f"pilotfish {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def run() -> None:
    """Entry point. Exit code 2 for what the parser refuses, 1 with one line on stderr for every other error."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that are not Unicode are shown escaped, as JSON escapes them
            stream.reconfigure(errors="backslashreplace")
    try:
        os.getcwd()
    except FileNotFoundError:
        _end("the working folder was deleted; change to another one", 1)
    if (empty := _empty(sys.argv[1:])) is not None:
        _end(f"{empty} is an empty text; give it a value (the working folder is .)", 2)
    try:
        code = app(prog_name="pilotfish", standalone_mode=False)
    except UsageError as error:
        _end(_as_typed(error), 1)
    except PilotfishError as error:
        _end(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # a closed pager is no error
        sys.exit(1)
    except MemoryError:
        _end("out of memory; use a smaller --batch-size or fewer --workers", 1)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # the parser's own errors
            if type(error).__name__ == "NoArgsIsHelpError":  # nothing was typed: help as it is laid out
                sys.stderr.write(f"{error.format_message()}\n")
                sys.exit(int(error.exit_code))
            _end(_parser_message(error), int(error.exit_code))
        if os.environ.get("PILOTFISH_DEBUG"):
            raise
        _end(_unexpected(error), 1)
    if code == INTERRUPTED:
        _end("interrupted; a recording or a training resumes when the same command is run again", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Open stdin, stdout and stderr if the process started without them, or other files would take their place."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None and os.open(os.devnull, os.O_RDWR) == fd:
            setattr(sys, name, open(fd, "w" if fd else "r", encoding="utf-8"))  # noqa: SIM115 - for good


def _empty(arguments: list[str]) -> str | None:
    """The first empty argument, as from an unset shell variable: as a path it would be the working folder. The pattern
    of ``models`` may be empty."""
    for before, given in zip(["", *arguments], arguments, strict=False):
        if given == "" and before != "models":
            return before if before.startswith("-") else "an argument"
        if given.startswith("--") and given.endswith("=") and given.count("=") == 1:
            return given[:-1]
    return None


def _end(message: str, code: int) -> None:
    sys.stdout.flush()
    text = one_line(" ".join(message.split()))
    shown = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    sys.stderr.write(f"pilotfish: error: {shown}\n")
    sys.exit(code)


def _as_typed(error: UsageError) -> str:
    """Its message, with the names of arguments as options: ``--max-wait-ms`` for ``max_wait_ms``."""
    text = str(error)
    for name in error.arguments:
        text = re.sub(rf"\b{name}\b", f"--{name.replace('_', '-')}", text)
    return text


def _parser_message(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "pilotfish"
    return f"{error.format_message()} (see {path} --help)"  # type: ignore[attr-defined]


def _unexpected(error: Exception) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return f"{type(error).__name__}: {error} (this is a bug; PILOTFISH_DEBUG=1 shows where, please report it)"
