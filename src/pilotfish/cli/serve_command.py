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
        list[str], typer.Argument(metavar="[NAME=]CASCADE...", help="Cascade folders, by a name or by their own.")
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 is everywhere.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="0 takes any that is free.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tokens of those who may look at and change it: TOKEN or NAME TOKEN a line."),
    ] = None,
    max_wait_ms: Annotated[
        float, typer.Option(metavar="MS", help="How long the oldest input of a stage waits for a full batch.")
    ] = 0.0,
    queue: Annotated[int, typer.Option(metavar="N", help="Inputs under way in a cascade; others get 503.")] = 1024,
    timeout: Annotated[float | None, typer.Option(metavar="S", help="Seconds that an answer may take.")] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="The base answers everybody; the cascade is counted beside it.")
    ] = False,
    audit: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Share of the exits that the base sees as well, such as 1%.")
    ] = None,
    escalation_rate: Annotated[
        float | None, typer.Option(metavar="R", help="Inputs a second that may go on to the base.")
    ] = None,
    escalation_burst: Annotated[float | None, typer.Option(metavar="B", help="Of them at once.")] = None,
    client_escalation_rate: Annotated[
        float | None, typer.Option(metavar="R", help="The same for each client: a token's name, else an address.")
    ] = None,
    client_escalation_burst: Annotated[float | None, typer.Option(metavar="B", help="Of them at once.")] = None,
    when_empty: Annotated[
        str, typer.Option(metavar="flag|reject", help="Beyond that rate: the saver's answer, flagged, or 503.")
    ] = "flag",
    max_cost_per_hour: Annotated[
        float | None, typer.Option(metavar="COST", help="Move along the frontier to hold it, in the cascade's unit.")
    ] = None,
    drift_average_run: Annotated[
        float, typer.Option(metavar="N", help="Inputs between false alarms of drift, on average at least; 0: no alarm.")
    ] = 1e6,
    when_base_fails: Annotated[
        str, typer.Option(metavar="fail|flag", help="What the base cannot compute: an error, or the saver's answer.")
    ] = "fail",
    unsure_below: Annotated[
        float | None,
        typer.Option(metavar="P", help='Flag answers less reliable than this "unsure", the base\'s as well.'),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keeps audits, labels, alarms and the operating point over restarts."),
    ] = None,
    trusted_proxy: Annotated[
        bool, typer.Option("--trusted-proxy", help="Clients are told apart by X-Forwarded-For.")
    ] = False,
    drain_delay: Annotated[
        float, typer.Option(metavar="S", help="After SIGTERM, seconds to go on while not ready.")
    ] = 0.0,
    drain_limit: Annotated[float, typer.Option(metavar="S", help="Then seconds for what was accepted.")] = 30.0,
    access_log: Annotated[bool, typer.Option("--access-log", help="A line per request.")] = False,
    log_format: Annotated[str, typer.Option(metavar="text|json", help="How log lines look.")] = "text",
    device: Device = "cpu",
    allow_python: AllowPython = None,
    as_json: AsJson = False,
) -> None:
    """Serve cascades over HTTP until SIGTERM or Ctrl-C. When it is ready, stderr says where.

    Example: pilotfish serve cascade/

    Example: pilotfish serve birds=cascades/birds cars=cascades/cars --port 9000 --audit 1%

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
    """What ``--json`` says once the server is ready."""
    bound, port = server.address
    return {"host": bound, "port": port, "models": list(server.models), "notes": server.notes}


def _one_of(given: str, valid: tuple[str, ...], option: str) -> str:
    if given not in valid:
        raise typer.BadParameter(f"{option} is one of {', '.join(valid)}; found {given!r}")
    return given


def _named(cascades: list[str]) -> dict[str, Path]:
    """Folders by name. An existing folder whose own name has a = is meant as it is."""
    from pilotfish.errors import UsageError

    found: dict[str, Path] = {}
    for given in cascades:
        name, equals, folder = given.partition("=")
        if not equals or Path(given).exists():
            name, folder = Path(given).resolve().name, given
        if name in found:
            raise UsageError(f"two cascades are called {name!r}; give them names, such as first={given} second=…")
        found[name] = Path(folder)
    return found
