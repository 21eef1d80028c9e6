"""Output of `dgl-rbm study`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from dgl_rbm.console.cells import print_tables
from dgl_rbm.experiments.studies.report import StudyReport

__all__ = ["print_report"]


def print_report(console: Console, report: StudyReport, out: Path) -> None:
    """Print a study's tables and findings, and the names of its files."""
    print_tables(console, report.tables)
    for finding in report.findings:
        console.print(finding, soft_wrap=True, highlight=False)
    files = ", ".join([f"{report.name}.md", *(figure.name for figure in report.figures)])
    console.print(f"Written to {out}: {files}", soft_wrap=True, highlight=False)
