"""`dgl-rbm study`: what it asks for, and what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dgl_rbm.console.compare import CellProgress
from dgl_rbm.console.interrupt import terminated_as_by_ctrl_c
from dgl_rbm.experiments.render import to_rich
from dgl_rbm.experiments.studies.report import StudyReport

__all__ = ["print_report", "run_study"]


def run_study(
    console: Console,
    name: str,
    *,
    values: Sequence[str] | None,
    datasets: Sequence[str],
    settings: Sequence[str],
    seeds: str | None,
    recipe: str,
    teacher: str | None,
    split: str | None,
    overrides: Sequence[str],
    device: str | None,
    jobs: int,
    threads: int,
    out: Path,
    max_hours: float | None,
) -> StudyReport:
    """Run the study `name`; progress goes to `console`."""
    from dgl_rbm.experiments.grid import parse_seeds
    from dgl_rbm.experiments.studies.base import StudyOptions
    from dgl_rbm.experiments.studies.catalogue import load_study

    study = load_study(name, values)
    with terminated_as_by_ctrl_c(), CellProgress(console, jobs) as progress:
        return study.execute(
            StudyOptions(
                out=out,
                datasets=datasets,
                settings=settings,
                seeds=parse_seeds(str(study.default_seeds) if seeds is None else seeds),
                split=split,
                overrides=overrides,
                recipe=recipe,  # type: ignore[arg-type]
                teacher=teacher,
                device=device or "auto",
                jobs=jobs,
                threads=threads,
                max_hours=max_hours,
                listener=progress,
            )
        )


def print_report(console: Console, report: StudyReport, out: Path) -> None:
    """Print a study's tables and findings, and where its files are."""
    for table in report.tables:
        console.print(to_rich(table))
    for finding in report.findings:
        console.print(finding, soft_wrap=True, highlight=False)
    files = ", ".join([f"{report.name}.md", *(figure.name for figure in report.figures)])
    console.print(f"Written to {out}: {files}", soft_wrap=True, highlight=False)
