"""`dgl-rbm compare`: run several methods on several graphs, settings and seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dgl_rbm.commands.base import fail, guarded, kept_on_interrupt, stderr, stdout
from dgl_rbm.commands.options import (
    DEFAULT_METHODS,
    EXPERIMENT_DEFAULTS,
    EXPERIMENT_OPTIONS,
    JsonOption,
    MethodsOption,
    takes,
)
from dgl_rbm.console.loading import DGL, TORCH
from dgl_rbm.errors import command

__all__ = ["compare"]


@guarded(TORCH, DGL)
@takes(EXPERIMENT_OPTIONS, **EXPERIMENT_DEFAULTS)
def compare(
    options: dict[str, Any],
    methods: MethodsOption = DEFAULT_METHODS,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; cells that are there already are kept.")] = Path(
        "runs/compare"
    ),
    page: Annotated[
        Path | None, typer.Option("--report", help="Markdown page to write too; `dgl-rbm report` does it later.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run several methods on several graphs, settings and seeds. Started again after a stop, it continues."""
    from dgl_rbm.console.cells import CellProgress, print_tables
    from dgl_rbm.console.interrupt import sigterm_as_sigint
    from dgl_rbm.experiments import comparison
    from dgl_rbm.experiments.page import check_page, write_page
    from dgl_rbm.experiments.results import to_records

    console = stderr()
    if page is not None:
        # Now rather than after hours of training.
        check_page(page, "--report")
    with kept_on_interrupt(console, "cells", out), sigterm_as_sigint(), CellProgress(console) as progress:
        compared = comparison.compare(methods, **options, out=out, listener=progress)
    if page is not None:
        write_page([out], page, option="--report")
    if as_json:
        typer.echo(json.dumps(to_records(compared.results), indent=2))
    else:
        print_tables(stdout(), compared.tables)
        console.print(f"Saved in {out}: results.csv and the tables in Markdown and LaTeX. Next:", soft_wrap=True)
        console.print(f"  {command('report', out, '--out', 'results.md')}", soft_wrap=True, highlight=False)
    failed = len(compared.failed)
    if failed:
        hint = f"See {out / 'errors'}; the same command tries them again."
        fail(f"{failed} of {len(compared.results)} runs failed.", hint, 1)
