"""Edge consistency against its definition, in full batches and in smaller ones."""

from __future__ import annotations

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.regularizers.edge_consistency import EdgeConsistencyTerm
from dgl_rbm.rows.sparse import SparseRows

NODES, CLASSES = 7, 3
some_edges = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=25)
seeds = st.integers(0, 2**31 - 1)


def targets_of(edges: list[tuple[int, int]], weight: float = 1.0) -> EdgeConsistencyTerm:
    kept = [(u, v) for u, v in edges if u != v]
    rows, columns = [v for _, v in kept], [u for u, _ in kept]
    matrix = sp.csr_matrix(([1.0] * len(kept), (rows, columns)), shape=(NODES, NODES))
    return EdgeConsistencyTerm(SparseRows.from_scipy(matrix), CLASSES, weight=weight)


def log_probs_of(seed: int) -> Tensor:
    return torch.randn(NODES, CLASSES, generator=torch.Generator().manual_seed(seed)).log_softmax(dim=1)


def cross_entropy(
    edges: list[tuple[int, int]], log_probs: Tensor, kept: list[Tensor | None], rows: list[int]
) -> Tensor:
    """Return the loss of `rows` by its definition; `kept` has each node's last prediction, or None.

    The predictions of `rows` are those of `log_probs`, with their gradient.
    """
    latest = list(kept)
    for i, row in enumerate(rows):
        latest[row] = log_probs[i]
    total = log_probs.new_zeros(())
    for i, v in enumerate(rows):
        near = [latest[u] for u, w in edges if w == v and u != v]
        known = [prediction for prediction in near if prediction is not None]
        for prediction in known:
            total = total - (log_probs[i].exp() * prediction).sum() / len(known)
    return total


def assert_same_with_gradient(loss: Tensor, expected: Tensor, log_probs: Tensor) -> None:
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    (gradient,) = torch.autograd.grad(loss, log_probs)
    (wanted,) = torch.autograd.grad(expected, log_probs, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(gradient, wanted)


@given(some_edges, seeds)
def test_the_loss_is_the_cross_entropy_of_neighbours_with_a_gradient_on_both_sides(
    edges: list[tuple[int, int]], seed: int
) -> None:
    log_probs = log_probs_of(seed).requires_grad_(True)
    loss = targets_of(edges, weight=0.7).summed_loss(log_probs, torch.arange(NODES))
    expected = 0.7 * cross_entropy(edges, log_probs, [None] * NODES, list(range(NODES)))
    assert_same_with_gradient(loss, expected + 0 * log_probs.sum(), log_probs)


@given(some_edges, seeds, st.permutations(range(NODES)))
def test_the_order_of_a_full_batch_does_not_matter(edges: list[tuple[int, int]], seed: int, order: list[int]) -> None:
    log_probs, rows = log_probs_of(seed), torch.tensor(order)
    ordered = targets_of(edges).summed_loss(log_probs, torch.arange(NODES))
    torch.testing.assert_close(targets_of(edges).summed_loss(log_probs[rows], rows), ordered)


@given(some_edges, seeds)
def test_batches_use_the_last_predictions_of_other_rows(edges: list[tuple[int, int]], seed: int) -> None:
    targets = targets_of(edges)
    kept: list[Tensor | None] = [None] * NODES
    # Up to half of all rows, and more.
    for step, rows in enumerate(([5, 0, 2], [1, 6, 4, 3], [5, 0, 2], [6, 0, 1, 2, 3, 5])):
        log_probs = log_probs_of(seed + step)[rows].requires_grad_(True)
        loss = targets.summed_loss(log_probs, torch.tensor(rows))
        expected = cross_entropy(edges, log_probs, kept, rows)
        assert_same_with_gradient(loss, expected + 0 * log_probs.sum(), log_probs)
        for i, row in enumerate(rows):
            kept[row] = log_probs[i].detach()


def test_ensemble_members_in_batches_follow_the_last_one() -> None:
    edges = [(u, (u + 1) % NODES) for u in range(NODES)] + [(0, 3), (4, 2)]
    targets, rows = targets_of(edges), [2, 3, 4]
    first, second = log_probs_of(1), log_probs_of(2)
    kept: list[Tensor | None] = [None] * NODES
    for member in (first, second):
        loss = targets.summed_loss(member[rows], torch.tensor(rows))
        torch.testing.assert_close(loss, cross_entropy(edges, member[rows], kept, rows))
        for row in rows:
            kept[row] = member[row]
    others = [0, 1, 5]
    loss = targets.summed_loss(first[others], torch.tensor(others))
    torch.testing.assert_close(loss, cross_entropy(edges, first[others], kept, others))


@pytest.mark.parametrize("count", [1500, 2900])
def test_the_gradient_is_deterministic_with_several_threads(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    linked = sp.random_array((3000, 3000), density=0.01, random_state=0, dtype="float32", format="csr")
    log_probs = torch.randn(count, 20, generator=generator).log_softmax(dim=1).requires_grad_(True)
    rows = torch.randperm(3000, generator=generator)[:count]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = []
        for _ in range(5):
            targets = EdgeConsistencyTerm(SparseRows.from_scipy(linked), 20)
            gradients += torch.autograd.grad(targets.summed_loss(log_probs, rows), log_probs)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def test_confident_neighbours_that_agree_have_no_loss() -> None:
    log_probs = torch.tensor([[0.0, -60.0, -60.0]]).expand(NODES, CLASSES)
    edges = [(u, (u + 1) % NODES) for u in range(NODES)]
    assert float(targets_of(edges).summed_loss(log_probs, torch.arange(NODES))) == pytest.approx(0, abs=1e-5)


def test_copies_are_independent() -> None:
    edges = [(u, (u + 1) % NODES) for u in range(NODES)]
    targets = targets_of(edges)
    moved = targets.to(torch.device("cpu"))
    rows = torch.arange(3)
    moved.summed_loss(log_probs_of(0)[:3], rows)
    assert not targets.state_dict()["predicted"].any()
    again = targets_of(edges)
    again.load_state_dict(moved.state_dict())
    late = torch.arange(3, NODES)
    log_probs = log_probs_of(1)[3:]
    assert torch.equal(again.summed_loss(log_probs, late), moved.summed_loss(log_probs, late))
    assert torch.equal(again.state_dict()["predicted"], moved.state_dict()["predicted"])
