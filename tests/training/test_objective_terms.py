"""The parts of the objective that any student can have, against definitions written with loops."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dgl_rbm import Callback
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.run.config import resolve_config
from dgl_rbm.runtime.checkpoint import CheckpointStore
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.training.objective import ObjectiveConfig, StudentObjective, distillation_objective
from dgl_rbm.training.pseudo_labels import smooth_over_neighbors
from dgl_rbm.training.student import StudentTraining, fit_student
from dgl_rbm.training.table import DistillationTable

CLASSES, ROWS = 3, 24
# Those that are trained as they are; `auto` trains some of them.
KINDS = ["ensemble", "mlp", "moe", "rbm"]


def make_table(*, teacher: bool = True, hidden: bool = True, inputs: Rows | None = None) -> DistillationTable:
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(ROWS) % CLASSES
    dense = torch.randn(ROWS, 5, generator=generator) + torch.eye(5)[labels]
    known = torch.full((ROWS,), -1)
    known[:12] = labels[:12]
    return DistillationTable(
        inputs=dense if inputs is None else inputs,
        labels=known,
        train_idx=torch.arange(6),
        val_idx=torch.arange(6, 12),
        num_classes=CLASSES,
        teacher_logits=torch.randn(ROWS, CLASSES, generator=generator) if teacher else None,
        teacher_hidden=torch.rand(ROWS, 4, generator=generator) if hidden else None,
    )


def make_student(kind: str, **options: Any) -> Student:
    torch.manual_seed(0)
    config = students.resolve({"kind": kind, "dropout": 0.0, **options})
    student: Student = config.build(5, CLASSES, hidden_dim=6, num_layers=2)
    return student


def routed(kind: str, table: DistillationTable, **options: Any) -> Student:
    student = make_student(kind, **options)
    student.finish_pretraining(table.inputs)
    return student


def with_terms(**terms: Any) -> ObjectiveConfig:
    return ObjectiveConfig.model_validate({"hard_label_weight": 0.4, **terms})


# ------------------------------------------------------------------------------------------------ hidden states


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", ["pretraining", "routed"])
def test_hidden_states_are_what_the_last_layer_reads(kind: str, phase: str) -> None:
    table = make_table()
    student = make_student(kind) if phase == "pretraining" else routed(kind, table)
    read: list[Tensor] = []
    stacks = student.members if hasattr(student, "members") else [student]
    for stack in stacks:
        last = stack.layers[-1]
        # Mixtures call `forward_first` in pre-training, which no hook of a module sees.
        for name in ("forward", "forward_first"):
            if hasattr(last, name):
                setattr(last, name, noted(getattr(last, name), read))
    output = student.training_forward(table.inputs)
    assert len(output.hidden) == len(output.heads) == len(read)
    for states, seen in zip(output.hidden, read, strict=True):
        assert torch.equal(states, seen)


def noted(call: Callable[..., Any], read: list[Tensor]) -> Callable[..., Any]:
    def wrapper(x: Tensor, *rest: Any) -> Any:
        read.append(x)
        return call(x, *rest)

    return wrapper


def test_a_student_of_one_layer_shows_no_hidden_states() -> None:
    for kind in KINDS:
        assert make_student(kind, num_layers=1).training_forward(make_table().inputs).hidden == []


# ------------------------------------------------------------------------------------------------ similarity


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalize", [False, True])
def test_the_similarity_term_follows_its_definition(kind: str, normalize: bool) -> None:
    table = make_table()
    student = routed(kind, table)
    config = with_terms(similarity={"weight": 0.7, "normalize": normalize})
    objective = StudentObjective(config, student, table)
    rows = torch.tensor([1, 5, 8, 20])
    loss, parts = objective(student.training_forward, table.inputs[rows], rows)
    output = student.training_forward(table.inputs[rows])
    assert objective.similarity is not None
    assert table.teacher_hidden is not None
    total = 0.0
    for states, projection in zip(output.hidden, objective.similarity.projections, strict=True):
        ours = (states @ projection.weight.t() + projection.bias).clamp(min=0).detach()
        theirs = table.teacher_hidden[rows]
        for u in range(len(rows)):
            for v in range(len(rows)):
                products = [float(side[u] @ side[v]) for side in (ours, theirs)]
                if normalize:
                    lengths = [float(side[u].norm() * side[v].norm()) for side in (ours, theirs)]
                    products = [
                        product / length if length else 0.0 for product, length in zip(products, lengths, strict=True)
                    ]
                total += (products[0] - products[1]) ** 2 / len(rows) ** 2
    base, _ = distillation_objective(output, table, rows, config)
    assert float(loss.detach()) == pytest.approx(float(base.detach()) + 0.7 * total, rel=1e-4)
    assert float(parts["similarity"]) == pytest.approx(0.7 * total / len(output.heads), rel=1e-4)


def test_rows_are_drawn_where_there_are_more() -> None:
    table = make_table()
    student = make_student("mlp")
    objective = StudentObjective(with_terms(similarity={"weight": 1.0, "rows": 5}), student, table)
    rows = torch.arange(ROWS)
    values = {float(objective(student.training_forward, table.inputs, rows)[1]["similarity"]) for _ in range(8)}
    assert len(values) > 1


def test_the_probe_leaves_no_trace() -> None:
    table = make_table()
    student = routed("rbm", table, norm="batch")
    before = copy.deepcopy(student.state_dict())
    student.train()
    StudentObjective(with_terms(similarity={"weight": 1.0}), student, table)
    assert student.training
    assert student._pending == []
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_similarity_without_states_is_an_error() -> None:
    config = with_terms(similarity={"weight": 1.0})
    with pytest.raises(ConfigError, match="teacher shows no hidden states"):
        StudentObjective(config, make_student("mlp"), make_table(hidden=False))
    with pytest.raises(ConfigError, match="student 'mlp' shows no hidden states"):
        StudentObjective(config, make_student("mlp", num_layers=1), make_table())
    with pytest.raises(ConfigError, match="'none' has no states"):
        resolve_config({"teacher": "none", "regularizer": "none", "objective": {"similarity": {"weight": 1.0}}})


# ------------------------------------------------------------------------------------------------ adversarial rows


@pytest.mark.parametrize("kind", KINDS)
def test_adversarial_rows_lie_in_the_box_and_have_a_larger_loss(kind: str) -> None:
    table = make_table()
    student = routed(kind, table)
    config = with_terms(adversarial={"weight": 1.0, "eps": 0.1})
    objective = StudentObjective(config, student, table)
    rows, seen = torch.arange(ROWS), []

    def run(inputs: Rows) -> StudentOutput:
        assert isinstance(inputs, Tensor)
        seen.append(inputs.detach().clone())
        return student.training_forward(inputs)

    _, parts = objective(run, table.inputs, rows)
    assert len(seen) == 5 + 1 + 1
    assert torch.equal(seen[-1], table.inputs)
    for moved in seen[:-1]:
        assert float((moved - table.inputs).abs().max()) <= 0.1 + 1e-6
    # The steps have a size of a quarter of the radius.
    steps = (seen[1] - seen[0]).abs()
    assert float(steps.max()) == pytest.approx(0.025, abs=1e-5)
    losses = [
        float(distillation_objective(StudentOutput(student.training_forward(x).heads), table, rows, config)[0])
        for x in (seen[0], seen[-2], seen[-1])
    ]
    assert losses[1] > losses[0]
    assert losses[1] > losses[2]
    heads = len(student.training_forward(table.inputs).heads)
    assert float(parts["adversarial"]) == pytest.approx(losses[1] / heads, rel=1e-4)


def test_the_gradient_of_the_adversarial_term_is_that_at_the_moved_rows() -> None:
    table = make_table()
    student = make_student("mlp")
    config = with_terms(adversarial={"weight": 0.3, "eps": 0.1})
    objective = StudentObjective(config, student, table)
    rows, seen = torch.arange(ROWS), []

    def run(inputs: Rows) -> StudentOutput:
        seen.append(inputs)
        return student.training_forward(inputs)

    loss, _ = objective(run, table.inputs, rows)
    loss.backward()
    found = [parameter.grad.clone() for parameter in student.parameters() if parameter.grad is not None]
    student.zero_grad()
    moved = seen[-2].detach()
    plain = distillation_objective(student.training_forward(table.inputs), table, rows, config)[0]
    (plain + 0.3 * distillation_objective(student.training_forward(moved), table, rows, config)[0]).backward()
    for mine, parameter in zip(found, student.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad)


@pytest.mark.parametrize("kind", ["mlp", "rbm"])
def test_adversarial_passes_write_no_memory_and_no_running_mean(kind: str) -> None:
    table = make_table()
    rows = torch.arange(ROWS)

    def after_a_step(config: ObjectiveConfig) -> dict[str, Tensor]:
        student = routed(kind, table, norm="batch")
        student.train()
        StudentObjective(config, student, table)(student.training_forward, table.inputs, rows)
        # No optimiser's step and no gradient: only what the student itself writes.
        student.after_step()
        return student.state_dict()

    with_term = after_a_step(with_terms(adversarial={"weight": 1.0, "eps": 5.0}))
    without = after_a_step(with_terms())
    written = {
        name for name, value in with_term.items() if name in dict(routed(kind, table, norm="batch").named_buffers())
    }
    assert written
    for name, value in without.items():
        assert torch.equal(value, with_term[name]), name


def test_sparse_rows_are_moved_as_dense_ones_are() -> None:
    dense = make_table().inputs * (torch.rand(ROWS, 5, generator=torch.Generator().manual_seed(1)) < 0.4)
    sparse = SparseRows.from_scipy(sp.csr_matrix(dense[:, :3].numpy()))
    stacked = hstack(sparse, dense[:, 3:])
    parts = []
    for inputs in (dense, SparseRows.from_scipy(sp.csr_matrix(dense.numpy())), stacked):
        table = make_table(inputs=inputs)
        student = routed("rbm", make_table(inputs=dense))
        objective = StudentObjective(with_terms(adversarial={"weight": 1.0}), student, table)
        with seeded(0, "rows"):
            loss, _ = objective(student.training_forward, inputs, torch.arange(ROWS))
        loss.backward()
        gradients = [p.grad for p in student.trained_parameters() if p.grad is not None]
        parts.append((loss.detach(), gradients))
    for loss, gradients in parts[1:]:
        torch.testing.assert_close(loss, parts[0][0])
        torch.testing.assert_close(gradients, parts[0][1])


# ------------------------------------------------------------------------------------------------ pseudo-labels


def test_labels_are_given_to_free_rows_that_the_student_is_sure_of() -> None:
    table = make_table()
    student = make_student("mlp")
    config = with_terms(pseudo_labels={"rounds": 2, "every": 3, "confidence": 0.8, "weight": 0.5})
    objective = StudentObjective(config, student, table)
    pseudo = objective.pseudo_labels
    assert pseudo is not None
    logits = torch.zeros(ROWS, CLASSES)
    logits[2, 1] = logits[8, 1] = logits[15, 2] = logits[20, 0] = 9.0
    logits[21, 0] = 0.5
    assert pseudo.assign(logits) == 2
    expected = torch.full((ROWS,), -1)
    expected[15], expected[20] = 2, 0
    # Not the training row 2 nor the validation row 8, and not row 21, of which the student is not sure.
    assert torch.equal(pseudo.labels, expected)
    rows = torch.tensor([0, 15, 21, 20])
    output = student.training_forward(table.inputs[rows])
    loss, parts = objective(student.training_forward, table.inputs[rows], rows)
    log_probs = torch.log_softmax(output.heads[0], dim=1)
    mean = ROWS / len(rows) / 2 * -(float(log_probs[1, 2]) + float(log_probs[3, 0]))
    assert float(parts["pseudo_label"]) == pytest.approx(0.5 * mean, rel=1e-5)
    assert float(loss) == pytest.approx(
        float(distillation_objective(output, table, rows, config)[0]) + 0.5 * mean, rel=1e-5
    )


def test_rounds_come_at_their_epochs_and_end() -> None:
    table = make_table(teacher=False)
    config = with_terms(pseudo_labels={"rounds": 2, "every": 3, "confidence": 0.0})
    context = RunContext()
    fit_student(make_student("mlp"), table, context, StudentTraining(epochs=12), config)
    rounds = {entry["step"]: entry["pseudo_labels"] for entry in context.history if "pseudo_labels" in entry}
    assert rounds == {3: 12.0, 6: 12.0}


def test_patience_counts_from_the_last_round() -> None:
    table = make_table(teacher=False)
    config = with_terms(pseudo_labels={"rounds": 3, "every": 4, "confidence": 0.0})
    # With this learning rate nothing gets better after the first epoch.
    training = StudentTraining(epochs=40, patience=5, lr=1e-12, averaging=0.0, select_by="accuracy")
    context = RunContext()
    fit = fit_student(make_student("rbm", pretrain_epochs=2), table, context, training, config)
    assert (fit.best_epoch, fit.epochs) == (3, 2 + 12 + 5)
    # Rounds that no epoch is left for are not waited for.
    for rounds in (40, 2):
        config = with_terms(pseudo_labels={"rounds": rounds, "every": 15, "confidence": 0.0})
        fit = fit_student(make_student("mlp"), table, RunContext(), training, config)
        assert fit.epochs == 2 * 15 + 5
    assert [entry["step"] for entry in context.history if "pseudo_labels" in entry] == [6, 10, 14]


def neighbor_rows(edges: list[tuple[int, int]], count: int) -> SparseRows:
    matrix = sp.csr_matrix(([1.0] * len(edges), ([v for _, v in edges], [u for u, _ in edges])), shape=(count, count))
    return SparseRows.from_scipy(matrix)


def smoothed_by_loops(
    probs: list[list[float]], edges: list[tuple[int, int]], table: DistillationTable
) -> list[list[float]]:
    """Return what `smooth_over_neighbors` is to return, by its definition."""
    known = [list(row) for row in probs]
    for row in table.train_idx.tolist():
        known[row] = [float(c == int(table.labels[row])) for c in range(CLASSES)]
    means = []
    for v in range(len(known)):
        near = [known[u] for u, w in edges if w == v] or [known[v]]
        means.append([sum(row[c] for row in near) / len(near) for c in range(CLASSES)])
    best: tuple[int, list[list[float]]] = (-1, [])
    for step in reversed(range(101)):
        share = step / 100
        mixed = [
            [(1 - share) * a + share * b for a, b in zip(*rows, strict=True)] for rows in zip(known, means, strict=True)
        ]
        right = sum(
            max(range(CLASSES), key=mixed[row].__getitem__) == int(table.labels[row]) for row in table.val_idx.tolist()
        )
        if right > best[0]:
            best = (right, mixed)
    return best[1]


@given(
    st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, ROWS - 1)), max_size=60),
    st.integers(0, 2**31 - 1),
)
def test_smoothing_is_by_the_share_that_suits_validation_rows_best(edges: list[tuple[int, int]], seed: int) -> None:
    edges = [(u, v) for u, v in edges if u != v]
    table = replace(make_table(), neighbors=neighbor_rows(edges, ROWS))
    probs = torch.rand(ROWS, CLASSES, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)
    expected = torch.tensor(smoothed_by_loops(probs.tolist(), edges, table))
    smooth_over_neighbors(probs, table)
    torch.testing.assert_close(probs, expected)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(ROWS))


def test_smoothed_labels_come_from_the_neighbours() -> None:
    # Row 20 is not sure of itself; its neighbours are training rows of class 1.
    edges = [(1, 20), (4, 20), *((1, v) for v in (7, 10))]
    table = replace(make_table(), neighbors=neighbor_rows(edges, ROWS))
    logits = torch.zeros(ROWS, CLASSES)
    for smooth, expected in ((False, -1), (True, 1)):
        config = with_terms(pseudo_labels={"rounds": 1, "every": 3, "confidence": 0.35, "smooth": smooth})
        pseudo = StudentObjective(config, make_student("mlp"), table).pseudo_labels
        assert pseudo is not None
        pseudo.assign(logits)
        assert int(pseudo.labels[20]) == expected
        # Without a neighbour the row's own prediction stays.
        assert int(pseudo.labels[21]) == -1


def test_smoothing_without_neighbours_in_the_table_is_an_error() -> None:
    config = with_terms(pseudo_labels={"rounds": 1, "smooth": True})
    with pytest.raises(ConfigError, match=r"objective\.pseudo_labels\.smooth.*neighbours"):
        StudentObjective(config, make_student("mlp"), make_table())


def test_pretraining_epochs_do_not_count() -> None:
    table = make_table(teacher=False)
    config = with_terms(pseudo_labels={"rounds": 1, "every": 3})
    context = RunContext()
    fit_student(make_student("rbm", pretrain_epochs=4), table, context, StudentTraining(epochs=5), config)
    assert [entry["step"] for entry in context.history if "pseudo_labels" in entry] == [7]


def test_bad_options_are_errors() -> None:
    for section, value in [
        ("similarity", {"weight": -1}),
        ("similarity", {"rows": 1}),
        ("adversarial", {"eps": 0}),
        ("pseudo_labels", {"confidence": 2}),
        ("pseudo_labels", {"round": 2}),
    ]:
        with pytest.raises(ConfigError, match=section):
            resolve_config({"objective": {section: value}})


# ------------------------------------------------------------------------------------------------ resuming


ALL = {
    "similarity": {"weight": 0.5, "rows": 7},
    "adversarial": {"weight": 0.2, "rows": 9},
    "pseudo_labels": {"rounds": 3, "every": 2, "confidence": 0.2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_with_all_terms_resumes_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            if done == 5:
                raise KeyboardInterrupt

    def run(folder: Path, *callbacks: Callback) -> tuple[Student, RunContext]:
        student = make_student(kind)
        context = RunContext(callbacks=callbacks, checkpoints=CheckpointStore(folder, "same"))
        # Small batches, so that the order of rows is part of the state too.
        fit_student(student, make_table(), context, StudentTraining(epochs=9, batch_size=10), with_terms(**ALL))
        return student, context

    whole, first = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Stop())
    resumed, second = run(tmp_path / "stopped")
    assert first.history == second.history
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in resumed.state_dict().items())


def test_projections_are_trained_and_stay_out_of_the_student() -> None:
    table = make_table()
    student = make_student("mlp")
    names = set(student.state_dict())
    made: list[nn.Module] = []
    original = StudentObjective.__init__

    def remembered(self: StudentObjective, *args: Any) -> None:
        original(self, *args)
        made.append(copy.deepcopy(self.similarity))
        made.append(self.similarity)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudentObjective, "__init__", remembered)
        fit_student(student, table, RunContext(), StudentTraining(epochs=3), with_terms(similarity={"weight": 1.0}))
    before, after = (list(module.parameters()) for module in made)
    assert all(not torch.equal(b, a) for b, a in zip(before, after, strict=True))
    assert set(student.state_dict()) == names
