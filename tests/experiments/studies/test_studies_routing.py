"""The study of routing: equal numbers of experts, kept runs, numbers, figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
import torch

from dgl_rbm.data.load import load_task
from dgl_rbm.errors import TimeBudgetError
from dgl_rbm.evaluation.routing import expert_label_nmi
from dgl_rbm.evaluation.scores import student_inputs
from dgl_rbm.experiments.listener import Listener
from dgl_rbm.experiments.options import ExperimentOptions
from dgl_rbm.experiments.studies.catalogue import load_study
from dgl_rbm.run.run import Run
from dgl_rbm.training.routing_record import top_experts

Options = Callable[..., ExperimentOptions]
QUICK = ("student.pretrain_epochs=1", "encoder=none")


class Cells(Listener):
    def __init__(self) -> None:
        self.count = 0

    def on_cell(self, outcome: Any) -> None:
        self.count += 1


def test_both_have_as_many_experts(tiny: Options) -> None:
    cells = load_study("routing").cells(tiny(datasets=["cpf-cora"], seeds=[0], overrides=[]))
    options = [(c.variant, c.config.student.num_experts, c.config.student.top_k) for c in cells]  # type: ignore[attr-defined]
    # The published RbM for Cora has fewer experts than the published MoE.
    assert options == [("rbm", options[0][1], 3), ("moe", options[0][1], 3)]
    assert all(cell.config.training.record_routing for cell in cells)


def test_numbers_figures_and_a_second_time(tiny: Options, tmp_path: Path) -> None:
    first, second = Cells(), Cells()
    # Of these nodes enough are unseen to be drawn.
    changes = (*QUICK, "dataset.num_nodes=300")
    report = load_study("routing").execute(tiny(*changes, settings=["inductive"], listener=first))
    assert first.count == 4
    with (tmp_path / "routing.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for cell in load_study("routing").cells(tiny(*changes, settings=["inductive"])):
        row = next(r for r in rows if (r["student"], int(r["seed"])) == (cell.variant, cell.seed))
        folder = tmp_path / "runs" / cell.key
        run, config = Run.load(folder), cell.config
        task = load_task(config.dataset, config.setting, config.seed)
        # Unseen nodes alone, in the inductive setting.
        ids = task.unseen_idx
        labels = task.test_labels()[torch.isin(task.test_idx, ids)]
        routing = run.student.routings(student_inputs(run.predictor.encodings, task, ids))[-1][1]  # type: ignore[operator]
        assert float(row["information"]) == pytest.approx(expert_label_nmi(top_experts(routing.gates), labels))
        assert float(row["most_used"]) == pytest.approx(max(routing.gates.mean(dim=0).tolist()))
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        recorded = [entry["stability_2"] for entry in history if "stability_2" in entry]
        assert float(row["stability"]) == pytest.approx(sum(recorded) / len(recorded))
        assert not (folder / "checkpoints").exists()
    names = ["routing-synthetic-inductive.png", "routing-synthetic-inductive-epochs.png"]
    assert [figure.name for figure in report.figures] == names
    assert all(min(matplotlib.image.imread(figure).shape[:2]) > 300 for figure in report.figures)
    again = load_study("routing").execute(tiny(*changes, settings=["inductive"], listener=second))
    assert second.count == 0
    assert again.to_markdown() == report.to_markdown()


def test_runs_kept_without_their_metrics_are_not_trained_again(tiny: Options, tmp_path: Path) -> None:
    options = tiny(*QUICK, "dataset.num_nodes=300", seeds=[0])
    load_study("routing").run(options)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    assert before
    for file in (tmp_path / "cells").iterdir():
        file.unlink()
    assert load_study("routing").execute(options).failed.empty
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")} == before


def test_a_run_that_failed_leaves_the_others(tiny: Options, tmp_path: Path) -> None:
    # A learning rate that is no longer finite in float32 after a step.
    report = load_study("routing").execute(tiny(*QUICK, "training.lr=1.0e+38", seeds=[0]))
    assert len(report.failed) == 2
    assert not report.figures
    assert not list((tmp_path / "runs").glob("*/checkpoints"))


def test_time_runs_out_between_runs(tiny: Options, tmp_path: Path) -> None:
    with pytest.raises(TimeBudgetError, match="used up"):
        load_study("routing").execute(tiny(*QUICK, max_hours=1e-9))
    assert load_study("routing").execute(tiny(*QUICK, seeds=[0])).failed.empty
