"""Neighbour targets against loops over nodes and neighbours."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.training.neighbor_targets import (
    ExpectedNeighborTargets,
    ReliableNeighborTargets,
    SampledNeighborTargets,
    fit_power,
)

NODES, CLASSES = 7, 3
# The last node has no neighbours in any of the graphs.
some_edges = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 2)).filter(lambda edge: edge[0] != edge[1]), max_size=20
)
seeds = st.integers(0, 2**31 - 1)
ESTIMATORS = [ExpectedNeighborTargets, SampledNeighborTargets]


def adjacency(edges: list[tuple[int, int]]) -> SparseRows:
    rows, columns = [v for _, v in edges], [u for u, _ in edges]
    return SparseRows.from_scipy(sp.coo_matrix((np.ones(len(edges)), (rows, columns)), shape=(NODES, NODES)))


def random_case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return teacher probabilities, reliabilities (one of them 0) and student logits."""
    generator = torch.Generator().manual_seed(seed)
    probs = torch.softmax(2 * torch.randn(NODES, CLASSES, generator=generator), dim=1)
    reliability = torch.rand(NODES, generator=generator) + 0.01
    reliability[0] = 0
    return probs, reliability, torch.randn(NODES, CLASSES, generator=generator)


def divergence(p: Tensor, log_q: Tensor) -> float:
    return sum(float(a) * (math.log(float(a)) - float(b)) for a, b in zip(p, log_q, strict=True))


def expected_loss(
    edges: list[tuple[int, int]], probs: Tensor, reliability: Tensor, power: float, log_probs: Tensor, rows: list[int]
) -> float:
    """Equation 12 without its factors: for each row the mean divergence from its neighbours, weighted by eq. 11."""
    highest = float(reliability.max())
    total = 0.0
    for position, v in enumerate(rows):
        weights = {i: 1 - (float(reliability[u]) / highest) ** power for i, (u, w) in enumerate(edges) if w == v}
        if sum(weights.values()) > 0:
            for i, weight in weights.items():
                total += weight / sum(weights.values()) * divergence(probs[edges[i][0]], log_probs[position])
    return total


@given(some_edges, seeds, st.sampled_from([0.5, 1.0, 3.0]))
def test_expected_loss_is_the_mean_divergence_from_the_neighbours(
    edges: list[tuple[int, int]], seed: int, power: float
) -> None:
    probs, reliability, logits = random_case(seed)
    rows = [6, 2, 2, 0, 4]
    log_probs = torch.log_softmax(logits[rows], dim=1)
    targets = ExpectedNeighborTargets(adjacency(edges), probs, reliability, initial_power=power, weight=2.5)
    expected = 2.5 * expected_loss(edges, probs, reliability, power, log_probs, rows)
    assert targets.summed_loss(log_probs, torch.tensor(rows)).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_without_weighted_neighbours_add_nothing(estimator: type[ReliableNeighborTargets]) -> None:
    probs, _, logits = random_case(1)
    reliability = torch.tensor([0.0, 1.0, 0.2, 0.3, 0.1, 0.4, 0.5])
    # Node 2 has only node 1, the least reliable of all; node 6 has nobody.
    targets = estimator(adjacency([(1, 2), (0, 3)]), probs, reliability)
    log_probs = torch.log_softmax(logits, dim=1).requires_grad_()
    rows = torch.tensor([2, 6])
    assert targets.summed_loss(log_probs[rows], rows).item() == 0
    loss = targets.summed_loss(log_probs, torch.arange(NODES))
    loss.backward()
    assert loss.item() == pytest.approx(divergence(probs[0], log_probs[3].detach()), rel=1e-5)
    torch.testing.assert_close(log_probs.grad[3], -probs[0])
    assert not log_probs.grad[[0, 1, 2, 4, 5, 6]].any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_empty_graphs_and_empty_batches_have_no_loss(estimator: type[ReliableNeighborTargets]) -> None:
    probs, reliability, logits = random_case(2)
    targets = estimator(adjacency([]), probs, reliability)
    assert targets.summed_loss(torch.log_softmax(logits, dim=1), torch.arange(NODES)).item() == 0
    targets = estimator(adjacency([(0, 1)]), probs, reliability)
    assert targets.summed_loss(torch.empty(0, CLASSES), torch.empty(0, dtype=torch.int64)).item() == 0


@pytest.mark.parametrize("samples", [1, 3])
def test_sampled_gradients_average_to_the_expected_one(samples: int) -> None:
    probs, reliability, logits = random_case(3)
    edges = [(0, 1), (2, 1), (2, 1), (3, 1), (5, 1), (4, 0), (6, 0), (1, 3), (1, 2), (2, 6)]
    rows = torch.tensor([1, 0, 3, 5, 6])
    mean, sampled = (
        estimator(adjacency(edges), probs, reliability, initial_power=0.7, **options)
        for estimator, options in ((ExpectedNeighborTargets, {}), (SampledNeighborTargets, {"samples": samples}))
    )

    def gradient(targets: ReliableNeighborTargets, repeats: int) -> tuple[Tensor, float]:
        scores = logits[rows].clone().requires_grad_()
        log_probs = torch.log_softmax(scores, dim=1).repeat(repeats, 1)
        loss = targets.summed_loss(log_probs, rows.repeat(repeats)) / repeats
        loss.backward()
        return scores.grad, loss.item()

    torch.manual_seed(0)
    expected_gradient, expected_value = gradient(mean, 1)
    one_draw, _ = gradient(sampled, 1)
    average, value = gradient(sampled, 40_000)
    assert not torch.allclose(one_draw, expected_gradient, atol=0.03)
    torch.testing.assert_close(average, expected_gradient, atol=0.01, rtol=0)
    assert value == pytest.approx(expected_value, abs=0.03)


@given(some_edges, seeds)
def test_neighbours_of_weight_zero_are_not_sampled(edges: list[tuple[int, int]], seed: int) -> None:
    _, reliability, _ = random_case(seed)
    # One class per node shows which neighbour a target came from.
    targets = SampledNeighborTargets(adjacency(edges), torch.eye(NODES), reliability, samples=8)
    drawn, _ = targets._targets(torch.arange(NODES))
    for v in range(NODES):
        counting = {u for u, w in edges if w == v and reliability[u] < reliability.max()}
        assert set(drawn[v].nonzero().flatten().tolist()) <= counting
        assert drawn[v].sum() == pytest.approx(1.0 if counting else 0.0)


@pytest.mark.parametrize("power", [0.1, 0.5, 1.0, 2.5, 8.0])
def test_fit_finds_the_power_with_the_least_squared_error(power: float) -> None:
    # 1000 nodes at each bin's centre, of which the share that the curve gives agrees.
    bins, nodes = 40, 1000
    centers = [(b + 0.5) / bins for b in range(bins)]
    counts = [math.ceil((1 - center**power) * nodes) for center in centers]
    ratio = torch.tensor(centers).repeat_interleave(nodes)
    agrees = torch.cat([torch.arange(nodes) < count for count in counts])
    fitted = fit_power(ratio, agrees, bins)
    scaled = [(count - min(counts)) / (max(counts) - min(counts)) for count in counts]

    def error(candidate: float) -> float:
        return sum((1 - center**candidate - value) ** 2 for center, value in zip(centers, scaled, strict=True))

    assert fitted is not None
    assert error(fitted) <= min(error(0.01 * 10 ** (i / 100)) for i in range(401)) + 1e-6
    if power >= 1:
        # Below 1 the curve falls so steeply within the first bin that scaling the shares changes its shape.
        assert fitted == pytest.approx(power, rel=0.1)


def test_the_fit_ignores_empty_bins() -> None:
    ratio = torch.tensor([0.25, 0.75]).repeat_interleave(10)
    agrees = torch.cat([torch.ones(10), torch.zeros(10)]).bool()
    # With two bins the targets are 1 at 1/4 and 0 at 3/4; a hundred bins differ by their narrower centres only.
    assert fit_power(ratio, agrees, 2) == pytest.approx(fit_power(ratio, agrees, 100), rel=0.05)


@pytest.mark.parametrize(
    ("ratio", "agrees"),
    [
        ([0.2, 0.2, 0.21], [True, False, True]),
        ([0.1, 0.5, 0.9], [True, True, True]),
        ([0.1, 0.1, 0.9, 0.9], [True, False, True, False]),
        ([], []),
    ],
    ids=["one bin", "full agreement", "equal agreement", "no nodes"],
)
def test_constant_histograms_are_not_fitted(ratio: list[float], agrees: list[bool]) -> None:
    assert fit_power(torch.tensor(ratio), torch.tensor(agrees, dtype=torch.bool), 10) is None


def agreeing_labels(probs: Tensor, reliability: Tensor) -> Tensor:
    """Return a student's labels that agree with the teacher's exactly where the teacher is reliable."""
    labels = probs.argmax(dim=1)
    return torch.where(reliability < reliability.median(), labels, (labels + 1) % CLASSES)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_power_moves_by_momentum_after_the_warm_up(estimator: type[ReliableNeighborTargets]) -> None:
    probs, reliability, logits = random_case(4)
    edges = [(0, 1), (2, 1), (3, 1)]
    targets = estimator(adjacency(edges), probs, reliability, initial_power=2.0, warmup_epochs=3, momentum=0.9, bins=10)
    labels = agreeing_labels(probs, reliability)
    logits_of_labels = torch.eye(CLASSES)[labels]
    log_probs, rows = torch.log_softmax(logits, dim=1), torch.arange(NODES)
    for epoch in (1, 2, 3):
        assert not targets.needs_predictions(epoch)
        assert targets.end_epoch(epoch, logits_of_labels) == {"krd_power": 2.0}
    assert targets.needs_predictions(4)
    fitted = fit_power(reliability / reliability.max(), labels == probs.argmax(dim=1), 10)
    moved = targets.end_epoch(4, logits_of_labels)["krd_power"]
    assert moved == pytest.approx(0.9 * 2.0 + 0.1 * fitted)
    fresh = estimator(adjacency(edges), probs, reliability, initial_power=moved)
    torch.manual_seed(0)
    value = targets.summed_loss(log_probs, rows)
    torch.manual_seed(0)
    assert torch.equal(value, fresh.summed_loss(log_probs, rows))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_reliabilities_give_all_neighbours_equal_weight(estimator: type[ReliableNeighborTargets]) -> None:
    probs, _, logits = random_case(5)
    targets = estimator(adjacency([(0, 1), (2, 1)]), probs, torch.zeros(NODES), warmup_epochs=0)
    assert not targets.needs_predictions(5)
    assert targets.end_epoch(5, torch.zeros(NODES, CLASSES)) == {"krd_power": 1.0}
    torch.manual_seed(0)
    log_probs = torch.log_softmax(logits[[1]], dim=1)
    repeats = 10_000
    value = targets.summed_loss(log_probs.repeat(repeats, 1), torch.ones(repeats, dtype=torch.int64)) / repeats
    expected = (divergence(probs[0], log_probs[0]) + divergence(probs[2], log_probs[0])) / 2
    assert value.item() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_state_is_the_power(estimator: type[ReliableNeighborTargets]) -> None:
    probs, reliability, logits = random_case(6)
    edges = [(0, 1), (2, 1), (3, 1)]
    first, second = (estimator(adjacency(edges), probs, reliability, warmup_epochs=0, momentum=0.5) for _ in range(2))
    first.end_epoch(1, torch.eye(CLASSES)[agreeing_labels(probs, reliability)])
    assert first.power != second.power
    second.load_state_dict(first.state_dict())
    assert second.power == first.power
    log_probs, rows = torch.log_softmax(logits, dim=1), torch.arange(NODES)
    torch.manual_seed(0)
    value = first.summed_loss(log_probs, rows)
    torch.manual_seed(0)
    assert torch.equal(value, second.summed_loss(log_probs, rows))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_copy_on_another_device_is_independent(estimator: type[ReliableNeighborTargets]) -> None:
    probs, reliability, _ = random_case(7)
    targets = estimator(adjacency([(0, 1), (2, 1)]), probs, reliability, initial_power=1.7, warmup_epochs=0)
    moved: Any = targets.to(torch.device("cpu"))
    assert type(moved) is estimator
    assert moved.power == 1.7
    moved.end_epoch(1, torch.eye(CLASSES)[agreeing_labels(probs, reliability)])
    assert moved.power != 1.7
    assert targets.power == 1.7


def test_targets_need_no_dgl() -> None:
    script = "import sys; import dgl_rbm.training.neighbor_targets; assert 'dgl' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
