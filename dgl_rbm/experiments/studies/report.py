"""Result of a study: tables, the numbers behind them, figures and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from dgl_rbm.experiments.render import TextTable, to_latex, to_markdown
from dgl_rbm.experiments.results import results_frame
from dgl_rbm.experiments.summary import Summary
from dgl_rbm.runtime.checkpoint import write_atomic

__all__ = ["StudyReport", "percent", "with_all_seeds"]


def percent(summary: Summary) -> str:
    """Return the mean in percent, with the sample standard deviation if there are several runs."""
    return f"{100 * summary.mean:.2f}" + (f" ± {100 * summary.std:.2f}" if summary.runs > 1 else "")


def with_all_seeds(found: Mapping[str, Summary]) -> dict[str, Summary]:
    """Return the summaries over every seed: means over fewer seeds are not comparable with them."""
    seeds = {seed for summary in found.values() for seed in summary.by_seed}
    return {name: summary for name, summary in found.items() if summary.runs == len(seeds)}


@dataclass
class StudyReport:
    """Tables, numbers, figures and findings of a finished study.

    Attributes
    ----------
    name, title : str
        Of the study.
    results : DataFrame
        One row per run, as in ``results.csv``; empty if nothing was trained.
    tables : list of TextTable
    data : dict of str to DataFrame
        Name of a CSV file, without its suffix, to its content.
    figures : list of Path
        Files in the study's folder.
    findings : list of str
        Sentences.
    """

    name: str
    title: str
    results: pd.DataFrame = field(default_factory=lambda: results_frame([]))
    tables: list[TextTable] = field(default_factory=list)
    data: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: list[Path] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def failed(self) -> pd.DataFrame:
        """The runs that failed; they are not part of the tables."""
        return self.results[self.results["status"] != "ok"]

    def to_markdown(self) -> str:
        """Return the whole report in Markdown."""
        parts = [f"# {self.title}\n", *map(to_markdown, self.tables)]
        if self.findings:
            parts.append("## Findings\n\n" + "\n".join(f"- {finding}" for finding in self.findings) + "\n")
        parts += [f"![{self.title}]({figure.name})\n" for figure in self.figures]
        return "\n".join(parts)

    def write(self, out: Path) -> Path:
        """Write ``NAME.md``, ``NAME.tex`` and the CSV files to the folder `out`; return the path of the first."""
        for name, frame in self.data.items():
            write_atomic(out / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
        write_atomic(out / f"{self.name}.tex", "\n".join(map(to_latex, self.tables)))
        path = out / f"{self.name}.md"
        write_atomic(path, self.to_markdown())
        return path
