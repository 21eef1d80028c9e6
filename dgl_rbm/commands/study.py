"""`dgl-rbm study`: run a study of the paper."""

from __future__ import annotations

from pathlib import Path

import typer

from dgl_rbm.commands.base import guarded, kept_on_interrupt, stderr, stdout
from dgl_rbm.commands.options import (
    DatasetsOption,
    DeviceOption,
    JobsOption,
    MaxHoursOption,
    RecipeOption,
    SetOption,
    SettingsOption,
    SharedTeacherOption,
    SplitOption,
    StudyArgument,
    StudyOutOption,
    StudySeedsOption,
    ThreadsOption,
    ValuesOption,
)

__all__ = ["study"]


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
