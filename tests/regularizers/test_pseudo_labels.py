"""Pseudo-labels: which rows get them, in which epochs, and their smoothing against loops over nodes."""

from __future__ import annotations

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgl_rbm.regularizers.pseudo_labels import PseudoLabelRegularizer, PseudoLabelTerm, smooth_over_neighbors
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.training.student import StudentTraining, fit_student
from dgl_rbm.training.table import DistillationTable

from .conftest import CLASSES, OBJECTIVE, ROWS, base_loss, batch_of, make_student, make_table, whole_loss


def test_confident_rows_without_a_label_get_one() -> None:
    table, student = make_table(), make_student("mlp")
    pseudo = PseudoLabelTerm(PseudoLabelRegularizer(rounds=2, every=3, confidence=0.8, weight=0.5))
    whole = whole_loss(pseudo, student, table)
    logits = torch.zeros(ROWS, CLASSES)
    logits[2, 1] = logits[8, 1] = logits[15, 2] = logits[20, 0] = 9.0
    logits[21, 0] = 0.5
    assert pseudo.end_epoch(3, logits) == {"pseudo_label_count": 2.0}
    expected = torch.full((ROWS,), -1)
    expected[15], expected[20] = 2, 0
    # Not the training row 2 nor the validation row 8, and not row 21, whose probability is too low.
    assert torch.equal(pseudo.labels, expected)
    rows = torch.tensor([0, 15, 21, 20])
    batch = batch_of(student, table, rows)
    output = student.training_forward(batch.inputs)
    loss, parts = whole(batch)
    log_probs = torch.log_softmax(output.heads[0], dim=1).detach()
    mean = ROWS / len(rows) / 2 * -(float(log_probs[1, 2]) + float(log_probs[3, 0]))
    assert float(parts["pseudo_labels"]) == pytest.approx(0.5 * mean, rel=1e-5)
    assert loss.item() == pytest.approx(base_loss(output, table, rows).item() + 0.5 * mean, rel=1e-5)


def rounds_of(context: RunContext) -> dict[int, float]:
    return {entry["step"]: entry["pseudo_label_count"] for entry in context.history if "pseudo_label_count" in entry}


def test_rounds_come_at_their_epochs_and_end() -> None:
    context, term = RunContext(), PseudoLabelTerm(PseudoLabelRegularizer(rounds=2, every=3, confidence=0.0))
    table = make_table(teacher=False)
    fit_student(make_student("mlp"), table, context, StudentTraining(epochs=12), OBJECTIVE, [term])
    assert rounds_of(context) == {3: 12.0, 6: 12.0}


def test_patience_counts_from_the_last_round() -> None:
    table = make_table(teacher=False)
    term = PseudoLabelTerm(PseudoLabelRegularizer(rounds=3, every=4, confidence=0.0))
    # With this learning rate no epoch is better than the first.
    training = StudentTraining(epochs=40, patience=5, lr=1e-12, averaging=0.0, select_by="accuracy")
    context = RunContext()
    fit = fit_student(make_student("rbm", pretrain_epochs=2), table, context, training, OBJECTIVE, [term])
    assert (fit.best_epoch, fit.epochs) == (3, 2 + 12 + 5)
    # Rounds for which no epoch is left are not waited for.
    for rounds in (40, 2):
        term = PseudoLabelTerm(PseudoLabelRegularizer(rounds=rounds, every=15, confidence=0.0))
        fit = fit_student(make_student("mlp"), table, RunContext(), training, OBJECTIVE, [term])
        assert fit.epochs == 2 * 15 + 5
    assert list(rounds_of(context)) == [6, 10, 14]


def neighbor_rows(edges: list[tuple[int, int]], count: int) -> SparseRows:
    matrix = sp.csr_matrix(([1.0] * len(edges), ([v for _, v in edges], [u for u, _ in edges])), shape=(count, count))
    return SparseRows.from_scipy(matrix)


def smoothed_by_loops(
    probs: list[list[float]], edges: list[tuple[int, int]], table: DistillationTable
) -> list[list[float]]:
    """Return the predictions smoothed by definition."""
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
def test_smoothing_takes_the_share_that_is_best_on_validation_rows(edges: list[tuple[int, int]], seed: int) -> None:
    edges = [(u, v) for u, v in edges if u != v]
    table = make_table()
    probs = torch.rand(ROWS, CLASSES, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)
    expected = torch.tensor(smoothed_by_loops(probs.tolist(), edges, table))
    smooth_over_neighbors(probs, table, neighbor_rows(edges, ROWS))
    torch.testing.assert_close(probs, expected)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(ROWS))


def test_smoothed_labels_come_from_the_neighbours() -> None:
    # Row 20 has equal probabilities; its neighbours are training rows of class 1.
    neighbors = neighbor_rows([(1, 20), (4, 20), *((1, v) for v in (7, 10))], ROWS)
    table, student = make_table(), make_student("mlp")
    for smoothed, expected in ((None, -1), (neighbors, 1)):
        term = PseudoLabelTerm(PseudoLabelRegularizer(rounds=1, every=3, confidence=0.35), smoothed)
        term.bind(student, table, OBJECTIVE)
        term.end_epoch(3, torch.zeros(ROWS, CLASSES))
        assert int(term.labels[20]) == expected
        # Without a neighbour the row's own prediction stays.
        assert int(term.labels[21]) == -1


def test_pretraining_epochs_do_not_count() -> None:
    context, term = RunContext(), PseudoLabelTerm(PseudoLabelRegularizer(rounds=1, every=3))
    student, table = make_student("rbm", pretrain_epochs=4), make_table(teacher=False)
    fit_student(student, table, context, StudentTraining(epochs=5), OBJECTIVE, [term])
    assert list(rounds_of(context)) == [7]
