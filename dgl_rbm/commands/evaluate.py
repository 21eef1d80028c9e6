"""`dgl-rbm evaluate`: score a saved student again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.commands.base import guarded, stdout
from dgl_rbm.commands.completion import complete_run
from dgl_rbm.commands.options import JsonOption
from dgl_rbm.console.loading import DGL, TORCH

__all__ = ["evaluate"]


@guarded(TORCH, DGL)
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", autocompletion=complete_run)],
    as_json: JsonOption = False,
) -> None:
    """Load a saved student and score it again on the graph that it was made from."""
    from dgl_rbm.console.summary import print_scores
    from dgl_rbm.run.run import Run

    metrics = Run.load(run).evaluate()
    if as_json:
        typer.echo(json.dumps(metrics.model_dump(mode="json", exclude_none=True), indent=2))
        return
    print_scores(stdout(), metrics)
