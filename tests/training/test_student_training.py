"""Loss and training loop of students on a small table without a graph."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dgl_rbm.errors import ConfigError, TrainingError
from dgl_rbm.registry import students
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.tasks.multiclass import SelectBy
from dgl_rbm.training.averaging import AveragedModule
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.student import StudentTraining, _StudentRun, fit_student
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import Batch, LossTerm, SoftTargetTerm, StudentLoss

# `auto` trains some of the others and is no student of its own.
STUDENTS = [name for name in students.names() if getattr(students.config_class(name), "trains", False)]

CLASSES = 3


def make_table(rows: int = 30, *, teacher: bool = True) -> DistillationTable:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(rows) % CLASSES
    inputs = torch.randn(rows, 5, generator=generator) + 2 * torch.eye(5)[labels]
    known = torch.full((rows,), -1)
    known[:9], known[9:18] = labels[:9], labels[9:18]
    logits = 3 * torch.eye(CLASSES)[labels] + 0.1 * torch.randn(rows, CLASSES, generator=generator)
    return DistillationTable(
        inputs=inputs,
        labels=known,
        train_idx=torch.arange(9),
        val_idx=torch.arange(9, 18),
        num_classes=CLASSES,
        teacher_logits=logits if teacher else None,
    )


class ConstantTargets(SoftTargetTerm):
    """Class 0 as the target of every row; records the epochs after which it gets predictions."""

    name = "constant"

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def summed_loss(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        return -log_probs[:, 0].sum()

    def needs_predictions(self, epoch: int) -> bool:
        return epoch != 2

    def end_epoch(self, epoch: int, logits: Tensor) -> dict[str, float]:
        assert logits.shape == (30, CLASSES)
        self.epochs.append(epoch)
        return {"adapted": float(epoch)}

    def state_dict(self) -> dict[str, Any]:
        return {"count": len(self.epochs)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs = list(range(state["count"]))


def loss_of(
    output: StudentOutput, table: DistillationTable, rows: Tensor, objective: ObjectiveConfig, *terms: LossTerm
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the whole loss of a student's output, and its parts."""
    student = build("mlp")
    assert isinstance(student, Student)
    inputs = torch.empty(len(rows), 5)
    return StudentLoss(objective, terms, student, table)(Batch(rows, inputs, lambda inputs: output))


def reference_loss(
    logits: Tensor, table: DistillationTable, rows: list[int], weight: float, temperature: float, constant: bool
) -> float:
    """Equations 9 and 12, row by row."""
    assert table.teacher_logits is not None
    hard, soft = 0.0, 0.0
    for i, row in enumerate(rows):
        if row in table.train_idx.tolist():
            hard -= float(torch.log_softmax(logits[i], 0)[table.labels[row]])
        student = torch.softmax(logits[i] / temperature, 0)
        teacher = torch.softmax(table.teacher_logits[row] / temperature, 0)
        for c in range(CLASSES):
            soft += float(teacher[c] * (teacher[c] / student[c]).log())
    distilled = len(table) if table.distill_on_validation else len(table) - len(table.val_idx)
    scale = distilled / (len(rows) * len(table.train_idx))
    total = weight * scale * hard + (1 - weight) * soft / len(rows)
    if constant:
        target = -torch.log_softmax(logits / temperature, 1)[:, 0].sum()
        total += (1 - weight) * float(target) / len(rows)
    return total


@pytest.mark.parametrize("rows", [list(range(30)), [0, 3, 20, 25], [20, 21]], ids=["all", "some", "unlabelled"])
@pytest.mark.parametrize("terms", [[], [ConstantTargets()]], ids=["plain", "term"])
def test_the_objective_equals_a_loop_over_rows(rows: list[int], terms: list[LossTerm]) -> None:
    table = make_table()
    logits = torch.randn(len(rows), CLASSES, generator=torch.Generator().manual_seed(2))
    objective = ObjectiveConfig(hard_label_weight=0.3, temperature=1.7)
    loss, parts = loss_of(StudentOutput([logits]), table, torch.tensor(rows), objective, *terms)
    assert float(loss) == pytest.approx(reference_loss(logits, table, rows, 0.3, 1.7, bool(terms)), rel=1e-5)
    assert float(sum(parts.values())) == pytest.approx(float(loss), rel=1e-5)


def test_heads_are_independent_and_penalties_are_added() -> None:
    table, rows = make_table(), torch.arange(30)
    first, second = torch.randn(2, 30, CLASSES, generator=torch.Generator().manual_seed(3))
    objective = ObjectiveConfig()
    alone = [loss_of(StudentOutput([head]), table, rows, objective)[0] for head in (first, second)]
    penalty = {"extra": torch.tensor(0.25)}
    together, parts = loss_of(StudentOutput([first, second], penalty), table, rows, objective)
    assert float(together) == pytest.approx(float(sum(alone)) + 0.25, rel=1e-5)
    assert float(parts["extra"]) == 0.25


def test_labels_are_the_whole_loss_without_a_teacher() -> None:
    table, rows = make_table(teacher=False), torch.arange(30)
    logits = torch.randn(30, CLASSES, generator=torch.Generator().manual_seed(4))
    loss, _ = loss_of(StudentOutput([logits]), table, rows, ObjectiveConfig(hard_label_weight=0.1))
    expected = torch.nn.functional.cross_entropy(logits[:9], table.labels[:9])
    torch.testing.assert_close(loss, expected)


def build(kind: str | dict[str, Any]) -> torch.nn.Module:
    with seeded(0, "weights"):
        return students.resolve(kind).build(5, CLASSES, hidden_dim=8, num_layers=2)


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize(("batch_size", "select_by"), [(None, "both"), (7, "accuracy"), (None, "loss")])
def test_every_student_learns_and_keeps_its_best_epoch(kind: str, batch_size: int | None, select_by: SelectBy) -> None:
    table, context = make_table(), RunContext()
    student = build(kind)
    options = StudentTraining(epochs=100, lr=0.01, batch_size=batch_size, select_by=select_by)
    fit = fit_student(student, table, context, options)
    assert fit.val_accuracy > 0.8
    logits, labels = student.logits(table.inputs)[table.val_idx], table.labels[table.val_idx]
    assert float((logits.argmax(dim=1) == labels).float().mean()) == pytest.approx(fit.val_accuracy)
    best = next(entry for entry in context.history if entry["step"] == fit.best_epoch)
    assert best["val_accuracy"] == pytest.approx(fit.val_accuracy)
    assert best["val_loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-4)
    weights = {"accuracy": (1, 0), "loss": (0, 1), "both": (1, 0.3)}[str(select_by)]
    routed = [entry for entry in context.history if entry["step"] > student.pretrain_epochs]
    scores = [weights[0] * entry["val_accuracy"] - weights[1] * entry["val_loss"] for entry in routed]
    assert scores[routed.index(best)] == max(scores)
    assert not student.pretraining


@pytest.mark.parametrize("steadied", [{}, {"averaging": 0.9, "schedule": "cosine", "input_dropout": 0.2}])
@pytest.mark.parametrize("kind", [*STUDENTS, {"kind": "rbm", "soft_routing_epochs": 12, "expert_dropout": 0.3}])
def test_training_is_reproducible_and_resumes_to_the_same_result(
    kind: str | dict[str, Any], steadied: dict[str, Any], tmp_path: Path
) -> None:
    training = StudentTraining(epochs=20, batch_size=7, patience=50, **steadied)

    class StopAt(Callback):
        def __init__(self, epoch: int) -> None:
            self.epoch = epoch

        def on_step(self, stage: str, done: int, metrics: object) -> None:
            if done == self.epoch:
                raise KeyboardInterrupt

    whole, again = build(kind), build(kind)
    context = RunContext()
    expected = fit_student(whole, make_table(), context, training, terms=[ConstantTargets()])
    # Two stops: one where a pre-training phase would be under way, one after it.
    for epoch in (4, 17):
        store = CheckpointStore(tmp_path, "run")
        with pytest.raises(KeyboardInterrupt):
            fit_student(
                build(kind),
                make_table(),
                RunContext(checkpoints=store, callbacks=[StopAt(epoch)]),
                training,
                terms=[ConstantTargets()],
            )
    resumed = RunContext(checkpoints=CheckpointStore(tmp_path, "run"))
    assert fit_student(again, make_table(), resumed, training, terms=[ConstantTargets()]) == expected
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert resumed.history == context.history


def test_averaged_weights_are_validated_and_kept() -> None:
    table, context = make_table(), RunContext()
    student = build("mlp")
    fit = fit_student(student, table, context, StudentTraining(epochs=12, patience=12, averaging=0.9))
    plain = build("mlp")
    averaged = AveragedModule(plain, 0.9)
    averages: list[dict[str, Tensor]] = []

    def after_step() -> None:
        averaged.update()
        averages.append({name: value.clone() for name, value in averaged.average.state_dict().items()})

    plain.after_step = after_step  # type: ignore[method-assign, assignment]
    of_plain = RunContext()
    fit_student(plain, table, of_plain, StudentTraining(epochs=12, patience=12))
    # One step an epoch; averaging leaves the training itself alone.
    assert [entry["loss"] for entry in of_plain.history] == [entry["loss"] for entry in context.history]
    for name, value in averages[fit.best_epoch - 1].items():
        assert torch.equal(value, student.state_dict()[name]), name


@pytest.mark.parametrize("kind", STUDENTS)
def test_inputs_are_dropped_in_training_passes_alone(kind: str) -> None:
    table, seen = make_table(), []
    student = build(kind)
    assert isinstance(student, Student)
    training_forward, forward = student.training_forward, student.forward

    def watched(x: Tensor) -> StudentOutput:
        seen.append(x)
        return training_forward(x)

    def whole(x: Tensor) -> Tensor:
        if not student.training:
            assert all(any(torch.equal(row, known) for known in table.inputs) for row in x)
        return forward(x)

    student.training_forward, student.forward = watched, whole  # type: ignore[method-assign, assignment]
    fit_student(student, table, RunContext(), StudentTraining(epochs=4, averaging=0, input_dropout=0.25))
    assert len(seen) == 4 + student.pretrain_epochs
    for inputs in seen:
        kept = inputs != 0
        torch.testing.assert_close(inputs[kept], table.inputs[kept] / 0.75)
    share = torch.stack([(inputs != 0).float().mean() for inputs in seen]).mean()
    assert float(share) == pytest.approx(0.75, abs=0.08)


def test_a_cosine_schedule_ends_at_zero_and_starts_after_pretraining() -> None:
    table = make_table()
    student = build("rbm")
    rates: list[float] = []
    after_step = student.after_step

    def watched() -> None:
        rates.append(run.optimizer.param_groups[0]["lr"])
        after_step()

    student.after_step = watched  # type: ignore[method-assign]
    training = StudentTraining(epochs=20, patience=50, lr=0.02, schedule="cosine")
    run = _StudentRun(student, table, RunContext(), training, ObjectiveConfig(), [])
    run.run()
    before = student.pretrain_epochs
    assert rates[: before + 1] == [0.02] * (before + 1)
    expected = [0.01 * (1 + math.cos(math.pi * t / 20)) for t in range(20)]
    assert rates[before:] == pytest.approx(expected)


def test_terms_get_predictions_after_the_epochs_that_need_them() -> None:
    term, context = ConstantTargets(), RunContext()
    fit_student(build("mlp"), make_table(), context, StudentTraining(epochs=3), terms=[term])
    assert term.epochs == [1, 3]
    assert [entry.get("adapted") for entry in context.history] == [1.0, None, 3.0]


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("batch_size", [None, 7])
def test_excluded_validation_rows_do_not_affect_training(kind: str, batch_size: int | None) -> None:
    table = replace(make_table(), distill_on_validation=False)
    assert table.distilled_rows.tolist() == [*range(9), *range(18, 30)]
    assert table.teacher_logits is not None
    others = table.teacher_logits.clone()
    others[table.val_idx] = others[table.val_idx].flip(1)
    training = StudentTraining(epochs=8, batch_size=batch_size)
    students = [build(kind), build(kind), build(kind)]
    for student, logits, teaches in zip(
        students, (table.teacher_logits, others, others), (False, False, True), strict=True
    ):
        changed = replace(table, teacher_logits=logits, distill_on_validation=teaches)
        fit_student(student, changed, RunContext(), training, terms=[ConstantTargets()])
    first, second, third = (student.logits(table.inputs) for student in students)
    assert torch.equal(first, second)
    assert not torch.equal(second, third)


def test_the_objective_of_the_distilled_rows_equals_a_loop_over_them() -> None:
    table = replace(make_table(), distill_on_validation=False)
    logits = torch.randn(21, CLASSES, generator=torch.Generator().manual_seed(4))
    config = ObjectiveConfig(hard_label_weight=0.4, temperature=2.0)
    loss, _ = loss_of(StudentOutput([logits]), table, table.distilled_rows, config)
    assert float(loss) == pytest.approx(
        reference_loss(logits, table, table.distilled_rows.tolist(), 0.4, 2.0, False), rel=1e-5
    )


def test_early_stopping() -> None:
    fit = fit_student(build("mlp"), make_table(), RunContext(), StudentTraining(epochs=400, patience=5))
    assert fit.epochs - fit.best_epoch == 5


def test_a_diverging_loss_raises_an_error_with_a_remedy() -> None:
    table = make_table()
    table.inputs[0, 0] = float("inf")
    with pytest.raises(TrainingError, match=r"epoch 1.*\n.*training.lr=0.0003"):
        fit_student(build("mlp"), table, RunContext())


def test_a_validation_loss_that_is_never_finite_raises_an_error() -> None:
    table = make_table()
    table.inputs[table.val_idx] = float("inf")
    with pytest.raises(TrainingError, match=r"validation rows was not finite.*\n.*training.lr=0.0003"):
        fit_student(build("mlp"), replace(table, distill_on_validation=False), RunContext(), StudentTraining(epochs=3))


def test_tables_without_targets_or_validation_rows_raise_errors() -> None:
    full = make_table(teacher=False)
    empty = torch.zeros(0, dtype=torch.int64)
    no_labels = DistillationTable(full.inputs, full.labels, empty, full.val_idx, CLASSES)
    with pytest.raises(ConfigError, match="nothing to learn from"):
        fit_student(build("mlp"), no_labels, RunContext())
    no_validation = DistillationTable(full.inputs, full.labels, full.train_idx, empty, CLASSES)
    with pytest.raises(ConfigError, match="no validation rows"):
        fit_student(build("mlp"), no_validation, RunContext())
    only = torch.arange(len(full))
    only_validation = replace(make_table(), train_idx=empty, val_idx=only, distill_on_validation=False)
    with pytest.raises(ConfigError, match=r"Every row of the table is a validation row"):
        fit_student(build("mlp"), only_validation, RunContext())
