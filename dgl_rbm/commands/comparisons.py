"""Commands of many runs: comparisons, studies, and the search for options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dgl_rbm.commands.base import fail, gather, guarded, kept_on_interrupt, stderr, stdout
from dgl_rbm.console.compare_options import (
    DEFAULT_METHODS,
    DatasetsOption,
    JobsOption,
    MethodsOption,
    SeedsOption,
    SettingsOption,
    SharedTeacherOption,
    ThreadsOption,
)
from dgl_rbm.console.options import (
    ConfigOption,
    DatasetOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    MaxHoursOption,
    MethodOption,
    RecipeOption,
    RegularizerOption,
    SetOption,
    SettingOption,
    SplitOption,
    StudentOption,
    TeacherOption,
)
from dgl_rbm.console.study_options import StudyArgument, StudyOutOption, StudySeedsOption, ValuesOption

__all__ = ["compare", "report", "study", "tune"]


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
        from dgl_rbm.comparison.page import check_page

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
        from dgl_rbm.comparison.page import write_page

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


@guarded
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
    from dgl_rbm.comparison.page import write_page

    for path in write_page(folders, out, figures):
        typer.echo(f"Wrote {path}.")


@guarded
def study(
    name: StudyArgument,
    values: ValuesOption = None,
    datasets: DatasetsOption = "digits",
    settings: SettingsOption = "transductive",
    seeds: StudySeedsOption = None,
    recipe: RecipeOption = "published",
    teacher: SharedTeacherOption = None,
    split: SplitOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    jobs: JobsOption = 1,
    threads: ThreadsOption = 1,
    out: StudyOutOption = None,
    max_hours: MaxHoursOption = None,
) -> None:
    """Run a study of the paper and write its tables and figures. Started again after a stop, it continues."""
    from dgl_rbm.console.compare import names_of
    from dgl_rbm.console.study import print_report, run_study

    console = stderr()
    folder = out or Path("runs") / f"study-{name}"
    with kept_on_interrupt(console, "runs", folder):
        report = run_study(
            console,
            name,
            values=None if values is None else names_of(values),
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
            out=folder,
            max_hours=max_hours,
        )
    print_report(stdout(), report, folder)
    if report.failed:
        raise typer.Exit(1)


@guarded
def tune(
    dataset: DatasetOption = None,
    method: MethodOption = None,
    recipe: RecipeOption = "published",
    teacher: TeacherOption = None,
    student: StudentOption = None,
    encoder: EncoderOption = None,
    regularizer: RegularizerOption = None,
    setting: SettingOption = None,
    split: SplitOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
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
    from dgl_rbm.comparison.grid import parse_seeds
    from dgl_rbm.console.tune import best_as_json, print_best, run_search

    console = stderr()
    resolved = gather(
        config,
        overrides,
        dataset=dataset,
        method=method,
        recipe=recipe,
        teacher=teacher,
        student=student,
        encoder=encoder,
        regularizer=regularizer,
        setting=setting,
        split=split,
        device=device,
    )
    with kept_on_interrupt(console, "trials", out):
        search = run_search(console, resolved, seeds=parse_seeds(seeds), trials=trials, space=space, out=out, hide=hide)
    if as_json:
        typer.echo(best_as_json(search))
    elif search.best.accuracy is not None:
        print_best(stdout(), search)
    if search.best.accuracy is None:
        fail(f"No trial could be trained to its end: {search.best.error}", None, 1)
