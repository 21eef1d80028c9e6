"""Base of the studies that compare accuracies: tables of test and validation accuracies, and a figure."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.plots import Line, draw_categories, draw_lines, new_figure, save_figure
from dgl_rbm.experiments.studies.base import Study, StudyData
from dgl_rbm.experiments.studies.report import StudyReport, percent, with_all_seeds
from dgl_rbm.experiments.summary import Places, Summary, by_place
from dgl_rbm.experiments.tables import accuracy_table

__all__ = ["AccuracyStudy"]


class AccuracyStudy(Study):
    """A study that compares accuracies; subclasses define the choices and the figure."""

    def report(self, data: StudyData, options: ExperimentOptions) -> StudyReport:
        report = StudyReport(self.name, self.title)
        for metric in ("test_accuracy", "val_accuracy"):
            tables = (accuracy_table(data.results, setting, metric) for setting in options.settings)
            report.tables += [table for table in tables if table is not None]
        test, val = by_place(data.results), by_place(data.results, "val_accuracy")
        report.findings += [f"{', '.join(place)}: {self.finding(test[place], val[place])}" for place in test]
        if test:
            names = list(dict.fromkeys(cell.variant for cell in data.cells))
            report.figures.append(self.draw(test, val, names, options.out))
        return report

    def finding(self, test: dict[str, Summary], val: dict[str, Summary]) -> str:
        """Return a sentence on one dataset and setting: what validation selects, and its test accuracy."""
        ranked = with_all_seeds(val)
        if not ranked:
            return "nothing has all seeds, so nothing is picked."
        picked = max(ranked, key=lambda name: val[name].mean)
        best = max(ranked, key=lambda name: test[name].mean)
        sentence = f"validation picks '{picked}' ({percent(val[picked])}), which has {percent(test[picked])} on test"
        if picked != best:
            sentence += f"; the highest on test is '{best}' with {percent(test[best])}"
        left_out = ", ".join(f"'{name}'" for name in val if name not in ranked)
        return sentence + (f"; left out, since they lack seeds: {left_out}." if left_out else ".")

    @abstractmethod
    def draw(self, test: Places, val: Places, names: list[str], out: Path) -> Path:
        """Draw the study's figure; `names` are those of the choices."""

    def draw_by_category(self, test: Places, names: list[str], out: Path) -> Path:
        """Draw a panel for each dataset, with one position per choice and one colour per setting."""
        datasets = list(dict.fromkeys(dataset for dataset, _ in test))
        figure, axes = new_figure(1, len(datasets), width=max(5.5, 0.9 * len(names)) * len(datasets), height=4)
        for panel, dataset in zip(axes[0], datasets, strict=True):
            lines = []
            for place in (place for place in test if place[0] == dataset):
                found = [(i, test[place][name]) for i, name in enumerate(names) if name in test[place]]
                lines.append(_line(place[1], found))
            draw_categories(panel, names, lines, title=dataset, y_label="Test accuracy (%)")
        return save_figure(figure, out / f"{self.name}.png")

    def draw_by_value(self, test: Places, val: Places, names: list[str], out: Path, *, x_label: str) -> Path:
        """Draw a panel for each dataset and setting: test and validation accuracy over the study's values."""
        named = list(zip(self.values, names, strict=True))
        figure, axes = new_figure(1, len(test), width=5 * len(test), height=4)
        for panel, place in zip(axes[0], test, strict=True):
            lines = [
                _line(what, [(x, found[place][name]) for x, name in named if name in found[place]])
                for what, found in (("test", test), ("validation", val))
            ]
            draw_lines(panel, lines, title=", ".join(place), x_label=x_label, y_label="Accuracy (%)")
        return save_figure(figure, out / f"{self.name}.png")


def _line(name: str, found: list[tuple[Any, Summary]]) -> Line:
    return Line(
        name,
        [x for x, _ in found],
        [100 * summary.mean for _, summary in found],
        [100 * summary.std for _, summary in found],
    )
