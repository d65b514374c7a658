"""``pilotfish serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish.cli.options import AllowPython, AsJson, Device

if TYPE_CHECKING:
    from pilotfish.serve import Server


def serve(
    cascades: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]CASCADE", help="Cascade folders; by default each is served by its folder's name."
        ),
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on; 0 for any free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Tokens of operators, one TOKEN or NAME TOKEN per line; without it, nobody can change settings.",
        ),
    ] = None,
    max_wait_ms: Annotated[
        float, typer.Option(metavar="MS", help="How long the oldest input of a stage waits for a full batch.")
    ] = 0.0,
    queue: Annotated[int, typer.Option(metavar="N", help="Capacity of a cascade, in inputs; more get 503.")] = 1024,
    timeout: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds to answer a request, else 503; unlimited by default.")
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Answer with the base only, and evaluate the cascade beside it.")
    ] = False,
    audit: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Share of the exits that the base also answers, such as 1%; none by default."
        ),
    ] = None,
    escalation_rate: Annotated[
        float | None,
        typer.Option(metavar="R", help="Inputs per second that may escalate to the base; unlimited by default."),
    ] = None,
    escalation_burst: Annotated[
        float | None, typer.Option(metavar="B", help="Escalations at once; by default the rate, but at least 1.")
    ] = None,
    client_escalation_rate: Annotated[
        float | None, typer.Option(metavar="R", help="The same rate for each client (a token's name, else an address).")
    ] = None,
    client_escalation_burst: Annotated[
        float | None,
        typer.Option(metavar="B", help="Escalations of a client at once; by default its rate, but at least 1."),
    ] = None,
    when_empty: Annotated[
        str, typer.Option(metavar="flag|reject", help="Beyond the rate: flag the saver's answer, or reject with 503.")
    ] = "flag",
    max_cost_per_hour: Annotated[
        float | None,
        typer.Option(
            metavar="COST", help="Move the operating point to keep to this cost per hour, in the cascade's unit."
        ),
    ] = None,
    drift_average_run: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Least mean number of inputs between false drift alarms; 0: no alarm.",
        ),
    ] = 1e6,
    when_base_fails: Annotated[
        str, typer.Option(metavar="fail|flag", help="If the base fails: return an error, or flag the saver's answer.")
    ] = "fail",
    unsure_below: Annotated[
        float | None,
        typer.Option(
            metavar="P", help='Flag answers of lower reliability "unsure", also those of the base; off by default.'
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep audits, labels, alarms and the operating point here over restarts."),
    ] = None,
    trusted_proxy: Annotated[
        bool, typer.Option("--trusted-proxy", help="Identify clients by X-Forwarded-For.")
    ] = False,
    drain_delay: Annotated[
        float, typer.Option(metavar="S", help="Seconds to keep answering after SIGTERM, while not ready.")
    ] = 0.0,
    drain_limit: Annotated[
        float, typer.Option(metavar="S", help="Seconds after that to finish accepted requests.")
    ] = 30.0,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log a line per request.")] = False,
    log_format: Annotated[str, typer.Option(metavar="text|json", help="Format of log lines.")] = "text",
    device: Device = "cpu",
    allow_python: AllowPython = None,
    as_json: AsJson = False,
) -> None:
    """Serve cascades over HTTP until SIGTERM or Ctrl-C.

    When it is ready, it prints "ready http://HOST:PORT" on stderr.

    Example: pilotfish serve cascade/

    \b
    Example: pilotfish serve birds=cascades/birds cars=cascades/cars \\
        --port 9000 --audit 1%

    Then: curl -F image=@cat.jpg http://127.0.0.1:8000/predict
    """
    from pilotfish.cli.output import notes, print_json
    from pilotfish.cli.parse import share
    from pilotfish.serve import ServeOptions, Server
    from pilotfish.serve.http.access import read_tokens

    tokens, token_notes = ({}, []) if token_file is None else read_tokens(token_file)
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "tokens": tokens,
        "max_wait_ms": max_wait_ms,
        "queue": queue,
        "timeout": timeout,
        "shadow": shadow,
        "audit": 0.0 if audit is None else share(audit, "--audit"),
        "escalation_rate": escalation_rate,
        "escalation_burst": escalation_burst,
        "client_escalation_rate": client_escalation_rate,
        "client_escalation_burst": client_escalation_burst,
        "max_cost_per_hour": max_cost_per_hour,
        "drift_average_run": drift_average_run,
        "when_empty": _one_of(when_empty, ("flag", "reject"), "--when-empty"),
        "when_base_fails": _one_of(when_base_fails, ("fail", "flag"), "--when-base-fails"),
        "unsure_below": unsure_below,
        "state": state,
        "trusted_proxy": trusted_proxy,
        "drain_delay": drain_delay,
        "drain_limit": drain_limit,
        "access_log": access_log,
        "log_format": _one_of(log_format, ("text", "json"), "--log-format"),
        "device": device,
        "allow_python": tuple(allow_python or ()),
    }
    server = Server(_named(cascades), ServeOptions(**options))
    if server.options.log_format == "json":
        for note in (*token_notes, *server.notes):
            server.log("note", note, "warning")
    else:
        notes((*token_notes, *server.notes))
    server.run(lambda: print_json(_document(server)) if as_json else None)


def _document(server: Server) -> dict[str, Any]:
    """The document of ``--json``, printed once the server is ready."""
    bound, port = server.address
    return {"host": bound, "port": port, "models": list(server.models), "notes": server.notes}


def _one_of(given: str, valid: tuple[str, ...], option: str) -> str:
    if given not in valid:
        raise typer.BadParameter(f"{option} is one of {', '.join(valid)}; found {given!r}")
    return given


def _named(cascades: list[str]) -> dict[str, Path]:
    """Folders by name. An existing path that contains = is taken as it is."""
    from pilotfish.errors import UsageError

    found: dict[str, Path] = {}
    for given in cascades:
        name, equals, folder = given.partition("=")
        if not equals or Path(given).exists():
            name, folder = Path(given).resolve().name, given
        elif not folder:
            raise UsageError(f"{given} names no folder; write NAME=FOLDER")
        if name in found:
            raise UsageError(f"two cascades are called {name!r}; give one of them another name, NAME={folder}")
        found[name] = Path(folder)
    return found
