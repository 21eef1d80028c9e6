"""`dgl-rbm study`: run a study of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dgl_rbm.commands.base import guarded, kept_on_interrupt, stderr, stdout
from dgl_rbm.commands.options import EXPERIMENT_DEFAULTS, EXPERIMENT_OPTIONS, StudyArgument, ValuesOption, takes
from dgl_rbm.console.loading import DGL, TORCH

__all__ = ["study"]


@guarded(TORCH, DGL)
@takes(EXPERIMENT_OPTIONS, **EXPERIMENT_DEFAULTS | {"settings": "transductive", "seeds": None})
def study(
    options: dict[str, Any],
    name: StudyArgument,
    values: ValuesOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder; runs that are there already are kept. Default: runs/study-NAME."),
    ] = None,
) -> None:
    """Run a study of the paper and write its tables and figures. Started again after a stop, it continues."""
    from dgl_rbm.console.cells import CellProgress
    from dgl_rbm.console.interrupt import sigterm_as_sigint
    from dgl_rbm.console.study import print_report
    from dgl_rbm.experiments.options import as_names
    from dgl_rbm.experiments.studies import catalogue

    console = stderr()
    folder = out or Path("runs") / f"study-{name}"
    chosen = None if values is None else as_names(values)
    with kept_on_interrupt(console, "runs", folder), sigterm_as_sigint(), CellProgress(console) as progress:
        report = catalogue.study(name, chosen, **options, out=folder, listener=progress)
    print_report(stdout(), report, folder)
    if len(report.failed):
        raise typer.Exit(1)
