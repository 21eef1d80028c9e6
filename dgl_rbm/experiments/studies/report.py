"""What a study leaves behind in its folder: tables, the numbers behind them, figures, and sentences."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dgl_rbm.experiments.render import TextTable, to_latex, to_markdown
from dgl_rbm.experiments.summary import Summary, summarize
from dgl_rbm.runtime.checkpoint import write_atomic

__all__ = ["StudyReport", "by_place", "percent", "with_all_seeds"]

# Dataset and setting to variant to its summary.
Places = dict[tuple[str, str], dict[str, Summary]]


def percent(summary: Summary) -> str:
    """Return the mean, and of several runs the sample standard deviation, in percent."""
    return f"{100 * summary.mean:.2f}" + (f" ± {100 * summary.std:.2f}" if summary.runs > 1 else "")


def by_place(rows: Iterable[Mapping[str, Any]], column: str = "test_accuracy") -> Places:
    """Return by dataset and setting, and then by variant, the summary of one column over the seeds.

    Parameters
    ----------
    rows : iterable of mapping
        What `dgl_rbm.experiments.runner.run_cells` returns; runs that failed, and those without a value, do not count.
    column : str
        Its name.
    """
    rows = list(rows)
    places: Places = {}
    for setting in dict.fromkeys(row["setting"] for row in rows):
        found = summarize((row for row in rows if row["setting"] == setting), column)
        for (dataset, variant), summary in found.items():
            places.setdefault((dataset, setting), {})[variant] = summary
    return places


def with_all_seeds(found: Mapping[str, Summary]) -> dict[str, Summary]:
    """Return those of a dataset and setting that have every seed: a mean over fewer is not to be ranked with others."""
    seeds = {seed for summary in found.values() for seed in summary.by_seed}
    return {name: summary for name, summary in found.items() if summary.runs == len(seeds)}


@dataclass
class StudyReport:
    """Tables, numbers, figures and sentences of a finished study.

    Attributes
    ----------
    name, title : str
        Of the study.
    tables : list of TextTable
    data : dict of str to list of dict
        Name of a CSV file, without its ending, to its rows, all with the same keys.
    figures : list of Path
        Files in the study's folder.
    findings : list of str
        Sentences.
    failed : int
        Runs that failed, and are not part of the tables.
    """

    name: str
    title: str
    tables: list[TextTable] = field(default_factory=list)
    data: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    figures: list[Path] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    failed: int = 0

    def to_markdown(self) -> str:
        """Return the whole report in Markdown."""
        parts = [f"# {self.title}\n", *map(to_markdown, self.tables)]
        if self.findings:
            parts.append("## Findings\n\n" + "\n".join(f"- {finding}" for finding in self.findings) + "\n")
        parts += [f"![{self.title}]({figure.name})\n" for figure in self.figures]
        return "\n".join(parts)

    def write(self, out: Path) -> Path:
        """Write ``NAME.md``, ``NAME.tex`` and the CSV files to the folder `out`; return the path of the first."""
        for name, rows in self.data.items():
            write_atomic(out / f"{name}.csv", _csv(rows))
        write_atomic(out / f"{self.name}.tex", "\n".join(map(to_latex, self.tables)))
        path = out / f"{self.name}.md"
        write_atomic(path, self.to_markdown())
        return path


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
