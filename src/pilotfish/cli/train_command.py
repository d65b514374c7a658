"""``pilotfish train exits``, ``msdnet``, ``esn`` and ``router``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish.cli.options import AsJson, Device

if TYPE_CHECKING:
    from rich.console import Console

    from pilotfish.train import Trained

app = typer.Typer(
    name="train",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train networks with exits. Each exit is recorded as NAME#1 … NAME#K, ready for tune.",
)

Training = Callable[..., Any]
"""A training whose own options are set, of (data, out) and, by keyword, what every training takes."""
Argument = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Constructor argument, such as in_chans=1; the network is then built with fresh weights; repeatable.",
    ),
]
Layer = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Layer that an exit reads, such as layer2; repeatable.")
]
Saver = Annotated[str, typer.Option(metavar="NAME", help="The small trained model, named as for train exits --model.")]
Width = Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="Hidden units or channels of a head.")]


def _train(
    training: Training,
    kind: str,
    data: Annotated[str, typer.Option(metavar="SPEC", help="Labelled samples to train on.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the network, its report and its checkpoint.")],
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="Folder of records; each exit is recorded there.")],
    val: Annotated[
        str | None,
        typer.Option("--val", metavar="SPEC", help="Samples to evaluate and record; by default a tenth of --data."),
    ] = None,
    alias: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Name of the records; by default the network's.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="FILE",
            help="A .toml file, or the name of a built-in recipe; by default that of the command.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of weights, sample order and augmentation.")] = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train, and show the result."""
    from pilotfish.cli.progress import progress_bars
    from pilotfish.train import load_recipe
    from pilotfish.train.recipe import parse_changes

    with progress_bars() as progress:
        found = training(
            data,
            out,
            recipe=load_recipe(recipe or kind, parse_changes(changes)),
            held_out=val,
            run=run,
            seed=seed,
            device=device,
            progress=progress,
            **({} if alias is None else {"name": alias}),
        )
    _show(found, run, as_json, "forecast right, held out" if kind == "router" else "held-out accuracy")


def _command(own: Callable[..., Training]) -> Callable[..., Training]:
    """Make a command of *own*, with its options and those of every training."""
    mine, shared = (inspect.signature(one, eval_str=True).parameters for one in (own, _train))

    def command(**given: Any) -> None:
        _train(own(**{name: given.pop(name) for name in mine}), own.__name__, **given)

    parameters = [*mine.values(), *list(shared.values())[2:]]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    command.__doc__ = own.__doc__
    app.command(own.__name__)(command)
    return own


@_command
def exits(
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="timm:NAME, torchvision:NAME, checkpoint:FILE or exits:FILE (its backbone)."),
    ],
    layer: Layer = None,
    exits: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Number of exits, spread by MACs, if no layer is named; 0 trains the plain network.",
        ),
    ] = 3,
    head: Annotated[str, typer.Option(metavar="KIND", help="Kind of head: linear, norm, mlp or conv.")] = "linear",
    width: Width = 128,
    argument: Argument = None,
) -> Training:
    """Attach exits to a network and train them.

    The network is frozen or trained jointly, by the recipe.

    \b
    Example: pilotfish train exits --model timm:resnet18 \\
        --data folder:train --run run --out resnet18-exits
    """
    from pilotfish.train import train_exits
    from pilotfish.train.recipe import parse_changes

    arguments = parse_changes(argument, "--argument")
    return functools.partial(
        train_exits, model, layers=layer or (), exits=exits, head=head, width=width, arguments=arguments
    )


@_command
def msdnet(
    blocks: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Number of exits.")] = 5,
    channels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Channels of the finest scale in the first layer.")
    ] = 16,
    growth: Annotated[int, typer.Option(metavar="N", min=2, help="New channels per layer.")] = 6,
    base: Annotated[int, typer.Option(metavar="N", min=1, help="Layers before the first exit.")] = 1,
    step: Annotated[int, typer.Option(metavar="N", min=1, help="Layers between exits.")] = 1,
    growing: Annotated[bool, typer.Option(help="Whether the steps grow with depth or stay equal.")] = True,
    size: Annotated[
        int | None, typer.Option(metavar="N", min=17, help="Input size in pixels; by default that of the images.")
    ] = None,
) -> Training:
    """Train an MSDNet for small images from scratch.

    \b
    Example: pilotfish train msdnet --data arrays:train.npz --run run \\
        --out msdnet --set epochs=20
    """
    from pilotfish.data import load_data
    from pilotfish.models.exits.msdnet import MSDNetConfig
    from pilotfish.train import train_msdnet
    from pilotfish.train.backbone import classes_of, preprocessing_for

    def training(data: str, out: Path, **settings: Any) -> Trained:
        samples = load_data(data)
        _, shape = preprocessing_for(samples, size)
        config = MSDNetConfig(classes_of(samples), blocks, channels, base, step, growing, growth, colours=shape[0])
        return train_msdnet(config, samples, out, size=size, **settings)

    return training


@_command
def esn(
    saver: Saver,
    base: Annotated[str, typer.Option(metavar="NAME", help="The big model, with the same classes and inputs.")],
    layer: Layer = None,
    exits: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of exits, spread by MACs, if no layer is named.")
    ] = 3,
    dim: Annotated[str, typer.Option(metavar="N,…", help="Token dimension; several values make a grid.")] = "32",
    attention: Annotated[
        str, typer.Option(metavar="N,…", help="Number of attention layers; several values make a grid.")
    ] = "1",
) -> Training:
    """Train an Exit Sequence Network (TinySaver).

    It adds exits between a saver and a base, which are not changed.

    \b
    Example: pilotfish train esn --saver timm:resnet18 --base timm:resnet50 \\
        --data folder:train --run run --out esn
    """
    from pilotfish.train import train_esn
    from pilotfish.train.recipe import parse_counts

    dims, grid = parse_counts("--dim", dim), parse_counts("--attention", attention)
    return functools.partial(train_esn, saver, base, layers=layer or (), exits=exits, dims=dims, attention=grid)


@_command
def router(
    saver: Saver,
    base: Annotated[str, typer.Option(metavar="NAME", help="The big model, of any kind.")],
    kind: Annotated[
        str,
        typer.Option(metavar="KIND", help="evaluator reads the saver's last features; prior has its own encoder."),
    ] = "evaluator",
    encoder: Annotated[
        str,
        typer.Option(metavar="NAME", help="Encoder of a prior router: small:convnet, timm:NAME or torchvision:NAME."),
    ] = "small:convnet",
    argument: Argument = None,
    width: Width = 64,
) -> Training:
    """Train a router that predicts whether the saver suffices.

    It is recorded as the saver with that confidence. Train it on samples that the saver was not trained on, and tune it
    like any saver: --stages router,BASE.

    \b
    Example: pilotfish train router --saver timm:resnet18 --base timm:resnet50 \\
        --data folder:val --run run --out router
    """
    from pilotfish.train import train_router
    from pilotfish.train.recipe import parse_changes

    arguments = parse_changes(argument, "--argument")
    return functools.partial(train_router, saver, base, kind=kind, encoder=encoder, arguments=arguments, width=width)


def _show(found: Trained, run: Path, as_json: bool, accuracy: str) -> None:
    """Print exits with accuracy and cost, the file of the curves, and the next step."""
    from pilotfish.cli.output import console, next_command, print_json, say
    from pilotfish.cli.savers_command import savers
    from pilotfish.cli.tables import table
    from pilotfish.cli.tune_command import tune
    from pilotfish.plots.training_plot import write_training_plot
    from pilotfish.report.format import format_cost, percent
    from pilotfish.text import quantity
    from pilotfish.train.training import PLOT

    plot = write_training_plot(found.to_json(), found.file.with_name(PLOT))  # what may fail comes first
    target = console(as_json)
    known = [percent(one, 2) for one in found.accuracy] + [""] * len(found.records)
    rows = [
        [record.model, said, format_cost("macs", record.cost.get("macs"))]
        for record, said in zip(found.records, known, strict=False)
    ]
    if found.grid:
        _show_grid(target, found)
    table(target, [("records", "left"), (accuracy, "right"), ("cost", "right")], rows)
    names = ",".join(r.model for r in found.records)
    went_on = f" (went on from epoch {found.resumed})" if found.resumed else ""
    following = (
        next_command(tune, str(run), stages=names, max_drop="0.5%", out="cascade")
        if len(found.records) > 1
        else next_command(savers, str(run), base=names)
    )
    epochs = quantity(len(found.history), "epoch")
    say(target, f"{epochs}{went_on}; network {found.file}, curves {plot}")
    say(target, f"Next: {following}", whole=True)
    if as_json:
        print_json(found.to_json())


def _show_grid(target: Console, found: Trained) -> None:
    """Print the trainings of a grid, and which one is kept."""
    from pilotfish.cli.tables import table
    from pilotfish.report.format import percent
    from pilotfish.train.train_esn import between

    folders, kept = list(found.grid), found.file.parent.name
    rows = [
        [folder, *(percent(one) for one in found.grid[folder]), percent(between(found.grid[folder]))]
        for folder in folders
    ]
    exits = [(f"exit {k}", "right") for k in range(1, len(found.accuracy) + 1)]
    columns = [("trained", "left"), *exits, ("mean between", "right")]
    table(target, columns, rows, title=f"Held-out accuracy; kept: {kept}", strong=folders.index(kept))
