"""`dgl-rbm report`: write a page of comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.commands.base import guarded

__all__ = ["report"]


@guarded()
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of comparisons, with their results.csv; their runs are put together.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Markdown file to write.")] = Path("results.md"),
    figures: Annotated[
        Path | None, typer.Option(help="Folder for the figures; by default named like the file, without its suffix.")
    ] = None,
) -> None:
    """Write a page with the tables, figures, commands, versions and hardware of one or more comparisons."""
    from dgl_rbm.experiments.page import write_page

    for path in write_page(folders, out, figures):
        typer.echo(f"Wrote {path}.")
