"""`dgl-rbm init`: write a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dgl_rbm.commands.base import gather, guarded
from dgl_rbm.commands.options import RUN_OPTIONS, takes
from dgl_rbm.console.loading import DGL, TORCH
from dgl_rbm.errors import ConfigError, command

__all__ = ["init"]


@guarded(TORCH, DGL)
@takes(RUN_OPTIONS, recipe="published")
def init(
    options: dict[str, Any],
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("distill.yaml"),
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write a complete configuration in which a comment explains every option."""
    from dgl_rbm.console.describe import commented_yaml
    from dgl_rbm.runtime.checkpoint import write_atomic

    if path.exists() and not force:
        raise ConfigError(f"'{path}' exists already.", hint="Replace it with --force, or name another file.")
    write_atomic(path, commented_yaml(gather(**options)))
    typer.echo(f"Wrote {path}. Next: {command('distill', '--config', path)}")
