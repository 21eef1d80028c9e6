"""Validation chooses the encoder: by what a quick student makes of the encodings of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from dgl_rbm import Callback, Distiller, NodeTask, Run
from dgl_rbm.config import ComponentConfig
from dgl_rbm.console.summary import print_comparison
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.errors import ConfigError, TrainingError
from dgl_rbm.registry import encoders
from dgl_rbm.run.config import resolve_config
from dgl_rbm.run.fingerprint import graph_digest
from dgl_rbm.run.metrics import CandidateRecord
from dgl_rbm.run.parts import stages_of
from dgl_rbm.run.selection import EncoderSelection, choose
from dgl_rbm.run.stages import stage_key
from dgl_rbm.training.student import StudentTraining, shortened

from .conftest import community_task, quick_distiller
from .test_leaks import with_garbage_test_labels, with_garbage_unseen_part

CANDIDATES: list[Any] = ["none", {"kind": "diffusion", "dim": 3}, {"kind": "soft_labels", "folds": 3}]
JUDGE = {"kind": "mlp", "hidden_dim": 4}


def automatic(**options: Any) -> Any:
    return quick_distiller(**{"encoder": {"kind": "auto", "candidates": CANDIDATES, "judge": JUDGE}} | options)


def chosen(result: Run) -> int:
    records = result.metrics.encoder.candidates
    ranks = [(record.val_accuracy, -record.val_loss) for record in records]
    return ranks.index(max(ranks))


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
@pytest.mark.parametrize("regularizer", ["none", "krd"])
def test_the_best_is_kept_and_the_run_is_as_if_it_had_been_named(setting: str, regularizer: str) -> None:
    task = community_task(setting)
    result = automatic(student="rbm", regularizer=regularizer).fit(task)
    records = result.metrics.encoder.candidates
    assert [record.kind for record in records] == ["none", "diffusion", "soft_labels"]
    for record, candidate in zip(records, CANDIDATES, strict=True):
        judged = quick_distiller(student=JUDGE, encoder=candidate, regularizer=regularizer).fit(task)
        assert record.val_accuracy == pytest.approx(judged.metrics.student.val_accuracy)
        loss = torch.nn.functional.cross_entropy(judged.student_logits[task.val_idx], task.val_labels())
        assert record.val_loss == pytest.approx(float(loss), rel=1e-4)
    named = quick_distiller(student="rbm", encoder=CANDIDATES[chosen(result)], regularizer=regularizer).fit(task)
    assert result.config.encoder == named.config.encoder
    assert torch.equal(result.encodings.values, named.encodings.values)
    assert torch.equal(result.student_logits, named.student_logits)


def test_neither_test_labels_nor_unseen_nodes_choose() -> None:
    clean = community_task("inductive")
    results = [
        automatic().fit(task) for task in (clean, with_garbage_test_labels(clean), with_garbage_unseen_part(clean))
    ]
    for other in results[1:]:
        assert other.metrics.encoder.candidates == results[0].metrics.encoder.candidates
        for name, tensor in results[0].student.state_dict().items():
            assert torch.equal(tensor, other.student.state_dict()[name]), name


def test_a_stopped_choice_continues_to_the_same_result(tmp_path: Path, task: NodeTask) -> None:
    class StopInSecond(Callback):
        starts = 0

        def on_stage_start(self, stage: str, total: int, unit: str) -> None:
            self.starts += stage == "student"

        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            if stage == "student" and self.starts == 2 and done == 7:
                raise KeyboardInterrupt

    whole = automatic().fit(task, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        automatic(callbacks=[StopInSecond()]).fit(task, out=tmp_path / "stopped")
    resumed = automatic().fit(task, out=tmp_path / "stopped")
    assert torch.equal(resumed.student_logits, whole.student_logits)
    assert resumed.metrics.encoder.candidates == whole.metrics.encoder.candidates
    again = automatic().fit(task, out=tmp_path / "stopped")
    assert again.metrics.encoder.candidates == whole.metrics.encoder.candidates


def test_runs_share_the_choice_where_all_that_it_depends_on_is_the_same(tmp_path: Path, task: NodeTask) -> None:
    class Judged(Callback):
        students = 0

        def on_stage_start(self, stage: str, total: int, unit: str) -> None:
            self.students += stage == "student"

    counts = []
    for options in ({"student": "mlp"}, {"student": "rbm"}, {"student": "mlp", "objective": {"temperature": 2.0}}):
        seen = Judged()
        automatic(callbacks=[seen], **options).fit(task, shared=tmp_path)
        counts.append(seen.students)
    assert counts == [4, 1, 4]


def test_what_is_reused_is_counted_once(tmp_path: Path, task: NodeTask) -> None:
    runs = [automatic(student=student).fit(task, shared=tmp_path) for student in ("mlp", "rbm")]
    first, second = (run.metrics.seconds for run in runs)
    for stage in ("regularizer", "encoder", "teacher"):
        assert second[stage] == pytest.approx(first[stage], abs=1e-3), stage


def test_the_setting_is_a_part_of_what_a_choice_depends_on() -> None:
    observed = community_task().observed()
    configs = [
        resolve_config({"encoder": encoder, "setting": setting})
        for encoder in ("auto", "soft_labels")
        for setting in ("transductive", "inductive")
    ]
    keys = [stage_key(stages_of(config).encodings, config, [graph_digest(observed)]) for config in configs]
    assert keys[0] != keys[1]
    assert keys[2] == keys[3]


def test_a_saved_run_holds_the_chosen_encoder_and_says_how_the_others_did(tmp_path: Path, task: NodeTask) -> None:
    result = automatic(student="mlp").fit(task)
    spent = result.metrics.seconds
    # The judges' trainings are the encoder's time and not the student's.
    assert 0 < spent["student"] < spent["encoder"]
    result.save(tmp_path)
    saved = Run.load(tmp_path)
    kinds = [part["kind"] for part in result.config.to_values()["encoder"]]
    assert kinds == [saved.metrics.encoder.kind] == [encoders.resolve(CANDIDATES[chosen(result)]).kind]
    x = result.inputs([0, 1])
    assert torch.equal(saved.student.logits(x), result.student.logits(x))
    console = Console(width=100, record=True)
    print_comparison(console, result.metrics, tmp_path)
    text = console.export_text()
    assert "soft_labels" in text
    assert "diffusion" in text


def test_candidates_that_cannot_be_trained_are_passed_over() -> None:
    configs = [ComponentConfig(kind=kind) for kind in ("first", "second", "third")]

    def train(i: int, config: ComponentConfig) -> tuple[str, CandidateRecord]:
        if config.kind in failing:
            raise TrainingError(f"{config.kind} diverged")
        accuracy, loss = reached[i]
        return config.kind.upper(), CandidateRecord(kind=config.kind, val_accuracy=accuracy, val_loss=loss)

    failing = {"first"}
    reached = [(0.9, 0.1), (0.5, 1.0), (0.5, 1.0)]
    choice = choose(configs, train)
    # Of the two that are alike, the first.
    assert (choice.index, choice.outcome) == (1, "SECOND")
    assert choice.records[0] == CandidateRecord(kind="first", val_accuracy=None, error="first diverged")
    failing = set()
    # Accuracy goes before the loss, which tells apart what is equally right.
    reached = [(0.5, 0.1), (0.6, 2.0), (0.6, 1.0)]
    choice = choose(configs, train)
    assert (choice.index, choice.outcome) == (2, "THIRD")
    failing = {"first", "second", "third"}
    with pytest.raises(TrainingError, match="third"):
        choose(configs, train)


def test_wrong_choices_are_refused() -> None:
    for encoder, message in (
        (["auto", "diffusion"], "cannot stand beside others"),
        ({"kind": "auto", "candidates": ["auto"]}, "cannot be a candidate of itself"),
        ({"kind": "auto", "candidates": ["difusion"]}, "Did you mean 'diffusion'"),
        ({"kind": "auto", "candidates": []}, "at least 1"),
        ({"kind": "auto", "judge": "auto"}, "the judge is one student"),
        ({"kind": "auto", "judge": {"hidden_dims": 3}}, "Did you mean 'hidden_dim'"),
    ):
        with pytest.raises(ConfigError, match=message):
            resolve_config({"encoder": encoder})
    without = {"teacher": "none", "regularizer": "none"}
    with pytest.raises(ConfigError, match="soft labels are the teacher's predictions"):
        resolve_config({"encoder": {"kind": "auto", "candidates": ["none", "soft_labels"]}, **without})
    with pytest.raises(ConfigError, match="'correct_and_smooth' reads the teacher's predictions"):
        resolve_config({"encoder": "correct_and_smooth", **without})
    resolve_config({"encoder": {"kind": "auto", "candidates": ["none", "diffusion"]}, **without})


def test_default_candidates_fit_a_teacher_without_predictions() -> None:
    def candidates(**options: Any) -> list[str]:
        (selection,) = resolve_config({"encoder": {"kind": "auto", "judge_steps": 7}, **options}).encoder
        assert isinstance(selection, EncoderSelection)
        assert selection.judge_steps == 7
        return [candidate.kind for candidate in selection.candidates]

    assert candidates() == ["diffusion", "soft_labels", "none"]
    assert candidates(teacher="none", regularizer="none") == ["diffusion", "label_propagation", "none"]


class _WholeGraphsAlone(torch.nn.Module):
    """A teacher that cannot predict a part of the graph."""

    def __init__(self, nodes: int, in_dim: int, num_classes: int) -> None:
        super().__init__()
        self.nodes, self.linear = nodes, torch.nn.Linear(in_dim, num_classes)

    def forward(self, graph: Any, x: torch.Tensor) -> torch.Tensor:
        if graph.num_nodes() != self.nodes:
            raise dgl.DGLError("There are 0-in-degree nodes in the graph")
        logits: torch.Tensor = self.linear(x)
        return logits


def test_a_candidate_that_the_teacher_does_not_support_is_passed_over() -> None:
    task = community_task()
    teacher = _WholeGraphsAlone(task.graph.num_nodes(), task.features.shape[1], task.num_classes)
    run = Distiller(teacher=teacher, student="mlp", regularizer="none", training={"epochs": 5}, device="cpu").fit(
        task, latency_of=()
    )
    found = {record.kind: record.error for record in run.metrics.encoder.candidates}
    assert "needs predictions of the teacher" in (found["soft_labels"] or "")
    assert run.config.encoder[0].kind in ("diffusion", "none")


def test_judges_are_shortened_by_steps() -> None:
    assert shortened(StudentTraining(), 100, 200).epochs == 200
    assert shortened(StudentTraining(batch_size=10), 100, 200).epochs == 20
    assert shortened(StudentTraining(batch_size=1), 100, 200).epochs == 10
    assert shortened(StudentTraining(epochs=4), 100, 200).epochs == 4
