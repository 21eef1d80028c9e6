"""`dgl-rbm tune`: search for options on validation nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dgl_rbm.commands.base import fail, gather, guarded, kept_on_interrupt, stderr, stdout
from dgl_rbm.commands.options import RUN_OPTIONS, JsonOption, takes
from dgl_rbm.console.loading import DGL, TORCH

__all__ = ["tune"]


@guarded(TORCH, DGL)
@takes(RUN_OPTIONS, recipe="published")
def tune(
    options: dict[str, Any],
    seeds: Annotated[
        str, typer.Option(help="Splits and starts that a trial is the mean of: 100-102. Report results on others.")
    ] = "100-102",
    trials: Annotated[int, typer.Option(min=1, help="Trials in all; the first is the configuration as it is.")] = 30,
    space: Annotated[
        Path | None, typer.Option(help="YAML file of what may change; by default the paper's space and a little more.")
    ] = None,
    hide: Annotated[
        float,
        typer.Option(
            help="Share of the validation nodes that are held out and that trials are judged by; no epoch is chosen on "
            "them. In the inductive setting they are hidden as unseen nodes are."
        ),
    ] = 0.0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; trials that are there are kept.")] = Path(
        "runs/tune"
    ),
    as_json: JsonOption = False,
) -> None:
    """Search for options on validation nodes alone. Started again after a stop, it continues."""
    from dgl_rbm.console.interrupt import sigterm_as_sigint
    from dgl_rbm.console.tune import TrialLines, best_as_json, print_best
    from dgl_rbm.experiments.tuning import tune as tuning

    console = stderr()
    resolved = gather(**options)
    with kept_on_interrupt(console, "trials", out), sigterm_as_sigint():
        result = tuning.tune(
            resolved, space=space, trials=trials, seeds=seeds, hide=hide, out=out, listener=TrialLines(console, trials)
        )
    if as_json:
        typer.echo(best_as_json(result))
    elif result.best.accuracy is not None:
        print_best(stdout(), result, hidden=bool(hide))
    if result.best.accuracy is None:
        fail(f"No trial could be trained to its end: {result.best.error}", None, 1)
