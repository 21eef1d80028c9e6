"""Specialisation of experts: Figure 4 of the paper, its mutual information, and routing over epochs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgl_rbm.data.load import load_task
from dgl_rbm.evaluation.routing import RoutedRows, expert_label_nmi, routed_rows, tsne_embedding
from dgl_rbm.evaluation.scores import student_inputs
from dgl_rbm.experiments.cell import Cell
from dgl_rbm.experiments.names import file_name
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.plots import Line, Points, draw_lines, draw_points, new_figure, save_figure
from dgl_rbm.experiments.render import Piece, TextTable
from dgl_rbm.experiments.studies.base import Choice, Study, StudyData
from dgl_rbm.experiments.studies.report import StudyReport
from dgl_rbm.methods.catalogue import merged
from dgl_rbm.registry import students
from dgl_rbm.run.run import Run
from dgl_rbm.training.routing_record import expert_utilisation, top_experts

__all__ = ["RoutingStudy"]

Row = dict[str, Any]

_NAMES = {"rbm": "RbM", "moe": "MoE"}
# t-SNE takes a minute for these, and more points would hide each other.
_MOST_POINTS = 2000
_LAST_EPOCHS = 20


@dataclass(frozen=True)
class _Routed:
    """A finished run's last router on the test nodes (inductive: the unseen ones)."""

    cell: Cell
    rows: RoutedRows
    labels: Tensor
    history: list[dict[str, Any]]
    layers: int
    test_accuracy: float

    @property
    def experts(self) -> Tensor:
        return top_experts(self.rows.gates)

    @property
    def information(self) -> float:
        return expert_label_nmi(self.experts, self.labels)


@dataclass(frozen=True)
class _AsManyExperts(Choice):
    """A choice with as many experts as RbM has; mutual information depends on their number.

    If RbM selects its numbers or has one per layer, the choice keeps its own.
    """

    def values(self, dataset: str, setting: str, options: ExperimentOptions) -> dict[str, Any]:
        rbm = students.resolve(Choice("rbm").values(dataset, setting, options)["student"])
        own = super().values(dataset, setting, options)
        if not isinstance(rbm.num_experts, int):
            return own
        return merged(own, {"student": {"num_experts": rbm.num_experts, "top_k": rbm.top_k}})


class RoutingStudy(Study):
    """RbM beside a mixture of experts with as many experts: the routing of their last layers on the test nodes."""

    name = "routing"
    title = "What routing learned"
    summary = (
        "t-SNE of the last router's space by label and by top expert, their mutual information, and curves (Fig. 4)."
    )
    varies = ("student.kind", "student.num_experts", "student.top_k", "training.record_routing")
    keeps_runs = True

    def choices(self, options: ExperimentOptions) -> list[Choice]:
        recorded = {"training": {"record_routing": True}}
        return [Choice("rbm", "rbm", recorded), _AsManyExperts("moe", "moe", recorded)]

    def report(self, data: StudyData, options: ExperimentOptions) -> StudyReport:
        report = StudyReport(self.name, self.title)
        rows: list[Row] = []
        places: dict[tuple[str, str], list[_Routed]] = {}
        for cell, (_, result) in zip(data.cells, data.results.iterrows(), strict=True):
            if result["status"] == "ok":
                run = _read(cell, data.store.run_folder(cell), result["test_accuracy"])
                places.setdefault((cell.dataset, cell.setting), []).append(run)
        for place, runs in places.items():
            found = [_numbers(run) for run in runs]
            rows += found
            report.tables.append(_table(", ".join(place), found))
            first = {run.cell.variant: run for run in runs if run.cell.seed == runs[0].cell.seed}
            stem = file_name("-".join((self.name, *place)))
            report.figures.append(_draw_spaces(first, options.out / f"{stem}.png"))
            report.figures.append(_draw_curves(first, options.out / f"{stem}-epochs.png"))
        report.data[self.name] = pd.DataFrame(rows)
        return report


def _read(cell: Cell, folder: Path, test_accuracy: float) -> _Routed:
    run = Run.load(folder)
    config = cell.config
    task = load_task(config.dataset, config.setting, config.seed)
    scored = torch.isin(task.test_idx, task.unseen_idx) if cell.setting == "inductive" else slice(None)
    ids = task.test_idx[scored]
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    return _Routed(
        cell,
        routed_rows(run.student, student_inputs(run.predictor.encodings, task, ids)),
        task.test_labels()[scored],
        [entry for entry in history if entry["stage"] == "student"],
        len(run.student.routers()),
        test_accuracy,
    )


def _numbers(run: _Routed) -> Row:
    stability = [entry[f"stability_{run.layers}"] for entry in run.history if f"stability_{run.layers}" in entry]
    last = stability[-_LAST_EPOCHS:]
    shares = expert_utilisation(run.rows.gates)
    return {
        "student": run.cell.variant,
        "dataset": run.cell.dataset,
        "setting": run.cell.setting,
        "seed": run.cell.seed,
        "experts": len(shares),
        "test_accuracy": run.test_accuracy,
        "information": run.information,
        "most_used": float(shares.max()),
        "least_used": float(shares.min()),
        "stability": mean(last) if last else None,
    }


def _table(title: str, found: list[Row]) -> TextTable:
    columns = {
        "test accuracy, %": ("test_accuracy", 100),
        "NMI of top expert and label": ("information", 1),
        "most used expert, %": ("most_used", 100),
        "least used, %": ("least_used", 100),
        f"stability, last {_LAST_EPOCHS} epochs, %": ("stability", 100),
    }
    body = []
    for student, name in _NAMES.items():
        of_student = [row for row in found if row["student"] == student]
        if not of_student:
            continue
        line = [Piece(f"{name}, {of_student[0]['experts']} experts")]
        for column, scale in columns.values():
            line.append(Piece(_spread([scale * row[column] for row in of_student if row[column] is not None])))
        body.append(line)
    notes = [
        "Of the last layer on the test nodes, in the inductive setting on the unseen ones. NMI: normalised mutual "
        "information, 1 where top expert and label determine each other. Use: an expert's share of the gates. "
        "Stability: share of the training graph's nodes whose top expert is the one of the epoch before.",
    ]
    return TextTable(f"Routing: {title}", ["", *columns], body, notes)


def _spread(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _draw_spaces(runs: Mapping[str, _Routed], path: Path) -> Path:
    figure, axes = new_figure(len(runs), 2, width=11, height=4.6 * len(runs))
    for panels, (student, run) in zip(axes, runs.items(), strict=True):
        chosen = np.sort(np.random.default_rng(0).permutation(len(run.labels))[:_MOST_POINTS])
        points = tsne_embedding(run.rows.points[torch.from_numpy(chosen)], spherical=run.rows.spherical)
        by_label = Points(points, run.labels[chosen].numpy(), "label")
        by_expert = Points(points, run.experts[chosen].numpy(), "top expert")
        draw_points(panels[0], by_label, title=f"{_NAMES[student]}, by label")
        draw_points(panels[1], by_expert, title=f"{_NAMES[student]}, by top expert, NMI {run.information:.2f}")
    return save_figure(figure, path)


def _draw_curves(runs: Mapping[str, _Routed], path: Path) -> Path:
    figure, axes = new_figure(1, len(runs) + 1, width=5 * (len(runs) + 1), height=4)
    stability = []
    for panel, (student, run) in zip(axes[0], runs.items(), strict=False):
        routed = [entry for entry in run.history if f"utilisation_{run.layers}_0" in entry]
        epochs = [entry["step"] for entry in routed]
        lines = [
            Line(f"expert {expert}", epochs, [100 * entry[f"utilisation_{run.layers}_{expert}"] for entry in routed])
            for expert in range(run.rows.gates.shape[1])
        ]
        title = f"{_NAMES[student]}, last layer"
        draw_lines(panel, lines, title=title, x_label="Epoch", y_label="Share of the gates (%)", markers=False)
        panel.set_ylim(bottom=0)
        steady = [entry for entry in routed if f"stability_{run.layers}" in entry]
        values = [100 * entry[f"stability_{run.layers}"] for entry in steady]
        stability.append(Line(_NAMES[student], [entry["step"] for entry in steady], values))
    draw_lines(
        axes[0, -1],
        stability,
        title="Stability, last layer",
        x_label="Epoch",
        y_label="Nodes that keep their top expert (%)",
        markers=False,
    )
    return save_figure(figure, path)
