"""Encoders and loss terms on weighted graphs against dense matrices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.neighbors import in_neighbors
from dgl_rbm.data.structure import WEIGHT, structure
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.deepwalk import Walks, expected_visits
from dgl_rbm.registry import encoders
from dgl_rbm.regularizers.edge_consistency import EdgeConsistencyRegularizer
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.serving.encodings import Encodings
from dgl_rbm.teachers.base import TeacherOutput
from dgl_rbm.teachers.none import NoTeacher
from dgl_rbm.training.neighbor_targets import ExpectedNeighborTargets, SampledNeighborTargets

NODES, CLASSES = 14, 2
OPTIONS: dict[str, dict[str, Any]] = {
    "deepwalk": {"dim": 4, "walks_per_node": 2},
    "spectral": {"dim": 4, "steps": 2},
    "diffusion": {"dim": 3, "steps": 2},
    "label_propagation": {"steps": 3},
    "label_histogram": {"hops": 3},
}


def observed(equal: float | None = None) -> ObservedGraph:
    """Return a graph whose last node has no edges."""
    rng = np.random.default_rng(1)
    ends = rng.integers(0, NODES - 1, (2, 60))
    weights = rng.choice([0.0, 0.5, 1.0, 4.0], 60) if equal is None else np.full(60, equal)
    labels = torch.full((NODES,), -1)
    labels[:8] = torch.arange(8) % CLASSES
    return ObservedGraph(
        structure(dgl.graph((ends[0], ends[1]), num_nodes=NODES), weights.astype(np.float32)),
        torch.from_numpy(rng.standard_normal((NODES, 5), dtype=np.float32)),
        torch.arange(NODES),
        labels,
        torch.arange(6),
        torch.tensor([6, 7]),
        CLASSES,
    )


def without_weights(given: ObservedGraph) -> ObservedGraph:
    plain = given.graph.clone()
    del plain.edata[WEIGHT]
    return replace(given, graph=plain)


def means(given: ObservedGraph) -> Tensor:
    """Return the row-normalised matrix of weights without self-loops, edge by edge."""
    pointers, sources, _ = given.graph.adj_tensors("csc")
    sums = torch.zeros(NODES, NODES)
    for v in range(NODES):
        for edge in range(int(pointers[v]), int(pointers[v + 1])):
            if int(sources[edge]) != v:
                sums[v, sources[edge]] += given.graph.edata[WEIGHT][edge]
    total = sums.sum(dim=1, keepdim=True)
    return torch.where(total > 0, sums / total, 0.0)


def fitted(kind: str, given: ObservedGraph) -> Any:
    with seeded(3, "encoder"):
        return encoders.resolve({"kind": kind, **OPTIONS[kind]}).build().fit(given, RunContext())


@pytest.mark.parametrize("kind", OPTIONS)
def test_encodings_are_weighted_means_of_vectors(kind: str) -> None:
    given = observed()
    output = fitted(kind, given)
    rows = torch.arange(NODES) if not kind.startswith("label") else torch.arange(6, NODES)
    torch.testing.assert_close(output.encodings[rows], (means(given) @ output.vectors)[rows])
    assert not torch.allclose(output.encodings, fitted(kind, without_weights(given)).encodings)


@pytest.mark.parametrize("kind", ["spectral", "diffusion", "label_propagation", "label_histogram"])
@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_equal_weights_give_the_unweighted_encodings(kind: str, weight: float) -> None:
    given = observed(weight)
    found, plain = fitted(kind, given), fitted(kind, without_weights(given))
    # Signs and order of eigenvectors are those of the same random start.
    torch.testing.assert_close(found.encodings, plain.encodings, atol=1e-3, rtol=1e-3)


def test_label_propagation_equals_the_dense_iteration() -> None:
    given = observed()
    start = torch.zeros(NODES, CLASSES)
    start[given.train_idx, given.labels[given.train_idx]] = 1.0
    scores = start
    for _ in range(3):
        scores = 0.9 * means(given) @ scores + (1 - 0.9) * start
    torch.testing.assert_close(fitted("label_propagation", given).vectors, scores)


def test_walks_take_edges_in_proportion_to_their_weights() -> None:
    ends = ([0, 0, 0, 0, 1, 2], [1, 2, 3, 0, 0, 0])
    weights = np.array([1, 3, 0, 9, 2, 5], dtype=np.float32)
    graph = structure(dgl.graph(ends, num_nodes=4), weights)
    walks = torch.cat(list(Walks(graph, 2, 4000).batches(0)))
    assert set(walks[:, 0].tolist()) == {0, 1, 2}
    after = walks[walks[:, 0] == 0, 1]
    shares = torch.bincount(after, minlength=4) / len(after)
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.25, 0.75, 0.0]), atol=0.03, rtol=0)


def test_expected_visits_follow_the_weights() -> None:
    graph = structure(dgl.graph(([0, 0, 1], [1, 2, 0])), np.array([1, 3, 0.5], dtype=np.float32))
    visits = expected_visits(in_neighbors(graph), torch.tensor([0, 1]), 3)
    # From 0: to 1 by 1/4 and to 2 by 3/4, then back from 1 alone. From 1: to 0, then on as above.
    torch.testing.assert_close(visits, torch.tensor([1 + 0.25 + 1, 0.25 + 1 + 0.25, 0.75 + 0.75]))


weighted_lists = st.lists(
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0.0, 0.5, 2.0, 1e30, 1e-30])), max_size=6), max_size=5
)


@given(weighted_lists, st.randoms(use_true_random=False))
def test_unseen_nodes_get_the_weighted_mean_of_observed_neighbours(lists: list[Any], random: Any) -> None:
    vectors = torch.randn(4, 3)
    store = Encodings(torch.tensor([0, 2, 4, 6]), vectors, vectors, torch.full((3,), 0.5), torch.full((3,), 2.0))
    flat = [(row, node, weight) for row, nodes in enumerate(lists) for node, weight in nodes]
    random.shuffle(flat)
    rows, ids = (torch.tensor([part[i] for part in flat], dtype=torch.int64) for i in (0, 1))
    found = store.unseen(len(lists), rows, ids, torch.tensor([part[2] for part in flat], dtype=torch.float32))
    for row, nodes in enumerate(lists):
        seen = [(node, weight) for node, weight in nodes if node % 2 == 0 and weight > 0]
        total = sum(weight for _, weight in seen)
        expected = torch.zeros(3)
        if seen:
            mean = sum((vectors[node // 2] * (weight / total) for node, weight in seen), torch.zeros(3))
            expected = (mean - 0.5) * 2
        torch.testing.assert_close(found[row], expected)


def test_krd_targets_weigh_neighbours_by_edge_and_reliability() -> None:
    given = observed()
    probs, reliability = torch.randn(NODES, CLASSES).softmax(dim=1), torch.rand(NODES)
    shares = means(given) * (1 - reliability / reliability.max())
    total = shares.sum(dim=1, keepdim=True)
    expected = torch.where(total > 0, shares / total, 0.0) @ probs
    neighbors, rows = in_neighbors(given.graph), torch.arange(NODES)
    exact = ExpectedNeighborTargets(neighbors, probs, reliability)
    torch.testing.assert_close(exact._targets(rows)[0], expected)
    with seeded(0, "neighbours"):
        sampled = SampledNeighborTargets(neighbors, probs, reliability, samples=4000)._targets(rows)[0]
    torch.testing.assert_close(sampled, expected, atol=0.05, rtol=0)


def test_edge_consistency_takes_the_weighted_mean_of_predictions() -> None:
    given = observed()
    regularizer = EdgeConsistencyRegularizer(weight=2.0)
    term = regularizer.prepare(given, NoTeacher(), TeacherOutput(torch.empty(NODES, 0)), 1.0, RunContext())
    log_probs = torch.randn(NODES, CLASSES).log_softmax(dim=1)
    expected = -2.0 * (log_probs.exp() * (means(given) @ log_probs)).sum()
    torch.testing.assert_close(term.summed_loss(log_probs, torch.arange(NODES)), expected)
