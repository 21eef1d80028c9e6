"""Costs of the students, counted and measured: Table 9 of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dgl_rbm.evaluation.complexity import width_for_active_parameters
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.plots import Line, draw_categories, new_figure, save_figure
from dgl_rbm.experiments.render import Piece, TextTable
from dgl_rbm.experiments.studies.base import Choice, Study, StudyData
from dgl_rbm.experiments.studies.measure import Bench, Measured
from dgl_rbm.experiments.studies.report import StudyReport
from dgl_rbm.run.config import DistillConfig

__all__ = ["ComplexityStudy"]

Row = dict[str, Any]

# Compared in the paper; KRD's student is the MLP.
_METHODS = {"mlp": "krd", "ensemble3": "ensemble3", "moe": "moe", "rbm": "rbm"}
_EQUAL = ("equal width", "equal active size")


class ComplexityStudy(Study):
    """Parameters, multiply-adds and times of students of one width, and of as many active parameters as RbM has.

    Nothing is trained, and of settings and seeds the first ones alone are used. All students read features and the
    encodings that are the package's default, or those that an override names.
    """

    name = "complexity"
    title = "Complexity of the students"
    summary = "Total and active parameters, multiply-adds and times, at equal width and equal active size (Table 9)."
    axis = "widths"
    value_type = int
    default_values = (128,)
    varies = ("student.kind", "student.hidden_dim", "student.width_factor")
    default_seeds = 1
    trains = False

    def check(self, value: Any) -> None:
        if value < 1:
            raise ValueError("expected at least 1")

    def choices(self, options: ExperimentOptions) -> list[Choice]:
        return [
            Choice(f"{name}-{width}", method, {"student": {"hidden_dim": width}, "encoder": "diffusion"})
            for width in self.values
            for name, method in _METHODS.items()
        ]

    def measured_together(
        self, bench: Bench, configs: Mapping[str, DistillConfig], options: ExperimentOptions
    ) -> Iterator[dict[str, DistillConfig]]:
        for width in self.values:
            at_width = {name: configs[f"{name}-{width}"] for name in _METHODS}
            yield at_width
            yield _of_equal_size(bench, at_width)

    def report(self, data: StudyData, options: ExperimentOptions) -> StudyReport:
        groups = [(width, equal) for width in self.values for equal in _EQUAL]
        rows = [
            _row(dataset, width, equal, name, measured)
            for dataset, of_dataset in data.measured.items()
            for (width, equal), group in zip(groups, of_dataset, strict=True)
            for name, measured in group.items()
        ]
        report = StudyReport(self.name, self.title, data={self.name: pd.DataFrame(rows)})
        for dataset in data.measured:
            found = [row for row in rows if row["dataset"] == dataset]
            report.tables.append(_table(dataset, found))
            report.findings += _findings(dataset, found)
        report.figures.append(self._draw(rows, options.out))
        return report

    def _draw(self, found: list[Row], out: Path) -> Path:
        """Draw the work and time of each student as multiples of the MLP's, at equal width."""
        datasets = list(dict.fromkeys(row["dataset"] for row in found))
        figure, axes = new_figure(1, len(datasets), width=5.5 * len(datasets), height=4)
        for panel, dataset in zip(axes[0], datasets, strict=True):
            rows = [
                row
                for row in found
                if (row["dataset"], row["equal"], row["rbm_width"]) == (dataset, _EQUAL[0], self.values[-1])
            ]
            base = rows[0]
            places = list(range(len(rows)))
            lines = [
                Line("multiply-adds", places, [row["multiply_adds"] / base["multiply_adds"] for row in rows]),
                Line("time in batches of 1,024", places, [row["batch_ratio"] for row in rows]),
                Line("time for a single node", places, [row["single_ratio"] for row in rows]),
            ]
            title = f"{dataset}, width {self.values[-1]}"
            draw_categories(
                panel, [row["student"] for row in rows], lines, title=title, y_label="Times the perceptron's"
            )
            panel.set_ylim(bottom=0)
        return save_figure(figure, out / f"{self.name}.png")


def _row(dataset: str, rbm_width: int, equal: str, name: str, measured: Measured) -> Row:
    size, time = measured.complexity, measured.time
    return {
        "dataset": dataset,
        "rbm_width": rbm_width,
        "equal": equal,
        "student": name,
        "width": measured.student.hidden_dim,
        "parameters": size.parameters,
        "active_parameters": size.active_parameters,
        "multiply_adds": round(size.multiply_adds, 1),
        "single_us": time.single_us,
        "single_ratio": time.single_ratio,
        "batch_us": time.batch_us,
        "batch_ratio": time.batch_ratio,
    }


def _of_equal_size(bench: Bench, configs: dict[str, DistillConfig]) -> dict[str, DistillConfig]:
    """Return the configurations with the width at which each student has RbM's number of active parameters."""
    rbm = configs["rbm"]
    shape = bench.student_config(rbm)
    wanted = bench.complexity(rbm, bench.student(rbm, shape)).active_parameters
    result = {}
    for name, config in configs.items():
        sized = bench.student_config(config)
        width = width_for_active_parameters(sized, bench.in_dim(config), bench.task.num_classes, wanted)
        result[name] = config.model_copy(update={"student": sized.model_copy(update={"hidden_dim": width})})
    return result


def _table(dataset: str, found: list[Row]) -> TextTable:
    columns = [
        "",
        "width",
        "parameters",
        "active",
        "multiply-adds",
        "one node, µs",
        "× MLP",
        "batch, µs a node",
        "× MLP",
    ]
    body = [
        [
            Piece(f"{row['student']}, {row['equal']}"),
            Piece(str(row["width"])),
            Piece(f"{row['parameters']:,}"),
            Piece(f"{row['active_parameters']:,}"),
            Piece(f"{row['multiply_adds']:,.0f}"),
            Piece(f"{row['single_us']:,.0f}"),
            Piece(f"{row['single_ratio']:.2f}"),
            Piece(f"{row['batch_us']:,.2f}"),
            Piece(f"{row['batch_ratio']:.2f}"),
        ]
        for row in found
    ]
    notes = [
        "Multiply-adds of one row's products with matrices. Times on one thread, medians, of all that an unseen node "
        "needs: fetching rows, averaging neighbours' vectors, predicting. '× MLP': median ratio to the perceptron for "
        "the same request.",
    ]
    return TextTable(f"Complexity, {dataset}", columns, body, notes)


def _findings(dataset: str, found: list[Row]) -> list[str]:
    by_place = {(row["rbm_width"], row["equal"], row["student"]): row for row in found}
    findings = []
    for width in dict.fromkeys(row["rbm_width"] for row in found):
        rbm, mlp = (by_place[width, _EQUAL[0], name] for name in ("rbm", "mlp"))
        active, work = (rbm[count] / mlp[count] for count in ("active_parameters", "multiply_adds"))
        findings.append(
            f"{dataset}, width {width}: RbM has {active:.2f} times the active parameters and {work:.2f} times the "
            f"multiply-adds of the perceptron, and takes {rbm['single_ratio']:.2f} times as long for a node and "
            f"{rbm['batch_ratio']:.2f} times as long in batches."
        )
    return findings
