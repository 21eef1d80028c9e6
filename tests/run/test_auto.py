"""`auto`: which candidate is kept, that each trains as if alone, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from dgl_rbm import NodeTask
from dgl_rbm.console.summary import print_comparison
from dgl_rbm.errors import ConfigError, TrainingError
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.run import Run
from dgl_rbm.runtime.callbacks import Callback

from .conftest import quick_distiller

WIDE, NARROW = {"kind": "mlp", "hidden_dim": 16}, {"kind": "mlp", "hidden_dim": 2}
CANDIDATES: list[Any] = [NARROW, {"kind": "rbm", "hidden_dim": 8}, WIDE]


def automatic(*candidates: Any, **options: Any) -> Any:
    return quick_distiller(student={"kind": "auto", "candidates": list(candidates)}, **options)


def test_the_best_on_validation_is_kept_and_is_what_it_would_be_alone(task: NodeTask) -> None:
    result = automatic(*CANDIDATES).fit(task)
    records = result.metrics.candidates
    alone = [quick_distiller(student=candidate).fit(task) for candidate in CANDIDATES]
    labels = task.val_labels()
    for record, other in zip(records, alone, strict=True):
        assert record.kind == other.metrics.student.kind
        assert record.val_accuracy == pytest.approx(other.metrics.student.val_accuracy)
        loss = torch.nn.functional.cross_entropy(other.student_logits[task.val_idx], labels)
        assert record.val_loss == pytest.approx(float(loss), rel=1e-4)
        assert record.active_parameters == other.student.num_active_parameters()
    keys = [(record.val_accuracy, -record.val_loss) for record in records]
    best = keys.index(max(keys))
    for name, tensor in alone[best].student.state_dict().items():
        assert torch.equal(tensor, result.student.state_dict()[name]), name
    assert result.config.student == alone[best].config.student
    assert {entry.get("candidate") for entry in result.history if entry["stage"] == "student"} == {0, 1, 2}


def test_test_labels_do_not_choose(task: NodeTask) -> None:
    first = automatic(*CANDIDATES).fit(task)
    task._labels[task.test_idx] = (task._labels[task.test_idx] + 1) % task.num_classes
    second = automatic(*CANDIDATES).fit(task)
    assert first.metrics.candidates == second.metrics.candidates
    assert first.config.student == second.config.student


def test_a_stopped_choice_continues_to_the_same_result(tmp_path: Path) -> None:
    class StopInSecond(Callback):
        starts = 0

        def on_stage_start(self, stage: str, total: int, unit: str) -> None:
            self.starts += stage == "student"

        def on_step(self, stage: str, done: int, metrics: object) -> None:
            if stage == "student" and self.starts == 2 and done == 15:
                raise KeyboardInterrupt

    def run(*callbacks: Callback, out: Path | None = None) -> Any:
        small = {"kind": "synthetic", "num_nodes": 120, "num_classes": 3}
        return automatic(*CANDIDATES, callbacks=callbacks).fit(small, out=out)

    expected = run()
    with pytest.raises(KeyboardInterrupt):
        run(StopInSecond(), out=tmp_path)
    resumed = run(out=tmp_path)
    assert resumed.metrics.candidates == expected.metrics.candidates
    for name, tensor in expected.student.state_dict().items():
        assert torch.equal(tensor, resumed.student.state_dict()[name]), name
    assert resumed.history == expected.history


def test_a_candidate_that_diverges_is_left_out(task: NodeTask, tmp_path: Path) -> None:
    diverging = {"kind": "rbm", "hidden_dim": 8, "commitment_weight": 1e39}
    result = automatic(diverging, NARROW).fit(task)
    failed, kept = result.metrics.candidates
    assert failed.val_accuracy is None
    assert "loss" in failed.error
    assert result.metrics.student.kind == kept.kind == "mlp"
    console = Console(record=True, width=120)
    print_comparison(console, result.metrics, tmp_path)
    assert "diverged" in console.export_text()
    with pytest.raises(TrainingError):
        automatic(diverging, diverging).fit(task)


def test_a_saved_run_is_that_of_the_winner(task: NodeTask, tmp_path: Path) -> None:
    result = automatic(*CANDIDATES).fit(task)
    folder = result.save(tmp_path / "run")
    again = Run.load(folder)
    rows = result.inputs([0, 1, 2])
    assert torch.equal(again.predictor.student.logits(rows), result.student.logits(rows))
    console = Console(record=True, width=120)
    print_comparison(console, result.metrics, folder)
    assert "Candidates on the validation nodes" in console.export_text()


@pytest.mark.parametrize(
    ("candidates", "complaint"),
    [
        ("mlp", "expected a list of students"),
        (["mpl", "auto"], "candidate 0: There is no student 'mpl'"),
        (["auto"], "cannot be a candidate of itself"),
        ([{"kind": "rbm", "num_expert": 4}], "num_experts"),
        ([], "at least 1"),
    ],
)
def test_wrong_candidates_are_refused(candidates: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        resolve_config({"student": {"kind": "auto", "candidates": candidates}})
