"""Accuracy against cost, over widths, encodings and splits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from dgl_rbm.evaluation.pareto import ParetoPoint, Verdict, verdicts
from dgl_rbm.experiments.names import file_name
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.plots import Line, draw_lines, new_figure, save_figure
from dgl_rbm.experiments.render import Piece, TextTable
from dgl_rbm.experiments.studies.base import Choice, Study, StudyData
from dgl_rbm.experiments.studies.measure import Bench, Measured
from dgl_rbm.experiments.studies.report import StudyReport, with_all_seeds
from dgl_rbm.experiments.summary import Summary, by_place, finished
from dgl_rbm.run.config import DistillConfig

__all__ = ["ParetoStudy", "Size"]

Row = dict[str, Any]

# KRD's student is the MLP; with encodings it is trained as KRD trains it.
_METHODS = {"mlp": "krd", "ensemble3": "ensemble3", "moe": "moe", "rbm": "rbm"}
_ENCODINGS = {"encodings": "diffusion", "features alone": "none"}
# The dataset's own split, and one with labels for most nodes.
_RICH = "0.6/0.2/0.2"
_COSTS = {
    "active_parameters": "Active parameters",
    "multiply_adds": "Multiply-adds per node",
    "single_us": "Time for one node (µs)",
    "batch_us": "Time per node in batches (µs)",
}


# Two tables, each narrow enough for a screen.
_KINDS = {
    "counted": {"active_parameters": "active parameters", "multiply_adds": "multiply-adds"},
    "measured": {"single_us": "one node, µs", "batch_us": "batch, µs a node"},
}


@dataclass(frozen=True)
class Size:
    """A method at one width, with or without encodings, on one split.

    Attributes
    ----------
    method : {"mlp", "ensemble3", "moe", "rbm"}
    width : int
        Of the hidden layers.
    encodings : {"encodings", "features alone"}
    split : str or None
        None is the dataset's own.
    """

    method: str
    width: int
    encodings: str
    split: str | None

    @property
    def name(self) -> str:
        """Its name in ``results.csv``."""
        parts = (f"{self.method}-{self.width}", self.encodings, self.split or "own split")
        return ", ".join(parts)

    def choice(self) -> Choice:
        """Return the choice that trains it."""
        changes: dict[str, Any] = {"student": {"hidden_dim": self.width}, "encoder": _ENCODINGS[self.encodings]}
        if self.split is not None:
            changes["dataset"] = {"split": self.split}
        return Choice(self.name, _METHODS[self.method], changes)


class ParetoStudy(Study):
    """Whether RbM gives the most accuracy for any number of active parameters, multiply-adds or microseconds.

    Perceptron, ensemble of three, MoE and RbM of several widths, with and without encodings, with the labels of the
    dataset's own split and with 60 % of them.
    """

    name = "pareto"
    title = "Accuracy against cost"
    summary = "Accuracy against active parameters, multiply-adds and measured times, over widths 16 to 512."
    axis = "widths"
    value_type = int
    default_values = (16, 32, 64, 128, 256, 512)
    default_seeds = 1
    varies = ("student.kind", "student.hidden_dim", "student.width_factor", "encoder", "dataset.split")

    def check(self, value: Any) -> None:
        if value < 1:
            raise ValueError("expected at least 1")

    def sizes(self, split: str | None) -> list[Size]:
        """Return everything that is compared: on the given split, or else on the dataset's own and a label-rich one."""
        splits = (None, _RICH) if split is None else (split,)
        return [
            Size(method, width, encodings, of)
            for of, encodings, width, method in product(splits, _ENCODINGS, self.values, _METHODS)
        ]

    def choices(self, options: ExperimentOptions) -> list[Choice]:
        return [size.choice() for size in self.sizes(options.split)]

    def measured_together(
        self, bench: Bench, configs: Mapping[str, DistillConfig], options: ExperimentOptions
    ) -> Iterator[dict[str, DistillConfig]]:
        # A split changes labels, which cost nothing: one split is measured.
        sizes = self.sizes(options.split)
        yield {size.name: configs[size.name] for size in sizes if size.split == sizes[0].split}

    def report(self, data: StudyData, options: ExperimentOptions) -> StudyReport:
        report = StudyReport(self.name, self.title)
        all_points: list[Row] = []
        budgets: list[Row] = []
        sizes = self.sizes(options.split)
        test, val = by_place(data.results), by_place(data.results, "val_accuracy")
        for place, split in product(test, dict.fromkeys(size.split for size in sizes)):
            (measured,) = data.measured[place[0]]
            points = {
                size.name: _point(size, measured[replace(size, split=sizes[0].split).name], test[place], val[place])
                for size in sizes
                if size.split == split and size.name in test[place]
            }
            whole = with_all_seeds(test[place])
            found = [row for name, row in points.items() if name in whole]
            where = {"dataset": place[0], "setting": place[1], "split": split or "own"}
            all_points += [where | row for row in points.values()]
            judged = {
                (encodings, cost): verdicts(_points(found, encodings, cost))
                for encodings, cost in product(_ENCODINGS, _COSTS)
            }
            budgets += [
                where | {"encodings": encodings, "cost": cost} | _verdict_row(verdict)
                for (encodings, cost), of_cost in judged.items()
                for verdict in of_cost
            ]
            title = f"{place[0]}, {place[1]}, split {split or 'of the dataset'}"
            report.tables += [*(_table(title, found, judged, kind) for kind in _KINDS), _budgets(title, judged)]
            teacher = _teacher(data.results, place, {size.name for size in sizes if size.split == split})
            stem = file_name("-".join((self.name, *place, (split or "own").replace("/", "_"))))
            report.figures.append(_draw(found, title, teacher, options.out / f"{stem}.png"))
            if len(found) < len(points):
                left_out = "; ".join(name for name in points if name not in whole)
                report.findings.append(f"{title}: left out, since they lack seeds: {left_out}.")
        report.data = {"points": pd.DataFrame(all_points), "budgets": pd.DataFrame(budgets)}
        return report


def _point(size: Size, measured: Measured, test: Mapping[str, Summary], val: Mapping[str, Summary]) -> Row:
    of_test = test[size.name]
    return {
        "method": size.method,
        "width": size.width,
        "encodings": size.encodings,
        "test_accuracy": of_test.mean,
        "test_std": of_test.std if of_test.runs > 1 else math.nan,
        "val_accuracy": val[size.name].mean,
        "runs": of_test.runs,
        "parameters": measured.complexity.parameters,
        "active_parameters": measured.complexity.active_parameters,
        "multiply_adds": measured.complexity.multiply_adds,
        "single_us": measured.time.single_us,
        "batch_us": measured.time.batch_us,
    }


def _points(found: list[Row], encodings: str, cost: str) -> list[ParetoPoint]:
    return [
        ParetoPoint(
            row["method"],
            f"{row['method']}-{row['width']}",
            row[cost],
            row["val_accuracy"],
            row["test_accuracy"],
            row["test_std"],
        )
        for row in found
        if row["encodings"] == encodings
    ]


def _verdict_row(verdict: Verdict) -> Row:
    best = verdict.best
    return {
        "budget": verdict.budget,
        "rbm": verdict.ours.name,
        "rbm_test": verdict.ours.test,
        "rbm_std": verdict.ours.std,
        "best_other": None if best is None else best.name,
        "best_test": None if best is None else best.test,
        "best_std": None if best is None else best.std,
        "gap": verdict.gap,
        "on_front": verdict.on_front,
        "within_std": verdict.within_std,
    }


def _table(title: str, found: list[Row], judged: Mapping[tuple[str, str], list[Verdict]], kind: str) -> TextTable:
    """Return a row for each size of RbM: its cost, and its rank at that budget."""
    labels = _KINDS[kind]
    body = []
    for row in (row for row in found if row["method"] == "rbm"):
        line = [Piece(f"rbm-{row['width']}, {row['encodings']}")]
        std = "" if math.isnan(row["test_std"]) else f" ± {100 * row['test_std']:.2f}"
        line.append(Piece(f"{100 * row['test_accuracy']:.2f}{std}"))
        for cost in labels:
            verdict = next(v for v in judged[row["encodings"], cost] if v.budget == row[cost])
            line += [Piece(f"{row[cost]:,.1f}" if cost.endswith("_us") else f"{row[cost]:,.0f}"), _judged(verdict)]
        body.append(line)
    columns = ["", "test"]
    for label in labels.values():
        columns += [label, "best other"]
    notes = [
        "'best other': what the others reach for the same cost or less, each with the width that validation picks, "
        "minus what RbM reaches in the same way, in points. Bold if RbM is on the front; '(1 s.d.)' if the "
        "difference is at most the standard deviation of the two.",
    ]
    return TextTable(f"RbM among others of its {kind} cost: {title}", columns, body, notes)


def _judged(verdict: Verdict) -> Piece:
    if verdict.best is None:
        return Piece("none", 1)
    within = " (1 s.d.)" if verdict.within_std and not verdict.on_front else ""
    return Piece(f"{100 * verdict.gap:+.2f} {verdict.best.name}{within}", int(verdict.on_front))


def _budgets(title: str, judged: Mapping[tuple[str, str], list[Verdict]]) -> TextTable:
    """Return for each cost the number of budgets at which RbM is on the front, and its largest deficit."""
    body = []
    for (encodings, cost), of_cost in judged.items():
        if not of_cost:
            continue
        near = sum(bool(verdict.within_std) for verdict in of_cost)
        unknown = sum(verdict.within_std is None for verdict in of_cost)
        worst = max(of_cost, key=lambda verdict: verdict.gap)
        behind = "never" if worst.best is None or worst.gap <= 0 else f"{100 * worst.gap:.2f} points, {worst.best.name}"
        body.append(
            [
                Piece(f"{_COSTS[cost]}, {encodings}"),
                Piece(f"{sum(verdict.on_front for verdict in of_cost)} of {len(of_cost)}"),
                Piece(f"{near} of {len(of_cost)}" + (f", {unknown} not known" if unknown else "")),
                Piece(behind),
                Piece("–" if behind == "never" else f"{worst.budget:,.0f}"),
            ]
        )
    notes = [
        "Budgets are the costs of all sizes of all methods, from RbM's cheapest on. A single seed has no standard "
        "deviation.",
    ]
    columns = ["", "on the front", "within 1 s.d.", "farthest behind", "at a budget of"]
    return TextTable(f"RbM at every budget: {title}", columns, body, notes)


def _teacher(results: pd.DataFrame, place: tuple[str, str], names: set[str]) -> float | None:
    """Return the teacher's mean test accuracy over the seeds, None without a teacher."""
    known = finished(results, "teacher_test_accuracy")
    dataset, setting = place
    of_place = known[(known["dataset"] == dataset) & (known["setting"] == setting) & known["method"].isin(names)]
    by_seed = of_place.drop_duplicates("seed", keep="last")["teacher_test_accuracy"]
    return None if by_seed.empty else float(by_seed.mean())


def _draw(found: list[Row], title: str, teacher: float | None, path: Path) -> Path:
    figure, axes = new_figure(len(_ENCODINGS), len(_COSTS), width=4.2 * len(_COSTS), height=3.6 * len(_ENCODINGS))
    for (i, encodings), (j, cost) in product(enumerate(_ENCODINGS), enumerate(_COSTS)):
        lines = []
        for method in _METHODS:
            of_method = [row for row in found if (row["method"], row["encodings"]) == (method, encodings)]
            stds = [0.0 if math.isnan(row["test_std"]) else 100 * row["test_std"] for row in of_method]
            accuracies = [100 * row["test_accuracy"] for row in of_method]
            lines.append(Line(method, [row[cost] for row in of_method], accuracies, stds))
        panel = axes[i, j]
        draw_lines(panel, lines, title=encodings, x_label=_COSTS[cost], y_label="Test accuracy (%)", log_x=True)
        if teacher is not None:
            panel.axhline(100 * teacher, color="#666666", linestyle=":", linewidth=1, label="teacher")
            panel.legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    return save_figure(figure, path)
