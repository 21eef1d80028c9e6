"""Losses and scores of multi-class classification against their definitions, written as loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.tasks.multiclass import (
    accuracy,
    balanced_accuracy,
    class_weights,
    distillation_loss,
    hard_label_loss,
    macro_f1,
    predictions,
    probabilities,
    selection_score,
    soft_cross_entropy,
    validation_accuracy,
    validation_loss,
    validation_score,
)

sizes = st.integers(1, 6)
seeds = st.integers(0, 2**31 - 1)
temperatures = st.sampled_from([0.3, 0.8, 1.0, 1.29, 5.0])


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


@given(sizes, sizes, seeds)
def test_hard_label_loss_sums_negative_log_probabilities(rows: int, classes: int, seed: int) -> None:
    log_probs = torch.log_softmax(normal(seed, rows, classes), dim=1)
    labels = torch.arange(rows) % classes
    expected = sum(-float(log_probs[v, labels[v]]) for v in range(rows))
    assert hard_label_loss(log_probs, labels).item() == pytest.approx(expected)


def test_hard_label_loss_of_no_rows_is_zero() -> None:
    assert hard_label_loss(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)).item() == 0


@given(sizes, sizes, seeds, temperatures)
def test_distillation_loss_is_the_divergence_of_tempered_softmaxes(
    rows: int, classes: int, seed: int, temperature: float
) -> None:
    student, teacher = 3 * normal(seed, rows, classes), 3 * normal(seed + 1, rows, classes)
    loss = distillation_loss(student, teacher, temperature)
    assert loss.shape == (rows,)
    for v in range(rows):
        p = softmax([float(z) / temperature for z in teacher[v]])
        q = softmax([float(z) / temperature for z in student[v]])
        expected = sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)
        assert loss[v].item() == pytest.approx(expected, abs=1e-9)


def test_distillation_loss_is_shift_invariant_and_finite_for_one_hot_teachers() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0]])
    torch.testing.assert_close(distillation_loss(logits, logits + 7, 0.8), torch.zeros(1), atol=1e-6, rtol=0)
    certain = torch.tensor([[0.0, -math.inf, -math.inf]])
    torch.testing.assert_close(distillation_loss(logits, certain), -torch.log_softmax(logits, dim=1)[:, 0])


def test_distillation_loss_has_no_gradient_for_the_teacher() -> None:
    student, teacher = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    distillation_loss(student, teacher, 0.7).sum().backward()
    assert teacher.grad is None
    expected = (torch.softmax(student / 0.7, 1) - torch.softmax(teacher / 0.7, 1)) / 0.7
    torch.testing.assert_close(student.grad, expected.detach())


@given(sizes, sizes, seeds)
def test_soft_cross_entropy_sums_over_rows_and_classes(rows: int, classes: int, seed: int) -> None:
    log_probs = torch.log_softmax(normal(seed, rows, classes), dim=1)
    targets = normal(seed + 1, rows, classes).abs()
    expected = -sum(float(targets[v, c] * log_probs[v, c]) for v in range(rows) for c in range(classes))
    assert soft_cross_entropy(log_probs, targets).item() == pytest.approx(expected)


@given(sizes, sizes, seeds)
def test_scores_of_logits_follow_their_definitions(rows: int, classes: int, seed: int) -> None:
    logits, labels = normal(seed, rows, classes), torch.arange(rows) % classes
    own = [softmax(row) for row in logits.tolist()]
    torch.testing.assert_close(probabilities(logits), torch.tensor(own, dtype=torch.float64))
    classes_of_rows = [max(range(classes), key=row.__getitem__) for row in logits.tolist()]
    assert predictions(logits).tolist() == classes_of_rows
    hits = sum(found == true for found, true in zip(classes_of_rows, labels.tolist(), strict=True))
    assert accuracy(predictions(logits), labels) == hits / rows
    assert validation_accuracy(logits, labels) == pytest.approx(hits / rows)
    loss = -sum(math.log(row[true]) for row, true in zip(own, labels.tolist(), strict=True)) / rows
    assert validation_loss(logits, labels) == pytest.approx(loss)


@given(sizes, sizes, seeds)
def test_macro_f1_is_the_mean_over_the_classes_that_occur(rows: int, classes: int, seed: int) -> None:
    found, true = torch.randint(classes, (2, rows), generator=torch.Generator().manual_seed(seed)).tolist()
    of_classes = []
    for c in sorted({*found, *true}):
        hits = sum(a == b == c for a, b in zip(found, true, strict=True))
        of_classes.append(2 * hits / (found.count(c) + true.count(c)))
    assert macro_f1(torch.tensor(found), torch.tensor(true)) == pytest.approx(sum(of_classes) / len(of_classes))


@given(sizes, sizes, seeds)
def test_balanced_accuracy_is_the_mean_recall(rows: int, classes: int, seed: int) -> None:
    found, true = torch.randint(classes, (2, rows), generator=torch.Generator().manual_seed(seed)).tolist()
    recalls = [sum(a == b == c for a, b in zip(found, true, strict=True)) / true.count(c) for c in sorted(set(true))]
    assert balanced_accuracy(torch.tensor(found), torch.tensor(true)) == pytest.approx(sum(recalls) / len(recalls))


@given(sizes, sizes, seeds)
def test_class_weights_give_each_class_the_same_share(rows: int, classes: int, seed: int) -> None:
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))
    weights = class_weights(labels, classes + 1)
    shares = [float(weights[c]) * int((labels == c).sum()) for c in range(classes + 1)]
    present = len(set(labels.tolist()))
    assert shares == pytest.approx([rows / present if bool((labels == c).any()) else 0.0 for c in range(classes + 1)])
    log_probs = torch.log_softmax(normal(seed, rows, classes + 1), dim=1).float()
    expected = -sum(float(weights[c] * row[c]) for row, c in zip(log_probs, labels.tolist(), strict=True))
    assert hard_label_loss(log_probs, labels, weights).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_validation_scores() -> None:
    logits, labels = torch.eye(3)[[0, 0, 0, 1, 0]], torch.tensor([0, 0, 0, 1, 1])
    assert validation_score(logits, labels, "both") == pytest.approx(0.8)
    assert validation_score(logits, labels, "balanced_accuracy") == pytest.approx(0.75)
    assert validation_score(logits, labels, "macro_f1") == pytest.approx((6 / 7 + 2 / 3) / 2)


def test_no_rows_have_no_accuracy() -> None:
    empty = torch.empty(0, dtype=torch.int64)
    with pytest.raises(DataError, match="no nodes to score"):
        accuracy(empty, empty)


def test_selection_scores() -> None:
    assert selection_score(0.8, 2.0, "accuracy") == 0.8
    assert selection_score(0.8, 2.0, "macro_f1") == 0.8
    assert selection_score(0.8, 2.0, "loss") == -2.0
    assert selection_score(0.8, 2.0, "both") == pytest.approx(0.8 - 0.6)
