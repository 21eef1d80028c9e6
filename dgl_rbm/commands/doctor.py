"""`dgl-rbm doctor`: describe the installation."""

from __future__ import annotations

import json

import typer
from rich.table import Table
from rich.text import Text

from dgl_rbm.commands.base import guarded, stdout
from dgl_rbm.commands.options import JsonOption
from dgl_rbm.console.loading import DGL, TORCH

__all__ = ["doctor"]


@guarded(TORCH, DGL)
def doctor(as_json: JsonOption = False) -> None:
    """Print versions, CUDA, GraphBolt and the DGL build, and what follows from each."""
    from dgl_rbm.console.doctor import examine

    findings = list(examine())
    if as_json:
        typer.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        table = Table()
        for title in ("", "found", "what follows"):
            table.add_column(title)
        for finding in findings:
            table.add_row(finding.subject, Text(finding.value, style="" if finding.ok else "bold red"), finding.meaning)
        stdout().print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
