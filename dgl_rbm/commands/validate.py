"""`dgl-rbm validate`: check a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.commands.base import gather, guarded
from dgl_rbm.commands.options import SetOption
from dgl_rbm.console.loading import DGL, TORCH
from dgl_rbm.errors import command

__all__ = ["validate"]


@guarded(TORCH, DGL)
def validate(
    path: Annotated[Path, typer.Argument(help="Configuration file.")],
    overrides: SetOption = None,
    data: Annotated[bool, typer.Option("--data", help="Load the graph too and check it.")] = False,
) -> None:
    """Check a configuration, and with --data its graph, without training anything."""
    resolved = gather(path, overrides)
    typer.echo(f"{path}: the configuration is valid.")
    sets = [word for override in overrides or [] for word in ("--set", override)]
    if data:
        from dgl_rbm.data.load import load_task

        task = load_task(resolved.dataset, resolved.setting, resolved.seed)
        counts = f"{len(task.train_idx)} training, {len(task.val_idx)} validation, {len(task.test_idx)} test"
        typer.echo(
            f"{task.name}: {task.graph.num_nodes()} nodes, {task.graph.num_edges()} edges, "
            f"{task.features.shape[1]} features, {task.num_classes} classes; {counts} nodes."
        )
    typer.echo(f"Next: {command('distill', '--config', path, *sets)}")
