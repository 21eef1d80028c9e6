"""`dgl-rbm compare`: run several methods on several graphs, settings and seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.commands.base import fail, guarded, kept_on_interrupt, stderr, stdout
from dgl_rbm.commands.options import (
    DEFAULT_METHODS,
    DatasetsOption,
    DeviceOption,
    JobsOption,
    JsonOption,
    MaxHoursOption,
    MethodsOption,
    RecipeOption,
    SeedsOption,
    SetOption,
    SettingsOption,
    SharedTeacherOption,
    SplitOption,
    ThreadsOption,
)

__all__ = ["compare"]


@guarded
def compare(
    methods: MethodsOption = DEFAULT_METHODS,
    datasets: DatasetsOption = "digits",
    settings: SettingsOption = "transductive,inductive",
    seeds: SeedsOption = "3",
    recipe: RecipeOption = "published",
    teacher: SharedTeacherOption = None,
    split: SplitOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    jobs: JobsOption = 1,
    threads: ThreadsOption = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; cells that are there already are kept.")] = Path(
        "runs/compare"
    ),
    max_hours: MaxHoursOption = None,
    page: Annotated[
        Path | None, typer.Option("--report", help="Markdown page to write too; `dgl-rbm report` does it later.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run several methods on several graphs, settings and seeds. Started again after a stop, it continues."""
    from dgl_rbm.console.compare import names_of, print_tables, run_comparison

    console = stderr()
    if page is not None:
        from dgl_rbm.experiments.page import check_page

        # Now rather than after hours of training.
        check_page(page, "--report")
    with kept_on_interrupt(console, "cells", out):
        rows = run_comparison(
            console,
            methods=names_of(methods),
            datasets=names_of(datasets),
            settings=names_of(settings),
            seeds=seeds,
            recipe=recipe,
            teacher=teacher,
            split=split,
            overrides=overrides or [],
            device=device,
            jobs=jobs,
            threads=threads,
            out=out,
            max_hours=max_hours,
        )
    if page is not None:
        from dgl_rbm.experiments.page import write_page

        write_page([out], page, option="--report")
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_tables(stdout(), rows)
        console.print(f"Saved in {out}: results.csv and the tables in Markdown, LaTeX and HTML. Next:", soft_wrap=True)
        console.print(f"  dgl-rbm report {out} --out results.md", soft_wrap=True, highlight=False)
    failed = sum(row["status"] != "ok" for row in rows)
    if failed:
        fail(f"{failed} of {len(rows)} runs failed.", f"See {out / 'errors'}; the same command tries them again.", 1)
