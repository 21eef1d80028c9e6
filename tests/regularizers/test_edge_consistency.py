"""Edge consistency against its definition, in full batches and in parts."""

from __future__ import annotations

import math

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.regularizers.edge_consistency import EdgeConsistencyConfig, EdgeConsistencyTargets
from dgl_rbm.sparse import SparseRows

NODES, CLASSES = 7, 3
some_edges = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=25)
seeds = st.integers(0, 2**31 - 1)


def targets_of(edges: list[tuple[int, int]], weight: float = 1.0) -> EdgeConsistencyTargets:
    kept = [(u, v) for u, v in edges if u != v]
    rows, columns = [v for _, v in kept], [u for u, _ in kept]
    matrix = sp.csr_matrix(([1.0] * len(kept), (rows, columns)), shape=(NODES, NODES))
    return EdgeConsistencyTargets(SparseRows.from_scipy(matrix), CLASSES, weight=weight)


def log_probs_of(seed: int) -> Tensor:
    return torch.randn(NODES, CLASSES, generator=torch.Generator().manual_seed(seed)).log_softmax(dim=1)


def means_of(edges: list[tuple[int, int]], probs: list[list[float]]) -> list[list[float]]:
    means = []
    for v in range(NODES):
        # A neighbour that was never predicted does not count.
        near = [u for u, w in edges if w == v and u != v and sum(probs[u]) > 0]
        means.append([sum(probs[u][c] for u in near) / max(1, len(near)) for c in range(CLASSES)])
    return means


def divergence(targets: list[list[float]], log_probs: Tensor) -> float:
    return sum(
        t * (math.log(t) - float(log_probs[v, c])) for v, row in enumerate(targets) for c, t in enumerate(row) if t > 0
    )


@given(some_edges, seeds)
def test_the_loss_is_the_divergence_from_the_neighbours_mean(edges: list[tuple[int, int]], seed: int) -> None:
    log_probs = log_probs_of(seed).requires_grad_(True)
    loss = targets_of(edges, weight=0.7).loss(log_probs, torch.arange(NODES))
    means = means_of(edges, log_probs.detach().exp().tolist())
    assert float(loss.detach()) == pytest.approx(0.7 * divergence(means, log_probs.detach()), abs=1e-4)
    (gradient,) = torch.autograd.grad(loss, log_probs)
    # The neighbours' side gets no gradient.
    torch.testing.assert_close(gradient, -0.7 * torch.tensor(means))


@given(some_edges, seeds)
def test_parts_see_the_last_predictions_of_the_others(edges: list[tuple[int, int]], seed: int) -> None:
    targets = targets_of(edges)
    first, second = torch.tensor([5, 0, 2]), torch.tensor([1, 3, 4, 6])
    log_probs = log_probs_of(seed)
    kept = [[0.0] * CLASSES for _ in range(NODES)]
    for rows in (first, second, first):
        loss = targets.loss(log_probs[rows], rows)
        for row in rows.tolist():
            kept[row] = log_probs[row].exp().tolist()
        means = means_of(edges, kept)
        expected = divergence([means[row] for row in rows.tolist()], log_probs[rows])
        assert float(loss) == pytest.approx(expected, abs=1e-4)
        assert float(loss) > -1e-4
        log_probs = log_probs_of(seed + 1)


def test_equal_predictions_cost_nothing() -> None:
    log_probs = log_probs_of(0)[:1].expand(NODES, CLASSES)
    edges = [(u, (u + 1) % NODES) for u in range(NODES)]
    assert float(targets_of(edges).loss(log_probs, torch.arange(NODES))) == pytest.approx(0, abs=1e-5)


def test_state_and_copies_are_apart() -> None:
    edges = [(u, (u + 1) % NODES) for u in range(NODES)]
    targets = targets_of(edges)
    moved = targets.to(torch.device("cpu"))
    rows = torch.arange(3)
    moved.loss(log_probs_of(0)[:3], rows)
    assert not targets.state_dict()["predicted"].any()
    again = targets_of(edges)
    again.load_state_dict(moved.state_dict())
    late = torch.arange(3, NODES)
    log_probs = log_probs_of(1)[3:]
    assert torch.equal(again.loss(log_probs, late), moved.loss(log_probs, late))
    assert torch.equal(again.state_dict()["predicted"], moved.state_dict()["predicted"])
    assert not again.reads_labels_of(60)


def test_the_weight_reaches_the_regularizer() -> None:
    assert EdgeConsistencyConfig(weight=0.25).build().weight == 0.25
