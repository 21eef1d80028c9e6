"""Contract of every registered regularizer: what the training loop and checkpoints expect of its loss term."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import RegularizerConfig
from dgl_rbm.rows.sparse import Rows, matmul
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore, read_state, write_state
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.students.base import Student
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.student import StudentTraining, fit_student
from dgl_rbm.training.terms import LossTerm

from .conftest import CLASSES, KINDS, OBJECTIVE, ROWS, batch_of, make_student, make_table, routed, whole_loss

NAMES = regularizers.names()
# Schedules that a few epochs go through; every regularizer works without an entry.
QUICK: dict[str, dict[str, Any]] = {
    "krd": {"noise_samples": 2, "warmup_epochs": 1, "momentum": 0.5},
    "pseudo_labels": {"every": 2, "confidence": 0.2, "smooth": True},
}
# Losses that compare the rows of a batch with each other, or perturb them by random steps.
NOT_BY_ROW = {"similarity", "adversarial"}


class LinearTeacher(Teacher):
    """Predicts from a node's own features."""

    def __init__(self) -> None:
        self.weight = torch.randn(5, CLASSES, generator=torch.Generator().manual_seed(1))

    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        raise AssertionError("a fitted teacher is not fitted again")

    def predict(
        self,
        view: GraphView,
        context: RunContext,
        *,
        features: Rows | None = None,
        return_hidden: bool = False,
    ) -> TeacherOutput:
        shown = view.features if features is None else features
        return TeacherOutput(matmul(shown, self.weight), matmul(shown, torch.ones(5, 4)) if return_hidden else None)


def observed_graph() -> ObservedGraph:
    table = make_table()
    ends = torch.randint(ROWS, (2, 4 * ROWS), generator=torch.Generator().manual_seed(4))
    return ObservedGraph(
        graph=dgl.graph((ends[0], ends[1]), num_nodes=ROWS),
        features=table.inputs,
        node_ids=torch.arange(ROWS),
        labels=table.labels,
        train_idx=table.train_idx,
        val_idx=table.val_idx,
        num_classes=CLASSES,
    )


def config_of(name: str) -> RegularizerConfig:
    config = regularizers.resolve({"kind": name, **QUICK.get(name, {})})
    assert isinstance(config, RegularizerConfig)
    return config


def prepared(name: str) -> LossTerm:
    regularizer, observed, teacher = config_of(name).build(), observed_graph(), LinearTeacher()
    output = teacher.predict(observed, RunContext(), return_hidden=regularizer.needs_teacher_hidden)
    term = regularizer.prepare(observed, teacher, output, OBJECTIVE.temperature, RunContext(seed=2))
    return term.to(torch.device("cpu"))


def bound(term: LossTerm, student: Student) -> LossTerm:
    with seeded(0, "terms"):
        term.bind(student, make_table(), OBJECTIVE)
    return term


def adapt(term: LossTerm, seed: int = 0) -> None:
    """End epochs with confident predictions."""
    logits = 5 * torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(seed))
    for epoch in range(1, 41):
        if term.needs_predictions(epoch):
            term.end_epoch(epoch, logits)


def value_of(term: LossTerm, student: Student, rows: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    """Return a term's loss of a batch, and its gradients."""
    batch = batch_of(student, make_table(), rows)
    with seeded(1, "step"):
        early = term.loss_before_pass(batch)
        late = term.loss(batch, student.training_forward(batch.inputs))
    total = sum((value for value in (early, late) if value is not None), torch.zeros(()))
    if not total.requires_grad:
        return total, []
    parameters = [*student.trained_parameters(), *term.parameters()]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return total.detach(), list(gradients)


def assert_same(first: LossTerm, second: LossTerm, student: Student) -> None:
    (value, gradients), (other, others) = value_of(first, student), value_of(second, student)
    assert torch.equal(value, other)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(gradients, others, strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_finite_and_trains_the_student(kind: str, name: str) -> None:
    student = routed(kind, make_table())
    term = bound(prepared(name), student)
    adapt(term)
    value, gradients = value_of(term, student)
    assert bool(torch.isfinite(value))
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients) == (name != "none")
    # Under the name of the regularizer the history records the mean over heads.
    batch = batch_of(student, make_table())
    whole = whole_loss(prepared(name), student, make_table())
    _, parts = whole(batch)
    assert (name in parts) == (name != "none")


@pytest.mark.parametrize("name", NAMES)
def test_the_state_goes_through_a_checkpoint(name: str, tmp_path: Path) -> None:
    student = routed("mlp", make_table())
    first, second = bound(prepared(name), student), prepared(name)
    adapt(first)
    value_of(first, student, torch.arange(0, ROWS, 2))
    with seeded(7, "terms"):
        second.bind(student, make_table(), OBJECTIVE)
    write_state(tmp_path / "state", first.state_dict())
    second.load_state_dict(read_state(tmp_path / "state")[0])
    rows = torch.arange(1, ROWS, 3)
    (value, gradients), (other, others) = value_of(first, student, rows), value_of(second, student, rows)
    assert torch.equal(value, other)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(gradients, others, strict=True))
    adapt(first, 3)
    adapt(second, 3)
    assert_same(first, second, student)


@pytest.mark.parametrize("name", NAMES)
def test_binding_again_equals_a_fresh_term(name: str) -> None:
    student = routed("mlp", make_table())
    used = bound(prepared(name), student)
    adapt(used)
    value_of(used, student, torch.arange(0, ROWS, 2))
    fresh = bound(prepared(name), student)
    assert_same(bound(used, student), fresh, student)
    adapt(used, 3)
    adapt(fresh, 3)
    assert_same(used, fresh, student)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_BY_ROW])
def test_batches_estimate_the_loss_of_all_rows(name: str) -> None:
    student = routed("mlp", make_table())
    term = bound(prepared(name), student)
    adapt(term)
    # The pass over all rows comes first, as a term may keep predictions for later batches.
    whole, _ = value_of(term, student)
    parts = torch.randperm(ROWS, generator=torch.Generator().manual_seed(6)).split([14, 7, 3])
    found = [value_of(term, student, rows)[0] * len(rows) / ROWS for rows in parts]
    torch.testing.assert_close(torch.stack(found).sum(), whole)


class StopAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_step(self, stage: str, done: int, metrics: Any) -> None:
        if done == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("kind", "names"), [*(("mlp", [name]) for name in NAMES), *((kind, NAMES) for kind in KINDS)])
def test_a_stopped_training_resumes_to_the_same_bits(kind: str, names: list[str], tmp_path: Path) -> None:
    table = make_table()

    def run(folder: Path, *callbacks: Callback) -> tuple[Student, RunContext]:
        student = make_student(kind, **({"pretrain_epochs": 2} if kind == "rbm" else {}))
        context = RunContext(callbacks=callbacks, checkpoints=CheckpointStore(folder, "same"))
        # Small batches, so that the order of rows is part of the state too.
        training = StudentTraining(epochs=8, batch_size=10)
        fit_student(student, table, context, training, OBJECTIVE, [prepared(name) for name in names])
        return student, context

    whole, first = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", StopAt(5))
    resumed, second = run(tmp_path / "stopped")
    assert first.history == second.history
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in resumed.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_needs_are_those_of_the_component(name: str) -> None:
    config, regularizer = config_of(name), config_of(name).build()
    assert regularizer.kind == config.kind == name
    assert config.needs_teacher_hidden == regularizer.needs_teacher_hidden
    assert config.needs_perturbed_predictions == regularizer.needs_perturbed_predictions
    # Options that a regularizer passes on to its term are kept as one mapping.
    kept = vars(regularizer) | vars(regularizer).get("targets", {})
    assert {option: kept[option] for option in config.options()} == config.options()
